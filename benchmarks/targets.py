"""What this library has set itself to reach, and whether it did."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import attrs

from .jobs import HIT, many
from .results import Results, Sample

__all__ = ["OURS", "TARGETS", "Target"]

OURS: Final = "aioblobcache"


def _rate(sample: Sample) -> float:
    return sample.rate


def _frugality(sample: Sample) -> float:
    return 1 / sample.client_cpu


@attrs.frozen
class Target:
    """A figure that is to be at least so much; ``aim`` is what we would like."""

    name: str
    callers: int
    at_least: float
    aim: float
    reached: Callable[[Results], float | None]
    is_share: bool = False

    def shown(self, value: float) -> str:
        """A figure of this kind, for people."""
        return f"{value:.0%}" if self.is_share else f"{value:.1f}×"


def _times(peer: str, callers: int, at_least: float, aim: float) -> Target:
    return Target(
        f"times {peer}", callers, at_least, aim, lambda results: results.ratio(OURS, peer, HIT, callers, _rate)
    )


def _share(workload: str, callers: int, at_least: float, aim: float) -> Target:
    def reached(results: Results) -> float | None:
        return results.share_of_ceiling(OURS, workload, callers)

    name = "stat, share of the server's ceiling" if workload == HIT else f"{workload}, share of the same"
    return Target(name, callers, at_least, aim, reached, is_share=True)


TARGETS: Final = (
    _times("redis-py pipeline", 128, 10, 20),
    _times("redis-py pipeline", 1, 1.6, 2.5),
    _times("Distribution (Go)", 128, 5, 10),
    _times("Distribution, no PING", 128, 5, 10),
    _times("coredis", 128, 2, 4),
    _times("valkey-glide", 128, 2, 4),
    _share(HIT, 128, 0.25, 0.45),
    _share(many(100), 16, 0.45, 0.70),
    Target(
        "times less client CPU than the pipeline",
        128,
        10,
        10,
        lambda results: results.ratio(OURS, "redis-py pipeline", HIT, 128, _frugality),
    ),
)
