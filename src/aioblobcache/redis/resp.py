"""What a RESP connection carries: requests and replies, whatever they are about. No I/O, no clock."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NoReturn, TypeAlias

from redis.exceptions import NoScriptError, RedisError, ResponseError

from ..errors import shorten

__all__ = [
    "Group",
    "Reply",
    "Request",
    "Shape",
    "UnexpectedReplyError",
    "encode",
    "error_code",
    "is_any",
    "is_count",
    "is_fields",
    "is_flag",
    "is_flags",
    "is_text",
    "raise_reply",
    "require_shapes",
]

# A request is its words. A reply is what a RESP parser makes of it; an error reply is an instance.
Request: TypeAlias = tuple[bytes, ...]
Reply: TypeAlias = int | bytes | list["Reply"] | RedisError | None


class UnexpectedReplyError(RedisError):
    """A reply of a shape that the request cannot have: the stream is not to be trusted."""


# What a reply to a request can be, an error reply apart.
Shape: TypeAlias = Callable[[object], bool]

# Requests about keys of one slot, and what the reply to each can be.
Group: TypeAlias = tuple[Sequence[Request], Sequence[Shape]]


def is_count(reply: object) -> bool:
    """EVALSHA of our scripts."""
    return type(reply) is int


def is_text(reply: object) -> bool:
    """GET, HGET, SET NX, SCRIPT LOAD."""
    return reply is None or type(reply) is bytes


def is_flag(reply: object) -> bool:
    """SISMEMBER."""
    return type(reply) is int and reply in (0, 1)


def is_any(reply: object) -> bool:
    """What is only shown."""
    return True


def is_flags(count: int) -> Shape:
    """SMISMEMBER of so many members."""

    def is_flags(reply: object) -> bool:
        return isinstance(reply, list) and len(reply) == count and all(map(is_flag, reply))

    return is_flags


def is_fields(reply: object) -> bool:
    """HMGET of three fields."""
    return isinstance(reply, list) and len(reply) == 3 and all(map(is_text, reply))


def require_shapes(replies: Sequence[Reply], shapes: Sequence[Shape]) -> None:
    """Raise :class:`UnexpectedReplyError` unless each reply is an error or of its shape."""
    for reply, is_of_shape in zip(replies, shapes, strict=True):
        if not is_of_shape(reply) and not isinstance(reply, RedisError):
            raise UnexpectedReplyError(f"{shorten(repr(reply))} where none can be ({is_of_shape.__name__})")


def encode(requests: Iterable[Request]) -> bytes:
    """Requests as they go over the wire: arrays of bulk strings."""
    parts: list[bytes] = []
    for request in requests:
        parts.append(b"*%d\r\n" % len(request))
        parts.extend(b"$%d\r\n%b\r\n" % (len(argument), argument) for argument in request)
    return b"".join(parts)


def raise_reply(reply: Reply) -> NoReturn:
    """Raise an error reply; anything else is one that cannot be."""
    if isinstance(reply, RedisError):
        raise reply
    raise UnexpectedReplyError(f"a reply of type {type(reply).__name__} where none can be")


def error_code(reply: Reply | Exception) -> str:
    """The first word of an error reply, or nothing of another. redis-py takes it off where it has a class for it."""
    if isinstance(reply, NoScriptError):
        return "NOSCRIPT"
    return str(reply).partition(" ")[0] if isinstance(reply, ResponseError) else ""
