"""Single flight: concurrent calls for one thing become one call.

Every flight is a task owned by its :class:`Flights` and carried by its passengers: when the last
of them has gone, it is cancelled. It never outlives those who wait for it by more than that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

import attrs

__all__ = ["Flights"]

T = TypeVar("T")


@attrs.define(eq=False)
class _Flight(Generic[T]):
    task: asyncio.Task[T]
    passengers: int = 0


class Flights(Generic[T]):
    """The calls under way, by key."""

    def __init__(self) -> None:
        self._flying: dict[Hashable, _Flight[T]] = {}
        self._landing: set[asyncio.Task[T]] = set()  # cancelled, not yet ended

    def __contains__(self, key: Hashable) -> bool:
        """Whether a call for ``key`` is under way that a caller would join."""
        flight = self._flying.get(key)
        return flight is not None and not flight.task.done()

    def __len__(self) -> int:
        return len(self._flying) + len(self._landing)

    async def join(self, key: Hashable, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Return the result of the call under way for ``key``, or of ``call()``, begun now.

        One caller's cancellation does not touch the others; the last one's cancels the call.
        """
        flight = self._flying.get(key)
        if flight is None or flight.task.done():  # one that has ended stays until the event loop goes round
            flight = self._flying[key] = _Flight(asyncio.create_task(call()))
            flight.task.add_done_callback(lambda task: self._end(key, task))
        flight.passengers += 1
        try:
            return await asyncio.shield(flight.task)
        finally:
            flight.passengers -= 1
            if not flight.passengers and not flight.task.done():
                # Nobody may join what is being cancelled.
                del self._flying[key]
                self._landing.add(flight.task)
                flight.task.cancel()

    def _end(self, key: Hashable, task: asyncio.Task[T]) -> None:
        flight = self._flying.get(key)
        if flight is not None and flight.task is task:
            del self._flying[key]
        self._landing.discard(task)
        if not task.cancelled():
            task.exception()  # marks it retrieved, should every passenger have left
