"""What fleets of three sizes take of Redis, and where that breaks first: forecasts."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Final, Self

import attrs

from .fleet import Fleet, Forecast, simulate
from .rounds import write_rounds

__all__ = [
    "LARGE",
    "LOAD",
    "MIDDLE",
    "SHARED_LARGE",
    "SHARED_MIDDLE",
    "SILENT",
    "SIZES",
    "Forecasts",
    "forecast_all",
    "nodes_for",
]

# What one process of a registry answers, of what `python -m benchmarks registries` shows, rounded down.
_OF_A_PROCESS: Final = 5_000

# Processes that stand for a fleet, unless its groups are more.
_SIMULATED: Final = 2

# What answers hold at most, so many times: until then near caches fill, or what they hold grows too old. Where many
# groups of processes are simulated, it is fewer.
_AGES: Final = 5
_AGES_OF_GROUPS: Final = 3

# Of a node's processor, in the mean.
LOAD: Final = 0.5


def _fleet(stats: float, blobs: int, pushes: float, sharers: int | None = None) -> Fleet:
    return Fleet(
        processes=round(stats / _OF_A_PROCESS),
        stats=stats,
        blobs=blobs,
        repositories=blobs // 200,
        image=10,
        pushes=pushes,
        deletes=pushes / 10,
        sharers=sharers,
    )


_SMALL: Final = "10 k"
MIDDLE: Final = "1 M"
SHARED_MIDDLE: Final = "1 M, by 8"
LARGE: Final = "10 M"
SHARED_LARGE: Final = "10 M, by 80"

# By name: ten thousand stats a second, a million, ten million; *by 8*: each repository is asked of eight processes.
SIZES: Final = {
    _SMALL: _fleet(10_000, 1_000_000, 10),
    MIDDLE: _fleet(1_000_000, 5_000_000, 100),
    SHARED_MIDDLE: _fleet(1_000_000, 5_000_000, 100, sharers=8),
    LARGE: _fleet(10_000_000, 20_000_000, 1_000),
    SHARED_LARGE: _fleet(10_000_000, 20_000_000, 1_000, sharers=80),
}

# The middle fleet with near caches of so many entries; with answers that may be so old, in seconds; and with so many
# pushes a second, of which popular repositories get the most.
_ENTRIES: Final = {
    f"{thousands},000": attrs.evolve(SIZES[MIDDLE], near_cache=1_000 * thousands) for thousands in (1, 10, 30, 100, 300)
}
_AGE: Final = {f"{seconds}": attrs.evolve(SIZES[MIDDLE], max_age=float(seconds)) for seconds in (15, 60, 240)}
_PUSHES: Final = {
    f"{rate:,}": attrs.evolve(SIZES[MIDDLE], pushes=rate, deletes=rate / 10) for rate in (10, 100, 1_000, 10_000)
}
_PUSHES_SHARED: Final = {
    f"{rate:,}": attrs.evolve(SIZES[SHARED_MIDDLE], pushes=rate, deletes=rate / 10) for rate in (100, 1_000, 10_000)
}

# Networks that die in silence, far more often than any should, so that there is something to be seen of it.
SILENT: Final = Fleet(
    processes=4, stats=20_000, blobs=50_000, repositories=200, pushes=10, deletes=200, silences=0.2, silence=10.0
)


@attrs.frozen
class Forecasts:
    """All that was forecast, each kind by what was varied."""

    sizes: dict[str, Forecast]
    entries: dict[str, Forecast]
    age: dict[str, Forecast]
    pushes: dict[str, Forecast]
    pushes_shared: dict[str, Forecast]  # where each repository is asked of few processes
    silent: Forecast

    def write(self, path: Path) -> None:
        """Keep it as JSON."""
        write_rounds(self, path)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what :meth:`write` wrote."""
        document = json.loads(path.read_text())
        silent = Forecast(**document.pop("silent"))
        kinds = {
            kind: {name: Forecast(**one) for name, one in forecasts.items()} for kind, forecasts in document.items()
        }
        return cls(**kinds, silent=silent)


def forecast_all(seconds: float, say: Callable[[str], None]) -> Forecasts:
    """Simulate everything, ``seconds`` each when near caches have filled: each fleet once, two at a time."""
    kinds = {
        "sizes": SIZES,
        "entries": _ENTRIES,
        "age": _AGE,
        "pushes": _PUSHES,
        "pushes_shared": _PUSHES_SHARED,
    }
    fleets = [*dict.fromkeys(fleet for kind in kinds.values() for fleet in kind.values()), SILENT]
    fleets.sort(key=lambda fleet: -fleet.groups)  # what takes longest first
    forecasts = {}
    with ProcessPoolExecutor() as pool:
        for fleet, forecast in zip(fleets, pool.map(_forecast, fleets, [seconds] * len(fleets)), strict=True):
            forecasts[fleet] = forecast
            say(f"{len(forecasts)} of {len(fleets)}")
    return Forecasts(
        **{kind: {name: forecasts[fleet] for name, fleet in own.items()} for kind, own in kinds.items()},
        silent=forecasts[SILENT],
    )


def _forecast(fleet: Fleet, seconds: float) -> Forecast:
    ages = _AGES if fleet.groups == 1 else _AGES_OF_GROUPS
    return simulate(fleet, processes=min(_SIMULATED, fleet.processes), warm_up=ages * fleet.max_age, seconds=seconds)


def nodes_for(fleet: Fleet, forecast: Forecast, *, stat: float, telling: float) -> int:
    """How many nodes are busy to half with this, by what a stat and what telling a client of a key takes, in seconds.

    A heartbeat and a step of a write are taken for a third of a stat. Each process has a connection to each node.
    """
    asked = forecast.misses * stat + forecast.invalidations * telling
    nodes = 1
    while True:
        cluster = attrs.evolve(fleet, nodes=nodes)
        needed = math.ceil((asked + (cluster.beats + cluster.steps) * stat / 3) / LOAD)
        if needed <= nodes:
            return nodes
        nodes = needed
