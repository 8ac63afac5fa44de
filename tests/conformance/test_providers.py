"""The conformance suite on every provider of this library."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from aioblobcache import MemoryBlobDescriptorCache, RedisBlobDescriptorCache
from aioblobcache.conformance import GuardedCacheConformance
from tests.support.waiting import until


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


class TestRedisWithNearCache(GuardedCacheConformance):
    """Over several lanes: a process sees what it has written, whichever lane brings an answer."""

    @pytest.fixture
    async def provider(self, client, server):
        options = {"timeout": 10.0, "lanes": 3, "near_cache": 100}
        async with RedisBlobDescriptorCache.from_url(server.url, **options) as provider:
            await until(lambda: provider.info()["near_cache"]["why_off"] is None)
            yield provider


class TestCluster(GuardedCacheConformance):
    """On three nodes, which no entry lies on one of, unless by chance."""

    @pytest.fixture
    async def provider(self, cluster):
        async with RedisBlobDescriptorCache.from_url(cluster.url, timeout=10.0) as provider:
            yield provider


class TestClusterWithNearCache(GuardedCacheConformance):
    @pytest.fixture
    async def provider(self, valkey_cluster):
        valkey_cluster.flush()
        async with RedisBlobDescriptorCache.from_url(valkey_cluster.url, timeout=10.0, near_cache=100) as provider:
            await until(lambda: provider.info()["near_cache"]["why_off"] is None)
            yield provider


class TestSentinel(GuardedCacheConformance):
    @pytest.fixture
    async def provider(self, sentinels):
        async with RedisBlobDescriptorCache.from_url(sentinels.url, timeout=10.0) as provider:
            async with Redis(port=sentinels.master_port()) as client:
                await client.flushall()
            yield provider
