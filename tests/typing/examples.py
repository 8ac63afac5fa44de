"""How the public names are used, as a type checker sees it. Checked, never run."""

from __future__ import annotations

from typing import assert_type

from redis.asyncio import Redis

from aioblobcache import (
    BlobDescriptorCacheProvider,
    BlobDescriptorService,
    BlobStatter,
    CachedBlobStatter,
    CachedRegistry,
    Descriptor,
    Digest,
    GuardedCacheProvider,
    MemoryBlobDescriptorCache,
    Observer,
    RedisBlobDescriptorCache,
    connect,
)
from aioblobcache.storage import RegistryStorage


async def stat_returns_a_descriptor(service: BlobDescriptorService) -> None:
    assert_type(await service.stat("sha256:…"), Descriptor)
    assert_type((await service.stat(Digest("sha256:…"))).digest, Digest)


async def providers_are_context_managers(client: Redis) -> None:
    async with RedisBlobDescriptorCache(client, ttl=60, timeout=0.1) as given:
        assert_type(given, RedisBlobDescriptorCache)
    async with RedisBlobDescriptorCache.from_url("redis://", observer=Observer()) as own:
        assert_type(await own.repository_scoped("foo").stat_many(["sha256:…"]), dict[Digest, Descriptor])
    async with connect("memory://") as any_of_them:
        await any_of_them.clear("sha256:…")


def providers_satisfy_the_protocols(memory: MemoryBlobDescriptorCache, redis: RedisBlobDescriptorCache) -> None:
    providers: list[BlobDescriptorCacheProvider] = [memory, redis]
    guarded: list[GuardedCacheProvider] = [memory, redis, connect("memory://")]
    services: list[BlobDescriptorService] = [memory.repository_scoped("foo"), redis.repository_scoped("foo")]
    del providers, guarded, services


def peek_does_not_wait(cache: RedisBlobDescriptorCache, layers: CachedBlobStatter) -> None:
    assert_type(cache.repository_scoped("foo").peek("sha256:…"), Descriptor | None)
    assert_type(layers.peek(Digest("sha256:…")), Descriptor | None)


def storage_and_read_through_fit(cache: RedisBlobDescriptorCache, storage: RegistryStorage) -> None:
    registry = CachedRegistry(cache, storage)
    assert_type(registry.blobs("foo"), CachedBlobStatter)
    statters: list[BlobStatter] = [storage, storage.blobs("foo"), registry.manifests("foo")]
    services: list[BlobDescriptorService] = [registry.blobs("foo"), CachedBlobStatter(cache, storage)]
    del statters, services


async def what_is_wrong_is_said(service: BlobDescriptorService) -> None:
    await service.stat(5)  # type: ignore[arg-type]
    await service.set_descriptor("sha256:…", {"size": 1})  # type: ignore[arg-type]
    RedisBlobDescriptorCache.from_url("redis://", ttl="60")  # type: ignore[arg-type]
    RedisBlobDescriptorCache.from_url("redis://", no_such_option=1)  # type: ignore[call-arg]
    CachedBlobStatter(service, service)  # type: ignore[arg-type]
