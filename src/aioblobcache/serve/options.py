"""What the program is told, and how its workers are told the same."""

from __future__ import annotations

import json
import os
from typing import Final, Self

import attrs

from ..errors import ConfigurationError, shorten

__all__ = ["ServeOptions", "listen_address"]

# Environment of a worker process: whoever may read it may read the memory of the process as well.
_VARIABLE: Final = "AIOBLOBCACHE_SERVE"


def listen_address(text: str) -> tuple[str, int]:
    """``HOST:PORT``, ``[::1]:PORT`` or ``:PORT`` (all of the machine's addresses).

    :raises ConfigurationError: none of these.
    """
    host, colon, port = text.rpartition(":")
    if not colon or not (port.isascii() and port.isdigit() and int(port) < 65536) or (":" in host) != (host[:1] == "["):
        raise ConfigurationError(f"an address to listen on is HOST:PORT, not {shorten(text)}")
    return host.strip("[]") or "0.0.0.0", int(port)  # noqa: S104 - it was asked for


@attrs.frozen
class ServeOptions:
    """A registry to be served."""

    storage: str  # URL
    root: str = ""
    cache: str = "memory://"
    near_cache: int = 0
    max_staleness: float = 1.0
    redirect: bool = False
    referrers: bool = False
    access_log: bool = True

    def pass_on(self) -> None:
        """Leave them to the worker processes that this process starts."""
        os.environ[_VARIABLE] = json.dumps(attrs.asdict(self))

    @classmethod
    def received(cls) -> Self:
        """Those that the starting process left."""
        return cls(**json.loads(os.environ[_VARIABLE]))
