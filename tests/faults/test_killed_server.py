"""A server killed with requests of every kind in flight, and started again."""

from __future__ import annotations

import asyncio
import gc

import pytest

from aioblobcache import CacheUnavailableError
from tests.support.lateness import LoopTime
from tests.support.numbered_blobs import NAME, assert_same, digest_of, put, scoped
from tests.support.providers import provider, until_it_answers
from tests.support.servers import stopped
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

FEW, MANY = range(500), range(3_000)  # blobs
TIMEOUT = 30.0


@pytest.fixture
async def lost():
    """What the event loop is told that nobody else was told: exceptions never retrieved, callbacks that failed."""
    told = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, context: told.append(context))
    yield told
    loop.set_exception_handler(None)


async def every_kind_of_call(service, blobs):
    """Of each kind as many as there are blobs, as coroutines."""
    tokens = await asyncio.gather(*(service.take_token(digest_of(number)) for number in blobs))
    for number, token in zip(blobs, tokens, strict=True):
        digest, descriptor = digest_of(number), scoped(number)
        yield service.stat(digest)
        yield service.stat_many([digest, digest_of(number + 1)])
        yield service.set_descriptor(digest, descriptor)
        yield service.clear(digest)
        yield service.take_token(digest)
        yield service.fill(digest, descriptor, token)


async def outcome_and_time(call):
    loop = asyncio.get_running_loop()
    called = loop.time()
    try:
        await call
    except CacheUnavailableError as error:
        return error, loop.time() - called
    return None, loop.time() - called


async def kill_and_start_again(server, max_in_flight, blobs):
    await put(server.url, blobs)
    async with LoopTime() as clock, provider(server.url, timeout=TIMEOUT, max_in_flight=max_in_flight) as cache:
        repository = cache.repository_scoped(NAME)
        calls = [call async for call in every_kind_of_call(repository, blobs)]
        with stopped(server):
            asked = [asyncio.create_task(outcome_and_time(call)) for call in calls]
            await until(lambda: cache.info()["in_flight"] == min(max_in_flight, len(asked)))
            assert cache.info()["waiting"] == max(0, len(asked) - max_in_flight)
            for task in asked[::5]:
                task.cancel()
            server.stop()
            await asyncio.wait(asked)
        assert sum(task.cancelled() for task in asked) == len(asked[::5])
        for outcome, seconds in (task.result() for task in asked if not task.cancelled()):
            assert isinstance(outcome, CacheUnavailableError)
            # By the end of the connection, and not of the time.
            assert seconds < TIMEOUT
            assert "no answer in time" not in str(outcome)
        assert cache.info()["in_flight"] == cache.info()["waiting"] == cache.info()["lanes_open"] == 0
        with pytest.raises(CacheUnavailableError):
            repository.stat(digest_of(0)).send(None)  # while there is no server: at once, without a tick
        await asyncio.to_thread(server.start)
        await put(server.url, blobs)
        started = clock.now()
        await until_it_answers(repository, scoped(0))
        assert clock.now() - started < 2.0
        answers = await asyncio.gather(*(repository.stat(digest_of(number)) for number in blobs))
        assert_same(answers, [scoped(number) for number in blobs])


@pytest.mark.parametrize(
    ("max_in_flight", "blobs"),
    [
        pytest.param(64, FEW, id="64-few"),
        pytest.param(64, MANY, id="64", marks=pytest.mark.slow),
        pytest.param(100_000, MANY, id="100000", marks=pytest.mark.slow),
    ],
)
async def test_a_killed_server_ends_every_call_and_recovers_soon(own_server, lost, max_in_flight, blobs):
    before = asyncio.all_tasks()
    await kill_and_start_again(own_server, max_in_flight, blobs)
    await asyncio.sleep(0)  # this tick's own callback may hold what was awaited
    gc.collect()  # of an exception that was never retrieved is told when it is freed
    assert asyncio.all_tasks() == before
    assert lost == []
