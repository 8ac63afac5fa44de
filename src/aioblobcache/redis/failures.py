"""How redis-py's exceptions become this library's: the one place that maps them."""

from __future__ import annotations

from typing import Any, Final

from redis.exceptions import RedisError

from ..errors import CacheUnavailableError, one_line

__all__ = ["FAILURES", "address_of", "unavailable"]

# What a request through redis-py can fail with: its own exceptions, the operating system's, and the
# end of the time that a call has.
FAILURES: Final = (RedisError, OSError, TimeoutError)


def unavailable(address: str, error: BaseException) -> CacheUnavailableError:
    """The exception for callers; raise it ``from error``."""
    if isinstance(error, TimeoutError):
        reason = "no answer in time"
    else:
        reason = f"{type(error).__name__}: {one_line(str(error))}"
    return CacheUnavailableError(address, reason)


def address_of(connection_kwargs: dict[str, Any]) -> str:
    """Where a client connects to, for messages: never with credentials."""
    if path := connection_kwargs.get("path"):
        return f"unix:{path}"
    return f"{connection_kwargs.get('host', 'localhost')}:{connection_kwargs.get('port', 6379)}"
