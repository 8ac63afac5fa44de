"""The provider on real servers: what lies in Redis before and after, and what can go wrong there."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import BlockingConnectionPool, Redis

from aioblobcache import (
    BlobUnknownError,
    CacheUnavailableError,
    ConfigurationError,
    CorruptEntryError,
    Descriptor,
    Digest,
    LifecycleError,
    Observer,
    RedisBlobDescriptorCache,
)
from aioblobcache.conformance import JSON, OCTETS, descriptor_of, digest_of
from aioblobcache.descriptor import is_media_type
from aioblobcache.redis import keys
from tests.support.internals import idle_connections
from tests.support.servers import VALKEY, RedisServer, running
from tests.support.waiting import until_server_says

pytestmark = pytest.mark.anyio

NAME = "foo/bar"
DESCRIPTOR = descriptor_of("x")
DIGEST = DESCRIPTOR.digest
HASH = keys.descriptor_key(DIGEST)
SET = keys.membership_key(NAME)
OVERRIDE = keys.override_key(NAME, DIGEST)
GUARD = keys.descriptor_guard_key(DIGEST)


@pytest.fixture
def repository(cache):
    return cache.repository_scoped(NAME)


async def test_a_scoped_set_writes_the_keys_of_distribution(client, repository):
    await repository.set_descriptor(DIGEST, DESCRIPTOR)
    assert await client.hgetall(HASH) == {b"digest": DIGEST.encode(), b"size": b"1", b"mediatype": OCTETS.encode()}
    assert await client.smembers(SET) == {DIGEST.encode()}
    assert await client.hgetall(OVERRIDE) == {b"mediatype": OCTETS.encode()}
    assert await client.dbsize() == 3


async def test_entries_of_a_go_registry_are_read(client, cache, repository):
    """The commands that Distribution 2.8 sends, one by one."""
    await client.sadd(SET, DIGEST)
    await client.execute_command("HMSET", HASH, "digest", DIGEST, "size", 1)
    await client.hsetnx(HASH, "mediatype", OCTETS)
    await client.hset(OVERRIDE, "mediatype", JSON)
    assert await repository.stat(DIGEST) == Descriptor(DIGEST, 1, JSON)
    assert await cache.stat(DIGEST) == DESCRIPTOR


async def test_an_entry_without_size_is_a_miss(client, cache):
    await client.hset(HASH, mapping={"digest": DIGEST, "length": 1, "mediatype": JSON})
    with pytest.raises(BlobUnknownError):
        await cache.stat(DIGEST)
    await cache.set_descriptor(DIGEST, DESCRIPTOR)
    assert await cache.stat(DIGEST) == Descriptor(DIGEST, 1, JSON)


@pytest.mark.parametrize("gone", [[HASH], [SET], [OVERRIDE], [HASH, SET], [HASH, OVERRIDE], [SET, OVERRIDE]])
async def test_a_blob_without_any_key_is_unknown(client, repository, gone):
    await repository.set_descriptor(DIGEST, DESCRIPTOR)
    await client.delete(*gone)
    with pytest.raises(BlobUnknownError) as caught:
        await repository.stat(DIGEST)
    assert type(caught.value) is BlobUnknownError
    await repository.set_descriptor(DIGEST, DESCRIPTOR)
    assert await repository.stat(DIGEST) == DESCRIPTOR


async def test_a_global_clear_keeps_other_fields(client, cache):
    await cache.set_descriptor(DIGEST, DESCRIPTOR)
    await client.hset(HASH, mapping={"length": 5, "public": "yes"})
    await cache.clear(DIGEST)
    assert await client.hgetall(HASH) == {b"public": b"yes"}


async def test_a_scoped_clear_leaves_only_tombstones(client, repository):
    await repository.set_descriptor(DIGEST, DESCRIPTOR)
    await repository.clear(DIGEST)
    left = sorted(await client.keys("*"))
    assert left == sorted([GUARD, keys.membership_guard_key(NAME, DIGEST)])
    for key in left:
        assert (await client.get(key)).startswith(b"tombstone:")
        assert 50_000 < await client.pttl(key) <= 60_000
    assert await client.get(left[0]) == await client.get(left[1])


async def test_a_clear_of_a_nonmember_touches_its_guard_alone(client, cache, repository):
    await cache.set_descriptor(DIGEST, DESCRIPTOR)
    before = await client.hgetall(HASH)
    with pytest.raises(BlobUnknownError):
        await repository.clear(DIGEST)
    assert await client.hgetall(HASH) == before
    assert sorted(await client.keys("*")) == sorted([HASH, keys.membership_guard_key(NAME, DIGEST)])


async def test_a_token_stays_in_its_guard_until_the_fill(client, server):
    async with RedisBlobDescriptorCache.from_url(server.url, timeout=10.0, guard_ttl=7.0) as cache:
        assert cache.guard_ttl == 7.0
        token = await cache.take_token(DIGEST)
        assert await client.get(GUARD) == token.guards[0]
        assert 6_000 < await client.pttl(GUARD) <= 7_000
        assert await cache.fill(DIGEST, DESCRIPTOR, token)
        assert not await client.exists(GUARD)


async def test_a_scoped_fill_spends_its_own_guard_alone(client, repository):
    token = await repository.take_token(DIGEST)
    assert await repository.fill(DIGEST, DESCRIPTOR, token)
    assert not await client.exists(keys.membership_guard_key(NAME, DIGEST))
    assert await client.get(GUARD) == token.guards[1]


@pytest.mark.parametrize("loss", ["delete", "flushall", "expiry", "planted"])
async def test_a_lost_guard_permits_no_fill(client, cache, loss):
    token = await cache.take_token(DIGEST)
    if loss == "delete":
        await client.delete(GUARD)
    elif loss == "flushall":
        await client.flushall()
    elif loss == "expiry":
        await client.pexpireat(GUARD, 1)
    else:
        await client.set(GUARD, "planted")
    assert not await cache.fill(DIGEST, DESCRIPTOR, token)
    with pytest.raises(BlobUnknownError):
        await cache.stat(DIGEST)


async def test_a_guard_of_another_type_blocks_fills_but_no_clear(client, cache):
    await client.rpush(GUARD, "planted")
    token = await cache.take_token(DIGEST)
    assert not token.permits_fill
    assert not await cache.fill(DIGEST, DESCRIPTOR, token)
    await cache.set_descriptor(DIGEST, DESCRIPTOR)
    await cache.clear(DIGEST)
    assert (await client.get(GUARD)).startswith(b"tombstone:")


async def test_a_guard_replaced_by_another_type_fails_the_fill(client, cache):
    token = await cache.take_token(DIGEST)
    await client.delete(GUARD)
    await client.rpush(GUARD, "planted")
    with pytest.raises(CacheUnavailableError, match="WRONGTYPE"):
        await cache.fill(DIGEST, DESCRIPTOR, token)
    assert await client.keys("blobs::*") == []


# --- ttl -----------------------------------------------------------------------------------------


async def test_a_ttl_is_set_on_hashes_and_not_on_sets(client, server):
    async with RedisBlobDescriptorCache.from_url(server.url, timeout=10.0, ttl=500.5) as cache:
        await cache.repository_scoped(NAME).set_descriptor(DIGEST, DESCRIPTOR)
    assert 499_000 < await client.pttl(HASH) <= 500_500
    assert 499_000 < await client.pttl(OVERRIDE) <= 500_500
    assert await client.pttl(SET) == -1


async def test_sets_and_fills_renew_the_ttl(client, server):
    async with RedisBlobDescriptorCache.from_url(server.url, timeout=10.0, ttl=500) as cache:
        repository = cache.repository_scoped(NAME)
        await repository.set_descriptor(DIGEST, DESCRIPTOR)
        for key in (HASH, OVERRIDE):
            await client.pexpire(key, 1_000)
        assert await repository.fill(DIGEST, DESCRIPTOR, await repository.take_token(DIGEST))
        assert await client.pttl(HASH) > 400_000
        assert await client.pttl(OVERRIDE) > 400_000
        await client.pexpire(HASH, 1_000)
        await cache.set_descriptor(DIGEST, DESCRIPTOR)
        assert await client.pttl(HASH) > 400_000


async def test_entries_do_not_expire_without_a_ttl(client, repository):
    await repository.set_descriptor(DIGEST, DESCRIPTOR)
    assert [await client.pttl(key) for key in (HASH, SET, OVERRIDE)] == [-1, -1, -1]


# --- hostile data --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        {"size": "abc"},
        {"size": "-1"},
        {"digest": digest_of("other")},
        {"digest": "garbage"},
        {"mediatype": "a\r\nSet-Cookie: b"},
        {"mediatype": b"\xff"},
        {"mediatype": "x" * 2000},
    ],
)
async def test_a_set_repairs_a_malformed_entry(client, cache, repository, fields):
    await repository.set_descriptor(DIGEST, DESCRIPTOR)
    await client.hset(HASH, mapping=fields)
    for service in (cache, repository):
        with pytest.raises(CorruptEntryError):
            await service.stat(DIGEST)
        assert await service.stat_many([DIGEST]) == {}
    await repository.set_descriptor(DIGEST, DESCRIPTOR)
    assert await repository.stat(DIGEST) == DESCRIPTOR
    assert await cache.stat(DIGEST) == DESCRIPTOR


async def test_a_set_repairs_a_malformed_override(client, repository):
    await repository.set_descriptor(DIGEST, DESCRIPTOR)
    await client.hset(OVERRIDE, "mediatype", "a\nb")
    with pytest.raises(CorruptEntryError):
        await repository.stat(DIGEST)
    await repository.set_descriptor(DIGEST, DESCRIPTOR)
    assert await repository.stat(DIGEST) == DESCRIPTOR


@pytest.mark.parametrize("key", [HASH, SET, OVERRIDE])
@pytest.mark.parametrize("planted", ["string", "list"])
async def test_a_set_repairs_each_key_of_another_type(client, cache, repository, key, planted):
    await repository.set_descriptor(DIGEST, DESCRIPTOR)
    await client.delete(key)
    await (client.set(key, "planted") if planted == "string" else client.rpush(key, "planted"))
    with pytest.raises(CorruptEntryError, match="of another type"):
        await repository.stat(DIGEST)
    await repository.set_descriptor(DIGEST, DESCRIPTOR)
    assert await repository.stat(DIGEST) == DESCRIPTOR


async def test_a_fill_repairs_keys_of_another_type(client, repository):
    for key in (HASH, SET, OVERRIDE):
        await client.set(key, "planted")
    assert await repository.fill(DIGEST, DESCRIPTOR, await repository.take_token(DIGEST))
    assert await repository.stat(DIGEST) == DESCRIPTOR


async def test_a_clear_removes_a_key_of_another_type(client, cache):
    await client.set(HASH, "planted")
    await cache.clear(DIGEST)
    assert not await client.exists(HASH)


async def test_a_clear_keeps_a_membership_key_of_another_type(client, cache, repository):
    await cache.set_descriptor(DIGEST, DESCRIPTOR)
    await client.set(SET, "planted")
    with pytest.raises(BlobUnknownError):
        await repository.clear(DIGEST)
    assert await cache.stat(DIGEST) == DESCRIPTOR


async def test_a_corrupt_entry_is_reported_to_the_observer(client, server):
    class Listener(Observer):
        heard: list[CorruptEntryError]

        def corrupt_entry(self, error):
            self.heard.append(error)

    listener = Listener()
    listener.heard = []
    await client.hset(HASH, mapping={"digest": DIGEST, "size": "abc"})
    async with RedisBlobDescriptorCache.from_url(server.url, timeout=10.0, observer=listener) as cache:
        with pytest.raises(CorruptEntryError) as caught:
            await cache.stat(DIGEST)
    assert listener.heard == [caught.value]
    assert caught.value.reason == "size is b'abc'"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(present=st.binary(max_size=40) | st.binary(min_size=1020, max_size=1030) | st.just(b"text/plain"))
async def test_scripts_keep_exactly_the_media_types_that_readers_accept(client, cache, present):
    await client.delete(HASH)
    await client.hset(HASH, "mediatype", present)
    await cache.set_descriptor(DIGEST, DESCRIPTOR)
    kept = is_media_type(present.decode("latin-1"))
    assert await client.hget(HASH, "mediatype") == (present if kept else OCTETS.encode())


async def test_maxmemory_refuses_sets_but_no_stat_or_clear(client, cache, repository):
    await repository.set_descriptor(DIGEST, DESCRIPTOR)
    other = descriptor_of("other")
    await client.config_set("maxmemory", 1)
    try:
        assert await repository.stat(DIGEST) == DESCRIPTOR
        with pytest.raises(CacheUnavailableError, match=r"OutOfMemoryError|OOM"):
            await repository.set_descriptor(other.digest, other)
        await repository.clear(DIGEST)
    finally:
        await client.config_set("maxmemory", 0)
    for service in (cache, repository):
        for digest in (DIGEST, other.digest):
            with pytest.raises(BlobUnknownError):
                await service.stat(digest)


# --- the round trip ------------------------------------------------------------------------------


async def test_a_scoped_stat_is_one_write_on_the_wire(repository, server):
    """Counted by a relay that passes on what arrives together together."""
    arrivals: list[bytes] = []

    async def relay(reader, writer):
        upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", server.port)
        back = asyncio.create_task(forward(upstream_reader, writer, None))
        await forward(reader, upstream_writer, arrivals)
        await back

    async def forward(reader, writer, seen):
        while data := await reader.read(65536):
            if seen is not None:
                seen.append(data)
            writer.write(data)
            await writer.drain()
        writer.close()
        await writer.wait_closed()

    await repository.set_descriptor(DIGEST, DESCRIPTOR)
    proxy = await asyncio.start_server(relay, "127.0.0.1", 0)
    port = proxy.sockets[0].getsockname()[1]
    async with RedisBlobDescriptorCache.from_url(f"redis://127.0.0.1:{port}", timeout=10.0) as cache:
        scoped = cache.repository_scoped(NAME)
        await scoped.stat(DIGEST)  # connects
        arrivals.clear()
        assert await scoped.stat(DIGEST) == DESCRIPTOR
        assert len(arrivals) == 1
        assert [arrivals[0].count(command) for command in (b"SISMEMBER", b"HMGET", b"HGET")] == [1, 1, 1]
        arrivals.clear()
        await scoped.stat_many([DIGEST, digest_of("a"), digest_of("b")])
        assert len(arrivals) == 1
        assert [arrivals[0].count(command) for command in (b"SMISMEMBER", b"HMGET", b"HGET")] == [1, 3, 3]
    proxy.close()
    await proxy.wait_closed()


async def test_a_scoped_stat_is_three_commands(client, repository):
    await repository.set_descriptor(DIGEST, DESCRIPTOR)
    await repository.stat(DIGEST)
    async with client.monitor() as monitor:
        await repository.stat(DIGEST)
        await repository.stat(DIGEST)
        seen = [(await monitor.next_command())["command"].split()[0] for _ in range(6)]
    assert seen == ["SISMEMBER", "HMGET", "HGET"] * 2


@pytest.mark.parametrize("write", ["set_descriptor", "clear"])
async def test_scripts_are_loaded_again_after_script_flush(client, repository, write):
    await repository.set_descriptor(DIGEST, DESCRIPTOR)
    await client.script_flush()
    if write == "set_descriptor":
        await repository.set_descriptor(DIGEST, Descriptor(DIGEST, 9, OCTETS))
        assert (await repository.stat(DIGEST)).size == 9
    else:
        await repository.clear(DIGEST)
        with pytest.raises(BlobUnknownError):
            await repository.stat(DIGEST)


# --- clients and lifecycle -----------------------------------------------------------------------


async def test_a_given_client_is_never_closed(client, server):
    async with RedisBlobDescriptorCache(client) as cache:
        await cache.set_descriptor(DIGEST, DESCRIPTOR)
    assert await client.ping()
    assert idle_connections(client)


async def test_an_own_client_is_closed(client, server):
    async def connections():
        return sum(one["name"] == "own" for one in await client.client_list())

    async with RedisBlobDescriptorCache.from_url(f"{server.url}?client_name=own", timeout=10.0) as cache:
        with pytest.raises(BlobUnknownError):
            await cache.stat(DIGEST)
        assert await connections() == 1

    async def are_closed():
        return await connections() == 0

    await until_server_says(are_closed)


@pytest.mark.parametrize(
    "options", [{"decode_responses": True}, {"protocol": 2}, {"protocol": 3}, {"encoding": "latin-1"}]
)
async def test_clients_of_any_encoding_and_protocol_are_accepted(client, server, options):
    async with Redis.from_url(server.url, **options) as given, RedisBlobDescriptorCache(given, timeout=10.0) as cache:
        repository = cache.repository_scoped(NAME)
        await repository.set_descriptor(DIGEST, DESCRIPTOR)
        assert await repository.stat(DIGEST) == DESCRIPTOR
        token = await repository.take_token(digest_of("y"))
        assert await repository.fill(digest_of("y"), descriptor_of("y"), token)
        assert await repository.stat(digest_of("y")) == descriptor_of("y")
        await repository.clear(DIGEST)
        with pytest.raises(BlobUnknownError):
            await repository.stat(DIGEST)


async def test_more_callers_than_connections_are_all_served(client, server):
    pool = BlockingConnectionPool.from_url(server.url, max_connections=3, timeout=None)
    async with Redis(connection_pool=pool) as few, RedisBlobDescriptorCache(few, timeout=30.0) as cache:
        repository = cache.repository_scoped(NAME)
        await repository.set_descriptor(DIGEST, DESCRIPTOR)
        answers = await asyncio.gather(*(repository.stat(DIGEST) for _ in range(500)))
        assert answers == [DESCRIPTOR] * 500
    await pool.disconnect()


async def test_a_unix_socket_serves(tmp_path):
    socket = tmp_path / "valkey.sock"
    with running(RedisServer(VALKEY, tmp_path, "--unixsocket", str(socket))):
        async with RedisBlobDescriptorCache.from_url(f"unix://{socket}", timeout=10.0) as cache:
            await cache.set_descriptor(DIGEST, DESCRIPTOR)
            assert await cache.stat(DIGEST) == DESCRIPTOR
            assert repr(cache) == f"<RedisBlobDescriptorCache at unix:{socket}>"


async def test_services_have_a_representation(cache, repository, server):
    assert repr(cache) == f"<RedisBlobDescriptorCache at 127.0.0.1:{server.port}>"
    assert repr(repository) == f"<repository foo/bar of the blob descriptor cache at 127.0.0.1:{server.port}>"
    assert repository.name == NAME
    assert repository != NAME


async def test_a_provider_works_within_its_context_alone(client):
    cache = RedisBlobDescriptorCache(client)
    calls = [
        lambda: cache.stat(DIGEST),
        lambda: cache.set_descriptor(DIGEST, DESCRIPTOR),
        lambda: cache.clear(DIGEST),
        lambda: cache.repository_scoped(NAME).stat_many([DIGEST]),
    ]
    for call in calls:
        with pytest.raises(LifecycleError, match="before it was entered"):
            await call()
    async with cache:
        with pytest.raises(LifecycleError, match="entered once only"):
            await cache.__aenter__()
    for call in calls:
        with pytest.raises(LifecycleError, match="after its 'async with' block had ended"):
            await call()
    with pytest.raises(LifecycleError, match="entered once only"):
        await cache.__aenter__()


async def test_another_event_loop_is_refused(client, cache):
    def in_another_loop():
        with pytest.raises(LifecycleError, match="one per event loop and process"):
            asyncio.run(cache.stat(DIGEST))

    await asyncio.to_thread(in_another_loop)


@pytest.mark.parametrize("option", ["ttl", "timeout", "guard_ttl"])
@pytest.mark.parametrize("value", [0, -1, 0.0001, float("nan"), float("inf"), True, "5", 10**30])
def test_an_option_out_of_range_is_refused(option, value):
    with pytest.raises(ConfigurationError, match=f"{option} is a number of seconds"):
        RedisBlobDescriptorCache.from_url("redis://127.0.0.1:1", **{option: value})


@pytest.mark.parametrize("option", ["max_in_flight", "lanes"])
@pytest.mark.parametrize("value", [0, -1, 1.0, True, "5", 10**9, None])
def test_a_count_out_of_range_is_refused(option, value):
    with pytest.raises(ConfigurationError, match=f"{option} is an int from 1 to 1000000"):
        RedisBlobDescriptorCache.from_url("redis://127.0.0.1:1", **{option: value})


async def test_several_connections_share_the_requests(client, server):
    async with RedisBlobDescriptorCache.from_url(server.url, timeout=10.0, lanes=3) as cache:
        repository = cache.repository_scoped(NAME)
        await repository.set_descriptor(DIGEST, DESCRIPTOR)
        assert await asyncio.gather(*(repository.stat(DIGEST) for _ in range(30))) == [DESCRIPTOR] * 30
        assert cache.info() == {
            "address": f"127.0.0.1:{server.port}",
            "topology": "node",
            "road": "lane",
            "why_no_lane": None,
            "lanes": 3,
            "lanes_open": 3,
            "in_flight": 0,
            "waiting": 0,
            "reconnects": 0,
            "near_cache": None,
        }


@pytest.mark.parametrize("client", [None, "redis://x", object()])
def test_an_invalid_client_is_refused(client):
    with pytest.raises(ConfigurationError, match=r"client is a redis.asyncio.Redis"):
        RedisBlobDescriptorCache(client)


def test_an_invalid_observer_is_refused():
    with pytest.raises(ConfigurationError, match="observer"):
        RedisBlobDescriptorCache.from_url("redis://127.0.0.1:1", observer=print)


def test_options_have_equal_names_as_attributes_and_keywords():
    import attrs

    from aioblobcache.redis.options import RedisOptions, RedisOptionsDict

    assert [field.name for field in attrs.fields(RedisOptions)] == list(RedisOptionsDict.__annotations__)


async def test_a_digest_may_be_a_plain_str(cache):
    await cache.set_descriptor(str(DIGEST), DESCRIPTOR)
    answer = await cache.stat(str(DIGEST))
    assert type(answer.digest) is Digest
