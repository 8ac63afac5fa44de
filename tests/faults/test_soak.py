"""Long work with faults in between: memory and open descriptors do not grow. ``--soak-operations`` says how long."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import time
from itertools import count

import pytest
from redis.asyncio import Redis

from aioblobcache import BlobUnknownError, CacheUnavailableError, RedisBlobDescriptorCache
from aioblobcache.conformance import descriptor_of
from tests.support.waiting import until, until_server_says

pytestmark = pytest.mark.anyio

NAME = "foo/bar"
BLOBS = [descriptor_of(f"{number}") for number in range(2_000)]
CALLERS = 64
SHORT_OPERATIONS = 40_000


def unrecorded(**measured):
    """Take the figures of a short form, which are not those of the page."""


# What the allocator may keep of a peak, in bytes.
SLACK = 4 * 1024 * 1024


def resident():
    gc.collect()
    with open(f"/proc/{os.getpid()}/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def descriptors():
    return len(os.listdir(f"/proc/{os.getpid()}/fd"))


async def work(repository, operations, draw):
    """Ask, set and clear; one in fifty callers is cancelled."""
    calls = (repository.stat, repository.clear, repository.take_token, None)
    for _ in range(operations):
        blob = draw.choice(BLOBS)
        [call] = draw.choices(calls, (96, 1, 1, 2))
        begun = repository.set_descriptor(blob.digest, blob) if call is None else call(blob.digest)
        try:
            if draw.random() < 0.02:
                async with asyncio.timeout(draw.random() / 1000):
                    await begun
            else:
                await begun
        except (BlobUnknownError, CacheUnavailableError, TimeoutError):
            await asyncio.sleep(0)


async def disturb(client, pause):
    """Kill all other connections again and again, and empty the database now and then."""
    async with client:
        for number in count():
            await asyncio.sleep(pause)
            await client.client_kill_filter(_type="normal", skipme=True)
            if number % 4 == 0:
                await client.flushall()


async def is_open(cache):
    return cache.info()["lanes_open"] == 1


@pytest.mark.whole_machine
@pytest.mark.parametrize("near_cache", [0, 500])
async def test_short_work_with_faults_leaks_no_memory_or_descriptors(own_server, near_cache):
    await work_with_faults(own_server, unrecorded, near_cache, SHORT_OPERATIONS, pause=0.1)


@pytest.mark.slow
@pytest.mark.whole_machine
@pytest.mark.timeout(0)
@pytest.mark.parametrize("near_cache", [0, 500])
async def test_long_work_with_faults_leaks_no_memory_or_descriptors(own_server, request, figures, near_cache):
    await work_with_faults(
        own_server, figures, near_cache, request.config.getoption("--soak-operations") // 2, pause=0.5
    )


async def work_with_faults(own_server, figures, near_cache, operations, *, pause):
    draw = random.Random(near_cache)
    async with RedisBlobDescriptorCache.from_url(own_server.url, timeout=2.0, near_cache=near_cache) as cache:
        repository = cache.repository_scoped(NAME)
        disturbing = Redis.from_url(own_server.url)
        await disturbing.ping()  # its connection is open before descriptors are counted
        disturber = asyncio.create_task(disturb(disturbing, pause))
        began = time.monotonic()
        each = operations // 4 // CALLERS
        await asyncio.gather(*(work(repository, each, draw) for _ in range(CALLERS)))  # what is made once is made
        await until_server_says(lambda: is_open(cache))
        memory, opened = resident(), descriptors()
        await asyncio.gather(*(work(repository, 3 * each, draw) for _ in range(CALLERS)))
        await until_server_says(lambda: is_open(cache))
        disturber.cancel()
        await asyncio.wait([disturber])
        grown = resident() - memory
        seconds = time.monotonic() - began
        figures(
            operations=operations,
            seconds=seconds,
            grown_bytes=grown,
            descriptors_more=descriptors() - opened,
            reconnects=cache.info()["reconnects"],
        )
        assert grown < SLACK
        assert descriptors() <= opened
        # Replies to cancelled callers and heartbeats may still be under way.
        await until(lambda: cache.info()["in_flight"] == cache.info()["waiting"] == 0)
        assert cache.info()["reconnects"] > 0
