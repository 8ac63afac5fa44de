"""A measurement counts what the server counts too, reads only, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import time

import attrs
import pytest
from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster

from aioblobcache import CacheUnavailableError, ConfigurationError
from aioblobcache.conformance import descriptor_of
from aioblobcache.maintenance import bench as bench_module
from aioblobcache.maintenance.bench import Measured, WrongAnswerError, measure
from aioblobcache.maintenance.callers import NOBODYS, ask_pipeline, ask_repository
from aioblobcache.redis.client import client_from_url, close_client
from aioblobcache.redis.keys import membership_key
from tests.support.internals import set_limits
from tests.support.one_server import on_both_servers
from tests.support.ports import free_port
from tests.support.servers import REDIS, RedisServer, running, stopped
from tests.support.waiting import until_server_says

pytestmark = pytest.mark.anyio

PASSWORD = "s3cr3t-pa55"
SHORT = 0.2
FEW = 8


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """Give a measurement more time to connect: the machine may be busy."""
    set_limits(monkeypatch, bench_module, TIMEOUT=20.0)


@pytest.fixture
async def measured(client, server):
    """The client of a program that has something measured."""
    measured = client_from_url(server.url)
    yield measured
    await close_client(measured)


async def connections(client):
    return len(await client.client_list())


async def until_connections_are(client, count):
    async def are():
        return await connections(client) == count

    await until_server_says(are)


async def calls(client):
    """How often each command has been called."""
    return {name: told["calls"] for name, told in (await client.info("commandstats")).items()}


@on_both_servers
async def test_measured_questions_match_the_server_counters(client, measured):
    await client.config_resetstat()
    result = await measure(measured, seconds=SHORT, callers=FEW)
    assert (await calls(client))["cmdstat_sismember"] == result.questions
    assert result.callers == FEW
    assert 0 < result.p50 <= result.p99
    assert result.alone > 1
    assert result.together > result.pipeline > 1
    assert result.busy > 0


@on_both_servers
async def test_measurement_writes_nothing_and_closes_its_connections(client, measured, server):
    await client.set("other", "x")
    await client.script_flush()
    before = await connections(client)
    await client.config_resetstat()
    await measure(measured, seconds=SHORT, callers=FEW)
    asked = (await calls(client)).keys() - {"cmdstat_config|resetstat"}
    assert asked <= {f"cmdstat_{name}" for name in ("sismember", "hmget", "hget", "hello", "select", "info")} | {
        "cmdstat_client|list",
        "cmdstat_client|setinfo",
    }
    assert await client.dbsize() == 1
    assert (await client.info("memory"))["number_of_cached_scripts"] == 0
    await until_connections_are(client, before)


async def test_measurement_lasts_at_least_the_given_seconds(measured):
    """At least: how much longer depends on what else the machine does."""
    began = time.monotonic()
    await measure(measured, seconds=0.5, callers=FEW)
    assert time.monotonic() - began >= 0.5


@on_both_servers
async def test_measurement_works_with_a_decoding_client(client, server):
    async with Redis.from_url(server.url, decode_responses=True, protocol=3) as decoding:
        assert (await measure(decoding, seconds=SHORT, callers=FEW)).pipeline > 1


@on_both_servers
async def test_measurement_needs_only_read_commands(client, server):
    rules = ("-@all", "+sismember", "+hmget", "+hget", "+select", "~blobs::*", "~repository::*")
    await client.execute_command("ACL", "SETUSER", "registry", "reset", "on", f">{PASSWORD}", *rules)
    try:
        await client.execute_command("ACL", "LOG", "RESET")
        async with Redis.from_url(f"redis://registry:{PASSWORD}@127.0.0.1:{server.port}") as reading:
            await measure(reading, seconds=SHORT, callers=FEW)
        refused = {entry["object"] for entry in await client.acl_log()}
    finally:
        await client.acl_deluser("registry")
    assert refused <= {"client|setinfo"}  # by redis-py itself, which does not mind


async def test_cluster_measurement_has_no_pipeline_figure(cluster):
    async with RedisCluster(host="127.0.0.1", port=cluster.nodes[0].port) as client:
        result = await measure(client, seconds=SHORT, callers=FEW)
    assert result.pipeline is None
    assert result.together > 1
    for node in cluster.nodes:
        with cluster.client(node) as plain:
            assert plain.dbsize() == 0


async def test_sentinel_master_can_be_measured(sentinels):
    client = client_from_url(sentinels.url)
    assert (await measure(client, seconds=SHORT, callers=FEW)).pipeline > 1
    await close_client(client)


async def test_measurement_works_without_resp3(tmp_path):
    server = RedisServer(REDIS, tmp_path, "--rename-command", "HELLO", "")
    with running(server):
        async with Redis.from_url(server.url, protocol=2) as client:
            assert (await measure(client, seconds=SHORT, callers=FEW)).together > 1


@pytest.mark.parametrize("delay", [0.0, 0.005, 0.05, 0.2])
async def test_cancelled_measurement_closes_its_connections(client, measured, delay):
    """At any moment: while it connects, and by each of the ways to ask."""
    before = await connections(client)
    measuring = asyncio.create_task(measure(measured, seconds=60.0, callers=FEW))
    await asyncio.sleep(delay)
    measuring.cancel()
    with pytest.raises(asyncio.CancelledError):
        await measuring
    await until_connections_are(client, before)


async def test_measuring_an_unreachable_server_fails_without_secrets():
    async with Redis(port=free_port(), password=PASSWORD) as client:
        with pytest.raises(CacheUnavailableError) as caught:
            await measure(client, callers=FEW)
    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize("kind", ["valkey", REDIS])
async def test_server_killed_during_a_measurement_is_unavailable(tmp_path, kind):
    server = RedisServer(kind, tmp_path)
    with running(server):
        async with Redis(port=server.port) as client:
            measuring = asyncio.create_task(measure(client, seconds=60.0, callers=FEW))

            async def is_under_way():
                return (await calls(client)).get("cmdstat_sismember", 0) > 100

            await until_server_says(is_under_way)
            server.stop()
            with pytest.raises(CacheUnavailableError) as caught:
                await measuring
            assert caught.value.__cause__ is not None


async def test_hanging_server_ends_the_measurement(measured, server, monkeypatch):
    set_limits(monkeypatch, bench_module, TIMEOUT=0.2)
    with stopped(server):
        with pytest.raises(CacheUnavailableError, match="no answer in time"):
            await measure(measured, seconds=SHORT, callers=FEW)
        assert asyncio.current_task().cancelling() == 0


async def test_malformed_answer_fails_the_measurement(client, measured):
    await client.set(membership_key(NOBODYS), "of another type")
    with pytest.raises(WrongAnswerError, match="is malformed"):
        await measure(measured, seconds=SHORT, callers=FEW)


async def test_known_probe_blob_fails_the_measurement(client, cache):
    blob = descriptor_of("nobody's")
    repository = cache.repository_scoped(NOBODYS)
    await repository.set_descriptor(blob.digest, blob)
    for ask in (ask_repository(repository), ask_pipeline(client)):
        with pytest.raises(WrongAnswerError, match="the cache said"):
            await ask(blob.digest)


@pytest.mark.parametrize("kind", ["valkey", REDIS])
async def test_connection_limit_makes_a_measurement_unavailable(tmp_path, kind):
    server = RedisServer(kind, tmp_path, "--maxclients", "4")
    with running(server):
        client = client_from_url(server.url)
        with pytest.raises(CacheUnavailableError, match="ConnectionError"):
            await measure(client, seconds=SHORT, callers=FEW)
        await close_client(client)


@pytest.mark.parametrize("options", [{"seconds": 0}, {"seconds": "3"}, {"callers": 1}, {"callers": 2.5}])
async def test_invalid_measurement_options_are_refused(measured, options):
    with pytest.raises(ConfigurationError):
        await measure(measured, **options)


RESULT = Measured(
    callers=128,
    questions=1_000,
    p50=0.000123,
    p99=0.000304,
    alone=8_130.0,
    together=131_234.0,
    pipeline=8_723.0,
    busy=0.97,
)


def test_result_of_a_fast_server_in_words():
    assert RESULT.in_words() == [
        "One question alone takes 0.12 ms (p99 0.30 ms).",
        "With 128 callers this process asks 131,000 times a second: 15 times what redis-py's pipeline does (8,720).",
        "It kept 97% of a processor core busy with that: this process was the limit, and more of them ask more.",
    ]


def test_result_of_a_distant_cluster_in_words():
    result = attrs.evolve(RESULT, p50=0.0123, p99=0.1, together=95.5, pipeline=None, busy=0.4)
    assert result.in_words() == [
        "One question alone takes 12.30 ms (p99 100.00 ms).",
        "With 128 callers this process asks 96 times a second.",
        "It kept 40% of a processor core busy with that: else it waited for the server, the network or a free core.",
    ]


def test_ratio_below_ten_has_one_decimal():
    assert ": 1.8 times what" in attrs.evolve(RESULT, pipeline=72_000.0).in_words()[1]
