"""Rates, out of what servers have counted at two moments. No I/O, no clock."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Final, TypeAlias

import attrs

__all__ = ["CHANGES", "Look", "Rates", "Sample", "counters_of", "gauges_of", "parse_info", "rates_between"]

# Where INFO has what `Rates` is made of.
_COUNTERS: Final = {
    "total_commands_processed": "commands",
    "keyspace_hits": "hits",
    "keyspace_misses": "misses",
    "expired_keys": "expired",
    "evicted_keys": "evicted",
}
_CALLS: Final = {"cmdstat_sismember": "scoped_stats", "cmdstat_evalsha": "writes"}
_GAUGES: Final = {"connected_clients": "clients", "used_memory": "used_memory"}

# Keys of the layout by their kind; their sum is `invalidations`.
CHANGES: Final = ("descriptors", "memberships", "overrides")


@attrs.frozen(kw_only=True)
class Rates:
    """What happened in an interval: per second, summed over the nodes. ``None``: not told."""

    seconds: float  # the length of the interval
    nodes: int  # those that answered at its end; replicas are not asked
    commands: float | None = None  # of all kinds, by all programs
    hits: float | None = None  # keys that were there when a command looked for them
    misses: float | None = None
    scoped_stats: float | None = None  # calls of SISMEMBER, with which a stat in a repository begins
    writes: float | None = None  # calls of EVALSHA: this library's sets, fills and clears (in a Cluster their steps)
    expired: float | None = None  # keys
    evicted: float | None = None
    invalidations: float | None = None  # keys of the layout that changed, by whatever program
    descriptors: float | None = None  # those of them that are a blob's descriptor,
    memberships: float | None = None  # a repository's set,
    overrides: float | None = None  # a repository's media type of a blob
    flushes: float | None = None  # FLUSHALL and FLUSHDB, which change keys without naming them
    clients: int | None = None  # connections, at the end
    used_memory: int | None = None  # bytes, at the end
    unreachable: str | None = None  # why a node did not answer
    why_no_figures: str | None = None  # why one does not tell by INFO
    why_no_changes: str | None = None  # why one does not tell what changes


@attrs.frozen(kw_only=True)
class Sample:
    """A node at a moment. ``counters`` and ``gauges`` have the names of :class:`Rates`."""

    life: tuple[str, int]  # what is counted begins anew in another one: of the server's process, or of the connection
    counters: Mapping[str, int]
    gauges: Mapping[str, int]
    is_primary: bool = True
    why_no_figures: str | None = None
    why_no_changes: str | None = None


# By node: a sample, or why there is none.
Look: TypeAlias = Mapping[object, Sample | str]


def parse_info(text: str) -> dict[str, str]:
    """The fields of INFO, of whatever section."""
    pairs = (line.partition(":") for line in text.splitlines())
    return {name: value for name, separator, value in pairs if separator}


def counters_of(info: Mapping[str, str]) -> dict[str, int]:
    """What a server has counted so far, of what it tells."""
    counters = _numbers(info, _COUNTERS)
    # Of a command that nobody has called yet there is no line, and none of any where they are not told.
    if any(name.startswith("cmdstat_") for name in info):
        for name, own in _CALLS.items():
            calls = info.get(name, "calls=0").partition("calls=")[2].partition(",")[0]
            counters[own] = int(calls) if calls.isdecimal() else 0
    return counters


def gauges_of(info: Mapping[str, str]) -> dict[str, int]:
    """What is so just now."""
    return _numbers(info, _GAUGES)


def _numbers(info: Mapping[str, str], names: Mapping[str, str]) -> dict[str, int]:
    return {own: int(info[name]) for name, own in names.items() if info.get(name, "").isdecimal()}


def rates_between(before: Look, now: Look, seconds: float) -> Rates:
    """What happened from one look to the next, which was ``seconds`` later (more than none).

    Of a node that was not seen before in the same life nothing can be said yet.
    """
    answered = {node: sample for node, sample in now.items() if isinstance(sample, Sample)}
    spans = [
        (earlier, later)
        for node, later in answered.items()
        if isinstance(earlier := before.get(node), Sample) and earlier.life == later.life
    ]
    samples = answered.values()
    rates = {
        name: _rate(name, spans, seconds) for name in chain(_COUNTERS.values(), _CALLS.values(), CHANGES, ["flushes"])
    }
    changes = [rate for name in CHANGES if (rate := rates[name]) is not None]
    return Rates(
        seconds=seconds,
        nodes=len(answered),
        invalidations=sum(changes) if changes else None,
        clients=_sum("clients", samples),
        used_memory=_sum("used_memory", samples),
        unreachable=next((sample for sample in now.values() if isinstance(sample, str)), None),
        why_no_figures=next((sample.why_no_figures for sample in samples if sample.why_no_figures), None),
        why_no_changes=next((sample.why_no_changes for sample in samples if sample.why_no_changes), None),
        **rates,
    )


def _rate(name: str, spans: Sequence[tuple[Sample, Sample]], seconds: float) -> float | None:
    grown = [
        _grown(earlier.counters[name], later.counters[name])
        for earlier, later in spans
        if name in earlier.counters and name in later.counters
    ]
    return sum(grown) / seconds if grown else None


def _grown(earlier: int, later: int) -> int:
    """By how much; CONFIG RESETSTAT lets a server begin at nothing again."""
    return later - earlier if later >= earlier else later


def _sum(name: str, samples: Iterable[Sample]) -> int | None:
    numbers = [sample.gauges[name] for sample in samples if name in sample.gauges]
    return sum(numbers) if numbers else None
