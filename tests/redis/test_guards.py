"""What stands in guards, and what it permits."""

from __future__ import annotations

import pytest
from redis.exceptions import ResponseError

from aioblobcache import FillToken
from aioblobcache.redis.guards import decode_token
from aioblobcache.redis.resp import UnexpectedReplyError

WRONG_TYPE = ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value")
NO_PERMISSION = ResponseError("NOPERM this user has no permissions")


@pytest.mark.parametrize(
    ("replies", "token"),
    [
        ([b"OK", b"token:a"], FillToken((b"token:a",), permits_fill=True)),
        ([None, b"token:b"], FillToken((b"token:b",), permits_fill=True)),
        ([None, b"tombstone:c"], FillToken((b"tombstone:c",), permits_fill=False)),
        ([None, b"planted"], FillToken((b"planted",), permits_fill=False)),
        ([None, None], FillToken((b"nonce",), permits_fill=False)),
        ([None, WRONG_TYPE], FillToken((b"nonce",), permits_fill=False)),
        ([b"OK", b"token:a", None, b"tombstone:c"], FillToken((b"token:a", b"tombstone:c"), permits_fill=False)),
    ],
)
def test_what_stands_in_the_guards_is_the_token(replies, token):
    assert decode_token(replies, b"nonce") == token


@pytest.mark.parametrize("replies", [[NO_PERMISSION, b"token:a"], [b"OK", NO_PERMISSION]])
def test_a_token_that_could_not_be_taken_is_the_servers_error(replies):
    with pytest.raises(ResponseError):
        decode_token(replies, b"nonce")


def test_a_token_of_an_impossible_shape_is_no_answer():
    with pytest.raises(UnexpectedReplyError):
        decode_token([b"OK", 5], b"nonce")
