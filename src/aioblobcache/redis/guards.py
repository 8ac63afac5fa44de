"""Guards: the short-lived keys that permit or forbid the filling of an entry. No I/O, no clock.

A miss takes a *token*: it puts one into each guard that is free, and reads what stands there now. A clear leaves
a *tombstone*. Fills compare, on the server, what they read with what stands there when they write.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from redis.exceptions import RedisError

from ..interfaces import FillToken
from .keys import descriptor_guard_key, membership_guard_key
from .resp import Reply, Request, Shape, error_code, is_text, raise_reply

__all__ = ["TOKEN_SHAPES", "decode_token", "guard_keys", "token_requests", "tombstone"]

# What stands in a guard: who took it, or that it was buried, and something never used before.
_TOKEN: Final = b"token:"
_TOMBSTONE: Final = b"tombstone:"

# The replies about one guard.
TOKEN_SHAPES: Final[tuple[Shape, ...]] = (is_text, is_text)


def guard_keys(name: str | None, digest: str) -> tuple[bytes, ...]:
    """The guards that a fill has to hold, in a repository or, without a name, globally."""
    if name is None:
        return (descriptor_guard_key(digest),)
    return (membership_guard_key(name, digest), descriptor_guard_key(digest))


def tombstone(nonce: bytes) -> bytes:
    """What a clear leaves."""
    return _TOMBSTONE + nonce


def token_requests(key: bytes, nonce: bytes, guard_ms: int) -> tuple[Request, ...]:
    """Take a guard if it is free, and read what stands in it now."""
    return ((b"SET", key, _TOKEN + nonce, b"NX", b"PX", b"%d" % guard_ms), (b"GET", key))


def decode_token(replies: Sequence[Reply], nonce: bytes) -> FillToken:
    """Read the guards. What is not a token (a tombstone, nothing, a planted value) permits no fill."""
    guards: list[bytes] = []
    permits_fill = True
    for taken, held in zip(replies[::2], replies[1::2], strict=True):
        if isinstance(taken, RedisError):
            raise taken
        if isinstance(held, bytes):
            guards.append(held)
            permits_fill = permits_fill and held.startswith(_TOKEN)
        elif held is None or error_code(held) == "WRONGTYPE":
            guards.append(nonce)  # equal to no other token
            permits_fill = False
        else:
            raise_reply(held)
    return FillToken(tuple(guards), permits_fill)
