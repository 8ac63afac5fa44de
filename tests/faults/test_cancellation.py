"""Callers cancelled at any moment: nobody gets an answer that was meant for somebody else."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress

import pytest

from aioblobcache import BlobUnknownError, CacheUnavailableError, RedisBlobDescriptorCache
from aioblobcache.conformance import descriptor_of
from tests.support.servers import stopped

pytestmark = pytest.mark.anyio

BLOBS = [descriptor_of("x" * size) for size in range(100)]
CALLERS, CALLS = 40, 50


async def test_randomly_cancelled_callers_do_not_disturb_others(client, server):
    """The fault class of CVE-2023-28858: a reply left over from a cancelled call."""
    chance = random.Random(7)
    answered = cancelled = 0

    async def caller(repository):
        nonlocal answered, cancelled
        for _ in range(CALLS):
            blob = chance.choice(BLOBS)
            stat = asyncio.create_task(repository.stat(blob.digest))
            if chance.random() < 1 / 3:
                for _ in range(chance.randrange(6)):
                    await asyncio.sleep(0)
                cancelled += stat.cancel()
            try:
                assert await stat == blob
                answered += 1
            except asyncio.CancelledError:
                pass

    async with RedisBlobDescriptorCache.from_url(server.url, timeout=30.0) as cache:
        repository = cache.repository_scoped("foo/bar")
        for blob in BLOBS:
            await repository.set_descriptor(blob.digest, blob)
        await asyncio.gather(*(caller(repository) for _ in range(CALLERS)))
        assert cancelled > CALLERS * CALLS / 10
        assert answered > CALLERS * CALLS / 2
        assert await repository.stat_many([blob.digest for blob in BLOBS]) == {blob.digest: blob for blob in BLOBS}


async def test_timeouts_at_random_moments_do_not_disturb_others(own_server):
    """The server stands still again and again for longer than the timeout, so that some run out under way."""
    async with RedisBlobDescriptorCache.from_url(own_server.url, timeout=30.0) as patient:
        for blob in BLOBS:
            await patient.set_descriptor(blob.digest, blob)
    answered = failed = 0
    disturbed = False
    async with RedisBlobDescriptorCache.from_url(own_server.url, timeout=0.01) as cache:

        async def caller(seed):
            nonlocal answered, failed
            chance = random.Random(seed)
            while not (disturbed and answered and failed):
                blob = chance.choice(BLOBS)
                try:
                    assert await cache.stat(blob.digest) == blob
                except CacheUnavailableError:
                    failed += 1
                    await asyncio.sleep(0.001)
                else:
                    answered += 1

        async with asyncio.TaskGroup() as callers:
            for seed in range(CALLERS):
                callers.create_task(caller(seed))
            for _ in range(20):
                with stopped(own_server):
                    await asyncio.sleep(0.02)
                await asyncio.sleep(0.02)
            disturbed = True


async def test_a_cancelled_write_leaves_the_provider_usable(client, server):
    async with RedisBlobDescriptorCache.from_url(server.url, timeout=30.0) as cache:
        for steps in range(25):
            for write in (cache.set_descriptor(BLOBS[5].digest, BLOBS[5]), cache.clear(BLOBS[5].digest)):
                task = asyncio.create_task(write)
                for _ in range(steps):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            with suppress(BlobUnknownError):
                assert await cache.stat(BLOBS[5].digest) == BLOBS[5]
        await cache.set_descriptor(BLOBS[5].digest, BLOBS[5])
        assert await cache.stat(BLOBS[5].digest) == BLOBS[5]
        await cache.clear(BLOBS[5].digest)
        with pytest.raises(BlobUnknownError):
            await cache.stat(BLOBS[5].digest)
        assert cache.info()["reconnects"] == 0
