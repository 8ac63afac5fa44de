from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from obstore.store import LocalStore
from redis.asyncio import Redis

from aioblobcache import RedisBlobDescriptorCache
from aioblobcache.cli.sample import Image, build_image
from aioblobcache.redis.provider import RedisRepositoryCache
from aioblobcache.storage import RegistryStorage
from tests.support.docker_registry import NAME, TAG, Registry, leaves_membership
from tests.support.servers import REDIS, VALKEY, RedisServer, running


@pytest.fixture(scope="module", params=[VALKEY, REDIS])
def server(request: pytest.FixtureRequest) -> RedisServer:
    """Each of the two servers in turn, one module at a time."""
    return request.getfixturevalue(f"{request.param}_server")


@pytest.fixture(scope="module")
def registry_process(server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """One registry for the tests of a module."""
    registry = Registry(tmp_path_factory.mktemp("registry"), server.port)
    with running(registry):
        yield registry


@pytest.fixture
def registry(registry_process: Registry, client: Redis, tmp_path: Path) -> Registry:
    """An empty registry. It shares the server, which ``client`` has emptied, with this library."""
    registry_process.reset(tmp_path)
    return registry_process


@pytest.fixture
async def delete_leaves_membership(registry: Registry, client: Redis, tmp_path: Path) -> bool:
    """Whether this registry's DELETE leaves the membership; the registry is empty again afterwards."""
    left = await leaves_membership(registry, client)
    await client.flushall()
    registry.reset(tmp_path)
    return left


@pytest.fixture
async def image(registry: Registry) -> Image:
    """An image that the registry holds."""
    image = build_image([{"etc/motd": "welcome\n"}, {"bin/start": "#!/bin/sh\nexit 0\n"}])
    await registry.push(image, NAME, TAG)
    return image


@pytest.fixture
def repository(cache: RedisBlobDescriptorCache) -> RedisRepositoryCache:
    """What is cached of the repository that the image was pushed to."""
    return cache.repository_scoped(NAME)


@pytest.fixture
def storage(registry: Registry) -> RegistryStorage:
    """The registry's storage."""
    return RegistryStorage(LocalStore(registry.root, mkdir=True))
