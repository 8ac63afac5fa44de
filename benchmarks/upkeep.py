"""How fast a cache is compared with storage and filled from it, in how much memory, and what others notice of it."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from itertools import chain
from pathlib import Path
from statistics import median
from typing import Final, Self

import attrs

from .bystander import bystander
from .caretaker import AUDIT, FILL, FIND, Care, audits_without_end, take_care
from .machine import machine_of
from .rounds import write_rounds
from .server import Server, running_server
from .tree import blob, cache_of, planted, require_cached, write_tree

__all__ = ["ALONE", "AUDITED", "ELSEWHERE", "Stretch", "Upkeep", "measure_upkeep", "require_room", "upkeep_figures"]

# What else happens while another client asks.
ALONE: Final = "nothing"
ELSEWHERE: Final = "audits of another server"
AUDITED: Final = "audits"

# For each blob in a tree: data and link, each a file of one block in a folder of its own.
_INODES: Final = 4
_BYTES: Final = 8_192


@attrs.frozen
class Stretch:
    """What another client was answered in one round."""

    round: int
    beside: str
    answers: int
    p50_us: float
    p99_us: float


@attrs.frozen
class Upkeep:
    """A whole run, and where and when it was."""

    date: str
    machine: dict[str, str]
    versions: dict[str, str]
    file_system: str  # that holds the tree
    entries: int  # in the cache: half of them descriptors, half memberships
    faults: int  # that were planted in it
    cares: list[Care]
    stretches: list[Stretch]

    def write(self, path: Path) -> None:
        """Keep it as JSON, a line each."""
        write_rounds(self, path)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what :meth:`write` wrote."""
        document = json.loads(path.read_text())
        cares = [Care(**row) for row in document["cares"]]
        return cls(**{**document, "cares": cares, "stretches": [Stretch(**row) for row in document["stretches"]]})

    def of(self, job: str, *, in_memory: bool = True, in_full: bool = True) -> list[Care]:
        """The rounds of a job, of all entries or of a tenth."""
        least = self.entries // 4
        return [one for one in self.cares if (one.job, one.in_memory, one.entries > least) == (job, in_memory, in_full)]

    def answered(self, beside: str, figure: Callable[[Stretch], float]) -> float:
        """What another client was answered: the median of the rounds."""
        return median(figure(one) for one in self._stretches(beside))

    def times(self, beside: str, figure: Callable[[Stretch], float]) -> float:
        """How many times what it is alone something is: the median of the rounds."""
        pairs = zip(self._stretches(beside), self._stretches(ALONE), strict=True)
        return median(figure(loaded) / figure(alone) for loaded, alone in pairs)

    def _stretches(self, beside: str) -> list[Stretch]:
        return [one for one in self.stretches if one.beside == beside]


def measure_upkeep(
    entries: int, rounds: int, seconds: float, folder: Path | None, say: Callable[[str], None]
) -> Upkeep:
    """Do the whole run, with the tree in a new folder within ``folder``; ``say`` is told of each step."""
    require_room(folder or Path(tempfile.gettempdir()), entries)
    blobs = entries // 2
    with tempfile.TemporaryDirectory(prefix="aioblobcache-upkeep-", dir=folder) as name:
        tree = Path(name) / "tree"
        file_system = subprocess.run(["stat", "-f", "-c", "%T", name], capture_output=True, text=True, check=True)
        with running_server(Path(name) / "valkey") as server:
            tenth = blobs // 10
            _grow(server, tree, range(tenth), say)
            cares = [take_care(0, AUDIT, server.address, tenth, storage) for storage in (None, tree)]
            _grow(server, tree, range(tenth, blobs), say)
            say("audits")
            cares += [take_care(number, AUDIT, server.address, blobs) for number in range(rounds)]
            stretches = _ask_beside(server, Path(name) / "another", blobs, rounds, seconds, say)
            say("an audit of the local tree")
            cares.append(take_care(0, AUDIT, server.address, blobs, tree))
            say("an audit that finds faults")
            faults = planted(blobs)
            server.send(faults.requests)
            cares.append(take_care(0, FIND, server.address, blobs))
            say("filling from memory")
            cares += [_fill(number, server, blobs, None) for number in range(rounds)]
            say("filling from the local tree")
            cares.append(_fill(0, server, blobs, tree))
            say("removing the tree")
            versions = {"server": server.version(), **_versions()}
    date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    kind = file_system.stdout.strip()
    return Upkeep(date, machine_of(), versions, kind, 2 * blobs, len(faults.faults), cares, stretches)


def require_room(folder: Path, entries: int) -> None:
    """Leave with what is missing, unless a tree of so many entries has room there."""
    free = os.statvfs(folder)
    blobs = entries // 2
    has_inodes = not free.f_files or free.f_favail >= blobs * _INODES  # some file systems count none
    if free.f_bavail * free.f_frsize < blobs * _BYTES or not has_inodes:
        needs = f"{blobs * _BYTES / 1e9:,.1f} GB and {blobs * _INODES:,} inodes"
        sys.exit(f"the tree needs {needs}, which {folder} does not have: see --folder and --entries")


def _grow(server: Server, tree: Path, numbers: range, say: Callable[[str], None]) -> None:
    say(f"making a tree and its cache, up to {2 * numbers.stop:,} entries")
    write_tree(tree, numbers)
    _keep(server, numbers)


def _keep(server: Server, numbers: range) -> None:
    server.send(chain.from_iterable(cache_of(blob(number)) for number in numbers))


