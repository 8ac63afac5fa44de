"""How redis-py's exceptions become this library's: the one place that maps them."""

from __future__ import annotations

from typing import Any, Final

from redis.exceptions import RedisError

from ..errors import CacheUnavailableError, one_line

__all__ = ["FAILURES", "address_of", "cause_of", "unavailable"]

# What a request through redis-py can fail with: its own exceptions, the operating system's, the end
# of the time that a call has, and credentials or words of a server that its codec cannot take.
FAILURES: Final = (RedisError, OSError, TimeoutError, UnicodeError)


def unavailable(address: str, error: Exception) -> CacheUnavailableError:
    """The exception for callers; raise it from :func:`cause_of`."""
    if isinstance(error, TimeoutError):
        reason = "no answer in time"
    elif isinstance(error, UnicodeError):
        # It holds what could not be encoded, which may be a password: not repeated, not chained.
        return CacheUnavailableError(address, "text that the client's encoding cannot take")
    else:
        reason = f"{type(error).__name__}: {one_line(str(error))}"
    return CacheUnavailableError(address, reason)


def cause_of(error: Exception) -> Exception | None:
    """What to raise it ``from``: the error itself, unless it may hold a secret."""
    return None if isinstance(error, UnicodeError) else error


def address_of(connection_kwargs: dict[str, Any]) -> str:
    """Where a client connects to, for messages: never with credentials."""
    if path := connection_kwargs.get("path"):
        return f"unix:{path}"
    return f"{connection_kwargs.get('host', 'localhost')}:{connection_kwargs.get('port', 6379)}"
