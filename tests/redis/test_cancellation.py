"""Cancellations that a call swallows are raised all the same."""

from __future__ import annotations

import asyncio

import pytest

from aioblobcache.redis.cancellation import keep_cancellation

pytestmark = pytest.mark.anyio


async def swallow(entered, outcome):
    """Do as redis-py does where ``asyncio.wait_for`` finds its call done: forget the cancellation."""
    try:
        entered.set()
        await asyncio.get_running_loop().create_future()
    except asyncio.CancelledError:
        if isinstance(outcome, Exception):
            raise outcome from None
        return outcome


@pytest.mark.parametrize("outcome", ["an answer", OSError("lost")], ids=["answer", "error"])
async def test_swallowed_cancellation_is_raised(outcome):
    entered = asyncio.Event()
    task = asyncio.create_task(keep_cancellation(swallow(entered, outcome)))
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()


async def test_swallowed_timeout_is_raised():
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await keep_cancellation(swallow(asyncio.Event(), "an answer"))


async def test_an_earlier_cancellation_is_not_raised_again():
    async def answer():
        return "an answer"

    async def clean_up():
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            assert await keep_cancellation(answer()) == "an answer"

    task = asyncio.create_task(clean_up())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_answers_and_errors_pass_through():
    async def fail():
        raise OSError("lost")

    async def answer():
        return "an answer"

    assert await keep_cancellation(answer()) == "an answer"
    with pytest.raises(OSError, match="lost"):
        await keep_cancellation(fail())
