"""Requests and replies by themselves, without a server."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.exceptions import RedisError, ResponseError

from aioblobcache import BlobUnknownError, CorruptEntryError, Descriptor, Digest
from aioblobcache.redis.resp import UnexpectedReplyError
from aioblobcache.redis.wire import GlobalScope, RepositoryScope
from tests.support.strategies import digests

DIGEST = Digest.of(b"x")
OTHER = Digest.of(b"other")
SHA512 = Digest.of(b"x", "sha512")
REPOSITORY = RepositoryScope("foo/bar")
GLOBAL = GlobalScope()

WRONG_TYPE = ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value")
NO_PERMISSION = ResponseError("NOPERM this user has no permissions")

FIELDS = [DIGEST.encode(), b"5", b"text/plain"]


def scoped(member=1, fields=FIELDS, override=b"application/json"):
    return REPOSITORY.decode_stat(DIGEST, [member, fields, override])


def test_a_scoped_stat_is_three_requests():
    assert REPOSITORY.stat_requests(DIGEST) == (
        (b"SISMEMBER", b"repository::foo/bar::blobs", DIGEST.encode()),
        (b"HMGET", b"blobs::" + DIGEST.encode(), b"digest", b"size", b"mediatype"),
        (b"HGET", b"repository::foo/bar::blobs::" + DIGEST.encode(), b"mediatype"),
    )
    assert len(REPOSITORY.stat_requests(DIGEST)) == REPOSITORY.replies_to_stat
    assert len(GLOBAL.stat_requests(DIGEST)) == GLOBAL.replies_to_stat


def test_the_override_replaces_the_media_type():
    assert scoped() == Descriptor(DIGEST, 5, "application/json")


def test_an_empty_override_leaves_the_global_media_type():
    assert scoped(override=b"") == Descriptor(DIGEST, 5, "text/plain")


def test_a_missing_media_type_is_an_empty_one():
    assert GLOBAL.decode_stat(DIGEST, [[DIGEST.encode(), b"5", None]]) == Descriptor(DIGEST, 5, "")


def test_the_digest_asked_for_is_not_made_again():
    assert scoped().digest is DIGEST


def test_a_digest_of_another_algorithm_is_the_blobs_own():
    descriptor = REPOSITORY.decode_stat(SHA512, [1, FIELDS, b""])
    assert descriptor.digest == DIGEST
    assert type(descriptor.digest) is Digest


@pytest.mark.parametrize(
    "replies",
    [
        {"member": 0},
        {"member": 0, "fields": WRONG_TYPE, "override": NO_PERMISSION},  # whatever the rest says
        {"fields": [None, b"5", b"text/plain"]},
        {"fields": [DIGEST.encode(), None, b"text/plain"]},  # written before 2015, with `length`
        {"fields": [None, None, None]},
        {"override": None},
    ],
)
def test_whatever_is_missing_makes_the_blob_unknown(replies):
    with pytest.raises(BlobUnknownError) as caught:
        scoped(**replies)
    assert type(caught.value) is BlobUnknownError
    assert (caught.value.digest, caught.value.repository) == (DIGEST, "foo/bar")


@pytest.mark.parametrize(
    "size",
    [b"", b"abc", b"-1", b"+1", b" 1", b"1 ", b"1_0", b"1.0", b"0x1", b"9223372036854775808", b"1" * 20, "٣".encode()],
)
def test_a_size_that_is_no_number_is_corrupt(size):
    with pytest.raises(CorruptEntryError, match="size"):
        scoped(fields=[DIGEST.encode(), size, b"text/plain"])


@pytest.mark.parametrize(
    "own", [b"", b"garbage", b"md5:" + b"0" * 32, OTHER.encode(), b"\xff\xfe", DIGEST.encode() + b"\n"]
)
def test_a_digest_of_another_blob_or_of_none_is_corrupt(own):
    with pytest.raises(CorruptEntryError, match="digest is"):
        scoped(fields=[own, b"5", b"text/plain"])


@pytest.mark.parametrize("media_type", [b"a\r\nSet-Cookie: b", b"\x00", b"\xff", "é".encode(), b"x" * 2000])
@pytest.mark.parametrize("where", ["global", "override"])
def test_a_media_type_that_no_header_takes_is_corrupt(media_type, where):
    replies = {"fields": [*FIELDS[:2], media_type]} if where == "global" else {"override": media_type}
    with pytest.raises(CorruptEntryError, match="printable ASCII"):
        scoped(**replies)


@pytest.mark.parametrize("replies", [{"member": WRONG_TYPE}, {"fields": WRONG_TYPE}, {"override": WRONG_TYPE}])
def test_a_key_of_another_type_is_corrupt(replies):
    with pytest.raises(CorruptEntryError, match="of another type"):
        scoped(**replies)


@pytest.mark.parametrize("name", ["member", "fields", "override"])
def test_any_other_error_reply_is_raised_as_it_is(name):
    with pytest.raises(ResponseError) as caught:
        scoped(**{name: NO_PERMISSION})
    assert caught.value is NO_PERMISSION


@pytest.mark.parametrize(
    "replies",
    [
        {"member": 2},
        {"member": b"1"},
        {"member": None},
        {"fields": b"x"},
        {"fields": 1},
        {"fields": []},
        {"fields": FIELDS[:2]},
        {"fields": [*FIELDS, b"x"]},
        {"fields": [1, 2, 3]},
        {"override": 5},
        {"override": [b"x"]},
    ],
)
def test_a_reply_that_the_request_cannot_have_is_no_answer(replies):
    with pytest.raises(UnexpectedReplyError):
        scoped(**replies)


reply = st.recursive(
    st.none() | st.integers() | st.binary(max_size=90) | st.just(WRONG_TYPE) | st.just(NO_PERMISSION),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=6,
)


@given(
    digests(),
    st.lists(reply | st.lists(st.none() | st.binary(max_size=150), min_size=3, max_size=3), min_size=3, max_size=3),
)
def test_any_replies_are_a_descriptor_of_that_blob_or_a_defined_error(digest, replies):
    for scope, received in ((REPOSITORY, replies), (GLOBAL, replies[:1])):
        try:
            descriptor = scope.decode_stat(digest, received)
        except (BlobUnknownError, RedisError):
            continue
        assert descriptor.digest == digest or descriptor.digest.algorithm != digest.algorithm
