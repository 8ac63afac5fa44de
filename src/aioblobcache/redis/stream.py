"""The protocol of one connection: what the event loop says of it is told to whoever receives it now."""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

from redis.exceptions import ConnectionError as RedisConnectionError

__all__ = ["Receiver", "Stream"]

# Bytes of replies: those to about 350 stats.
_READ_AT_ONCE: Final = 65_536


class Receiver(Protocol):
    """Who a connection is for."""

    def received(self, buffer: bytearray, count: int) -> None:
        """The next ``count`` bytes have come; the buffer is used again afterwards."""
        ...

    def lost(self, failure: Exception) -> None:
        """The connection has ended, and not by us."""
        ...

    def pause(self) -> None:
        """The transport holds as much as it should: nothing is to be written."""
        ...

    def resume(self) -> None:
        """It has got rid of it."""
        ...


class Stream(asyncio.BufferedProtocol):
    """Reads into a buffer of its own, and tells its receiver; with none, nothing is heard of it.

    The size of the buffer bounds how long one callback of the event loop can take: those who have been
    answered run, and ask again, before the next part is read.
    """

    def __init__(self) -> None:
        self.receiver: Receiver | None = None
        self.ended = asyncio.Event()  # the transport has closed its socket
        self._buffer = bytearray(_READ_AT_ONCE)
        # asyncio reads the records of TLS that are there one behind the other, each into a slice of what it was given:
        # of a bytearray that is a copy, and what was read into it is lost.
        self._view = memoryview(self._buffer)

    def get_buffer(self, _sizehint: int) -> memoryview:
        """See :class:`asyncio.BufferedProtocol`, as of the others."""
        return self._view

    def buffer_updated(self, nbytes: int) -> None:  # noqa: D102
        if self.receiver is not None:
            self.receiver.received(self._buffer, nbytes)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: D102
        self.ended.set()
        if self.receiver is not None:
            self.receiver.lost(exc or RedisConnectionError("the server closed the connection"))

    def pause_writing(self) -> None:  # noqa: D102
        if self.receiver is not None:
            self.receiver.pause()

    def resume_writing(self) -> None:  # noqa: D102
        if self.receiver is not None:
            self.receiver.resume()
