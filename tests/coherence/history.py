"""What was written when, and whether an answer may be given of it.

Times are seconds of ``time.monotonic``, which is the same clock in all processes of a machine.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path

import attrs

from aioblobcache import Digest

UNKNOWN = -1

BOUND = 0.3  # the readers' max_staleness


@attrs.define
class Blob:
    """A blob, the repositories it may be in, and the keys about it as they are now."""

    digest: Digest
    names: tuple[str, ...]
    size: int = UNKNOWN
    members: set[str] = attrs.field(factory=set)
    overrides: set[str] = attrs.field(factory=set)

    def answers(self) -> list[int]:
        """What is right now in the global scope, and in each repository: the size."""
        scoped = [self.size if name in self.members & self.overrides else UNKNOWN for name in self.names]
        return [self.size, *scoped]


@attrs.define
class History:
    """The answers of one scope about one blob, one after the other."""

    answers: list[int] = attrs.field(factory=lambda: [UNKNOWN])
    begun: list[float] = attrs.field(factory=lambda: [0.0])
    confirmed: list[float] = attrs.field(factory=lambda: [0.0])

    def write(self, answer: int, begun: float, confirmed: float) -> None:
        """Note that a write has been confirmed; they follow each other."""
        assert begun >= self.confirmed[-1]
        self.answers.append(answer)
        self.begun.append(begun)
        self.confirmed.append(confirmed)

    def allows(self, answer: int, asked: float, answered: float, bound: float = BOUND) -> bool:
        """Whether it was right at some time from ``bound`` before the question until the answer."""
        # The state of a write may be the one until the next is confirmed, and from when its own began.
        first = bisect_right(self.confirmed, asked - bound) - 1
        last = bisect_right(self.begun, answered)
        return answer in self.answers[max(first, 0) : last]

    def around(self, when: float) -> list[tuple[int, float, float]]:
        """The writes about that time, for people: answer, begun, confirmed."""
        place = bisect_right(self.begun, when)
        writes = zip(self.answers, self.begun, self.confirmed, strict=True)
        return list(writes)[max(place - 5, 0) : place + 5]


@attrs.frozen
class Answer:
    """What a reader was told."""

    blob: int
    scope: int
    asked: float
    answered: float
    size: int
    near: bool


def write_answers(path: Path, records: array[float]) -> None:
    """Keep six numbers of each answer."""
    with path.open("wb") as file:
        records.tofile(file)


def read_answers(path: Path) -> Iterator[Answer]:
    """What :func:`write_answers` wrote."""
    records: array[float] = array("d")
    records.frombytes(path.read_bytes())
    for place in range(0, len(records), 6):
        blob, scope, asked, answered, size, near = records[place : place + 6]
        yield Answer(int(blob), int(scope), asked, answered, int(size), bool(near))
