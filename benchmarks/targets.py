"""What this library has set itself to reach, and whether it did."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import attrs

from .jobs import (
    BARE,
    COLD,
    HIT,
    IN_STORM,
    NEAR,
    NEAR_UNIFORM,
    NINE_IN_TEN,
    ON_CLUSTER,
    PEEK,
    PEEK_UNIFORM,
    WITHOUT,
    as_bare,
    many,
)
from .results import Results, Sample

__all__ = ["OURS", "TARGETS", "Target"]

OURS: Final = "aioblobcache"


def _rate(sample: Sample) -> float:
    return sample.rate


def _server_rate(sample: Sample) -> float:
    return sample.server_rate


def _frugality(sample: Sample) -> float:
    return 1 / sample.client_cpu


@attrs.frozen
class Target:
    """A figure that is to be at least so much, or at most; ``aim`` is what we would like."""

    name: str
    callers: int
    at_least: float
    aim: float
    reached: Callable[[Results], float | None]
    form: str = "{:.1f}×"
    is_bound: bool = False  # at most so much

    def shown(self, value: float) -> str:
        """A figure of this kind, for people."""
        return self.form.format(value)

    def is_met(self, value: float) -> bool:
        """Whether a figure is as it should be."""
        return value <= self.at_least if self.is_bound else value >= self.at_least


def _times(peer: str, callers: int, at_least: float, aim: float, workload: str = HIT) -> Target:
    where = ", three nodes" if workload == ON_CLUSTER else ""
    return Target(
        f"times {peer}{where}",
        callers,
        at_least,
        aim,
        lambda results: results.ratio(OURS, peer, workload, callers, _rate),
    )


def _share(workload: str, callers: int, at_least: float, aim: float) -> Target:
    def reached(results: Results) -> float | None:
        return results.share_of_ceiling(OURS, workload, callers)

    name = "stat, share of the server's ceiling" if workload == HIT else f"{workload}, share of the same"
    return Target(name, callers, at_least, aim, reached, "{:.0%}")


def _millions(workload: str, at_least: float) -> Target:
    def reached(results: Results) -> float | None:
        rate = results.median(OURS, workload, 1, _rate)
        return None if rate is None else rate / 1e6

    return Target(f"{workload}, millions a second", 1, at_least, at_least, reached, "{:.2f}")


def _of_another(
    name: str, workload: str, other: str, at_least: float, figure: Callable[[Sample], float], form: str
) -> Target:
    """What one workload of ours is of another."""
    callers = 1 if other in BARE else 128

    def reached(results: Results) -> float | None:
        return results.ratio(OURS, OURS, workload, callers, figure, other)

    return Target(name, callers, at_least, at_least, reached, form)


def _of_bare_dict(workload: str, at_least: float) -> Target:
    return _of_another(f"{workload}, of a bare dict's", workload, as_bare(workload), at_least, _rate, "{:.0%}")


TARGETS: Final = (
    _times("redis-py pipeline", 128, 10, 20),
    _times("redis-py pipeline", 1, 1.6, 2.5),
    _times("Distribution (Go)", 128, 5, 10),
    _times("Distribution, no PING", 128, 5, 10),
    _times("coredis", 128, 2, 4),
    _times("valkey-glide", 128, 2, 4),
    _times("redis-py pipeline", 128, 5, 10, ON_CLUSTER),
    _share(HIT, 128, 0.25, 0.45),
    _share(many(100), 16, 0.45, 0.70),
    Target(
        "times less client CPU than the pipeline",
        128,
        10,
        10,
        lambda results: results.ratio(OURS, "redis-py pipeline", HIT, 128, _frugality),
    ),
    _millions(NEAR, 1.0),
    _millions(NEAR_UNIFORM, 0.7),
    _millions(PEEK, 1.6),
    _millions(PEEK_UNIFORM, 1.12),
    *(_of_bare_dict(workload, 0.6) for workload in (NEAR, NEAR_UNIFORM, PEEK, PEEK_UNIFORM)),
    _of_another("nine in ten near, times the same without", NINE_IN_TEN, WITHOUT, 3, _rate, "{:.1f}×"),
    _of_another("stats by Redis in a storm, of those without", IN_STORM, COLD, 0.5, _server_rate, "{:.0%}"),
    Target(
        "bytes for an entry of a near cache, at most",
        1,
        600,
        600,
        lambda results: None if results.footprint is None else results.footprint.bytes_each,
        "{:.0f}",
        is_bound=True,
    ),
)
