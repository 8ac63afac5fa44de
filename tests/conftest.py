from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from redis.asyncio import Redis

from aioblobcache import RedisBlobDescriptorCache
from tests.servers import REDIS, VALKEY, RedisServer, running


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def valkey_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(VALKEY, tmp_path_factory.mktemp("valkey"))
    with running(server):
        yield server


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(REDIS, tmp_path_factory.mktemp("redis"))
    with running(server):
        yield server


@pytest.fixture(params=[VALKEY, REDIS])
def server(request: pytest.FixtureRequest) -> RedisServer:
    """Each of the two servers in turn."""
    return request.getfixturevalue(f"{request.param}_server")


@pytest.fixture
async def client(server: RedisServer) -> AsyncIterator[Redis]:
    """A plain client to an emptied server: how a test looks at, or damages, what is there."""
    async with Redis.from_url(server.url) as client:
        await client.flushall()
        yield client


@pytest.fixture
async def cache(client: Redis, server: RedisServer) -> AsyncIterator[RedisBlobDescriptorCache]:
    """A provider on the emptied server. The suite's machine may be busy: it has time."""
    async with RedisBlobDescriptorCache.from_url(server.url, timeout=10.0) as cache:
        yield cache


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--coherence-seconds", type=float, default=10.0, help="how long near caches are tried, on each server"
    )