def _ask_beside(
    server: Server, folder: Path, blobs: int, rounds: int, seconds: float, say: Callable[[str], None]
) -> list[Stretch]:
    stretches = []
    with running_server(folder) as another, bystander(server.address, blobs, seconds) as ask:
        fewer = blobs // 10
        _keep(another, range(fewer))
        ways: dict[str, Callable[[], AbstractContextManager[None]]] = {
            ALONE: nullcontext,
            ELSEWHERE: partial(audits_without_end, another.address, fewer),
            AUDITED: partial(audits_without_end, server.address, blobs),
        }
        for number in range(rounds):
            say(f"another client beside audits, round {number + 1} of {rounds}")
            for beside, way in ways.items():
                with way():
                    took = ask()
                p50, p99 = (took[int(share * (len(took) - 1))] * 1e6 for share in (0.5, 0.99))
                stretches.append(Stretch(number, beside, len(took), p50, p99))
    return stretches


def _fill(number: int, server: Server, blobs: int, tree: Path | None) -> Care:
    [client] = server.nodes
    client.flushall()
    care = take_care(number, FILL, server.address, blobs, tree)
    require_cached(client, blobs)
    return care


def _versions() -> dict[str, str]:
    ours = {name: importlib.metadata.version(name) for name in ("aioblobcache", "obstore", "redis")}
    return {"python": platform.python_version(), **ours}


# --- what a run says -----------------------------------------------------------------------------


@attrs.frozen
class _Figure:
    """One line of the table; a run reaches its target, if it has one, by at least so much, or by at most."""

    name: str
    value: Callable[[Upkeep], float]
    form: str = "{:,.0f}"
    at_least: float = 0.0
    at_most: float = float("inf")

    @property
    def target(self) -> str:
        """In words."""
        if self.at_least:
            return f"at least {self.form.format(self.at_least)}"
        return "" if self.at_most == float("inf") else f"at most {self.form.format(self.at_most)}"

    def shown(self, run: Upkeep) -> str:
        """What a run reached."""
        value = self.value(run)
        shown = self.form.format(value)
        return shown if self.at_least <= value <= self.at_most else f"**{shown}: short**"


def _rate(job: str, *, in_memory: bool = True) -> Callable[[Upkeep], float]:
    return lambda run: median(care.rate for care in run.of(job, in_memory=in_memory))


def _cpu_us(job: str) -> Callable[[Upkeep], float]:
    return lambda run: median(care.cpu_us for care in run.of(job))


def _megabytes(*, in_memory: bool, in_full: bool = True) -> Callable[[Upkeep], float]:
    return lambda run: max(care.peak_bytes for care in run.of(AUDIT, in_memory=in_memory, in_full=in_full)) / 1e6


def _p50(stretch: Stretch) -> float:
    return stretch.p50_us


def _p99(stretch: Stretch) -> float:
    return stretch.p99_us


def _answered(beside: str, figure: Callable[[Stretch], float]) -> Callable[[Upkeep], float]:
    return lambda run: run.answered(beside, figure)


def _times(beside: str) -> Callable[[Upkeep], float]:
    return lambda run: run.times(beside, _p99)


_FIGURES: Final = (
    _Figure("entries in the cache", lambda run: run.entries),
    _Figure("audit, storage in memory: entries/s", _rate(AUDIT), at_least=50_000),
    _Figure("its CPU for an entry, µs", _cpu_us(AUDIT), "{:.1f}"),
    _Figure("planted faults, all found and no others", lambda run: run.faults),
    _Figure("audit, a local tree: entries/s", _rate(AUDIT, in_memory=False)),
    _Figure("audit's memory, storage in memory: MB", _megabytes(in_memory=True), at_most=200),
    _Figure("the same of a tenth of the entries", _megabytes(in_memory=True, in_full=False), at_most=200),
    _Figure("audit's memory, a local tree: MB", _megabytes(in_memory=False), at_most=200),
    _Figure("the same of a tenth of the entries", _megabytes(in_memory=False, in_full=False), at_most=200),
    *(
        _Figure(f"another's stat, {percentile} beside {beside}: µs", _answered(beside, figure))
        for percentile, figure in (("p50", _p50), ("p99", _p99))
        for beside in (ALONE, ELSEWHERE, AUDITED)
    ),
    _Figure("p99 beside audits, times that beside nothing", _times(AUDITED), "{:.1f}×", at_most=2),
    _Figure("the same of audits of another server", _times(ELSEWHERE), "{:.1f}×"),
    _Figure("warm, storage in memory: links/s", _rate(FILL), at_least=20_000),
    _Figure("its CPU for a link, µs", _cpu_us(FILL), "{:.1f}"),
    _Figure("warm, a local tree: links/s", _rate(FILL, in_memory=False)),
)


def upkeep_figures(runs: Sequence[Upkeep]) -> str:
    """What runs say, as a table of Markdown, and below it where and when they were."""
    numbers = range(1, len(runs) + 1)
    lines = [
        ["", "target", *(f"run {number}" for number in numbers)],
        ["---", "---:", *("---:" for _ in runs)],
        *([figure.name, figure.target, *map(figure.shown, runs)] for figure in _FIGURES),
    ]
    table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    return (
        table + "\n" + "".join(f"- Run {number}: {_where(run)}.\n" for number, run in zip(numbers, runs, strict=True))
    )


def _where(run: Upkeep) -> str:
    versions = "; ".join(f"{name} {version}" for name, version in run.versions.items())
    machine = f"{run.machine['processor']}, {run.machine['cores']} cores"
    return f"{run.date}; {machine}, the tree on {run.file_system}; {versions}"
