"""What a peer is told to do, and what it says about it: the lines between this program and a peer's process."""

from __future__ import annotations

from typing import Final

import attrs

__all__ = ["HIT", "MISS", "MIXED", "Job", "Measurement", "many"]

HIT: Final = "hit"  # each stat is of a blob that the repository holds
MISS: Final = "miss"  # each is of one that nobody holds
MIXED: Final = "mixed"  # one operation in WRITE_EVERY sets a descriptor, the others are hits

WRITE_EVERY: Final = 20


def many(batch: int) -> str:
    """The workload that asks for ``batch`` blobs of a repository at once."""
    return f"stat_many({batch})"


@attrs.frozen
class Job:
    """So many callers, each asking again as soon as it has been answered, for so long."""

    workload: str
    callers: int
    seconds: float

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
