"""A mutant: a source file in which one span is replaced."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Sequence
from pathlib import Path

import attrs

__all__ = ["Mutant", "SourceFile"]


@attrs.frozen
class Mutant:
    """One replacement in one source file."""

    module: str  # the file, relative to the folder of sources
    line: int
    scope: str  # the function or class that holds the span; empty at the module's level
    operator: str
    start: int  # offsets in bytes
    end: int
    replacement: bytes
    before: str  # the lines of the span, without indentation and line ends
    after: str
    lines: tuple[int, ...]  # the lines whose tests are run: those of the span, the most precise first, or of its uses
    at_import: bool  # whether the span runs when the module is imported, so that coverage knows no test of it

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What identifies the mutant in another run, though lines have moved."""
        return (self.module, self.scope, self.before, self.after)

    def apply(self, source: bytes) -> bytes:
        """Return the mutated text of the file."""
        return source[: self.start] + self.replacement + source[self.end :]


class SourceFile:
    """The text of a source file, with positions as the ``ast`` module gives them."""

    def __init__(self, module: str, text: bytes) -> None:
        self.module = module
        self.text = text
        self._starts = [0]
        for line in text.splitlines(keepends=True):
            self._starts.append(self._starts[-1] + len(line))

    @classmethod
    def read(cls, folder: Path, module: str) -> SourceFile:
        """Read a file below the folder of sources."""
        return cls(module, (folder / module).read_bytes())

    def offset(self, line: int, column: int) -> int:
        """Return the offset of a position; lines count from 1, columns in bytes from 0."""
        return self._starts[line - 1] + column

    def line_of(self, offset: int) -> int:
        """Return the line that an offset lies in."""
        return bisect.bisect_right(self._starts, offset)

    def mutants_adder(self, found: list[Mutant], is_valid: Callable[[bytes], bool]) -> Callable[..., None]:
        """Return a function that appends a mutant to ``found``, unless it is there already or is no valid source."""
        seen: set[tuple[int, int, bytes]] = set()

        def add(
            operator: str,
            start: int,
            end: int,
            replacement: bytes,
            *,
            scope: str = "",
            lines: Sequence[int] = (),
            at_import: bool = False,
        ) -> None:
            first, last = self.line_of(start), self.line_of(max(start, end - 1))
            from_, to = self._starts[first - 1], self._starts[last]
            before = self.text[from_:to]
            after = self.text[from_:start] + replacement + self.text[end:to]
            place = (start, end, replacement)
            if place in seen or not is_valid(self.text[:start] + replacement + self.text[end:]):
                return
            seen.add(place)
            own = () if at_import else range(first, last + 1)
            tested = tuple(dict.fromkeys((*own, *lines)))
            flat = (_flat(before), _flat(after))
            found.append(Mutant(self.module, first, scope, operator, start, end, replacement, *flat, tested, at_import))

        return add


def _flat(lines: bytes) -> str:
    return " ".join(line.strip() for line in lines.decode().splitlines()).strip()
