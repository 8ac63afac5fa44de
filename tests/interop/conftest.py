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
from tests.support.docker_registry import NAME, TAG, Registry
from tests.support.servers import RedisServer, running


@pytest.fixture
def registry(server: RedisServer, client: Redis, tmp_path: Path) -> Iterator[Registry]:
    """An empty registry. It shares the server, which ``client`` has emptied, with this library."""
    registry = Registry(tmp_path, server.port)
    with running(registry):
        yield registry


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
