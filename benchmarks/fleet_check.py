"""The simulated fleet beside a real one: processes with near caches, a Valkey, and who pushes and deletes."""

from __future__ import annotations

import asyncio
import datetime
import itertools
import json
import random
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, ExitStack
from functools import reduce
from itertools import chain
from operator import add
from pathlib import Path
from typing import Final, Self

import attrs

from aioblobcache import Descriptor, RedisBlobDescriptorCache

from .fleet import Fleet, Forecast, blob_of, name_of, popularity, simulate
from .fleet_process import FleetProcess, NearCounts
from .machine import machine_of
from .rounds import write_rounds
from .server import Server, running_cluster, running_server
from .server_costs import MEDIA_TYPE, ServerCosts, kept, measure_costs

__all__ = ["CHECKED", "Check", "Seen", "check_fleets"]


_ALIKE: Final = Fleet(
    processes=1, stats=2_000, blobs=50_000, repositories=200, near_cache=5_000, pushes=20, deletes=5, life=25
)

# One process and four, which ask as much each; then more pushes, images of ten layers and a skew that is more even;
# then near caches that hold everything, whose answers grow too old; then a Cluster.
CHECKED: Final = (
    _ALIKE,
    attrs.evolve(_ALIKE, processes=4, stats=8_000),
    attrs.evolve(_ALIKE, processes=4, stats=6_000, pushes=60, deletes=20, skew=0.8, near_cache=20_000, image=10),
    attrs.evolve(_ALIKE, processes=4, stats=8_000, near_cache=50_000, max_age=8.0, life=1e6, image=10),
    attrs.evolve(_ALIKE, processes=4, stats=6_000, nodes=3),
)


@attrs.frozen(kw_only=True)
class Seen:
    """What a real fleet did: the fields of a :class:`Forecast` that can be seen."""

    hit_ratio: float
    misses: float
    commands: float
    invalidations: float
    tracked_keys: float
    tracked_pairs: float


@attrs.frozen
class Check:
    """Forecasts, and what was seen instead."""

    date: str
    machine: dict[str, str]
    server: str
    warm_up: float
    seconds: float
    fleets: list[Fleet]
    forecasts: list[Forecast]
    seen: list[Seen]
    costs: ServerCosts

    def write(self, path: Path) -> None:
        """Keep it as JSON."""
        write_rounds(self, path)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what :meth:`write` wrote."""
        document = json.loads(path.read_text())
        return cls(
            **{
                **document,
                "fleets": [Fleet(**one) for one in document["fleets"]],
                "forecasts": [Forecast(**one) for one in document["forecasts"]],
                "seen": [Seen(**one) for one in document["seen"]],
                "costs": ServerCosts(**document["costs"]),
            }
        )

    def deviations(self, number: int) -> dict[str, float]:
        """By how much each figure that was forecast was off, as a share of what was seen."""
        forecast, seen = self.forecasts[number], attrs.asdict(self.seen[number])
        return {name: getattr(forecast, name) / figure - 1 for name, figure in seen.items()}


def check_fleets(warm_up: float, seconds: float, say: Callable[[str], None]) -> Check:
    """Forecast each of the fleets, and run it."""
    forecasts, seen = [], []
    server = ""
    for fleet in CHECKED:
        say(f"fleet of {fleet.processes}, {fleet.stats:,.0f} stats a second: simulated")
        forecasts.append(simulate(fleet, processes=fleet.processes, warm_up=warm_up, seconds=seconds))
        say("the same, real")
        with tempfile.TemporaryDirectory() as folder, _servers_of(fleet, Path(folder)) as running:
            server = running.version()
            seen.append(_run(fleet, running, warm_up, seconds))
    say("what it takes of a server")
    with tempfile.TemporaryDirectory() as folder, running_server(Path(folder)) as running:
        costs = asyncio.run(measure_costs(running))
    date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return Check(date, machine_of(), server, warm_up, seconds, list(CHECKED), forecasts, seen, costs)


def _servers_of(fleet: Fleet, folder: Path) -> AbstractContextManager[Server]:
    return running_server(folder) if fleet.nodes == 1 else running_cluster(folder, fleet.nodes)


def _run(fleet: Fleet, server: Server, warm_up: float, seconds: float) -> Seen:
    server.send(chain.from_iterable(kept(fleet, number) for number in range(fleet.blobs)))
    with ExitStack() as stack:
        processes = [stack.enter_context(FleetProcess(server.url, number, fleet)) for number in range(fleet.processes)]
        for process in processes:
            process.counts()  # it has begun
        return asyncio.run(_watch(fleet, server, processes, warm_up, seconds))


async def _watch(fleet: Fleet, server: Server, processes: list[FleetProcess], warm_up: float, seconds: float) -> Seen:
    async with RedisBlobDescriptorCache.from_url(server.url, timeout=10.0) as cache:
        writer = _Writer(cache, fleet)
        async with asyncio.TaskGroup() as group:  # a writer that fails ends it all
            writing = [
                group.create_task(writer.at_random(fleet.pushes, writer.push)),
                group.create_task(writer.at_random(fleet.deletes, writer.delete)),
            ]
            await asyncio.sleep(warm_up)
            before, commands, began = await _counts(processes), _commands(server), time.monotonic()
            await asyncio.sleep(seconds)
            near = await _counts(processes) - before
            done, elapsed = _commands(server) - commands, time.monotonic() - began
            tracking = [node.info("stats") for node in server.nodes]
            for task in writing:
                task.cancel()
    return Seen(
        hit_ratio=near.hits / (near.hits + near.misses),
        misses=near.misses / elapsed,
        commands=done / elapsed,
        invalidations=near.invalidations / elapsed,
        tracked_keys=sum(own["tracking_total_keys"] for own in tracking),
        tracked_pairs=sum(own["tracking_total_items"] for own in tracking),
    )


async def _counts(processes: list[FleetProcess]) -> NearCounts:
    return reduce(add, [await asyncio.to_thread(process.counts) for process in processes])


def _commands(server: Server) -> int:
    """Those that clients have sent: three for each stat.

    A server counts what scripts call under the same names; so the DEL that a Cluster's clear ends with is not among
    them.
    """
    stats, beats, writes = server.calls("sismember", "role", "evalsha")
    return 3 * stats + beats + writes


class _Writer:
    """Who pushes new blobs, and deletes others and pushes them again, as :class:`Fleet` says."""

    def __init__(self, cache: RedisBlobDescriptorCache, fleet: Fleet) -> None:
        self._cache = cache
        self._fleet = fleet
        self._draw = random.Random(1)  # noqa: S311
        self._weights = popularity(fleet)
        self._new = itertools.count(fleet.blobs)

    async def push(self) -> None:
        number = next(self._new)
        await self._set(self._drawn(), number)

    async def delete(self) -> None:
        number = self._drawn()
        await self._cache.repository_scoped(name_of(self._fleet, number)).clear(blob_of(number))
        await self._set(number, number)

    async def _set(self, like: int, number: int) -> None:
        """Put a blob into the repository of another."""
        descriptor = Descriptor(blob_of(number), number, MEDIA_TYPE)
        await self._cache.repository_scoped(name_of(self._fleet, like)).set_descriptor(descriptor.digest, descriptor)

    def _drawn(self) -> int:
        [number] = self._draw.choices(range(self._fleet.blobs), cum_weights=self._weights)
        return number

    async def at_random(self, rate: float, work: Callable[[], Awaitable[None]]) -> None:
        """Do it so often a second."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            due += self._draw.expovariate(rate)
            await asyncio.sleep(due - loop.time())
            await work()
