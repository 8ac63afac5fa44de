"""Ten thousand callers and a stopped server: every call ends in time, and no answer is stale."""

from __future__ import annotations

import asyncio
import gc
import time
import tracemalloc

import pytest

from aioblobcache import CacheUnavailableError, Digest
from tests.support.lateness import LoopTime
from tests.support.numbered_blobs import NAME, assert_same, digest_of, globally, put, scoped
from tests.support.providers import provider, until_it_answers
from tests.support.servers import stopped
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

CALLERS = range(10_000)
TIMEOUT = 1.0
GRACE = 0.05


async def time_until_error(service, digest, clock):
    """Return how long a call waits for its error: by the wall, and in time that the process had."""
    called, called_by_wall = clock.now(), time.monotonic()
    with pytest.raises(CacheUnavailableError):
        await service.stat(digest)
    return time.monotonic() - called_by_wall, clock.now() - called


async def in_waves(calls, size=500):
    """Tasks of the calls, so many in each tick."""
    tasks = []
    for number, call in enumerate(calls):
        tasks.append(asyncio.create_task(call))
        if number % size == size - 1:
            await asyncio.sleep(0)
    return tasks


def assert_in_time(times):
    assert len(times) == len(CALLERS)
    assert max(had for _, had in times) <= TIMEOUT + GRACE
    # Nor is the server given up at once. Those who asked later than the first may fail earlier: with its deadline the
    # connection is dropped.
    assert times[0][0] > TIMEOUT / 2


async def until_all_are_known(cache):
    """Return when every caller has a place in flight or in the backlog."""
    await until(lambda: cache.info()["in_flight"] + cache.info()["waiting"] == len(CALLERS))


@pytest.mark.whole_machine
@pytest.mark.parametrize("max_in_flight", [64, 4096, 100_000])
async def test_ten_thousand_callers_time_out_within_fifty_milliseconds(own_server, max_in_flight):
    """With fewer places in flight than callers, most of them wait for one in vain."""
    await put(own_server.url, range(1))
    async with LoopTime() as clock, provider(own_server.url, timeout=TIMEOUT, max_in_flight=max_in_flight) as cache:
        repository = cache.repository_scoped(NAME)
        await until_it_answers(repository, scoped(0))
        with stopped(own_server):
            calls = [time_until_error(repository, digest_of(number), clock) for number in CALLERS]
            asked = [asyncio.create_task(call) for call in calls]
            expected = min(max_in_flight, len(CALLERS))
            await until(lambda: cache.info()["in_flight"] == expected or asked[0].done())
            if not asked[0].done():  # or the machine took longer than the timeout to start the callers
                assert cache.info()["waiting"] == len(CALLERS) - expected
            assert_in_time(await asyncio.gather(*asked))


async def until_all_could_be_sent(cache):
    await until_all_are_known(cache)
    for _ in range(3):
        await asyncio.sleep(0)  # the last were asked in this tick, and may be written in the next


@pytest.fixture
def wide():
    """A repository and digests with names so long that ten thousand requests are ten megabytes."""
    return "/".join(["x" * 60] * 4), [Digest.of(b"%d" % number, "sha512") for number in CALLERS]


@pytest.mark.whole_machine
async def test_callers_behind_a_full_socket_time_out_in_time(own_server, wide):
    name, digests = wide
    async with LoopTime() as clock, provider(own_server.url, timeout=TIMEOUT, max_in_flight=100_000) as cache:
        repository = cache.repository_scoped(name)
        assert await repository.stat_many(digests[:1]) == {}
        with stopped(own_server):
            asked = await in_waves(time_until_error(repository, digest, clock) for digest in digests)
            if not asked[0].done():
                # What the transport would only keep has not been given to it.
                assert cache.info()["waiting"] > 0
            assert_in_time(await asyncio.gather(*asked))


async def test_callers_behind_a_full_socket_are_answered_after_it_drains(own_server, wide):
    name, digests = wide
    async with provider(own_server.url, timeout=60.0, max_in_flight=100_000) as cache:
        repository = cache.repository_scoped(name)
        assert await repository.stat_many(digests[:1]) == {}
        with stopped(own_server):
            asked = await in_waves(repository.stat_many([digest]) for digest in digests)
            await until_all_could_be_sent(cache)
            assert cache.info()["waiting"] > 0
        assert_same(await asyncio.gather(*asked), [{}] * len(CALLERS))
        assert cache.info()["in_flight"] == cache.info()["waiting"] == cache.info()["reconnects"] == 0


