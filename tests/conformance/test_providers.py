"""The conformance suite on every provider of this library."""

from __future__ import annotations

import pytest

from aioblobcache import MemoryBlobDescriptorCache
from aioblobcache.conformance import GuardedCacheConformance


class TestMemory(GuardedCacheConformance):
    @pytest.fixture
    async def provider(self):
        async with MemoryBlobDescriptorCache() as provider:
            yield provider


class TestRedis(GuardedCacheConformance):
    """On Valkey, and on Redis 7.0."""

    @pytest.fixture
    async def provider(self, cache):
        return cache
