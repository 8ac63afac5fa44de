"""Replies: their shapes, and the codes of errors."""

from __future__ import annotations

import pytest
from redis.exceptions import NoScriptError, ResponseError

from aioblobcache.redis import resp


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (ResponseError("WRONGTYPE Operation against a key"), "WRONGTYPE"),
        (ResponseError("BUSY"), "BUSY"),
        (ResponseError(""), ""),
        (NoScriptError("No matching script."), "NOSCRIPT"),  # redis-py has taken the code off
        (OSError("NOAUTH"), ""),
        (b"NOAUTH no error", ""),
        (None, ""),
    ],
)
def test_the_code_of_an_error_is_its_first_word(reply, code):
    assert resp.error_code(reply) == code


SHAPES = {
    "flag": (resp.is_flag, [0, 1], [2, -1, True, b"1", None]),
    "flags": (resp.is_flags(2), [[0, 1], [1, 1]], [[0], [0, 1, 1], [0, 2], [0, None], 1, None]),
    "count": (resp.is_count, [0, 5, -1], [True, b"5", None, 1.0]),
    "text": (resp.is_text, [None, b"", b"text"], [1, "text", [b"text"]]),
    "fields": (resp.is_fields, [[None, b"", b"x"]], [[None, None], [None] * 4, [1, b"", b""], None, b"xyz"]),
    "any": (resp.is_any, [None, 1, b"", [], {}], []),
}


@pytest.mark.parametrize(("is_of_shape", "right", "wrong"), SHAPES.values(), ids=SHAPES)
def test_replies_of_other_shapes_are_told_apart(is_of_shape, right, wrong):
    assert [reply for reply in right if not is_of_shape(reply)] == []
    assert [reply for reply in wrong if is_of_shape(reply)] == []
