"""All that a provider does in asyncio's debug mode, which tells of callbacks that hold up the event loop, of exceptions
that nobody retrieved, of coroutines never awaited and of transports never closed."""

from __future__ import annotations

import asyncio
import gc
import math
import re

import pytest
from redis.asyncio import Redis

from aioblobcache import BlobUnknownError, CacheUnavailableError
from tests.support.lateness import LoopTime
from tests.support.numbered_blobs import NAME, assert_same, digest_of, globally, put, scoped
from tests.support.providers import provider, until_it_answers
from tests.support.servers import stopped
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

# In debug mode asyncio takes some 50 to 150 microseconds to wake a caller, and one read may bring the replies to all:
# so many callers that the limit is several times what asyncio itself takes.
CALLERS = range(200)

# A callback is slow that takes so long of the time that the process had.
SLOW_SECONDS = 0.05
TOOK = re.compile(r"took ([0-9.]+) seconds")


async def tasks_of(calls):
    """Tasks, a few in each tick: in debug mode asyncio takes long to make one."""
    tasks = []
    for number, call in enumerate(calls):
        tasks.append(asyncio.create_task(call))
        if number % 50 == 49:
            await asyncio.sleep(0)
    return tasks


async def outcomes_of(tasks):
    """One by one: a ``gather`` of them would itself be a callback that takes long."""
    outcomes = []
    for task in tasks:
        try:
            outcomes.append(await task)
        except (asyncio.CancelledError, BlobUnknownError, CacheUnavailableError) as error:
            outcomes.append(type(error))
    return outcomes


async def all_at_once(cache, server, calls):
    """Tasks of as many calls as there are callers, all in flight at one time."""
    with stopped(server):
        tasks = await tasks_of(calls)
        await until(lambda: cache.info()["in_flight"] == len(CALLERS))
    return tasks


async def use(server):
    digests = [digest_of(number) for number in CALLERS]
    async with provider(server.url, timeout=60.0) as cache:
        repository = cache.repository_scoped(NAME)
        links = [scoped(number) for number in CALLERS]

        sets = await tasks_of(repository.set_descriptor(link.digest, link) for link in links)
        assert_same(await outcomes_of(sets), [None] * len(CALLERS))
        assert await cache.stat_many(digests) == dict(zip(digests, links, strict=True))
        assert await repository.stat_many(digests) == dict(zip(digests, links, strict=True))

        calls = [(cache, repository)[number % 2].stat(digest) for number, digest in enumerate(digests)]
        assert_same(await outcomes_of(await all_at_once(cache, server, calls)), links)
        calls = (repository.stat_many(digests[:5]) for _ in digests)
        found = dict(zip(digests[:5], links[:5], strict=True))
        assert_same(await outcomes_of(await all_at_once(cache, server, calls)), [found] * len(CALLERS))

        stats = await all_at_once(cache, server, (repository.stat(digest) for digest in digests))
        for number, task in enumerate(stats[::3]):
            task.cancel()
            if number % 50 == 49:
                await asyncio.sleep(0)
        expected = [
            asyncio.CancelledError if task.cancelling() else link for task, link in zip(stats, links, strict=True)
        ]
        assert expected.count(asyncio.CancelledError) > len(CALLERS) // 4
        assert_same(await outcomes_of(stats), expected)

        calls = (repository.clear(digest) for digest in digests)
        assert_same(await outcomes_of(await all_at_once(cache, server, calls)), [None] * len(CALLERS))
        calls = (repository.stat(digest) for digest in digests)
        assert_same(await outcomes_of(await all_at_once(cache, server, calls)), [BlobUnknownError] * len(CALLERS))

        other = range(5_000, 5_000 + len(CALLERS))
        tokens = await outcomes_of(await tasks_of(repository.take_token(digest_of(number)) for number in other))
        fills = await tasks_of(
            repository.fill(digest_of(number), scoped(number), token)
            for number, token in zip(other, tokens, strict=True)
        )
        assert_same(await outcomes_of(fills), [True] * len(CALLERS))

        async with Redis.from_url(server.url) as client:
            await client.client_kill_filter(_type="normal", skipme=True)
            await until(lambda: cache.info()["reconnects"] == 1)
            await until_it_answers(repository, scoped(other[0]))

        with stopped(server):
            stats = await tasks_of(repository.stat(digest) for digest in digests)
            await until(lambda: cache.info()["in_flight"] == len(CALLERS))
            await asyncio.to_thread(server.stop)
            assert_same(await outcomes_of(stats), [CacheUnavailableError] * len(CALLERS))
        await asyncio.to_thread(server.start)
        await put(server.url, CALLERS)
        await until_it_answers(repository, scoped(0))
        with stopped(server):
            left = await tasks_of(repository.stat(digest) for digest in digests)
            await until(lambda: cache.info()["in_flight"] == len(CALLERS))
    assert_same(await outcomes_of(left), [CacheUnavailableError] * len(CALLERS))

    async with provider(server.url, timeout=60.0, max_in_flight=1) as cache:
        await until_it_answers(cache.repository_scoped(NAME), scoped(0))
        with stopped(server):  # so that questions are not sent, and those who ask the same share one
            calls = [cache.stat(digests[0]), *(cache.stat(digests[1]) for _ in CALLERS)]
            same = await tasks_of(calls)
            await until(lambda: cache.info()["in_flight"] == 1)
        assert_same(await outcomes_of(same), [globally(0), *[globally(1)] * len(CALLERS)])


async def use_in_debug_mode(server, caplog):
    """What asyncio said: how long callbacks took, and whatever else it warns of."""
    caplog.clear()
    async with Redis.from_url(server.url) as client:
        await client.flushall()  # what an attempt before this one has left
    loop = asyncio.get_running_loop()
    # A collection takes longer, the more there is in the process: it must not count for the callback it falls into.
    gc.collect()
    gc.disable()
    loop.slow_callback_duration = SLOW_SECONDS
    loop.set_debug(True)
    clock = LoopTime()
    try:
        async with clock:
            await use(server)
    finally:
        loop.slow_callback_duration = math.inf
        gc.enable()
    await asyncio.sleep(0)
    gc.collect()  # what was not retrieved, awaited or closed is told of when it is freed
    loop.set_debug(False)
    await asyncio.sleep(0)  # this callback has collected garbage, and ends while nobody looks at how long it took
    said = [record.getMessage() for record in caplog.records if record.name == "asyncio"]
    callbacks = {message: TOOK.search(message) for message in said if message.startswith("Executing")}
    slow = [message for message, took in callbacks.items() if float(took[1]) - clock.lost >= SLOW_SECONDS]
    return slow, [message for message in said if message not in callbacks]


async def test_asyncio_debug_mode_reports_nothing(own_server, caplog):
    for _ in range(3):  # on a shared machine any callback may take long, but not the same usage three times
        slow, other = await use_in_debug_mode(own_server, caplog)
        assert other == []
        if not slow:
            return
    assert slow == []
