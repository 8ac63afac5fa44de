"""How requests reach Redis: by the lanes, and by redis-py where a lane is not the way."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from itertools import chain, cycle
from typing import Any, Final, TypeAlias, TypeVar

import attrs
from redis.asyncio import Redis
from redis.exceptions import RedisError

from ..descriptor import Descriptor
from ..digest import Digest
from ..lifecycle import LoopBinding
from . import scripts
from .coherence import Coherence
from .failures import FAILURES, address_of, cause_of, unavailable
from .lane import Lane
from .near import NearTable
from .options import RedisOptions
from .pipeline import PipelineRoad
from .resp import Reply, Request, Shape, error_code, is_count, is_text
from .slots import RefusedError
from .takeover import TakeoverError, take_over
from .wire import Answer, Scope, ScriptCall, decode_count, is_noscript

__all__ = ["OBSTACLES", "Engine", "Obstacle"]

# Error replies that mean "elsewhere" or "not now": redis-py knows what to do with each.
_SLOW_ROAD: Final = frozenset({"MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN", "LOADING", "READONLY", "MASTERDOWN"})


# So many blobs of one stat are decoded at a time: the event loop has others to serve.
_PIECE: Final = 256

# What keeps a lane from answering, and redis-py may know a way around.
Obstacle: TypeAlias = RefusedError | TakeoverError
OBSTACLES: Final = (RefusedError, TakeoverError)

_T = TypeVar("_T")


class Engine:
    """What all services of one provider share: lanes, options, and the event loop they serve."""

    def __init__(self, client: Redis, options: RedisOptions, owner: str) -> None:
        self.options = options
        self.binding = LoopBinding(owner)
        self.address = address_of(client.connection_pool.connection_kwargs)
        self._client = client
        self._pipeline = PipelineRoad(client)
        self._lanes: tuple[Lane, ...] = ()
        self._next_lane: Iterator[Lane] = cycle(self._lanes)
        self.coherence = Coherence(options, self.address) if options.near_cache else None

    def open(self) -> None:
        """Serve the running event loop: the lanes begin to connect, nobody waits for them."""
        self.binding.enter()
        self._lanes = tuple(self._lane() for _ in range(self.options.lanes))
        self._next_lane = cycle(self._lanes)

    def _lane(self) -> Lane:
        return Lane(
            partial(take_over, self._client.connection_pool),
            self.address,
            timeout=self.options.timeout,
            max_in_flight=self.options.max_in_flight,
            greeting=[(b"SCRIPT", b"LOAD", script.source) for script in scripts.ALL],
            companion=None if self.coherence is None else self.coherence.companion(),
        )

    async def aclose(self) -> None:
        """Serve nobody any more, and end the lanes."""
        self.binding.leave()
        for lane in self._lanes:  # first what a cancellation cannot interrupt
            lane.close()
        for lane in self._lanes:
            await lane.aclose()

    def info(self) -> dict[str, Any]:
        """What is in use, and how it is; see :meth:`RedisBlobDescriptorCache.info`."""
        unsupported = next((lane.unsupported for lane in self._lanes if lane.unsupported), None)
        return {
            "address": self.address,
            "road": "lane" if unsupported is None else "pipeline",
            "why_no_lane": None if unsupported is None else str(unsupported),
            "lanes": len(self._lanes),
            "lanes_open": sum(lane.is_open for lane in self._lanes),
            "in_flight": sum(lane.load[0] for lane in self._lanes),
            "waiting": sum(lane.load[1] for lane in self._lanes),
            "reconnects": sum(lane.reconnects for lane in self._lanes),
            "near_cache": None if self.coherence is None else attrs.asdict(self.coherence.stats()),
        }

    def stat(self, scope: Scope, digest: Digest, table: NearTable | None) -> asyncio.Future[Descriptor]:
        """Ask for one descriptor, by a lane.

        Raises, or the future does, besides ``BlobUnknownError`` and ``CacheUnavailableError`` an
        *obstacle*: then :meth:`around` is the way.
        """
        if asyncio.get_running_loop() is not self.binding.loop:
            self.binding.check()  # which says what is wrong
        return next(self._next_lane).stat(scope, digest, table)

    async def stat_many(self, scope: Scope, digests: Sequence[Digest], table: NearTable | None) -> list[Answer]:
        """The same of several at once; misses are in their places."""
        self.binding.check()
        lane = next(self._next_lane)
        pieces = (digests[start : start + _PIECE] for start in range(0, len(digests), _PIECE))
        answers = await asyncio.gather(*(lane.stat_many(scope, piece, table) for piece in pieces))
        return list(chain.from_iterable(answers))

    async def around(self, obstacle: Obstacle, requests: Sequence[Request], decode: Callable[[list[Reply]], _T]) -> _T:
        """Repeat through redis-py what a lane could not do, if it is such that redis-py can.

        :raises CacheUnavailableError: it is not, or gave no usable answer in what is left of the timeout.
        """
        if isinstance(obstacle, TakeoverError):
            deadline = self._deadline()
        elif _takes_slow_road(obstacle.reply):
            deadline = obstacle.deadline
        else:
            raise unavailable(self.address, obstacle.reply) from cause_of(obstacle.reply)
        replies = await self._by_pipeline(requests, deadline)
        try:
            return decode(replies)
        except FAILURES as error:
            raise unavailable(self.address, error) from cause_of(error)

    async def send(self, requests: Sequence[Request], shapes: Sequence[Shape]) -> list[Reply]:
        """Send requests in one round trip; error replies are returned in their places.

        :raises CacheUnavailableError: no answer within the timeout.
        """
        return await self._send(requests, shapes, self._deadline())

    async def run(self, call: ScriptCall) -> int:
        """Run a write script: one round trip, and another once for a server that does not know it.

        :raises CacheUnavailableError: no answer within the timeout, or the server refused.
        """
        return await self._run(call, self._send)

    async def run_here_or_nowhere(self, call: ScriptCall) -> int:
        """The same for a fill, which any error reply ends: it is never repeated elsewhere."""
        return await self._run(call, self._send_once)

    async def _run(self, call: ScriptCall, send: Callable[..., Awaitable[list[Reply]]]) -> int:
        deadline = self._deadline()
        [reply] = await send([call.request()], [is_count], deadline)
        if is_noscript(reply):
            loaded, reply = await send([call.load_request(), call.request()], [is_text, is_count], deadline)
            reply = loaded if isinstance(loaded, RedisError) else reply
        try:
            return decode_count(reply)
        except FAILURES as error:
            raise unavailable(self.address, error) from cause_of(error)

    async def _send(self, requests: Sequence[Request], shapes: Sequence[Shape], deadline: float) -> list[Reply]:
        replies = await self._send_once(requests, shapes, deadline)
        if any(_takes_slow_road(reply) for reply in replies):
            return await self._by_pipeline(requests, deadline)
        return replies

    async def _send_once(self, requests: Sequence[Request], shapes: Sequence[Shape], deadline: float) -> list[Reply]:
        self.binding.check()
        try:
            return await next(self._next_lane).call(requests, shapes)
        except TakeoverError:
            return await self._by_pipeline(requests, deadline)

    async def _by_pipeline(self, requests: Sequence[Request], deadline: float) -> list[Reply]:
        try:
            async with asyncio.timeout_at(deadline):
                return await self._pipeline.send(requests)
        except FAILURES as error:
            raise unavailable(self.address, error) from cause_of(error)

    def _deadline(self) -> float:
        return asyncio.get_running_loop().time() + self.options.timeout


def _takes_slow_road(reply: Reply) -> bool:
    return error_code(reply) in _SLOW_ROAD
