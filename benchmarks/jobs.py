"""What a peer is told to do, and what it says about it: the lines between this program and a peer's process."""

from __future__ import annotations

from typing import Final

import attrs

__all__ = [
    "BARE",
    "COLD",
    "HIT",
    "HOTTEST",
    "IN_STORM",
    "MISS",
    "MIXED",
    "NEAR",
    "NEAR_JOBS",
    "NEAR_SPREAD",
    "NEAR_UNIFORM",
    "NINE_IN_TEN",
    "ON_CLUSTER",
    "OVERWRITES",
    "PEEK",
    "PEEK_UNIFORM",
    "SOME_NEAR_JOBS",
    "WITHOUT",
    "Job",
    "Measurement",
    "as_bare",
    "many",
    "without_bare",
]

HIT: Final = "hit"  # each stat is of a blob that the repository holds
MISS: Final = "miss"  # each is of one that nobody holds
MIXED: Final = "mixed"  # one operation in WRITE_EVERY sets a descriptor, the others are hits

WRITE_EVERY: Final = 20

# With a near cache that holds all blobs: `await stat`, and a look without waiting. All are asked for in the one
# repository that holds them all; or each in its own.
NEAR: Final = "near hit"
NEAR_UNIFORM: Final = "near hit, uniform"
NEAR_SPREAD: Final = "near hit, 500 repositories"
PEEK: Final = "peek"
PEEK_UNIFORM: Final = "peek, uniform"
# The same from a bare dict, with a look at the clock: what the machine does at most just then.
_BARE: Final = ", a bare dict"
BARE: Final = tuple(workload + _BARE for workload in (NEAR, NEAR_UNIFORM, PEEK, PEEK_UNIFORM))
# Drawn as for HIT, with a near cache that answers nine in ten, and without it.
NINE_IN_TEN: Final = "nine in ten near"
WITHOUT: Final = "the same without"
# With one that is of no use: every other question is about a blob of a hundred thousand, the others are about the
# HOTTEST. In a storm another client overwrites these 50,000 times a second.
COLD: Final = "cold"
IN_STORM: Final = "cold, in a storm"
HOTTEST: Final = 100
OVERWRITES: Final = 50_000

# Hits on a Cluster of three nodes, which have the keys of an entry among them.
ON_CLUSTER: Final = "hit, three nodes"

_ALL_KEPT: Final = 200_000
_MOST_POPULAR: Final = 24_000
_FEW_KEPT: Final = 1_000


def many(batch: int) -> str:
    """The workload that asks for ``batch`` blobs of a repository at once."""
    return f"stat_many({batch})"


def as_bare(workload: str) -> str:
    """The workload that asks a bare dict the same."""
    return workload + _BARE


def without_bare(workload: str) -> str:
    """The workload that is asked of a near cache."""
    return workload.removesuffix(_BARE)


@attrs.frozen
class Job:
    """So many callers, each asking again as soon as it has been answered, for so long."""

    workload: str
    callers: int
    seconds: float
    kept: int = 0  # entries of the near cache; 0: without one

    @property
    def batch(self) -> int:
        """How many blobs each call asks for."""
        return int(self.workload[len("stat_many(") : -1]) if self.workload.startswith("stat_many(") else 1


@attrs.frozen
class Measurement:
    """What a peer's process has measured of itself."""

    operations: int  # blobs that were asked for or set
    seconds: float
    p50_us: float  # of a call, as the next two
    p99_us: float
    p999_us: float
    cpu_seconds: float
    memory_bytes: int  # the most that it held during the job
    invalidations: int = 0  # keys that a near cache was told of


# Workload, callers, and what is kept.
NEAR_JOBS: Final = (
    (NEAR, 1, _ALL_KEPT),
    (NEAR_UNIFORM, 1, _ALL_KEPT),
    (NEAR_SPREAD, 1, _ALL_KEPT),
    (PEEK, 1, _ALL_KEPT),
    (PEEK_UNIFORM, 1, _ALL_KEPT),
    *((workload, 1, _ALL_KEPT) for workload in BARE),
    (WITHOUT, 128, 0),
    (NINE_IN_TEN, 128, _MOST_POPULAR),
    (COLD, 128, _FEW_KEPT),
    (IN_STORM, 128, _FEW_KEPT),
)
SOME_NEAR_JOBS: Final = tuple(job for job in NEAR_JOBS if job[0] in (NEAR, PEEK, WITHOUT, NINE_IN_TEN))
