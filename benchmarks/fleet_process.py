"""One process of a real fleet: ``python -m benchmarks.fleet_process URL NUMBER FLEET``.

It asks as many stats a second as a process of the simulated one, drawn in the same way, and is restarted as often. Each
line on standard input makes it print what its near cache has done so far.
"""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Self

import attrs

from aioblobcache import BlobUnknownError, RedisBlobDescriptorCache

from .fleet import Fleet, blob_of, name_of, popularity

__all__ = ["FleetProcess", "NearCounts"]

# Between two looks at how many stats are due, in seconds.
_TICK: Final = 0.005

_DRAWS: Final = 10_000


@attrs.frozen
class NearCounts:
    """What a near cache has done since the process was started, through all its lives."""

    hits: int = 0
    misses: int = 0
    invalidations: int = 0

    def __add__(self, other: NearCounts) -> NearCounts:
        return NearCounts(self.hits + other.hits, self.misses + other.misses, self.invalidations + other.invalidations)

    def __sub__(self, other: NearCounts) -> NearCounts:
        return NearCounts(self.hits - other.hits, self.misses - other.misses, self.invalidations - other.invalidations)


class FleetProcess:
    """The process, for who has started it."""

    def __init__(self, url: str, number: int, fleet: Fleet) -> None:
        command = [
            sys.executable,
            "-m",
            "benchmarks.fleet_process",
            url,
            str(number),
            json.dumps(attrs.asdict(fleet)),
        ]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            command, cwd=Path(__file__).parents[1], stdin=pipe, stdout=pipe, text=True, bufsize=1
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def counts(self) -> NearCounts:
        """What its near cache has done so far."""
        asks, says = self._process.stdin, self._process.stdout
        assert asks is not None
        assert says is not None
        print(file=asks, flush=True)
        line = says.readline()
        if not line:
            sys.exit("a process of the fleet failed")
        return NearCounts(**json.loads(line))


class _Asking:
    def __init__(self, url: str, number: int, fleet: Fleet) -> None:
        self._url = url
        self._number = number
        self._fleet = fleet
        self._before = NearCounts()
        self._cache: RedisBlobDescriptorCache | None = None
        self._digests = [blob_of(blob) for blob in range(fleet.blobs)]

    def counts(self) -> NearCounts:
        now = None if self._cache is None else self._cache.info()["near_cache"]
        return self._before + (
            NearCounts() if now is None else NearCounts(now["hits"], now["misses"], now["invalidations"])
        )

    async def run(self) -> None:
        """One life after the other."""
        fleet = self._fleet
        first = (self._number + 0.5) / fleet.processes * fleet.life
        life = first
        numbers = self._drawn(random.Random(self._number))  # noqa: S311
        while True:
            async with RedisBlobDescriptorCache.from_url(
                self._url,
                timeout=10.0,
                near_cache=fleet.near_cache,
                max_staleness=fleet.max_staleness,
                near_max_age=fleet.max_age,
            ) as cache:
                self._cache = cache
                await self._ask(cache, numbers, life)
                self._before, self._cache = self.counts(), None
            life = fleet.life

    def _drawn(self, draw: random.Random) -> Iterator[int]:
        weights = popularity(self._fleet)
        while True:
            yield from draw.choices(range(self._fleet.blobs), cum_weights=weights, k=_DRAWS)

    async def _ask(self, cache: RedisBlobDescriptorCache, numbers: Iterator[int], life: float) -> None:
        """Ask evenly, whatever the answers take, until this life is over."""
        loop = asyncio.get_running_loop()
        rate = self._fleet.stats / self._fleet.processes
        began, asked = loop.time(), 0
        while (elapsed := loop.time() - began) < life:
            due = int(elapsed * rate) - asked
            asked += due
            await asyncio.gather(*(self._stat(cache, next(numbers)) for _ in range(due)))
            await asyncio.sleep(_TICK)

    async def _stat(self, cache: RedisBlobDescriptorCache, number: int) -> None:
        try:
            found = await cache.repository_scoped(name_of(self._fleet, number)).stat(self._digests[number])
        except BlobUnknownError:
            return  # deleted, and about to be pushed again
        if found.size != number:
            raise AssertionError(f"{found} where blob {number} is kept")


async def _main(url: str, number: str, fleet: str) -> None:
    asking = _Asking(url, int(number), Fleet(**json.loads(fleet)))
    running = asyncio.create_task(asking.run())
    while await asyncio.to_thread(sys.stdin.readline):
        if running.done():
            await running
        print(json.dumps(attrs.asdict(asking.counts())), flush=True)  # noqa: T201
    running.cancel()


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
