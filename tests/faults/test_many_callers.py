"""A hundred thousand callers at once: who is served when, and what each costs."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc

import pytest

from aioblobcache import BlobUnknownError
from tests.support.internals import internals, unsent_bytes
from tests.support.numbered_blobs import NAME, assert_same, digest_of, globally, put, scoped
from tests.support.providers import provider
from tests.support.servers import stopped
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

FEW, MANY = range(10_000), range(50_000)  # blobs, each asked for in two scopes
IN_FLIGHT = 20_000


@pytest.mark.parametrize("blobs", [FEW, pytest.param(MANY, marks=pytest.mark.slow)], ids=["few", "many"])
async def test_simultaneous_callers_are_answered_in_order(own_server, blobs):
    await put(own_server.url, blobs)
    async with provider(own_server.url, timeout=60.0) as cache:
        # Connecting would take longer than it may while so many callers are started.
        await until(lambda: cache.info()["lanes_open"] == 1)
        repository = cache.repository_scoped(NAME)
        # No two ask the same in the same scope: each question is one of its own.
        questions = [
            question for number in blobs for question in ((cache, globally, number), (repository, scoped, number))
        ]
        served, peak, most_waiting = [], 0, 0

        async def ask(place, service, of, number):
            nonlocal peak, most_waiting
            assert await service.stat(digest_of(number)) == of(number)
            served.append(place)
            info = cache.info()
            peak, most_waiting = max(peak, info["in_flight"]), max(most_waiting, info["waiting"])

        async with asyncio.TaskGroup() as callers:
            for place, question in enumerate(questions):
                callers.create_task(ask(place, *question))
        assert_same(served, range(2 * len(blobs)))
        assert 4096 / 2 < peak <= 4096
        assert most_waiting > len(blobs)
        assert cache.info()["in_flight"] == cache.info()["waiting"] == cache.info()["reconnects"] == 0


async def test_callers_in_the_backlog_are_served_before_later_callers(own_server):
    """Also where room is made by single replies, while others keep coming."""
    await put(own_server.url, range(2_000))
    async with provider(own_server.url, timeout=60.0, max_in_flight=3) as cache:
        repository = cache.repository_scoped(NAME)
        served = []

        async def ask(number):
            assert await repository.stat(digest_of(number)) == scoped(number)
            served.append(number)

        async with asyncio.TaskGroup() as callers:
            for number in range(2_000):
                callers.create_task(ask(number))
                if number % 7 == 0:
                    await asyncio.sleep(0)
        assert_same(served, range(2_000))


async def cost_of(coroutines, count, ready):
    """Bytes that each of the tasks costs while it waits, and the tasks."""
    gc.collect()
    tracemalloc.start()
    try:
        tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
        await until(ready)
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return held / count, tasks


@pytest.mark.whole_machine
@pytest.mark.parametrize("scope", ["global", pytest.param("scoped", marks=pytest.mark.slow)])
async def test_a_request_in_flight_costs_less_than_one_kibibyte(own_server, scope):
    """A task and its coroutine are the caller's: what as many tasks cost that wait for nothing in particular is not
    counted, nor are the bytes that the transport still has, since the socket of a server that stands still is full."""
    digests = [digest_of(number) for number in range(IN_FLIGHT)]
    async with provider(own_server.url, timeout=60.0, max_in_flight=IN_FLIGHT) as cache:
        service = cache if scope == "global" else cache.repository_scoped(NAME)
        assert await service.stat_many(digests[:1]) == {}
        waiting = 0

        async def wait():
            nonlocal waiting
            waiting += 1
            await nothing

        async def ask(digest):
            await service.stat(digest)

        nothing = asyncio.get_running_loop().create_future()
        bare, waiters = await cost_of((wait() for _ in digests), IN_FLIGHT, lambda: waiting == IN_FLIGHT)
        with stopped(own_server):
            cost, callers = await cost_of(
                (ask(digest) for digest in digests), IN_FLIGHT, lambda: cache.info()["in_flight"] == IN_FLIGHT
            )
            lane = internals(cache).lane
            unsent = unsent_bytes(lane) / IN_FLIGHT
        nothing.set_result(None)
        await asyncio.gather(*waiters)
        outcomes = await asyncio.gather(*callers, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {BlobUnknownError}
        assert cost - bare - unsent < 1024
