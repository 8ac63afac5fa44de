"""A master that dies under its callers, and another that Sentinels make of a replica."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

import pytest
from redis.asyncio import Redis

from aioblobcache import BlobUnknownError, CacheUnavailableError, RedisBlobDescriptorCache
from aioblobcache.conformance import descriptor_of, digest_of
from tests.support.groups import Sentinels, running_sentinels
from tests.support.internals import internals
from tests.support.lateness import LoopTime
from tests.support.load import Load, running_load
from tests.support.servers import VALKEY
from tests.support.waiting import until, until_replicated, until_server_says

pytestmark = pytest.mark.anyio

NAME = "foo/bar"
CALLERS = 64

# Writes that a primary has confirmed less than this before its death may not have reached a replica. In seconds.
REPLICATION_LAG = 1.0


@pytest.fixture
def group(tmp_path):
    group = Sentinels(VALKEY, tmp_path)
    with running_sentinels(group):
        yield group


async def switched(sentinel, service):
    """When a Sentinel announces another master."""
    async with Redis(port=sentinel.port) as client, client.pubsub() as pubsub:
        await pubsub.subscribe("+switch-master")
        async for message in pubsub.listen():
            if message["type"] == "message" and message["data"].split()[0] == service.encode():
                return time.monotonic()
    raise AssertionError("unreachable")


async def clear_in_turn(repository, blobs, cleared):
    """Clear one blob after the other, and note when each was cleared."""
    for blob in blobs:
        with suppress(BlobUnknownError, CacheUnavailableError):
            await repository.clear(blob.digest)
            cleared[blob.digest] = time.monotonic()
        await asyncio.sleep(0.002)


@pytest.mark.whole_machine
async def test_a_killed_master_is_replaced_soon_after_the_switch(group, figures):
    cleared = {}  # when, by digest
    async with LoopTime() as clock, RedisBlobDescriptorCache.from_url(group.url, timeout=0.25) as cache:
        repository = cache.repository_scoped(NAME)
        blobs = [descriptor_of(f"{number}") for number in range(4_000)]
        await until_server_says(lambda: answers(repository))
        await put(group.url, blobs)
        await until_replicated(group.master.port, 2)
        load = Load([(repository, blobs[0])])
        clearing = asyncio.create_task(clear_in_turn(repository, blobs[1:], cleared))
        announced = [asyncio.create_task(switched(sentinel, group.service)) for sentinel in group.sentinels]
        async with running_load(load, callers=CALLERS):
            await until(lambda: len(cleared) > 100)
            lost = clock.lost
            killed = time.monotonic()
            await asyncio.to_thread(group.master.stop)
            done, _ = await asyncio.wait(announced, return_when=asyncio.FIRST_COMPLETED)
            switch = min(task.result() for task in done)
            await until(lambda: load.answered_last > switch)
            served = load.answered_last
            await until_server_says(lambda: writes(repository, descriptor_of("new")))
            written = time.monotonic()
            lost = clock.lost - lost
        for task in (clearing, *announced):
            task.cancel()
        await asyncio.gather(clearing, *announced, return_exceptions=True)
        back = [digest for digest in cleared if digest in await repository.stat_many([digest])]

    figures(
        switch_after_the_kill=switch - killed,
        served_after_the_switch=served - switch,
        written_after_the_switch=written - switch,
        longest_call=load.longest,
        clears=len(cleared),
        clears_lost_by_replication=len(back),
    )
    assert load.wrong == 0
    # The servers have as little of the processors as the event loop has.
    assert served - switch < 2.0 + 2 * lost
    assert written - switch < 2.0 + 2 * lost
    # Asynchronous replication may lose what was confirmed last, and nothing else may come back.
    assert all(killed - cleared[digest] < REPLICATION_LAG + 2 * clock.lost for digest in back)


async def put(url, blobs):
    """In as much time as a busy machine needs."""
    async with RedisBlobDescriptorCache.from_url(url, timeout=30.0) as cache:
        repository = cache.repository_scoped(NAME)
        for start in range(0, len(blobs), 200):
            await asyncio.gather(*(repository.set_descriptor(b.digest, b) for b in blobs[start : start + 200]))


async def answers(repository):
    try:
        await repository.stat(digest_of("x"))
    except BlobUnknownError:
        return True
    except CacheUnavailableError:
        return False
    return True


async def test_a_live_master_is_abandoned_after_failover(group, figures):
    """A failover that an operator asks for: the old master goes on as a replica, and answers."""
    blob = descriptor_of("x")
    async with (
        RedisBlobDescriptorCache.from_url(group.url, timeout=30.0) as elsewhere,
        RedisBlobDescriptorCache.from_url(group.url, timeout=0.25, near_cache=100) as cache,
    ):
        repository = cache.repository_scoped(NAME)
        await elsewhere.repository_scoped(NAME).set_descriptor(blob.digest, blob)
        await until_server_says(lambda: served_near(repository, blob))
        announced = asyncio.create_task(switched(group.sentinels[0], group.service))
        await asyncio.sleep(0.1)
        async with Redis(port=group.sentinels[0].port) as sentinel:
            await sentinel.execute_command("SENTINEL", "FAILOVER", group.service)
        switch = await announced
        await until_server_says(lambda: writes(repository, blob))
        figures(written_after_the_switch=time.monotonic() - switch)
        lane = internals(cache).lane
        assert lane.peer[1] != group.master.port
        # The near cache is that of the new master: it keeps what that one says, and hears what is done there.
        await until_server_says(lambda: served_near(repository, blob))
        await elsewhere.repository_scoped(NAME).clear(blob.digest)
        await until(lambda: repository.peek(blob.digest) is None)
        with pytest.raises(BlobUnknownError):
            await elsewhere.repository_scoped(NAME).stat(blob.digest)


async def served_near(repository, blob):
    """Asked for, it is there, and stays in the process."""
    try:
        found = await repository.stat(blob.digest)
    except (BlobUnknownError, CacheUnavailableError):
        return False
    return found == repository.peek(blob.digest) == blob


async def writes(repository, blob):
    try:
        await repository.set_descriptor(blob.digest, blob)
    except CacheUnavailableError:
        return False
    return True


async def test_one_live_sentinel_is_enough(sentinels):
    stopped = sentinels.sentinels[:2]
    for sentinel in stopped:
        sentinel.stop()
    try:
        async with RedisBlobDescriptorCache.from_url(sentinels.url, timeout=5.0) as cache:
            await cache.set_descriptor(digest_of("x"), descriptor_of("x"))
            assert await cache.stat(digest_of("x")) == descriptor_of("x")
    finally:
        for sentinel in stopped:
            sentinel.start()
        sentinels.wait_until_watched()


async def test_a_replica_named_as_master_is_refused(sentinels):
    """Two Sentinels of which one was cut off would name different ones."""
    for replica in sentinels.replicas:
        async with Redis(port=replica.port) as client:
            assert (await client.role())[0] == b"slave"
    async with RedisBlobDescriptorCache.from_url(sentinels.url, timeout=1.0) as cache:
        pool = internals(cache).client.connection_pool

        async def discover(_service):
            return "127.0.0.1", sentinels.replicas[0].port

        pool.sentinel_manager.discover_master = discover
        with pytest.raises(CacheUnavailableError, match="no master"):
            await cache.stat(digest_of("x"))


async def test_closing_ends_the_sentinel_watch(sentinels):
    before = asyncio.all_tasks()
    async with Redis(port=sentinels.sentinels[0].port) as sentinel:
        others = await watchers(sentinel)

        async def is_watched():
            return bool(await watchers(sentinel) - others)

        async def is_left():
            return not await is_watched()

        async with RedisBlobDescriptorCache.from_url(sentinels.url, timeout=5.0) as cache:
            await cache.set_descriptor(digest_of("x"), descriptor_of("x"))
            await until_server_says(is_watched)
        assert asyncio.all_tasks() == before
        await until_server_says(is_left)  # the server learns of the end in its own time


async def watchers(sentinel):
    """Return the connections that have subscribed to what the Sentinel announces."""
    return {client["id"] for client in await sentinel.client_list(_type="pubsub")}
