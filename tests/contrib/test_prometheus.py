"""What Prometheus is told, under which names."""

from __future__ import annotations

import math
import re

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from aioblobcache import BlobUnknownError, CachedRegistry, MemoryBlobDescriptorCache, RedisBlobDescriptorCache
from aioblobcache.contrib.prometheus import PrometheusObserver, sampled, timed
from aioblobcache.redis.keys import descriptor_key
from tests.support.ports import free_port
from tests.support.registry_content import LAYER, NAME, UNKNOWN
from tests.support.waiting import until

pytestmark = pytest.mark.anyio


@pytest.fixture
def collected():
    return CollectorRegistry()


def values(collected):
    """Every sample, by name and the operation it is of."""
    families = text_string_to_metric_families(generate_latest(collected).decode())
    return {
        (sample.name, sample.labels.get("operation")): sample.value
        for family in families
        for sample in family.samples
        if "le" not in sample.labels
    }


async def test_metrics_have_the_names_that_distribution_uses(client, server, storage, collected):
    metrics = PrometheusObserver(collected)
    cache = timed(RedisBlobDescriptorCache.from_url(server.url, timeout=10.0, observer=metrics), metrics)
    blobs = CachedRegistry(cache, storage, observer=metrics).blobs(NAME)
    async with cache:
        for _ in range(3):
            await blobs.stat(LAYER.digest)
        with pytest.raises(BlobUnknownError):
            await blobs.stat(UNKNOWN)
        await client.hset(descriptor_key(LAYER.digest), "size", "abc")
        await blobs.stat(LAYER.digest)
        await cache.stat(LAYER.digest)
    found = values(collected)
    assert found["registry_storage_cache_requests_total", None] == 5
    assert found["registry_storage_cache_hits_total", None] == 2
    assert found["registry_storage_cache_errors_total", None] == 0
    assert found["aioblobcache_corrupt_entries_total", None] == 1
    timed_ = {operation: count for (name, operation), count in found.items() if name.endswith("redis_seconds_count")}
    never = {"SetDescriptor": 0, "Clear": 0, "TakeToken": 0, "RepoClear": 0}  # they are there all the same
    assert timed_ == {"RepoStat": 5, "RepoTakeToken": 3, "RepoSetDescriptor": 2, "Stat": 1, **never}
    assert 0 < found["registry_storage_cache_redis_seconds_sum", "RepoStat"] < 10


async def test_unavailable_cache_counts_as_an_error(storage, collected):
    metrics = PrometheusObserver(collected)
    cache = RedisBlobDescriptorCache.from_url(f"redis://127.0.0.1:{free_port()}", observer=metrics)
    async with cache:
        await CachedRegistry(cache, storage, observer=metrics).blobs(NAME).stat(LAYER.digest)
    found = values(collected)
    assert found["registry_storage_cache_errors_total", None] == 1
    assert found["registry_storage_cache_requests_total", None] == 1


async def test_near_cache_hits_are_not_timed_as_redis(client, server, storage, collected):
    metrics = PrometheusObserver(collected)
    provider = RedisBlobDescriptorCache.from_url(server.url, timeout=10.0, near_cache=10, observer=metrics)
    cache = timed(provider, metrics)
    blobs = CachedRegistry(cache, storage, observer=metrics).blobs(NAME)
    async with cache:
        await until(lambda: provider.info()["near_cache"]["why_off"] is None)
        async with sampled(provider, metrics, every=0.01):
            await blobs.stat(LAYER.digest)
            while blobs.peek(LAYER.digest) is None:
                await blobs.stat(LAYER.digest)
            asked = values(collected)["registry_storage_cache_redis_seconds_count", "RepoStat"]
            hits = values(collected)["aioblobcache_near_hits_total", None]
            for _ in range(100):
                await blobs.stat(LAYER.digest)
            await until(lambda: values(collected)["aioblobcache_near_hits_total", None] >= hits + 100)
            found = values(collected)
            assert found["registry_storage_cache_redis_seconds_count", "RepoStat"] == asked
            assert found["aioblobcache_near_entries", None] == 1
            assert found["aioblobcache_lanes_open", None] == 1
            assert 0 <= found["aioblobcache_near_lease_age_seconds", None] < 10
            assert found["aioblobcache_in_flight", None] == 0


async def test_counters_never_decrease_when_a_provider_is_replaced(collected):
    metrics = PrometheusObserver(collected)
    for reconnects in (3, 5, 1):
        metrics.sample({"reconnects": reconnects, "near_cache": None, "lanes_open": 1, "in_flight": 0, "waiting": 0})
    assert values(collected)["aioblobcache_reconnects_total", None] == 6


async def test_fill_refused_by_a_guard_is_counted(client, server, storage, collected):
    metrics = PrometheusObserver(collected)
    async with RedisBlobDescriptorCache.from_url(server.url, timeout=10.0) as cache:
        blobs = CachedRegistry(cache, storage, observer=metrics).blobs(NAME)
        await blobs.stat(LAYER.digest)
        await cache.repository_scoped(NAME).clear(LAYER.digest)
        await blobs.stat(LAYER.digest)
    assert values(collected)["aioblobcache_fills_refused_total", None] == 1


async def test_timed_stat_counts_one_near_cache_miss(client, server, storage, collected):
    """Also where Redis is timed, and the near cache is looked into first."""
    metrics = PrometheusObserver(collected)
    provider = RedisBlobDescriptorCache.from_url(server.url, timeout=10.0, near_cache=10, observer=metrics)
    async with timed(provider, metrics) as cache:
        scoped = cache.repository_scoped(NAME)
        for _ in range(10):
            with pytest.raises(BlobUnknownError):
                await scoped.stat(UNKNOWN)
        assert provider.info()["near_cache"]["misses"] == 10


async def test_timed_wraps_any_provider_and_itself(storage, collected):
    metrics = PrometheusObserver(collected)
    async with timed(timed(MemoryBlobDescriptorCache(), metrics), metrics) as cache:
        assert cache.info() == {}
        await CachedRegistry(cache, storage).blobs(NAME).stat(LAYER.digest)


def test_buckets_separate_latencies_below_a_millisecond(collected):
    metrics = PrometheusObserver(collected)
    for seconds in (0.00004, 0.00012, 0.00018, 0.0004, 0.0009, 0.2):
        metrics.redis_seconds.labels("Stat").observe(seconds)
    text = generate_latest(collected).decode()
    counts = [float(count) for count in re.findall(r'seconds_bucket\{le="[^"]+",operation="Stat"\} (\S+)', text)]
    grown = [later - earlier for earlier, later in zip([0, *counts], counts, strict=False)]
    assert max(grown) == 1
    assert sum(grown) == 6


def test_lease_age_is_nan_without_a_lease():
    registry = CollectorRegistry()
    metrics = PrometheusObserver(registry)
    metrics.sample({"near_cache": {"lease_age": 0.2}})
    assert registry.get_sample_value("aioblobcache_near_lease_age_seconds") == 0.2
    metrics.sample({"near_cache": {"lease_age": None}})
    assert math.isnan(registry.get_sample_value("aioblobcache_near_lease_age_seconds"))
