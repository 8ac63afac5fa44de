"""Guards: their keys, what is put into them, and which fills they permit."""

from __future__ import annotations

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from aioblobcache import Digest, FillToken
from aioblobcache.redis.guards import TOKEN_SHAPES, decode_token, guard_keys, token_requests, tombstone
from aioblobcache.redis.resp import UnexpectedReplyError, require_shapes

DIGEST = Digest("sha256:" + "1" * 64)

WRONG_TYPE = ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value")
NO_PERMISSION = ResponseError("NOPERM this user has no permissions")


def test_a_global_fill_holds_the_guard_of_the_descriptor():
    assert guard_keys(None, DIGEST) == (b"aioblobcache::guard::{blobs::" + DIGEST.encode() + b"}",)


def test_a_scoped_fill_holds_the_membership_guard_first():
    assert guard_keys("foo/bar", DIGEST) == (
        b"aioblobcache::guard::{repository::foo/bar::blobs}::" + DIGEST.encode(),
        b"aioblobcache::guard::{blobs::" + DIGEST.encode() + b"}",
    )


def test_a_token_needs_a_free_guard_and_expires():
    assert token_requests(b"guard", b"nonce", 1234) == (
        (b"SET", b"guard", b"token:nonce", b"NX", b"PX", b"1234"),
        (b"GET", b"guard"),
    )


def test_a_tombstone_carries_its_nonce():
    assert tombstone(b"nonce") == b"tombstone:nonce"


@pytest.mark.parametrize("replies", [[b"OK", b"token:a"], [None, None], [NO_PERMISSION, WRONG_TYPE]])
def test_a_guard_is_answered_by_two_texts(replies):
    require_shapes(replies, TOKEN_SHAPES)


@pytest.mark.parametrize("replies", [[1, b"token:a"], [b"OK", 1], [[], b"token:a"], [b"OK", [b"token:a"]]])
def test_guard_replies_of_another_shape_are_refused(replies):
    with pytest.raises(UnexpectedReplyError):
        require_shapes(replies, TOKEN_SHAPES)


@pytest.mark.parametrize(
    ("replies", "token"),
    [
        ([b"OK", b"token:a"], FillToken((b"token:a",), permits_fill=True)),
        ([None, b"token:b"], FillToken((b"token:b",), permits_fill=True)),
        ([None, b"tombstone:c"], FillToken((b"tombstone:c",), permits_fill=False)),
        ([None, b"planted"], FillToken((b"planted",), permits_fill=False)),
        ([None, b""], FillToken((b"",), permits_fill=False)),
        ([None, b"xtoken:a"], FillToken((b"xtoken:a",), permits_fill=False)),
        ([None, None], FillToken((b"nonce",), permits_fill=False)),
        ([None, WRONG_TYPE], FillToken((b"nonce",), permits_fill=False)),
        ([b"OK", b"token:a", None, b"tombstone:c"], FillToken((b"token:a", b"tombstone:c"), permits_fill=False)),
        ([None, b"tombstone:c", b"OK", b"token:a"], FillToken((b"tombstone:c", b"token:a"), permits_fill=False)),
        ([None, None, b"OK", b"token:a"], FillToken((b"nonce", b"token:a"), permits_fill=False)),
        ([None, WRONG_TYPE, b"OK", b"token:a"], FillToken((b"nonce", b"token:a"), permits_fill=False)),
        ([b"OK", b"token:a", b"OK", b"token:b"], FillToken((b"token:a", b"token:b"), permits_fill=True)),
    ],
)
def test_the_token_holds_the_value_of_each_guard(replies, token):
    assert decode_token(replies, b"nonce") == token


@pytest.mark.parametrize("error", [NO_PERMISSION, RedisConnectionError("lost")])
@pytest.mark.parametrize("place", [0, 1, 2, 3])
def test_an_error_reply_of_any_guard_is_raised(place, error):
    replies = [b"OK", b"token:a", b"OK", b"token:b"]
    replies[place] = error
    with pytest.raises(type(error)) as caught:
        decode_token(replies, b"nonce")
    assert caught.value is error


def test_a_guard_value_of_another_type_is_unexpected():
    with pytest.raises(UnexpectedReplyError):
        decode_token([b"OK", 5], b"nonce")


def test_a_guard_without_its_second_reply_is_refused():
    with pytest.raises(ValueError, match="shorter"):
        decode_token([b"OK", b"token:a", b"OK"], b"nonce")
