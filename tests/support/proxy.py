"""A proxy on loopback between a provider and its server, which damages what the server answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self


class Proxy:
    """Forwards connections, in the event loop of the test. What it does to replies may change at any time."""

    def __init__(self, upstream: int) -> None:
        self.port = 0
        self.requests = bytearray()  # all that clients ever sent
        self.replied = 0  # bytes that the server ever sent
        self.accepted = 0  # connections, ever
        self.delay = 0.0  # seconds that each piece of replies is held back
        self.bytewise = False  # each byte of a reply by itself
        self.edit: Callable[[bytes], bytes] = bytes  # what becomes of each piece of replies
        # What is held back while not set, as by a network that is silently dead: no end of a connection is told either.
        self.lets_requests_through = asyncio.Event()
        self.lets_replies_through = asyncio.Event()
        self.lets_requests_through.set()
        self.lets_replies_through.set()
        self._upstream = upstream
        self._cut_after: int | None = None
        self._prefix = b""
        self._clients: set[asyncio.StreamWriter] = set()
        self._links: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def count(self, word: bytes) -> int:
        """How often clients have said ``word``."""
        return self.requests.count(word)

    def cut_after(self, count: int) -> None:
        """Close the connection once ``count`` more bytes of replies have passed."""
        self._cut_after = count

    def put_in_front(self, data: bytes) -> None:
        """Send ``data`` before the next reply."""
        self._prefix = data

    def inject(self, data: bytes) -> None:
        """Send ``data`` to the clients now."""
        for client in self._clients:
            client.write(data)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for link in self._links:
            link.cancel()
        await asyncio.gather(*self._links, return_exceptions=True)
        await self._server.wait_closed()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        link = asyncio.create_task(self._link(reader, writer))
        self._links.add(link)
        link.add_done_callback(self._links.discard)

    async def _link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers = [writer]
        pumps: list[asyncio.Task[None]] = []
        try:
            upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", self._upstream)
            writers.append(upstream_writer)
            self._clients.add(writer)
            pumps.append(asyncio.create_task(self._forward_requests(reader, upstream_writer)))
            pumps.append(asyncio.create_task(self._forward_replies(upstream_reader, writer)))
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        except OSError:
            pass  # no server: the client is told by the end of its connection
        finally:
            self._clients.discard(writer)
            for pump in pumps:
                pump.cancel()
            for end in writers:
                end.close()
            await asyncio.gather(*pumps, *(end.wait_closed() for end in writers), return_exceptions=True)

    async def _forward_requests(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            self.requests += data
            await self.lets_requests_through.wait()
            writer.write(data)
            await writer.drain()

    async def _forward_replies(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            self.replied += len(data)
            await self.lets_replies_through.wait()
            if self.delay:
                await asyncio.sleep(self.delay)
            data, self._prefix = self._prefix + self.edit(data), b""
            if not data:
                continue
            if self._cut_after is not None:
                writer.write(data[: self._cut_after])
                self._cut_after -= len(data)
                if self._cut_after <= 0:
                    self._cut_after = None
                    return
                continue
            step = 1 if self.bytewise else len(data)
            for start in range(0, len(data), step):
                writer.write(data[start : start + step])
                await writer.drain()
                if self.bytewise:
                    await asyncio.sleep(0)
