from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from aioblobcache import RedisBlobDescriptorCache
from tests.support.groups import Cluster, Sentinels, running_cluster, running_sentinels
from tests.support.servers import REDIS, VALKEY, RedisServer, running

pytest_plugins = ["tests.support.figures", "tests.support.parallel"]


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


@pytest.fixture(scope="session")
def valkey_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = Cluster(VALKEY, tmp_path_factory.mktemp("valkey-cluster"))
    with running_cluster(cluster):
        yield cluster


@pytest.fixture(scope="session")
def redis_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = Cluster(REDIS, tmp_path_factory.mktemp("redis-cluster"))
    with running_cluster(cluster):
        yield cluster


@pytest.fixture(params=[VALKEY, REDIS])
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """Three primaries of each kind in turn, emptied; slots that a test moves are moved back."""
    cluster: Cluster = request.getfixturevalue(f"{request.param}_cluster")
    cluster.flush()
    yield cluster
    cluster.restore()


@pytest.fixture(scope="session")
def sentinels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sentinels]:
    """A master, two replicas and three Sentinels."""
    group = Sentinels(VALKEY, tmp_path_factory.mktemp("sentinels"))
    with running_sentinels(group):
        yield group


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
    parser.addoption("--soak-operations", type=int, default=400_000, help="how much is done before memory is looked at")
    parser.addoption("--stress-seconds", type=float, default=8.0, help="how long guards are tried on a real store")
    parser.addoption("--figures", type=Path, help="where to write what tests have measured, as JSON")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the seed of the order at the end as well: with -q the head of a run is left out."""
    if seed := config.getoption("randomly_seed", None):
        terminalreporter.write_line(f"order of this run: --randomly-seed={seed}")
