"""Providers on real servers, and what their calls come to while a connection is damaged or down."""

from __future__ import annotations

import asyncio

from aioblobcache import CacheUnavailableError, RedisBlobDescriptorCache
from aioblobcache.conformance import descriptor_of

NAME = "foo/bar"
SOME = [descriptor_of(f"blob {number}") for number in range(300)]
FIRST, SECOND, THIRD = SOME[:3]


def provider(url, **options):
    return RedisBlobDescriptorCache.from_url(url, **{"timeout": 10.0, **options})


async def fill(url, descriptors):
    async with provider(url) as cache:
        repository = cache.repository_scoped(NAME)
        await asyncio.gather(*(repository.set_descriptor(one.digest, one) for one in descriptors))


async def until_it_answers(service, descriptor):
    """Ask until there is an answer: while a connection is down calls fail at once."""
    while True:
        try:
            assert await service.stat(descriptor.digest) == descriptor
        except CacheUnavailableError:
            await asyncio.sleep(0.01)
        else:
            return


async def until_set(service, descriptor):
    while True:
        try:
            return await service.set_descriptor(descriptor.digest, descriptor)
        except CacheUnavailableError:
            await asyncio.sleep(0.01)


async def outcomes_of(service, descriptors):
    return await asyncio.gather(*(service.stat(one.digest) for one in descriptors), return_exceptions=True)


def assert_right_or_unavailable(outcomes, descriptors):
    for outcome, descriptor in zip(outcomes, descriptors, strict=True):
        assert isinstance(outcome, CacheUnavailableError) or outcome == descriptor
