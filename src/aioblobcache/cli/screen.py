"""What a command shows: results and summaries on standard output, progress and asides on standard error."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from ..errors import BlobCacheError

__all__ = ["Screen", "in_bytes"]

# How often progress is looked at, in seconds.
_LOOK: Final = 0.2

_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB")


class _Console(Console):
    """One that leaves it to the program what to do when nobody reads any more; rich's own ends it with status 1."""

    def on_broken_pipe(self) -> None:
        """Called while the error is handled."""
        raise  # noqa: PLE0704


class Screen:
    """Where a command writes. Colours and tables are for terminals; ``as_json`` is for programs."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self.out = _Console(highlight=False, soft_wrap=True)
        self._err = _Console(stderr=True, highlight=False, soft_wrap=True)

    @property
    def is_for_people(self) -> bool:
        """Whether a person looks at it."""
        return self.out.is_terminal and not self.as_json

    def line(self, *cells: str, style: str = "") -> None:
        """A line of a result: columns for people, tabs for programs."""
        if self.as_json:
            return
        if self.is_for_people:
            text = Text("  ").join([Text(cells[0], style=style), *map(Text, cells[1:])])
            self.out.print(text)
        else:
            print("\t".join(cells))  # noqa: T201

    def say(self, text: str) -> None:
        """A sentence of a result."""
        if not self.as_json:
            self.out.print(text, markup=False)

    def aside(self, text: str) -> None:
        """What is no part of the result: for who is there to read it."""
        self._err.print(text, markup=False)

    def table(self, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Rows of a result."""
        if self.as_json:
            return
        if not self.is_for_people:
            for row in rows:
                print("\t".join(row))  # noqa: T201
            return
        table = Table(box=None, pad_edge=False, show_header=any(headings))
        for heading in headings:
            table.add_column(heading, overflow="fold")
        for row in rows:
            table.add_row(*map(Text, row))
        self.out.print(table)

    def document(self, data: Any) -> None:
        """The result as JSON, if that was asked for."""
        if self.as_json:
            json.dump(data, sys.stdout, indent=2)
            print()  # noqa: T201

    @asynccontextmanager
    async def counting(
        self, what: Callable[[], str], done: Callable[[], int], total: int | Callable[[], Awaitable[int]] | None
    ) -> AsyncIterator[None]:
        """Show how far something got, while the context is open, if standard error is a terminal.

        ``what`` says it in words, ``done`` by a number, of which ``total`` is the last one, or finds it out meanwhile;
        ``None``: nobody can tell.
        """
        if not self._err.is_terminal:
            yield
            return
        columns = (
            BarColumn(bar_width=20),
            TextColumn("{task.description}"),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TextColumn("left:"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self._err, transient=True) as progress:
            task = progress.add_task("", total=total if isinstance(total, int) else None, rate="")
            followers = [asyncio.create_task(_follow(progress, task, what, done))]
            if callable(total):
                followers.append(asyncio.create_task(_learn(progress, task, total)))
            try:
                yield
            finally:
                for follower in followers:
                    follower.cancel()
                await asyncio.wait(followers)


async def _follow(progress: Progress, task: TaskID, what: Callable[[], str], done: Callable[[], int]) -> None:
    began = time.monotonic()
    while True:
        speed = done() / max(time.monotonic() - began, _LOOK)
        progress.update(task, completed=done(), description=what(), rate=f"{speed:,.0f}/s")
        await asyncio.sleep(_LOOK)


async def _learn(progress: Progress, task: TaskID, total: Callable[[], Awaitable[int]]) -> None:
    with suppress(BlobCacheError):  # who does the work says it
        progress.update(task, total=await total())


def in_bytes(count: float) -> str:
    """So many bytes, in words."""
    for unit in _UNITS:
        if count < 1024 or unit == _UNITS[-1]:
            return f"{count:,.0f} {unit}" if unit == "B" else f"{count:,.1f} {unit}"
        count /= 1024
    raise AssertionError
