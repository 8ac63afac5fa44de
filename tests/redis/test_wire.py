"""Requests and replies by themselves, without a server."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.exceptions import RedisError, ResponseError

from aioblobcache import BlobUnknownError, CorruptEntryError, Descriptor, Digest
from aioblobcache.redis.keys import slot_of
from aioblobcache.redis.resp import UnexpectedReplyError, encode, is_fields, is_flag, is_text
from aioblobcache.redis.stored import decode_descriptor, decode_override, reject, usual_descriptor
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


MEMBERSHIP = b"repository::foo/bar::blobs"


def entry_requests(digest):
    return (
        (b"HMGET", b"blobs::" + digest.encode(), b"digest", b"size", b"mediatype"),
        (b"HGET", MEMBERSHIP + b"::" + digest.encode(), b"mediatype"),
    )


# Digests of every length that there is.
EACH_LENGTH = [DIGEST, SHA512, Digest.of(b"x", "sha384"), Digest("tarsum.v1+sha256:" + "0" * 64)]
each_length = pytest.mark.parametrize("digest", EACH_LENGTH)


@each_length
def test_a_scoped_stat_is_three_requests(digest):
    requests = ((b"SISMEMBER", MEMBERSHIP, digest.encode()), *entry_requests(digest))
    shapes = (is_flag, is_fields, is_text)
    assert REPOSITORY.stat_requests(digest) == requests
    assert REPOSITORY.replies_to_stat == 3
    assert REPOSITORY.stat_shapes == shapes
    assert REPOSITORY.stat_groups(digest) == [
        ([request], [shape]) for request, shape in zip(requests, shapes, strict=True)
    ]
    assert REPOSITORY.encode_stat(digest) == encode(requests)
    assert REPOSITORY.encode_stat_parts(digest) == tuple(encode([request]) for request in requests)
    assert REPOSITORY.stat_slots(digest) == tuple(slot_of(request[1]) for request in requests)


@each_length
def test_a_global_stat_is_one_request(digest):
    request, _ = entry_requests(digest)
    assert GLOBAL.stat_requests(digest) == (request,)
    assert GLOBAL.replies_to_stat == 1
    assert GLOBAL.stat_shapes == (is_fields,)
    assert GLOBAL.stat_groups(digest) == [([request], [is_fields])]
    assert GLOBAL.encode_stat(digest) == encode([request])
    assert GLOBAL.encode_stat_parts(digest) == (encode([request]),)
    assert GLOBAL.stat_slots(digest) == (slot_of(b"blobs::" + digest.encode()),)


def test_a_scoped_stat_of_many_asks_for_membership_once():
    requests = [
        (b"SMISMEMBER", MEMBERSHIP, *(digest.encode() for digest in EACH_LENGTH)),
        *(request for digest in EACH_LENGTH for request in entry_requests(digest)),
    ]
    sent, shapes = REPOSITORY.stat_many_group(EACH_LENGTH)
    assert sent == requests
    assert shapes[1:] == [is_fields, is_text] * len(EACH_LENGTH)
    assert [shapes[0](reply) for reply in ([1, 0, 1, 1], [1, 0, 1], [1, 0, 1, 2], 1, None)] == [True, *[False] * 4]
    assert REPOSITORY.encode_stat_many(EACH_LENGTH) == encode(requests)
    assert REPOSITORY.replies_to_stat_many(len(EACH_LENGTH)) == len(requests)


def test_a_global_stat_of_many_is_one_request_each():
    requests = [entry_requests(digest)[0] for digest in EACH_LENGTH]
    assert GLOBAL.stat_many_group(EACH_LENGTH) == (requests, [is_fields] * len(EACH_LENGTH))
    assert GLOBAL.encode_stat_many(EACH_LENGTH) == encode(requests)
    assert GLOBAL.replies_to_stat_many(len(EACH_LENGTH)) == len(requests)


def test_a_miss_names_its_scope():
    for scope, repository in ((GLOBAL, None), (REPOSITORY, "foo/bar")):
        miss = scope.unknown(DIGEST)
        assert type(miss) is BlobUnknownError
        assert (miss.digest, miss.repository) == (DIGEST, repository)
    assert (GLOBAL.name, REPOSITORY.name) == (None, "foo/bar")


# --- the replies to a question about several blobs -----------------------------------------------


def fields_of(digest, size=b"5"):
    return [digest.encode(), size, b"text/plain"]


def outcome_of(answer):
    return (type(answer), answer.digest, answer.repository) if isinstance(answer, BlobUnknownError) else answer


def test_scoped_answers_about_many_are_in_their_places():
    digests = [DIGEST, OTHER, SHA512]
    entries = [fields_of(DIGEST), b"", fields_of(OTHER), b"a/b", fields_of(SHA512, b"6"), b"a/b"]
    answers = REPOSITORY.decode_stat_many(digests, [[1, 0, 1], *entries])
    assert [outcome_of(answer) for answer in answers] == [
        Descriptor(DIGEST, 5, "text/plain"),
        (BlobUnknownError, OTHER, "foo/bar"),
        Descriptor(SHA512, 6, "a/b"),
    ]


def test_global_answers_about_many_are_in_their_places():
    digests = [DIGEST, OTHER, SHA512]
    replies = [fields_of(DIGEST), [None] * 3, fields_of(SHA512, b"many")]
    answers = GLOBAL.decode_stat_many(digests, replies)
    assert [outcome_of(answer) for answer in answers] == [
        Descriptor(DIGEST, 5, "text/plain"),
        (BlobUnknownError, OTHER, None),
        (CorruptEntryError, SHA512, None),
    ]


def test_a_set_of_another_type_makes_each_of_many_corrupt():
    answers = REPOSITORY.decode_stat_many([DIGEST, OTHER], [WRONG_TYPE, fields_of(DIGEST), b"", fields_of(OTHER), b""])
    assert [outcome_of(answer) for answer in answers] == [
        (CorruptEntryError, DIGEST, "foo/bar"),
        (CorruptEntryError, OTHER, "foo/bar"),
    ]


@pytest.mark.parametrize("place", range(5))
def test_any_other_error_fails_the_question_about_many(place):
    replies = [[1, 1], fields_of(DIGEST), b"", fields_of(OTHER), b""]
    replies[place] = NO_PERMISSION
    with pytest.raises(ResponseError) as caught:
        REPOSITORY.decode_stat_many([DIGEST, OTHER], replies)
    assert caught.value is NO_PERMISSION


@pytest.mark.parametrize("members", [[1], [1, 1, 1], [1, 2], [1, None], [1, True], None, 1, b"11", []])
def test_flags_of_another_shape_are_refused(members):
    with pytest.raises(UnexpectedReplyError):
        REPOSITORY.decode_stat_many([DIGEST, OTHER], [members, fields_of(DIGEST), b"", fields_of(OTHER), b""])


def test_a_missing_reply_about_many_is_refused():
    with pytest.raises(ValueError, match="shorter"):
        REPOSITORY.decode_stat_many([DIGEST], [[1], fields_of(DIGEST)])
    with pytest.raises(ValueError, match="shorter"):
        GLOBAL.decode_stat_many([DIGEST, OTHER], [fields_of(DIGEST)])


# --- the fast path -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "override", "descriptor"),
    [
        (fields_of(DIGEST), b"", Descriptor(DIGEST, 5, "text/plain")),
        (fields_of(DIGEST), b"text/plain", Descriptor(DIGEST, 5, "text/plain")),
        (fields_of(DIGEST), b"a/b", Descriptor(DIGEST, 5, "a/b")),
        (fields_of(DIGEST, b"0"), b"", Descriptor(DIGEST, 0, "text/plain")),
        (fields_of(DIGEST, b"9" * 18), b"", Descriptor(DIGEST, 10**18 - 1, "text/plain")),
        (fields_of(DIGEST, b"1" + b"0" * 18), b"", None),  # it might be more than 2**63 - 1
        (fields_of(OTHER), b"", None),
        (fields_of(SHA512), b"", None),
        (fields_of(DIGEST, b""), b"", None),
        (fields_of(DIGEST, b"-1"), b"", None),
        (fields_of(DIGEST, None), b"", None),
        (fields_of(DIGEST, 5), b"", None),
        ([DIGEST.encode(), b"5", None], b"", None),
        ([DIGEST.encode(), b"5", b""], b"", None),
        ([DIGEST.encode(), b"5", 5], b"", None),
        ([DIGEST.encode(), b"5", b"a\n"], b"", None),
        ([DIGEST.encode(), b"5", b"a\n"], b"a/b", None),
        ([DIGEST.encode(), b"5", b"x" * 1025], b"", None),
        ([DIGEST.encode(), b"5", b"x" * 1024], b"", Descriptor(DIGEST, 5, "x" * 1024)),
        (fields_of(DIGEST), b"a\n", None),
        (fields_of(DIGEST), b"x" * 1025, None),
        (fields_of(DIGEST)[:2], b"", None),
        ([*fields_of(DIGEST), b"x"], b"", None),
        (tuple(fields_of(DIGEST)), b"", None),
        (None, b"", None),
        (WRONG_TYPE, b"", None),
    ],
)
def test_the_fast_path_decodes_complete_entries_alone(fields, override, descriptor):
    assert usual_descriptor(DIGEST, fields, override) == descriptor


@given(
    st.lists(st.none() | st.binary(max_size=20) | st.sampled_from(FIELDS), min_size=3, max_size=3),
    st.sampled_from([b"", b"a/b", b"text/plain", b"\n"]),
)
def test_the_fast_path_agrees_with_the_slow_one(fields, override):
    fast = usual_descriptor(DIGEST, fields, override)
    if fast is not None:
        slow = decode_descriptor(DIGEST, "foo", fields)
        assert fast == decode_override(slow, DIGEST, "foo", override)


# --- one entry -----------------------------------------------------------------------------------


def test_the_override_replaces_the_media_type():
    assert scoped() == Descriptor(DIGEST, 5, "application/json")


def test_an_empty_override_leaves_the_global_media_type():
    assert scoped(override=b"") == Descriptor(DIGEST, 5, "text/plain")


def test_a_missing_media_type_is_an_empty_one():
    assert GLOBAL.decode_stat(DIGEST, [[DIGEST.encode(), b"5", None]]) == Descriptor(DIGEST, 5, "")


def test_the_requested_digest_object_is_reused():
    assert scoped().digest is DIGEST


def test_an_alias_is_answered_with_the_canonical_digest():
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
def test_a_missing_part_makes_the_blob_unknown(replies):
    with pytest.raises(BlobUnknownError) as caught:
        scoped(**replies)
    assert type(caught.value) is BlobUnknownError
    assert (caught.value.digest, caught.value.repository) == (DIGEST, "foo/bar")


@pytest.mark.parametrize(
    ("written", "size"),
    [
        (b"0", 0),
        (b"007", 7),
        (b"0" * 18 + b"7", 7),
        (b"1" + b"0" * 18, 10**18),
        (b"9223372036854775807", 2**63 - 1),
    ],
)
def test_a_size_is_decimal_up_to_the_largest(written, size):
    assert scoped(fields=[DIGEST.encode(), written, b"text/plain"]).size == size
    assert decode_descriptor(DIGEST, None, [DIGEST.encode(), written, b"text/plain"]).size == size


@pytest.mark.parametrize(
    "size",
    [
        b"0" * 19 + b"7",
        b"",
        b"abc",
        b"-1",
        b"+1",
        b" 1",
        b"1 ",
        b"1_0",
        b"1.0",
        b"0x1",
        b"9223372036854775808",
        b"1" * 20,
        "٣".encode(),
    ],
)
def test_an_invalid_size_is_corrupt(size):
    with pytest.raises(CorruptEntryError, match="size"):
        scoped(fields=[DIGEST.encode(), size, b"text/plain"])


@pytest.mark.parametrize(
    "own", [b"", b"garbage", b"md5:" + b"0" * 32, OTHER.encode(), b"\xff\xfe", DIGEST.encode() + b"\n"]
)
def test_an_invalid_or_foreign_digest_is_corrupt(own):
    with pytest.raises(CorruptEntryError, match="digest is"):
        scoped(fields=[own, b"5", b"text/plain"])


@pytest.mark.parametrize("media_type", [b"a\r\nSet-Cookie: b", b"\x00", b"\xff", "é".encode(), b"x" * 2000])
@pytest.mark.parametrize("where", ["global", "override"])
def test_an_invalid_media_type_is_corrupt(media_type, where):
    replies = {"fields": [*FIELDS[:2], media_type]} if where == "global" else {"override": media_type}
    with pytest.raises(CorruptEntryError, match="printable ASCII"):
        scoped(**replies)


@pytest.mark.parametrize("replies", [{"member": WRONG_TYPE}, {"fields": WRONG_TYPE}, {"override": WRONG_TYPE}])
def test_a_key_of_another_type_is_corrupt(replies):
    with pytest.raises(CorruptEntryError, match="of another type"):
        scoped(**replies)


def test_a_corrupt_entry_names_the_blob_and_its_repository():
    for decode, repository in (
        (lambda: scoped(fields=WRONG_TYPE), "foo/bar"),
        (lambda: scoped(override=b"\n"), "foo/bar"),
        (lambda: GLOBAL.decode_stat(DIGEST, [WRONG_TYPE]), None),
        (lambda: GLOBAL.decode_stat(DIGEST, [[b"garbage", b"5", None]]), None),
    ):
        with pytest.raises(CorruptEntryError) as caught:
            decode()
        assert (caught.value.digest, caught.value.repository) == (DIGEST, repository)


@pytest.mark.parametrize(
    ("replies", "reason"),
    [
        ({"member": WRONG_TYPE}, "its membership set is of another type"),
        ({"fields": WRONG_TYPE}, "its descriptor is of another type"),
        ({"override": WRONG_TYPE}, "its media type in the repository is of another type"),
        ({"fields": [*FIELDS[:1], b"many", None]}, "size is b'many'"),
        ({"fields": [b"garbage", *FIELDS[1:]]}, "digest is b'garbage'"),
        ({"fields": [OTHER.encode(), *FIELDS[1:]]}, f"digest is {OTHER}, another blob's"),
    ],
)
def test_a_corrupt_entry_says_what_is_wrong(replies, reason):
    with pytest.raises(CorruptEntryError) as caught:
        scoped(**replies)
    assert caught.value.reason == reason


@pytest.mark.parametrize("reply", [None, 1, b"WRONGTYPE", []])
def test_a_reply_that_is_no_error_is_rejected_as_unexpected(reply):
    with pytest.raises(UnexpectedReplyError):
        reject(DIGEST, None, reply, "reason")


@pytest.mark.parametrize("name", ["member", "fields", "override"])
def test_any_other_error_reply_is_raised_unchanged(name):
    with pytest.raises(ResponseError) as caught:
        scoped(**{name: NO_PERMISSION})
    assert caught.value is NO_PERMISSION


@pytest.mark.parametrize(
    "replies",
    [
        {"member": 2},
        {"member": -1},
        {"member": True},
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
def test_a_reply_of_an_impossible_shape_is_refused(replies):
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
def test_any_replies_give_a_descriptor_or_a_defined_error(digest, replies):
    for scope, received in ((REPOSITORY, replies), (GLOBAL, replies[:1])):
        try:
            descriptor = scope.decode_stat(digest, received)
        except (BlobUnknownError, RedisError):
            continue
        assert descriptor.digest == digest or descriptor.digest.algorithm != digest.algorithm
