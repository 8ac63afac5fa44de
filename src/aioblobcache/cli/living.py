"""The commands that look at a server while it works: watch, bench."""

from __future__ import annotations

import json
import math
import time

import attrs
from rich.live import Live

from ..errors import ConfigurationError
from ..maintenance.bench import Measured, measure
from ..maintenance.watch import Watch
from .live_view import as_data, rates_header, rates_line, rates_table
from .screen import Screen
from .target import FINE, NOTHING_SAID, Target, run

__all__ = ["bench", "watch"]


def watch(*, every: float = 1.0, count: int | None = None, target: Target = NOTHING_SAID) -> int:
    """Show what a Redis is doing, once a second, until Ctrl-C: questions, hits, and which keys of the cache change.

    Without a terminal a line for each interval, its fields separated by tabs; with --json a document a line.

    Examples: `aioblobcache watch --cache redis://localhost`, `aioblobcache watch --count 60 --json`

    Parameters
    ----------
    every
        Seconds between two looks.
    count
        End after so many.
    """
    screen = Screen(target.as_json)

    async def work() -> None:
        if count is not None and count < 1:
            raise ConfigurationError(f"count is a number of looks, 1 or more, not {count}")
        async with target.client() as client, Watch(client, every=every) as watching:
            await _show(watching, count, screen)

    run(work())
    return FINE


async def _show(watching: Watch, count: int | None, screen: Screen) -> None:
    shown = 0
    if screen.is_for_people:
        with Live(console=screen.out, auto_refresh=False) as live:
            async for rates in watching:
                live.update(rates_table(rates), refresh=True)
                shown += 1
                if shown == count:
                    return
    if not screen.as_json:
        print(rates_header(), flush=True)  # noqa: T201
    async for rates in watching:
        print(json.dumps(as_data(rates)) if screen.as_json else rates_line(rates), flush=True)  # noqa: T201
        shown += 1
        if shown == count:
            return


def bench(*, seconds: float = 3.0, callers: int = 128, target: Target = NOTHING_SAID) -> int:
    """Measure how fast this machine asks that server. It only reads, and leaves nothing behind.

    Example: `aioblobcache bench --cache redis://localhost`

    Parameters
    ----------
    seconds
        How long it may take.
    callers
        How many ask at once.
    """
    screen = Screen(target.as_json)

    async def work() -> Measured:
        began = time.monotonic()
        total = round(seconds) if math.isfinite(seconds) else 0  # which is refused below
        async with (
            target.client() as client,
            screen.counting(lambda: "seconds", lambda: round(time.monotonic() - began), total),
        ):
            return await measure(client, seconds=seconds, callers=callers)

    measured = run(work())
    for sentence in measured.in_words():
        screen.say(sentence)
    screen.document(attrs.asdict(measured))
    return FINE
