"""A lane without a server: a test plays the stream of replies to it, piece by piece."""

from __future__ import annotations

import asyncio
import contextlib

from aioblobcache.redis.lane import Lane
from aioblobcache.redis.takeover import Taken
from aioblobcache.redis.wire import GlobalScope, RepositoryScope

GLOBAL = GlobalScope()
REPOSITORY = RepositoryScope("foo/bar")


def bulk(data):
    return b"$%d\r\n%b\r\n" % (len(data), data)


class Player(asyncio.Transport):
    """The transport of a lane: takes what is written, and plays a stream into the protocol."""

    def __init__(self, protocol):
        super().__init__()
        self.protocol = protocol
        self.written = asyncio.Event()
        self.writes = []
        self.ended = False

    def write(self, data):
        self.writes.append(data)
        self.written.set()

    def abort(self):
        if not self.ended:
            self.ended = True
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    def play(self, piece):
        if not self.ended and piece:
            self.protocol.get_buffer(-1)[: len(piece)] = piece
            self.protocol.buffer_updated(len(piece))

    def end(self):
        if not self.ended:
            self.ended = True
            self.protocol.connection_lost(None)


class Connection:
    """What :class:`Taken` lets go of by its writer's transport, as of redis-py's connection."""

    def __init__(self, transport):
        self._reader, self._writer = None, self
        self.transport = transport


@contextlib.asynccontextmanager
async def playing(timeout, max_in_flight=6, greeting=(), companion=None):
    """A lane and its player, once they are connected; a second connection is not to be had."""
    players = []

    async def connect(protocol):
        if players:
            await asyncio.get_running_loop().create_future()
        players.append(Player(protocol))
        return Taken(players[0], Connection(players[0]))

    options = {"max_in_flight": max_in_flight, "greeting": greeting, "companion": companion}
    lane = Lane(connect, "a stream", timeout=timeout, **options)
    while not lane.is_open:  # noqa: ASYNC110
        await asyncio.sleep(0)
    try:
        yield lane, players[0]
    finally:
        await lane.aclose()


async def until_written():
    """The lane writes in the tick after this one."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)
