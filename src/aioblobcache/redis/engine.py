"""How a question or a write of a service gets to Redis and back, within its time, whatever the topology."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from itertools import chain
from typing import Any, Final, TypeAlias, TypeVar

import attrs
from redis.exceptions import RedisError

from ..descriptor import Descriptor
from ..digest import Digest
from ..lifecycle import LoopBinding
from .coherence import Coherence
from .failures import FAILURES, cause_of, unavailable
from .near import NearTable
from .options import RedisOptions
from .pending import RefusedError
from .resp import Group, Reply, Request, error_code, is_count, is_text
from .takeover import TakeoverError
from .topology import Topology
from .wire import Answer, Scope
from .writes import Step, Steps, Writes, decode_count, is_noscript, load_request

__all__ = ["OBSTACLES", "Engine", "Obstacle"]

# What keeps a lane from answering, and the topology may know a way around.
Obstacle: TypeAlias = RefusedError | TakeoverError
OBSTACLES: Final = (RefusedError, TakeoverError)

_T = TypeVar("_T")
_Send: TypeAlias = Callable[[Group, float], Awaitable[list[Reply]]]


class Engine:
    """What all services of one provider share: the topology, options, and the event loop they serve."""

    def __init__(self, topology: Topology, options: RedisOptions, coherence: Coherence | None, owner: str) -> None:
        self.options = options
        self.binding = LoopBinding(owner)
        self.coherence = coherence
        self._topology = topology

    @property
    def address(self) -> str:
        """Where Redis is, for messages."""
        return self._topology.address

    @property
    def writes(self) -> Writes:
        """How entries are written there."""
        return self._topology.writes

    def open(self) -> None:
        """Serve the running event loop: the lanes begin to connect, nobody waits for them."""
        self.binding.enter()
        self._topology.open()

    async def aclose(self) -> None:
        """Serve nobody any more, and end the lanes."""
        self.binding.leave()
        await self._topology.aclose()

    def info(self) -> dict[str, Any]:
        """What is in use, and how it is; see :meth:`RedisBlobDescriptorCache.info`."""
        lanes = self._topology.lanes
        unsupported = next((lane.unsupported for lane in lanes if lane.unsupported), None)
        return {
            "address": self.address,
            "topology": self._topology.kind,
            "road": "lane" if unsupported is None else "none" if self._topology.kind == "cluster" else "pipeline",
            "why_no_lane": None if unsupported is None else str(unsupported),
            "lanes": len(lanes),
            "lanes_open": sum(lane.is_open for lane in lanes),
            "in_flight": sum(lane.load[0] for lane in lanes),
            "waiting": sum(lane.load[1] for lane in lanes),
            "reconnects": sum(lane.reconnects for lane in lanes),
            "near_cache": None if self.coherence is None else attrs.asdict(self.coherence.stats()),
        }

    # --- stats -----------------------------------------------------------------------------------

    def stat(self, scope: Scope, digest: Digest, table: NearTable | None) -> asyncio.Future[Descriptor]:
        """Ask for one descriptor, by the lanes.

        Raises, or the future does, besides ``BlobUnknownError`` and ``CacheUnavailableError`` an
        *obstacle*: then :meth:`stat_around` is the way.
        """
        if asyncio.get_running_loop() is not self.binding.loop:
            self.binding.check()  # which says what is wrong
        return self._topology.stat(scope, digest, table)

    async def stat_around(self, obstacle: Obstacle, scope: Scope, digest: Digest) -> Descriptor:
        """Ask once more, where the lanes could not, if there is another way.

        :raises CacheUnavailableError: there is none, or it gave no usable answer in what is left of the timeout.
        """
        return await self._around(obstacle, scope.stat_groups(digest), partial(scope.decode_stat, digest))

    async def stat_many(self, scope: Scope, digests: Sequence[Digest], table: NearTable | None) -> list[Answer]:
        """Ask for several at once; misses are in their places.

        :raises CacheUnavailableError: no usable answer within the timeout.
        """
        self.binding.check()
        try:
            return await self._topology.stat_many(scope, digests, table)
        except OBSTACLES as error:
            obstacle = error
        groups = [scope.stat_many_group(digests)]
        return await self._around(obstacle, groups, partial(scope.decode_stat_many, digests))

    async def _around(self, obstacle: Obstacle, groups: Sequence[Group], decode: Callable[[list[Reply]], _T]) -> _T:
        if isinstance(obstacle, TakeoverError):
            deadline = self._deadline()
        elif self._is_elsewhere(obstacle.reply):
            deadline = obstacle.deadline
        else:
            raise unavailable(self.address, obstacle.reply, obstacle.request) from cause_of(obstacle.reply)
        replies = await self._resend(groups, deadline)
        try:
            return decode(replies)
        except FAILURES as error:
            raise unavailable(self.address, error) from cause_of(error)

    # --- the rest --------------------------------------------------------------------------------

    async def send_here_or_nowhere(self, groups: Sequence[Group]) -> list[Reply]:
        """Send groups of requests once, all in one round trip; error replies are in their places.

        :raises CacheUnavailableError: no answer within the timeout.
        """
        return await self._send_all(groups, self._send_once)

    async def send(self, groups: Sequence[Group]) -> list[Reply]:
        """The same, where need be by another road or to another node: of requests that may be sent twice.

        :raises CacheUnavailableError: no answer within the timeout.
        """
        return await self._send_all(groups, self._send)

    async def _send_all(self, groups: Sequence[Group], send: _Send) -> list[Reply]:
        deadline = self._deadline()
        first, *others = self._topology.grouped(groups)
        if not others:
            return await send(first, deadline)
        return [*chain.from_iterable(await asyncio.gather(*(send(group, deadline) for group in (first, *others))))]

    async def run(self, steps: Steps) -> bool:
        """Run a write, and say whether it was done: a step may find that there is nothing to do.

        Each step is one round trip, and another once for a server that does not know its script.

        :raises CacheUnavailableError: no answer within the timeout, or the server refused.
        """
        return await self._run(steps, self._send)

    async def run_here_or_nowhere(self, steps: Steps) -> bool:
        """The same for a fill, which any error reply ends: it is never repeated elsewhere."""
        return await self._run(steps, self._send_once)

    async def run_all_here_or_nowhere(self, writes: Sequence[Steps]) -> list[bool]:
        """The same for many fills: the first step of all of them in one round trip, then the second.

        :raises CacheUnavailableError: no answer within the timeout, or the server refused one of them.
        """
        deadline = self._deadline()
        outcomes = [True] * len(writes)
        request: Request | None = None
        try:
            async with asyncio.timeout_at(deadline):
                for turn in range(max(map(len, writes), default=0)):
                    under_way = [place for place, steps in enumerate(writes) if outcomes[place] and turn < len(steps)]
                    steps = [writes[place][turn] for place in under_way]
                    replies = await self.send_here_or_nowhere([([step.request], [is_count]) for step in steps])
                    for place, step, reply in zip(under_way, steps, replies, strict=True):
                        request = step.request
                        answer = await self._take(step, self._send_once, deadline) if is_noscript(reply) else reply
                        outcomes[place] = bool(decode_count(answer)) or not step.decides
        except FAILURES as error:
            raise unavailable(self.address, error, request) from cause_of(error)
        return outcomes

    async def _run(self, steps: Steps, send: _Send) -> bool:
        deadline = self._deadline()
        request: Request | None = None
        try:
            async with asyncio.timeout_at(deadline):
                for step in steps:
                    request = step.request
                    count = decode_count(await self._take(step, send, deadline))
                    if step.decides and not count:
                        return False
        except FAILURES as error:
            raise unavailable(self.address, error, request) from cause_of(error)
        return True

    async def _take(self, step: Step, send: _Send, deadline: float) -> Reply:
        [reply] = await send(([step.request], [is_count]), deadline)
        if step.script is not None and is_noscript(reply):
            taught = ([load_request(step.script), step.request], [is_text, is_count])
            loaded, reply = await send(taught, deadline)
            reply = loaded if isinstance(loaded, RedisError) else reply
        return reply

    async def _send(self, group: Group, deadline: float) -> list[Reply]:
        replies = await self._send_once(group, deadline)
        if any(self._is_elsewhere(reply) for reply in replies):
            return await self._resend([group], deadline)
        return replies

    async def _send_once(self, group: Group, deadline: float) -> list[Reply]:
        self.binding.check()
        try:
            return await self._topology.call(group)
        except TakeoverError:
            return await self._resend([group], deadline)

    async def _resend(self, groups: Sequence[Group], deadline: float) -> list[Reply]:
        try:
            async with asyncio.timeout_at(deadline):
                return await self._topology.resend(groups)
        except FAILURES as error:
            raise unavailable(self.address, error) from cause_of(error)

    def _is_elsewhere(self, reply: Reply) -> bool:
        return error_code(reply) in self._topology.elsewhere

    def _deadline(self) -> float:
        return asyncio.get_running_loop().time() + self.options.timeout
