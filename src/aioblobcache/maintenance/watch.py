"""What a Redis is doing now: how often it is asked, what it finds, and which keys of the layout change.

INFO tells the former, about the whole server: all its programs and databases. The latter is told by client tracking
(BCAST, of the layout's prefixes), on the same connection; what comes is counted where it is parsed, and not kept.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

from ..errors import CacheUnavailableError, ConfigurationError, shorten
from ..lifecycle import LoopBinding
from ..redis.client import AnyClient, topology_of
from ..redis.failures import FAILURES, unavailable
from ..redis.lane import Lane
from ..redis.options import RedisOptions
from ..redis.resp import Group, Request, is_text
from ..redis.takeover import TakeoverError
from .rates import CHANGES, Look, Rates, Sample, counters_of, gauges_of, parse_info, rates_between
from .tracking import TrackedLanes, Tracking

__all__ = ["Rates", "Watch"]

# How long a server may take to answer, in seconds: it may be busy, which is when one watches it.
_TIMEOUT: Final = 2.0

_SHORTEST: Final = 0.01
_LONGEST: Final = 86_400.0

_INFO: Final[Request] = (b"INFO", b"server", b"clients", b"memory", b"stats", b"replication", b"commandstats")
_ASKED: Final[Group] = [_INFO], [is_text]


class Watch:
    """Rates, one after the other, each of an interval of ``every`` seconds. Entered, iterated over, and left::

        async with Watch(client) as watch:
            async for rates in watch:
                ...

    It goes on while servers are away, follows Sentinels and Clusters, and leaves no connection open. ``client`` stays
    the caller's. The server sends it the name of each key of the layout that changes: some bytes for each write.

    :raises ConfigurationError: such a client, or interval, cannot be used.
    """

    def __init__(self, client: AnyClient, *, every: float = 1.0) -> None:
        if not isinstance(every, int | float) or not _SHORTEST <= every <= _LONGEST:
            raise ConfigurationError(f"every is a number of seconds from {_SHORTEST} to a day, not {shorten(every)}")
        options = RedisOptions(timeout=_TIMEOUT)
        self._topology = topology_of(client, TrackedLanes(options, None))
        self._binding = LoopBinding("a Watch")
        self._every = every
        self._due = 0.0
        self._looked = 0.0  # when that was
        self._before: Look = {}

    async def __aenter__(self) -> Self:
        self._binding.enter()
        self._topology.open()
        try:
            if self._topology.kind == "cluster":
                with suppress(CacheUnavailableError):  # which waits until it is known who serves what
                    await self._topology.call(_ASKED)
            self._before = await self._look()
        except BaseException:
            await self._close()
            raise
        self._due = self._looked
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._close()

    async def _close(self) -> None:
        self._binding.leave()
        await self._topology.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Rates:
        """The rates of the interval that ends next; one that nobody has waited for is a part of it."""
        self._binding.check()
        now = asyncio.get_running_loop().time()
        self._due += self._every * (1 + max(0.0, (now - self._due) // self._every))
        await asyncio.sleep(self._due - now)
        before, began = self._before, self._looked
        self._before = await self._look()
        return rates_between(before, self._before, self._looked - began)

    async def _look(self) -> Look:
        lanes = self._topology.lanes
        samples = await asyncio.gather(*map(self._sample, lanes))
        self._looked = asyncio.get_running_loop().time()
        # Of a Cluster's nodes that the client was told of some may be replicas, until it is known who serves what.
        is_cluster = self._topology.kind == "cluster"
        return {
            lane: sample
            for lane, sample in zip(lanes, samples, strict=True)
            if not is_cluster or isinstance(sample, str) or sample.is_primary
        }

    async def _sample(self, lane: Lane) -> Sample | str:
        """A sample of a node, or why there is none."""
        tracking = lane.companion
        assert isinstance(tracking, Tracking)  # noqa: S101
        try:
            try:
                [reply] = await lane.call(*_ASKED)
            except TakeoverError as error:
                tracking.refusal = str(error)
                async with asyncio.timeout(_TIMEOUT):
                    [reply] = await self._topology.resend([_ASKED])
        except CacheUnavailableError as error:
            return error.reason
        except FAILURES as error:
            return unavailable(lane.address, error).reason
        info = parse_info(reply.decode("utf-8", "replace")) if isinstance(reply, bytes) else {}
        counters = counters_of(info)
        if tracking.refusal is None:
            counters.update({name: tracking.source.counts[name] for name in (*CHANGES, "flushes")})
        return Sample(
            life=(info.get("run_id", ""), tracking.source.losses),
            counters=counters,
            gauges=gauges_of(info),
            is_primary=info.get("role") != "slave",
            why_no_figures=unavailable(lane.address, reply).reason if isinstance(reply, Exception) else None,
            why_no_changes=tracking.refusal,
        )
