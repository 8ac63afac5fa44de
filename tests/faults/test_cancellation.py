"""Callers cancelled at any moment: nobody gets an answer that was meant for somebody else."""

from __future__ import annotations

import asyncio
import random

import pytest

from aioblobcache import BlobUnknownError, CacheUnavailableError, RedisBlobDescriptorCache
from aioblobcache.conformance import descriptor_of

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


async def test_timeouts_at_random_moments_do_not_disturb_others(client, server):
    """So short that some run out while the reply is under way."""
    async with RedisBlobDescriptorCache.from_url(server.url, timeout=30.0) as patient:
        for blob in BLOBS:
            await patient.set_descriptor(blob.digest, blob)
    async with RedisBlobDescriptorCache.from_url(server.url, timeout=0.002) as cache:

        async def caller(seed):
            chance = random.Random(seed)
            for _ in range(CALLS):
                blob = chance.choice(BLOBS)
                try:
                    assert await cache.stat(blob.digest) == blob
                except CacheUnavailableError:
                    continue

        await asyncio.gather(*(caller(seed) for seed in range(CALLERS)))


async def test_a_cancelled_write_leaves_the_provider_usable(client, server):
    async with RedisBlobDescriptorCache.from_url(server.url, timeout=30.0) as cache:
        for steps in range(25):
            for write in (cache.set_descriptor(BLOBS[5].digest, BLOBS[5]), cache.clear(BLOBS[5].digest)):
                task = asyncio.create_task(write)
                for _ in range(steps):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            try:
                assert await cache.stat(BLOBS[5].digest) == BLOBS[5]
            except BlobUnknownError:
                continue
