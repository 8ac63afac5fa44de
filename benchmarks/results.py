"""What a run has measured: every round as it was, and what follows from them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median
from typing import Any, Self

import attrs

from .ceiling import Ceiling
from .footprint import Footprint
from .jobs import Measurement
from .rounds import write_rounds
from .window import Window

__all__ = ["Results", "Sample"]


@attrs.frozen
class Sample:
    """One peer, one job, in one round."""

    round: int
    peer: str
    workload: str
    callers: int
    own: Measurement
    server_cpu_seconds: float
    stats_on_server: int  # fewer than were asked for where equal questions went together, or a near cache answered
    overwrites_on_server: int = 0

    @property
    def rate(self) -> float:
        """Blobs a second."""
        return self.own.operations / self.own.seconds

    @property
    def server_rate(self) -> float:
        """Stats a second that reached the server."""
        return self.stats_on_server / self.own.seconds

    @property
    def client_cpu(self) -> float:
        """CPU seconds of the client for a million blobs."""
        return 1e6 * self.own.cpu_seconds / self.own.operations

    @property
    def server_cpu(self) -> float:
        """CPU seconds of the server for a million blobs."""
        return 1e6 * self.server_cpu_seconds / self.own.operations


@attrs.frozen
class Results:
    """A whole run, and where and when it was."""

    date: str
    machine: dict[str, str]
    versions: dict[str, str]
    settings: dict[str, Any]
    ceilings: list[Ceiling]  # of each round, if the tool was there
    samples: list[Sample]
    footprint: Footprint | None = None
    window: Window | None = None

    def write(self, path: Path) -> None:
        """Keep them as JSON, a sample a line."""
        write_rounds(self, path)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what :meth:`write` wrote."""
        document = json.loads(path.read_text())
        ceilings = [Ceiling(**row) for row in document.pop("ceilings")]
        samples = [Sample(**{**row, "own": Measurement(**row["own"])}) for row in document.pop("samples")]
        footprint, window = document.pop("footprint", None), document.pop("window", None)
        return cls(
            **document,
            ceilings=ceilings,
            samples=samples,
            footprint=footprint and Footprint(**footprint),
            window=window and Window(**window),
        )

    def peers(self) -> list[str]:
        """Who took part, in order."""
        return list(dict.fromkeys(sample.peer for sample in self.samples))

    def jobs(self) -> list[tuple[str, int]]:
        """Each workload with its callers, in order."""
        return list(dict.fromkeys((sample.workload, sample.callers) for sample in self.samples))

    def of(self, peer: str, workload: str, callers: int) -> list[Sample]:
        """A peer's rounds of a job; none if it did not do it."""
        return [
            sample
            for sample in self.samples
            if (sample.peer, sample.workload, sample.callers) == (peer, workload, callers)
        ]

    def median(self, peer: str, workload: str, callers: int, figure: Callable[[Sample], float]) -> float | None:
        """The median of a figure over the rounds."""
        samples = self.of(peer, workload, callers)
        return median(map(figure, samples)) if samples else None

    def ratio(
        self,
        one: str,
        other: str,
        workload: str,
        callers: int,
        figure: Callable[[Sample], float],
        others_workload: str | None = None,
    ) -> float | None:
        """How many times ``other``'s figure ``one``'s is: the median of the rounds' ratios."""
        theirs = self.of(other, others_workload or workload, callers)
        pairs = zip(self.of(one, workload, callers), theirs, strict=False)
        return _median(figure(my) / figure(their) for my, their in pairs)

    def share_of_ceiling(self, peer: str, workload: str, callers: int) -> float | None:
        """A peer's rate, as a share of the server's ceiling: the median of the rounds' shares."""
        pairs = zip(self.of(peer, workload, callers), self.ceilings, strict=False)
        return _median(sample.rate / ceiling.stats for sample, ceiling in pairs)


def _median(values: Iterable[float]) -> float | None:
    values = list(values)
    return median(values) if values else None
