"""How the public names are used, as a type checker sees it. Checked, never run."""

from __future__ import annotations

from typing import assert_type

from aiohttp import web
from fastapi import FastAPI
from redis.asyncio import Redis
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Mount

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
from aioblobcache.contrib.aiohttp import REGISTRY, add_registry, cache_context
from aioblobcache.contrib.fastapi import Registry
from aioblobcache.contrib.opentelemetry import traced
from aioblobcache.contrib.prometheus import PrometheusObserver, sampled, timed
from aioblobcache.contrib.starlette import RegistryApp, cached_registry, lifespan
from aioblobcache.registry_api import Action, ForbiddenError
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


def applications_are_given_a_registry(registry: CachedRegistry) -> None:
    Starlette(routes=[Mount("/v2", RegistryApp(registry, authorize=may, deletes=True))], lifespan=lifespan(registry))
    FastAPI(lifespan=lifespan(registry, inner=lifespan(registry)))
    app = web.Application()
    app.cleanup_ctx.append(cache_context(registry))
    add_registry(app, registry, prefix="/v2", referrers=True)
    assert_type(app[REGISTRY], CachedRegistry)


async def may(request: Request, repository: str | None, action: Action) -> None:
    assert_type(cached_registry(request), CachedRegistry)
    raise ForbiddenError


async def handlers_depend_on_it(digest: str, registry: Registry) -> int:
    return (await registry.blobs("foo").stat(digest)).size


async def layers_are_providers(provider: RedisBlobDescriptorCache) -> None:
    metrics = PrometheusObserver()
    providers: list[GuardedCacheProvider] = [timed(traced(provider), metrics)]
    async with timed(provider, metrics), sampled(provider, metrics):
        del providers


async def what_is_wrong_is_said(service: BlobDescriptorService) -> None:
    await service.stat(5)  # type: ignore[arg-type]
    await service.set_descriptor("sha256:…", {"size": 1})  # type: ignore[arg-type]
    RedisBlobDescriptorCache.from_url("redis://", ttl="60")  # type: ignore[arg-type]
    RedisBlobDescriptorCache.from_url("redis://", no_such_option=1)  # type: ignore[call-arg]
    CachedBlobStatter(service, service)  # type: ignore[arg-type]
