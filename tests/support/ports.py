"""TCP ports on loopback, of which each test process has a block of its own."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress
from itertools import cycle

__all__ = ["free_port"]

# Below the ports that Linux gives to outgoing connections (32768 and above), of which tests have thousands.
FIRST_PORT, END_PORT = 20_000, 32_000
BLOCK_PORTS = 400


class PortBlock:
    """Consecutive ports that no other test process hands out.

    The block's first port stays bound as long as the process lives: processes on one network, containers included,
    see which blocks are taken without a file in common.
    """

    def __init__(self) -> None:
        self._holder, first = self._claim()
        self._ports: Iterator[int] = cycle(range(first + 1, first + BLOCK_PORTS))

    @staticmethod
    def _claim() -> tuple[socket.socket, int]:
        for first in range(FIRST_PORT, END_PORT, BLOCK_PORTS):
            holder = socket.socket()
            try:
                holder.bind(("127.0.0.1", first))
            except OSError:
                holder.close()
            else:
                return holder, first
        raise AssertionError(f"all ports from {FIRST_PORT} to {END_PORT} are taken by test processes")

    def free_port(self) -> int:
        """Return a port that nothing uses; the same one again only after all others of the block."""
        for _ in range(BLOCK_PORTS):
            port = next(self._ports)
            with socket.socket() as probe, suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return port
        raise AssertionError("every port of this process's block is in use")


_block: PortBlock | None = None


def free_port() -> int:
    """Return a port of this process's block that nothing uses."""
    global _block  # noqa: PLW0603
    if _block is None:
        _block = PortBlock()
    return _block.free_port()
