from __future__ import annotations

import asyncio
import contextlib
import gc

import pytest

from aioblobcache.flights import Flights
from tests.support.internals import flying

pytestmark = pytest.mark.anyio


class Call:
    """A call that counts its beginnings, and ends when told to."""

    def __init__(self) -> None:
        self.begun = 0
        self.cancelled = 0
        self.finish: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def __call__(self) -> str:
        self.begun += 1
        try:
            return await asyncio.shield(self.finish)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


async def settle():
    """Let everything that is ready run."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_concurrent_callers_share_one_call():
    flights, call = Flights(), Call()
    callers = [asyncio.create_task(flights.join("key", call)) for _ in range(1000)]
    await settle()
    call.finish.set_result("answer")
    assert await asyncio.gather(*callers) == ["answer"] * 1000
    assert call.begun == 1
    assert len(flights) == 0


async def test_different_keys_have_different_calls():
    flights, one, other = Flights(), Call(), Call()
    callers = [asyncio.create_task(flights.join(key, call)) for key, call in (("one", one), ("other", other))]
    await settle()
    assert ("one" in flights, "other" in flights, "third" in flights, len(flights)) == (True, True, False, 2)
    one.finish.set_result("one")
    other.finish.set_result("other")
    assert await asyncio.gather(*callers) == ["one", "other"]


async def test_a_later_caller_starts_a_new_call():
    flights = Flights()
    for _ in range(2):
        call = Call()
        call.finish.set_result("answer")
        assert await flights.join("key", call) == "answer"
        assert call.begun == 1


async def test_a_caller_after_the_end_starts_a_new_call():
    """Its end is told in the next turn of the event loop, and what it found may be old by then."""
    flights, call = Flights(), Call()
    first = asyncio.create_task(flights.join("key", call))
    await settle()
    [flight] = flying(flights)
    ended = flight.task
    call.finish.set_result("old")
    while not ended.done():  # noqa: ASYNC110
        await asyncio.sleep(0)
    assert "key" not in flights
    another = Call()
    another.finish.set_result("new")
    assert await flights.join("key", another) == "new"
    assert await first == "old"
    assert len(flights) == 0


async def test_one_cancelled_caller_does_not_affect_the_others():
    flights, call = Flights(), Call()
    first, second = (asyncio.create_task(flights.join("key", call)) for _ in range(2))
    await settle()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    call.finish.set_result("answer")
    assert await second == "answer"
    assert (call.begun, call.cancelled) == (1, 0)


async def test_cancelling_the_last_caller_cancels_the_call():
    flights, call = Flights(), Call()
    callers = [asyncio.create_task(flights.join("key", call)) for _ in range(3)]
    await settle()
    for caller in callers:
        caller.cancel()
    await asyncio.gather(*callers, return_exceptions=True)
    await settle()
    assert call.cancelled == 1
    assert len(flights) == 0


async def test_a_cancelled_call_accepts_no_caller():
    flights, released = Flights(), asyncio.Event()

    async def slow_to_end() -> str:
        try:
            await asyncio.Event().wait()
        finally:
            await released.wait()
        return "never"

    first = asyncio.create_task(flights.join("key", slow_to_end))
    await settle()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    call = Call()
    call.finish.set_result("answer")
    assert await flights.join("key", call) == "answer"
    assert len(flights) == 1, "the one that is ending is still owned"
    released.set()
    await settle()
    assert len(flights) == 0


async def test_every_caller_receives_the_failure():
    flights, call = Flights(), Call()
    callers = [asyncio.create_task(flights.join("key", call)) for _ in range(3)]
    await settle()
    call.finish.set_exception(OSError("broken"))
    outcomes = await asyncio.gather(*callers, return_exceptions=True)
    assert [repr(outcome) for outcome in outcomes] == ["OSError('broken')"] * 3
    assert len(flights) == 0


@contextlib.contextmanager
def unretrieved_failures():
    """What the event loop's exception handler is called with."""
    contexts = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, context: contexts.append(context))
    try:
        yield contexts
        gc.collect()  # a future that is not retrieved is reported when it is collected
    finally:
        loop.set_exception_handler(None)


async def test_a_failure_without_waiters_is_not_reported():
    flights = Flights()

    async def fails_when_cancelled() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise OSError("broken") from None
        return "never"

    with unretrieved_failures() as contexts:
        caller = asyncio.create_task(flights.join("key", fails_when_cancelled))
        await settle()
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        await settle()
        assert len(flights) == 0
    assert contexts == []


async def test_a_failure_with_a_cancelled_caller_is_not_reported():
    flights, call = Flights(), Call()
    with unretrieved_failures() as contexts:
        first, second = (asyncio.create_task(flights.join("key", call)) for _ in range(2))
        await settle()
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        call.finish.set_exception(OSError("broken"))
        with pytest.raises(OSError, match="broken"):
            await second
        del first, second
    assert contexts == []


async def test_a_call_that_cancels_itself_cancels_every_caller():
    flights = Flights()

    async def gives_up() -> str:
        raise asyncio.CancelledError

    callers = [asyncio.create_task(flights.join("key", gives_up)) for _ in range(2)]
    outcomes = await asyncio.gather(*callers, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [asyncio.CancelledError] * 2
    assert len(flights) == 0


async def test_callers_are_woken_in_the_order_of_their_arrival():
    flights, call, woken = Flights(), Call(), []

    async def caller(number):
        await flights.join("key", call)
        woken.append(number)

    callers = [asyncio.create_task(caller(number)) for number in range(100)]
    await settle()
    call.finish.set_result("answer")
    await asyncio.gather(*callers)
    assert woken == list(range(100))


async def test_a_caller_cancelled_after_the_end_affects_no_other():
    flights, call = Flights(), Call()
    first, second = (asyncio.create_task(flights.join("key", call)) for _ in range(2))
    await settle()
    [flight] = flying(flights)
    call.finish.set_result("answer")
    while not flight.task.done():  # noqa: ASYNC110
        await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert await second == "answer"
    assert (call.cancelled, len(flights)) == (0, 0)
