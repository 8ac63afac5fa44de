"""Callers that ask a provider without pause, and what becomes of their calls."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Iterable, Sequence
from contextlib import asynccontextmanager
from itertools import cycle
from typing import Any

from aioblobcache import BlobUnknownError, CacheUnavailableError, Descriptor
from tests.support.lateness import LoopTime

__all__ = ["CALLERS", "Load", "answer_and_time", "ask_in_turn", "running_load"]

CALLERS = 16

# How long a caller waits after an error: it would keep all others from running.
PAUSE_AFTER_ERROR_SECONDS = 0.002


async def answer_and_time(call: Awaitable[Any], clock: LoopTime) -> tuple[Any, float]:
    """Return the answer of a call, or its error if the cache is unavailable, and the seconds it took."""
    began = clock.now()
    try:
        answer = await call
    except CacheUnavailableError as error:
        answer = error
    return answer, clock.now() - began


async def ask_in_turn(
    service: Any, blobs: Sequence[Descriptor], seconds: float, clock: LoopTime
) -> list[tuple[Descriptor, Any, float]]:
    """Ask for blob after blob by ``CALLERS`` at once; return each blob, its answer or error, and the seconds."""
    ends = time.monotonic() + seconds
    outcomes: list[tuple[Descriptor, Any, float]] = []

    async def ask(first: int) -> None:
        for blob in (*blobs[first:], *blobs[:first]):
            if outcomes and time.monotonic() > ends:
                return
            outcomes.append((blob, *await answer_and_time(service.stat(blob.digest), clock)))
            await asyncio.sleep(0.001)

    await asyncio.gather(*(ask(number * len(blobs) // CALLERS) for number in range(CALLERS)))
    return outcomes


class Load:
    """Callers that ask for blobs in turn without end, and counts of what they got."""

    def __init__(self, asked: Iterable[tuple[Any, Descriptor]], *, pause: float = 0.0) -> None:
        self._asked = list(asked)  # services and the blobs to ask them for
        self._pause = pause
        self.answers = self.wrong = self.failures = 0
        self.answered_last = 0.0  # when, by ``time.monotonic``
        self.longest = 0.0  # seconds
        self.errors: Counter[str] = Counter()

    async def run(self) -> None:
        """Ask until cancelled."""
        for service, blob in cycle(self._asked):
            began = time.monotonic()
            try:
                found = await service.stat(blob.digest)
            except CacheUnavailableError as error:
                self.failures += 1
                self.errors[str(error)] += 1
                await asyncio.sleep(PAUSE_AFTER_ERROR_SECONDS)
            except BlobUnknownError:
                self.wrong += 1
            else:
                self.answers += 1
                self.wrong += found != blob
                self.answered_last = time.monotonic()
            self.longest = max(self.longest, time.monotonic() - began)
            await asyncio.sleep(self._pause)


@asynccontextmanager
async def running_load(*loads: Load, callers: int):
    """Run so many callers of each load within; a caller that fails otherwise than it counts fails the test."""
    tasks = [asyncio.create_task(load.run()) for load in loads for _ in range(callers)]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes), outcomes
