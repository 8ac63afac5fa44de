"""A server that runs and will not do as it is asked: full, busy, loading, of other rights, or with planted keys."""

from __future__ import annotations

import asyncio
from itertools import chain, combinations

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from aioblobcache import (
    BlobUnknownError,
    CachedBlobStatter,
    CacheUnavailableError,
    CorruptEntryError,
    RedisBlobDescriptorCache,
)
from aioblobcache.conformance import descriptor_of
from aioblobcache.redis.keys import descriptor_key, membership_key, override_key
from tests.support.backends import Backend
from tests.support.servers import REDIS, VALKEY, RedisServer, running
from tests.support.waiting import until, until_server_says

pytestmark = pytest.mark.anyio

NAME = "foo/bar"
BLOB = descriptor_of("a blob")
OTHER = descriptor_of("another")
DIGEST = BLOB.digest
KEYS = (membership_key(NAME), descriptor_key(DIGEST), override_key(NAME, DIGEST))


@pytest.fixture(params=[VALKEY, REDIS])
def kind(request):
    return request.param


@pytest.fixture(params=["lane", "pipeline"])
def url_of(request):
    """How a cache reaches a server: by its own connection, or, since RESP2 has none, through redis-py."""
    return lambda server: f"{server.url}?protocol={3 if request.param == 'lane' else 2}"


async def outcome(call):
    try:
        return await call
    except (BlobUnknownError, CacheUnavailableError) as error:
        return type(error)


async def is_served(repository):
    return await outcome(repository.stat(DIGEST)) == BLOB


# --- full ----------------------------------------------------------------------------------------


async def fill_up(client):
    """Until the server takes no more."""
    number = 0
    size = 65_536
    while size:
        if await outcome_of(client.set(f"junk {number}", b"x" * size)) is None:
            number += 1
        else:
            size //= 4


async def test_a_full_server_refuses_sets_and_serves_stats_and_clears(kind, url_of, tmp_path):
    server = RedisServer(kind, tmp_path, "--maxmemory", "8mb", "--maxmemory-policy", "noeviction")
    with running(server):
        async with (
            Redis.from_url(server.url) as client,
            RedisBlobDescriptorCache.from_url(url_of(server), timeout=2.0) as cache,
        ):
            repository = cache.repository_scoped(NAME)
            await repository.set_descriptor(DIGEST, BLOB)
            await fill_up(client)
            await client.config_set("maxmemory", "4mb")  # what the server frees of its own is not enough for a set
            for more in (BLOB, OTHER):
                with pytest.raises(CacheUnavailableError, match="OOM"):
                    await repository.set_descriptor(more.digest, more)
            with pytest.raises(CacheUnavailableError, match="OOM"):
                await repository.take_token(OTHER.digest)
            statter = CachedBlobStatter(repository, Backend(OTHER))
            assert await statter.stat(OTHER.digest) == OTHER
            assert await repository.stat(DIGEST) == BLOB
            await repository.clear(DIGEST)
            with pytest.raises(BlobUnknownError):
                await repository.stat(DIGEST)
            assert not await client.exists(*KEYS[1:])


# --- late ----------------------------------------------------------------------------------------


async def hold_up(proxy, call):
    """Make a call that the server gets only when the proxy lets it through, after the caller was told."""
    proxy.lets_requests_through.clear()
    with pytest.raises(CacheUnavailableError, match="no answer in time"):
        await call


async def test_a_fill_executed_after_a_clear_restores_nothing(own_server, proxy):
    async with (
        RedisBlobDescriptorCache.from_url(proxy.url, timeout=0.25) as slow,
        RedisBlobDescriptorCache.from_url(own_server.url, timeout=5.0) as other,
        Redis.from_url(own_server.url) as client,
    ):
        repository = slow.repository_scoped(NAME)
        token = await repository.take_token(DIGEST)
        await hold_up(proxy, repository.fill(DIGEST, BLOB, token))
        assert (
            await outcome(other.repository_scoped(NAME).clear(DIGEST)) is BlobUnknownError
        )  # a delete of what is not cached
        executed = await scripts_executed(client)
        proxy.lets_requests_through.set()
        await until_server_says(lambda: executed_more_than(client, executed))
        assert await outcome(other.repository_scoped(NAME).stat(DIGEST)) is BlobUnknownError
        assert not await client.exists(*KEYS)


async def test_a_raw_set_executed_after_a_clear_restores_the_blob(own_server, proxy):
    """Its caller was told "unavailable", and vouched for the blob: the documentation says so."""
    async with (
        RedisBlobDescriptorCache.from_url(proxy.url, timeout=0.25) as slow,
        RedisBlobDescriptorCache.from_url(own_server.url, timeout=5.0) as other,
    ):
        repository = slow.repository_scoped(NAME)
        await repository.set_descriptor(DIGEST, BLOB)
        await hold_up(proxy, repository.set_descriptor(DIGEST, BLOB))
        await other.repository_scoped(NAME).clear(DIGEST)
        proxy.lets_requests_through.set()
        await until_server_says(lambda: is_served(other.repository_scoped(NAME)))


async def scripts_executed(client):
    return (await client.info("commandstats")).get("cmdstat_evalsha", {"calls": 0})["calls"]


async def executed_more_than(client, number):
    return await scripts_executed(client) > number


# --- keys that vanish or are of other types ------------------------------------------------------


