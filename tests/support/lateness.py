"""How much time a busy machine has kept from the event loop, so that a bound on time can be exact all the same."""

from __future__ import annotations

import asyncio
import gc
import time
from types import TracebackType
from typing import Self

__all__ = ["LoopTime"]

TICK_SECONDS = 0.005


class LoopTime:
    """A clock that stands still while the machine gives this process no processor.

    A callback runs every few milliseconds. If it is late, and the thread has not used the processor meanwhile,
    something else has: that time does not count. Time that the thread itself used does count, so that code that holds
    up the event loop is still found out; but not the time of the garbage collector, which the tests' own objects keep
    busy.
    """

    def __init__(self) -> None:
        self.lost = 0.0  # seconds, so far
        self._timer: asyncio.TimerHandle | None = None
        self._collection_began = 0.0

    def now(self) -> float:
        """Return the time in seconds: that of the machine without what was lost."""
        loop = asyncio.get_running_loop()
        return loop.time() - self.lost - self._lost_since(loop.time())

    async def __aenter__(self) -> Self:
        self._begin(asyncio.get_running_loop())
        gc.callbacks.append(self._notice_collection)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        gc.callbacks.remove(self._notice_collection)
        assert self._timer is not None
        self._timer.cancel()

    def _notice_collection(self, phase: str, _: dict[str, int]) -> None:
        if phase == "start":
            self._collection_began = time.thread_time()
        else:
            self._used += time.thread_time() - self._collection_began

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        self._due = loop.time() + TICK_SECONDS
        self._used = time.thread_time()
        self._timer = loop.call_at(self._due, self._tick, loop)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        self.lost += self._lost_since(loop.time())
        self._begin(loop)

    def _lost_since(self, now: float) -> float:
        late = now - self._due
        idle = late + TICK_SECONDS - (time.thread_time() - self._used)
        return max(0.0, min(late, idle))
