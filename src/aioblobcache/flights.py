"""Single flight: concurrent calls for one thing become one call.

Each call is a task that :class:`Flights` owns. Its callers are its waiters: when the last of them
has been cancelled, the task is cancelled too. It never outlives its waiters by more than that.
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
    # One future for each caller, in the order of arrival, woken when the task has ended. ``asyncio.shield`` would do,
    # but for one thing: from Python 3.14 on it gives the failure of a task whose caller has been cancelled to the event
    # loop's exception handler, even if another caller receives that failure.
    waiters: dict[asyncio.Future[None], None] = attrs.field(factory=dict)


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
            flight.task.add_done_callback(lambda task: self._end(key, flight))
        waiter = asyncio.get_running_loop().create_future()
        flight.waiters[waiter] = None
        try:
            await waiter
        finally:
            del flight.waiters[waiter]
            if not flight.waiters and not flight.task.done():
                # A call that is being cancelled accepts no caller any more.
                del self._flying[key]
                self._landing.add(flight.task)
                flight.task.cancel()
        return flight.task.result()

    def _end(self, key: Hashable, flight: _Flight[T]) -> None:
        if self._flying.get(key) is flight:
            del self._flying[key]
        self._landing.discard(flight.task)
        if not flight.task.cancelled():
            flight.task.exception()  # marks it as retrieved: all waiters may have been cancelled
        for waiter in flight.waiters:
            if not waiter.done():
                waiter.set_result(None)