async def test_no_reply_from_before_a_standstill_reaches_later_callers(own_server):
    await put(own_server.url, CALLERS, generation=1)
    async with LoopTime() as clock, provider(own_server.url, timeout=3.0) as cache:
        repository = cache.repository_scoped(NAME)
        await until_it_answers(repository, scoped(0))
        with stopped(own_server):
            await asyncio.gather(*(time_until_error(repository, digest_of(number), clock) for number in CALLERS))
        # What the server had been sent it answers now, and from what there was.
        await put(own_server.url, CALLERS, generation=2)
        await until_it_answers(repository, scoped(0, generation=2))
        answers = await asyncio.gather(*(repository.stat(digest_of(number)) for number in reversed(CALLERS)))
        assert_same(answers, [scoped(number, generation=2) for number in reversed(CALLERS)])
        # Whether the lane gave the connection up, or the old replies came by it, is a matter of milliseconds.
        assert cache.info()["in_flight"] == cache.info()["waiting"] == 0


@pytest.mark.parametrize("max_in_flight", [64, pytest.param(100_000, marks=pytest.mark.slow)])
async def test_callers_cancelled_during_a_standstill_leave_no_reply_behind(own_server, max_in_flight):
    """The connection stays, and with it come the replies to those who have left."""
    await put(own_server.url, CALLERS, generation=1)
    async with provider(own_server.url, timeout=60.0, max_in_flight=max_in_flight) as cache:
        repository = cache.repository_scoped(NAME)
        await until_it_answers(repository, scoped(0))
        with stopped(own_server):
            asked = [asyncio.create_task(repository.stat(digest_of(number))) for number in CALLERS]
            await until(lambda: cache.info()["in_flight"] == min(max_in_flight, len(CALLERS)))
            for task in asked:
                task.cancel()
            await asyncio.wait(asked)
            assert all(task.cancelled() for task in asked)
            later = [asyncio.create_task(cache.stat(digest_of(number))) for number in reversed(CALLERS)]
            await until(lambda: sum((cache.info()["in_flight"], cache.info()["waiting"])) >= len(CALLERS))
        assert_same(await asyncio.gather(*later), [globally(number) for number in reversed(CALLERS)])
        await put(own_server.url, CALLERS, generation=2)
        answers = await asyncio.gather(*(repository.stat(digest_of(number)) for number in CALLERS))
        assert_same(answers, [scoped(number, generation=2) for number in CALLERS])
        assert cache.info()["in_flight"] == cache.info()["waiting"] == cache.info()["reconnects"] == 0


@pytest.mark.whole_machine
@pytest.mark.parametrize("max_in_flight", [64, pytest.param(100_000, marks=pytest.mark.slow)])
async def test_a_waiting_caller_costs_kilobytes_and_leaks_none(own_server, max_in_flight):
    """All that he costs: his task, his coroutines, his request, and the exception that he gets."""
    digests = [digest_of(number) for number in CALLERS]
    async with provider(own_server.url, timeout=TIMEOUT, max_in_flight=max_in_flight) as cache:
        repository = cache.repository_scoped(NAME)
        assert await repository.stat_many(digests[:1]) == {}
        gc.collect()
        tracemalloc.start()
        try:
            with stopped(own_server):
                asked = [asyncio.create_task(repository.stat(digest)) for digest in digests]
                outcomes = await asyncio.gather(*asked, return_exceptions=True)
            assert {type(outcome) for outcome in outcomes} == {CacheUnavailableError}
            _, peak = tracemalloc.get_traced_memory()
            del asked, outcomes
            await until(lambda: cache.info()["in_flight"] == 0)
            await asyncio.sleep(0)  # this tick's own callback may hold what was awaited
            gc.collect()
            left, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak / len(CALLERS) < 4 * 1024
        assert left / len(CALLERS) < 128  # asyncio's own set of all tasks, which it leaves as large as it was