@pytest.mark.parametrize("how", ["evicted", "expired"])
async def test_any_combination_of_missing_keys_makes_a_blob_unknown(client, cache, how):
    repository = cache.repository_scoped(NAME)
    for gone in chain.from_iterable(combinations(KEYS, count) for count in (1, 2, 3)):
        await repository.set_descriptor(DIGEST, BLOB)
        for key in gone:
            if how == "evicted":
                await client.unlink(key)
            else:
                await client.pexpire(key, 1)
                await until_server_says(lambda key=key: is_gone(client, key))
        with pytest.raises(BlobUnknownError) as caught:
            await repository.stat(DIGEST)
        assert type(caught.value) is BlobUnknownError
        assert await repository.stat_many([DIGEST]) == {}
        assert await outcome(cache.stat(DIGEST)) == (BlobUnknownError if KEYS[1] in gone else BLOB)


async def is_gone(client, key):
    return not await client.exists(key)


PLANTED = {
    "string": lambda client, key: client.set(key, "x"),
    "list": lambda client, key: client.rpush(key, "x"),
    "set": lambda client, key: client.sadd(key, "x"),
    "hash": lambda client, key: client.hset(key, "x", "y"),
    "sorted set": lambda client, key: client.zadd(key, {"x": 1}),
    "stream": lambda client, key: client.xadd(key, {"x": "y"}),
}


@pytest.mark.parametrize("planted", PLANTED)
@pytest.mark.parametrize("key", KEYS)
async def test_a_key_of_a_wrong_type_is_corrupt_until_set(client, cache, key, planted):
    repository = cache.repository_scoped(NAME)
    await repository.set_descriptor(DIGEST, BLOB)
    await client.delete(key)
    await PLANTED[planted](client, key)
    with pytest.raises(BlobUnknownError) as caught:
        await repository.stat(DIGEST)
    fits = planted == ("set" if key == KEYS[0] else "hash")
    assert isinstance(caught.value, CorruptEntryError) is not fits
    await repository.set_descriptor(DIGEST, BLOB)
    assert await repository.stat(DIGEST) == BLOB


# --- not now -------------------------------------------------------------------------------------


async def test_a_loading_server_is_unavailable_until_it_has_loaded(kind, url_of, tmp_path):
    server = RedisServer(kind, tmp_path, "--key-load-delay", "1000", "--loading-process-events-interval-bytes", "1024")
    with running(server):
        async with (
            Redis.from_url(server.url) as client,
            RedisBlobDescriptorCache.from_url(url_of(server), timeout=2.0) as cache,
        ):
            repository = cache.repository_scoped(NAME)
            await repository.set_descriptor(DIGEST, BLOB)
            await client.eval("for i = 1, 2000 do redis.call('SET', 'key ' .. i, i) end", 0)
            await client.execute_command("SAVE")
        server.stop()
        server.start()
        async with RedisBlobDescriptorCache.from_url(url_of(server), timeout=2.0) as cache:
            repository = cache.repository_scoped(NAME)
            for call in (
                repository.stat(DIGEST),
                repository.set_descriptor(DIGEST, BLOB),
                repository.take_token(DIGEST),
            ):
                with pytest.raises(CacheUnavailableError, match=r"LOADING|BusyLoading|loading"):
                    await call
            assert await CachedBlobStatter(repository, Backend(BLOB)).stat(DIGEST) == BLOB
            await until_server_says(lambda: is_served(repository))


async def test_a_busy_server_is_unavailable_until_its_script_is_killed(kind, url_of, tmp_path):
    server = RedisServer(kind, tmp_path, "--lua-time-limit", "10")
    with running(server):
        async with (
            Redis.from_url(server.url) as client,
            Redis.from_url(server.url) as hog,
            RedisBlobDescriptorCache.from_url(url_of(server), timeout=2.0) as cache,
        ):
            repository = cache.repository_scoped(NAME)
            await repository.set_descriptor(DIGEST, BLOB)
            endless = asyncio.create_task(outcome_of(hog.eval("while true do end", 0)))
            await until_server_says(lambda: is_busy(client))
            for call in (repository.stat(DIGEST), repository.clear(DIGEST), repository.take_token(DIGEST)):
                with pytest.raises(CacheUnavailableError, match="BUSY"):
                    await call
            await client.script_kill()
            assert await endless is not None
            assert await repository.stat(DIGEST) == BLOB


async def outcome_of(call):
    try:
        await call
    except RedisError as error:
        return error
    return None


async def is_busy(client):
    error = await outcome_of(client.ping())
    return error is not None and "BUSY" in str(error)


# --- of other rights -----------------------------------------------------------------------------


async def test_revoked_permissions_are_reported_until_they_are_granted_again(client, server):
    async def set_user(*rules):
        await client.execute_command("ACL", "SETUSER", "someone", *rules)

    await set_user("reset", "on", ">pw", "~*", "+@all")
    url = f"redis://someone:pw@127.0.0.1:{server.port}"
    async with RedisBlobDescriptorCache.from_url(url, timeout=5.0, near_cache=10) as cache:
        repository = cache.repository_scoped(NAME)
        await until(lambda: cache.info()["near_cache"]["why_off"] is None)
        await repository.set_descriptor(DIGEST, BLOB)
        await set_user("-sismember")
        with pytest.raises(CacheUnavailableError, match=r"grant \+sismember ~repository::\*"):
            await repository.stat(DIGEST)
        await set_user("+sismember")
        assert await repository.stat(DIGEST) == BLOB
        await client.execute_command("ACL", "DELUSER", "someone")  # which ends its connections
        await until_server_says(lambda: is_refused(repository))
        await set_user("reset", "on", ">pw", "~*", "+@all")
        await until_server_says(lambda: is_served(repository))
    await client.execute_command("ACL", "DELUSER", "someone")


async def is_refused(repository):
    try:
        await repository.stat(DIGEST)
    except CacheUnavailableError as error:
        return "WRONGPASS" in str(error) or "AuthenticationError" in str(error)
    return False
