"""How redis-py's exceptions become this library's: the one place that maps them."""

from __future__ import annotations

import re
from typing import Any, Final

from redis.exceptions import MovedError, NoPermissionError, RedisError

from ..errors import CacheUnavailableError, one_line
from . import scripts
from .keys import keys_of
from .resp import Request, error_code

__all__ = ["FAILURES", "address_of", "cause_of", "unavailable"]

# What a request through redis-py can fail with: its own exceptions, the operating system's, the end
# of the time that a call has, and credentials or words of a server that its codec cannot take.
FAILURES: Final = (RedisError, OSError, TimeoutError, UnicodeError)


# The command that an ACL forbids, where the server names it: to the client, or to a script. Redis 7.0 does not
# name what it forbids to a script.
_FORBIDDEN: Final = re.compile(r"run the '([a-z|]+)' command")
_FORBIDDEN_TO_SCRIPT: Final = "user executing the script can't"


_OF_CLUSTER: Final = ": it is a node of a Cluster, which redis+cluster:// is for"


def unavailable(address: str, error: Exception, request: Request | None = None) -> CacheUnavailableError:
    """The exception for callers, of a ``request`` if it is known which one failed; raise it from :func:`cause_of`."""
    if isinstance(error, TimeoutError):
        reason = "no answer in time"
    elif isinstance(error, UnicodeError):
        # It holds what could not be encoded, which may be a password: not repeated, not chained.
        return CacheUnavailableError(address, "text that the client's encoding cannot take")
    elif isinstance(error, MovedError):
        reason = f"MOVED {one_line(str(error))}{_OF_CLUSTER}"
    elif error_code(error) == "MOVED":  # redis-py 5 leaves the code in the text
        reason = f"{one_line(str(error))}{_OF_CLUSTER}"
    else:
        reason = f"{type(error).__name__}: {one_line(str(error))}{_grant(error, request)}"
    return CacheUnavailableError(address, reason)


def _grant(error: Exception, request: Request | None) -> str:
    """What an ACL has to grant so that the request is permitted, if that is what is wrong."""
    text = str(error)
    of_script = _FORBIDDEN_TO_SCRIPT in text
    forbidden = _FORBIDDEN.search(text)
    if request is None or not (of_script or forbidden or "NOPERM" in text or isinstance(error, NoPermissionError)):
        return ""
    named = forbidden[1] if forbidden else request[0].decode().lower()
    commands = " ".join(f"+{command}" for command in (scripts.COMMANDS if of_script else (named,)))
    patterns = sorted({key.decode("latin-1").partition("::")[0] + "::*" for key in keys_of(request)})
    return f" (grant {commands} {' '.join('~' + pattern for pattern in patterns)})"


def cause_of(error: Exception) -> Exception | None:
    """What to raise it ``from``: the error itself, unless it may hold a secret."""
    return None if isinstance(error, UnicodeError) else error


def address_of(connection_kwargs: dict[str, Any]) -> str:
    """Where a client connects to, for messages: never with credentials."""
    if path := connection_kwargs.get("path"):
        return f"unix:{path}"
    return f"{connection_kwargs.get('host', 'localhost')}:{connection_kwargs.get('port', 6379)}"
