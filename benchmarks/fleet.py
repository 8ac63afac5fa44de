"""A fleet of registry processes with near caches in front of a Redis, simulated event by event.

The near caches are the library's own: they know neither socket nor clock, so they can be given simulated ones. Around
them stand simulated callers, a server that remembers who has read which key and tells them of changes, and who pushes,
deletes and restarts. Messages take time, and come by each connection in order.

The processes of a fleet are alike, and only pushes and deletes are common to them; so a few of them stand for all, and
what concerns the server is multiplied. What cannot be multiplied, which keys *somebody* has read, is reckoned from how
often a process misses blobs of each popularity. Where a repository is asked of some processes only, a *group*, one of
each group is simulated.

Left out: fills (every blob is cached), unknown blobs, what load does to a server's answers, a bound of what it tracks.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from statistics import fmean
from typing import Final

import attrs

from aioblobcache import Descriptor, Digest
from aioblobcache.redis.keys import descriptor_key, membership_key, override_key
from aioblobcache.redis.near import NearCache, NearTable, Source

__all__ = ["BEATS", "Fleet", "Forecast", "blob_of", "name_of", "popularity", "repository_of", "simulate"]

# Heartbeats in each `max_staleness`, as the library's.
BEATS: Final = 4

# Draws that are made at a time.
_DRAWS: Final = 50_000

_DAY: Final = 86_400.0  # seconds

_MEDIA_TYPE: Final = "application/octet-stream"


@attrs.frozen(kw_only=True)
class Fleet:
    """What there is, and what happens to it. Rates are of the whole fleet, a second; times are seconds."""

    processes: int
    stats: float
    blobs: int
    repositories: int
    image: int = 1  # blobs of neighbouring popularity that are in one repository together
    skew: float = 1.0  # the n-th most popular blob is asked for 1 / n**skew as often
    near_cache: int = 100_000  # entries of each process
    pushes: float = 0.0  # of a new blob, into the repository of one that is drawn like a stat
    deletes: float = 0.0  # of a blob that is drawn like a stat, and is pushed again at once
    life: float = math.inf  # of a process, before it is restarted
    silences: float = 0.0  # of a process: its network is dead, and nobody is told
    silence: float = 10.0  # how long that lasts
    nodes: int = 1
    max_staleness: float = 1.0
    max_age: float = 60.0
    trip: float = 0.0002  # of a message, one way
    sharers: int | None = None  # processes that are asked for a repository; None: all

    @property
    def groups(self) -> int:
        """Into how many groups of processes repositories are spread."""
        return 1 if self.sharers is None else max(1, self.processes // self.sharers)

    @property
    def served_by(self) -> int:
        """How many processes are asked for a repository."""
        return self.processes // self.groups

    @property
    def beats(self) -> float:
        """Heartbeats a second, of each process to each node."""
        return BEATS / self.max_staleness * self.processes * self.nodes

    @property
    def steps(self) -> float:
        """Commands that write, a second: a script each, or three steps of a Cluster. A delete is followed by a push."""
        return (self.pushes + 2 * self.deletes) * (1 if self.nodes == 1 else 3)


def _as_tuple(values: Iterable[float]) -> tuple[float, ...]:
    return tuple(values)


@attrs.frozen(kw_only=True)
class Forecast:
    """What comes of it, a second and for the whole fleet, once the near caches have filled."""

    hit_ratio: float  # of the stats, those that no Redis was asked for
    misses: float  # stats that Redis was asked for
    commands: float  # that Redis executes: three for each of those, heartbeats, writes
    invalidations: float  # keys that Redis tells somebody of
    tracked_keys: float  # that somebody has read, and of whose change they would be told, at the end
    tracked_pairs: float  # of a key and somebody
    keys_of_a_day: float  # the same when the processes have lived for a day: nothing is forgotten but by a change
    pairs_of_a_day: float
    busiest: float  # stats that the busiest of the processes is asked
    served_stale: float  # of the stats: contradicting a delete that had been confirmed
    staleness: tuple[float, ...] = attrs.field(converter=_as_tuple)  # seconds that these were late: a sample, the last


def blob_of(number: int) -> Digest:
    """The blob of that place in the order of popularity."""
    return Digest.of(b"blob %d" % number)


def repository_of(fleet: Fleet, number: int) -> int:
    """Which repository that blob is in."""
    return number // fleet.image % fleet.repositories


def name_of(fleet: Fleet, number: int) -> str:
    """What it is called."""
    return f"fleet/repository-{repository_of(fleet, number)}"


def popularity(fleet: Fleet) -> array[float]:
    """The weights of the blobs, summed up."""
    return array("d", itertools.accumulate(1 / rank**fleet.skew for rank in range(1, fleet.blobs + 1)))


class _Process:
    """A process: its near cache, and its connection."""

    def __init__(self, number: int, fleet: Fleet) -> None:
        self.number = number
        self.fleet = fleet
        self.lives = 0
        self.hits = self.misses = self.invalidations = 0
        self.silent_until = -math.inf
        self.restart()

    def restart(self) -> None:
        fleet = self.fleet
        self.lives += 1
        self.near = NearCache(fleet.near_cache, max_staleness=fleet.max_staleness, max_age=fleet.max_age)
        self.source = Source(self.near)
        self.tables: dict[str, NearTable] = {}
        self.read_at: dict[int, float] = {}  # when the server executed what is kept of a blob

    @property
    def client(self) -> tuple[int, int]:
        """What the server knows it by: a process that was restarted is another client."""
        return self.number, self.lives

    def table(self, name: str) -> NearTable:
        table = self.tables.get(name)
        if table is None:
            table = self.tables[name] = self.near.table(name)
        return table


class _Simulation:
    """Events in the order of their times."""

    def __init__(self, fleet: Fleet, processes: int, seed: int) -> None:
        self.fleet = fleet
        self.now = 0.0
        self.processes = [_Process(number, fleet) for number in range(processes)]
        self.draw = random.Random(seed)  # noqa: S311
        self.readers: dict[bytes, set[tuple[int, int]]] = {}  # of each tracked key
        self.stale: list[float] = []
        self.missed: dict[int, int] = {}  # how often each blob was
        self._of_group = [self.processes[group :: fleet.groups] for group in range(fleet.groups)]
        self._deleted_at: dict[int, float] = {}
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._draws = self._drawn(popularity(fleet))
        self._descriptors: dict[int, Descriptor] = {}

    def _drawn(self, weights: Sequence[float]) -> Iterator[int]:
        numbers = range(self.fleet.blobs)
        while True:
            yield from self.draw.choices(numbers, cum_weights=weights, k=_DRAWS)

    def at(self, time: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (time, next(self._order), event))

    def every(self, rate: float, event: Callable[[], None]) -> None:
        """Let something happen at random, so often a second."""
        if rate <= 0:
            return

        def happens() -> None:
            event()
            self.at(self.now + self.draw.expovariate(rate), happens)

        self.at(self.now + self.draw.expovariate(rate), happens)

    def run(self, until: float) -> None:
        """Ask until then, and let whatever is due happen in between."""
        events, processes, fleet = self._events, self.processes, self.fleet
        rate = fleet.stats / fleet.processes * len(processes)
        draw, of_group, groups = self.draw, self._of_group, fleet.groups
        while True:
            time = self.now + draw.expovariate(rate)
            while events and events[0][0] <= time:
                self.now, _, event = heapq.heappop(events)
                event()
            self.now = time
            if time >= until:
                return
            number = next(self._draws)
            group = of_group[repository_of(fleet, number) % groups]
            self._ask(group[int(draw.random() * len(group))], number)

    # --- a stat ----------------------------------------------------------------------------------

    def _ask(self, process: _Process, number: int) -> None:
        fleet = self.fleet
        digest = self._described(number).digest
        table = process.table(name_of(fleet, number))
        if table.look(digest, self.now) is not None:
            process.hits += 1
            deleted = self._deleted_at.get(number)
            # Confirmed is what whoever deletes has been told, a trip later.
            if deleted is not None and deleted > process.read_at[number] and self.now > deleted + fleet.trip:
                self.stale.append(self.now - deleted - fleet.trip)
            return
        if process.silent_until > self.now:
            return  # to storage: the lane has been given up
        process.misses += 1
        self.missed[number] = self.missed.get(number, 0) + 1
        reading, lives = process.source.reading(table, digest), process.lives

        def execute() -> None:
            for key in self._keys(number):
                self.readers.setdefault(key, set()).add(process.client)
            executed = self.now

            def replied() -> None:
                if process.lives == lives:
                    reading.keep(self._described(number))
                    process.read_at[number] = executed

            self.at(self.now + fleet.trip, replied)

        self.at(self.now + fleet.trip, execute)

    def _described(self, number: int) -> Descriptor:
        found = self._descriptors.get(number)
        if found is None:
            found = self._descriptors[number] = Descriptor(blob_of(number), number, _MEDIA_TYPE)
        return found

    def _keys(self, number: int) -> tuple[bytes, bytes, bytes]:
        name, digest = name_of(self.fleet, number), self._described(number).digest
        return membership_key(name), descriptor_key(digest), override_key(name, digest)

    # --- what changes ----------------------------------------------------------------------------

    def change(self, key: bytes) -> None:
        """Tell all who have read it since they were told last."""
        for client in self.readers.pop(key, ()):
            process = self.processes[client[0]]
            if client == process.client:
                self._tell(process, key)

    def _tell(self, process: _Process, key: bytes) -> None:
        client = process.client

        def told() -> None:
            if process.client == client and process.silent_until <= self.now:
                process.source.pushed([b"invalidate", [key]])
                process.invalidations += 1

        self.at(self.now + self.fleet.trip, told)

    def push(self) -> None:
        """A new blob, of which nobody has read anything but that there is no such member."""
        self.change(membership_key(name_of(self.fleet, next(self._draws))))

    def delete(self) -> None:
        """And push again."""
        number = next(self._draws)
        for key in self._keys(number):
            self.change(key)
        self._deleted_at[number] = self.now

    # --- what befalls a process ------------------------------------------------------------------

    def beat(self, process: _Process) -> None:
        """A heartbeat, and its answer."""
        sent, source = self.now, process.source

        def answered() -> None:
            if source is process.source and process.silent_until <= self.now:
                process.near.renew(source.lease, sent)

        if process.silent_until <= self.now:
            self.at(self.now + 2 * self.fleet.trip, answered)
        self.at(self.now + self.fleet.max_staleness / BEATS, lambda: self.beat(process))

    def restart(self, process: _Process) -> None:
        """Begin with nothing."""
        process.restart()
        self.at(self.now + self.fleet.life, lambda: self.restart(process))

    def fall_silent(self) -> None:
        """Nothing comes or goes any more, and nobody is told; then the connection is opened again."""
        process = self.draw.choice(self.processes)
        if process.silent_until > self.now:
            return
        process.silent_until = self.now + self.fleet.silence

        def hear_again() -> None:
            process.silent_until = -math.inf
            process.source.flush()
            process.lives += 1  # another connection

        self.at(process.silent_until, hear_again)


def simulate(fleet: Fleet, *, processes: int, warm_up: float, seconds: float, seed: int = 2015) -> Forecast:
    """Let so many processes stand for the fleet, at least one of each group, for ``seconds`` after ``warm_up``."""
    processes = max(processes, fleet.groups)
    run = _Simulation(fleet, processes, seed)
    share = processes / fleet.processes
    for process in run.processes:
        # Not all at the same time, as they were not started at the same time.
        part = (process.number + 0.5) / processes
        run.at(part * fleet.max_staleness / BEATS, lambda process=process: run.beat(process))  # type: ignore[misc]
        if fleet.life < math.inf:
            run.at(part * fleet.life, lambda process=process: run.restart(process))  # type: ignore[misc]
    run.every(fleet.pushes, run.push)
    run.every(fleet.deletes, run.delete)
    run.every(fleet.silences * share, run.fall_silent)
    run.run(warm_up)
    run.stale.clear()
    before = [(one.hits, one.misses, one.invalidations) for one in run.processes]
    run.run(warm_up + seconds)
    counted = [
        [now - then for now, then in zip((one.hits, one.misses, one.invalidations), own, strict=True)]
        for one, own in zip(run.processes, before, strict=True)
    ]
    hits, misses, invalidations = (sum(column) / seconds / share for column in zip(*counted, strict=True))
    pairs = sum(map(len, run.readers.values()))
    stale = sorted(run.stale)
    return Forecast(
        hit_ratio=hits / (hits + misses),
        misses=misses,
        commands=3 * misses + fleet.beats + fleet.steps,
        invalidations=invalidations,
        tracked_keys=_read(run, warm_up + seconds, warm_up + seconds, fleet.served_by),
        tracked_pairs=pairs / share,
        keys_of_a_day=_read(run, warm_up + seconds, _DAY, fleet.served_by),
        pairs_of_a_day=_read(run, warm_up + seconds, _DAY, 1) * fleet.served_by,
        busiest=max(own[0] + own[1] for own in counted) / seconds,
        served_stale=len(stale) / seconds / share / (hits + misses),
        staleness=tuple(stale[:: max(1, len(stale) // 1000)] + stale[-1:]),
    )


def _read(run: _Simulation, elapsed: float, wanted: float, readers: int) -> float:
    """How many keys any of so many processes has read after ``wanted`` seconds, by what was missed in ``elapsed``.

    Each process misses blobs of about the same popularity as often; which of them is chance. Two keys are a blob's own;
    its repository's set is shared. No more than that, since changes make the server forget.
    """
    fleet, processes = run.fleet, len(run.processes)
    if (wanted, readers) == (elapsed, processes) and processes == fleet.processes:
        return float(len(run.readers))
    asked = processes / fleet.groups  # so many of those that were looked at are asked for a blob
    keys, first = 0.0, 0
    while first < fleet.blobs:
        last = min(fleet.blobs, max(first + 1, first * 5 // 4))
        missed = fmean(run.missed.get(number, 0) for number in range(first, last)) / asked
        keys += (last - first) * -math.expm1(-missed * readers * wanted / elapsed)
        first = last
    return 2 * keys + fleet.repositories
