"""How requests reach Redis: by the lanes, and by redis-py where a lane is not the way."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from itertools import cycle
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from ..descriptor import Descriptor
from ..digest import Digest
from ..lifecycle import LoopBinding
from . import scripts
from .failures import FAILURES, address_of, cause_of, unavailable
from .lane import Lane
from .options import RedisOptions
from .pipeline import PipelineRoad
from .slots import RefusedError
from .takeover import TakeoverError, take_over
from .wire import Reply, Request, Scope, ScriptCall, Shape, decode_count, is_count, is_noscript, is_text

__all__ = ["Engine"]

# Error replies that mean "elsewhere" or "not now": redis-py knows what to do with each.
_SLOW_ROAD: Final = frozenset({"MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN", "LOADING", "READONLY", "MASTERDOWN"})


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

    def open(self) -> None:
        """Serve the running event loop: the lanes begin to connect, nobody waits for them."""
        self.binding.enter()
        connect = partial(take_over, self._client.connection_pool)
        self._lanes = tuple(
            Lane(
                connect,
                self.address,
                timeout=self.options.timeout,
                max_in_flight=self.options.max_in_flight,
                greeting=[(b"SCRIPT", b"LOAD", script.source) for script in scripts.ALL],
            )
            for _ in range(self.options.lanes)
        )
        self._next_lane = cycle(self._lanes)

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
        }

    async def stat(self, scope: Scope, digest: Digest) -> Descriptor:
        """Ask for one descriptor.

        :raises BlobUnknownError: not known in this scope.
        :raises CacheUnavailableError: no usable answer within the timeout.
        """
        self.binding.check()
        try:
            return await next(self._next_lane).stat(scope, digest)
        except RefusedError as refused:
            if not _takes_slow_road(refused.reply):
                raise unavailable(self.address, refused.reply) from cause_of(refused.reply)
            replies = await self._by_pipeline(scope.stat_requests(digest), refused.deadline)
        except TakeoverError:
            replies = await self._by_pipeline(scope.stat_requests(digest), self._deadline())
        return self.decode_stat(scope, digest, replies)

    def decode_stat(self, scope: Scope, digest: Digest, replies: Sequence[Reply]) -> Descriptor:
        """What the replies to one stat mean; raises what :meth:`stat` raises."""
        try:
            return scope.decode_stat(digest, replies)
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
    return isinstance(reply, ResponseError) and str(reply).partition(" ")[0] in _SLOW_ROAD
