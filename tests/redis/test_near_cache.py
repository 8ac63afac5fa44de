"""The near cache of a provider, on real servers."""

from __future__ import annotations

import asyncio
import logging

import pytest
from redis.asyncio import Redis

from aioblobcache import (
    BlobUnknownError,
    CachedRegistry,
    CacheUnavailableError,
    ConfigurationError,
    CorruptEntryError,
    Descriptor,
    Digest,
    InvalidDigestError,
    LifecycleError,
    MemoryBlobDescriptorCache,
    NearCacheStats,
    Observer,
    RedisBlobDescriptorCache,
    connect,
)
from aioblobcache.redis.keys import descriptor_key
from tests.support.backends import Storage
from tests.support.servers import REDIS, VALKEY, RedisServer, running
from tests.support.waiting import until, until_server_says

pytestmark = pytest.mark.anyio

NAME = "foo/bar"
DIGEST = Digest.of(b"a blob")
OTHER = Digest.of(b"another")
DESCRIPTOR = Descriptor(DIGEST, 6, "text/plain")


def near(cache):
    return cache.info()["near_cache"]


def provider(url, **options):
    return RedisBlobDescriptorCache.from_url(url, **{"timeout": 10.0, "near_cache": 100, **options})


async def is_served_from_here(cache):
    """Return when an answer is kept: a lease of 50 ms may end before a busy machine has looked at the first."""

    async def is_kept():
        await cache.stat(DIGEST)
        return cache.peek(DIGEST) == DESCRIPTOR

    await until_server_says(is_kept)


async def is_on(cache):
    await until(lambda: near(cache)["why_off"] is None)


@pytest.fixture
async def near_cache(client, server):
    async with provider(server.url) as cache:
        await is_on(cache)
        yield cache


@pytest.fixture
async def repository(near_cache):
    repository = near_cache.repository_scoped(NAME)
    await repository.set_descriptor(DIGEST, DESCRIPTOR)
    return repository


@pytest.fixture
async def elsewhere(client, server):
    """Another process, as Redis sees it."""
    async with RedisBlobDescriptorCache.from_url(server.url, timeout=10.0) as cache:
        yield cache.repository_scoped(NAME)


async def calls_on_server(client, *commands):
    counts = await client.info("commandstats")
    return sum(counts.get(f"cmdstat_{command}", {"calls": 0})["calls"] for command in commands)


async def stats_on_server(client):
    return await calls_on_server(client, "hmget", "sismember")


def without_suspending(coroutine):
    """Run what must not wait for anything."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    coroutine.close()
    raise AssertionError("it suspended")


async def test_a_hit_sends_no_request_and_does_not_suspend(client, near_cache, repository):
    await repository.stat(DIGEST)
    await near_cache.stat(DIGEST)
    before = await stats_on_server(client)
    assert without_suspending(repository.stat(DIGEST)) == DESCRIPTOR
    assert without_suspending(repository.stat(str(DIGEST))) == DESCRIPTOR
    assert without_suspending(near_cache.stat(DIGEST)) == DESCRIPTOR
    assert without_suspending(repository.stat_many([DIGEST])) == {DIGEST: DESCRIPTOR}
    assert await stats_on_server(client) == before


async def test_peek_sends_no_request(client, near_cache, repository):
    before = await stats_on_server(client)
    assert repository.peek(DIGEST) is None
    assert near_cache.peek(DIGEST) is None
    assert await stats_on_server(client) == before
    assert repository.peek(DIGEST) is None
    assert await repository.stat(DIGEST) == repository.peek(DIGEST) == repository.peek(str(DIGEST)) == DESCRIPTOR
    assert near_cache.peek(DIGEST) is None  # another scope


async def test_peek_refuses_an_invalid_digest(repository, cache):
    for service in (repository, cache):
        with pytest.raises(InvalidDigestError):
            service.peek("sha256:abc")


async def test_peek_finds_nothing_without_a_near_cache(cache):
    await cache.set_descriptor(DIGEST, DESCRIPTOR)
    assert await cache.stat(DIGEST) == DESCRIPTOR
    assert cache.peek(DIGEST) is None
    assert cache.info()["near_cache"] is None


async def test_unknown_answers_are_not_kept(client, near_cache, repository):
    before = near(near_cache)["entries"]
    for _ in range(2):
        with pytest.raises(BlobUnknownError):
            await repository.stat(OTHER)
        await client.hset(descriptor_key(OTHER), mapping={"digest": OTHER, "size": "many"})
        with pytest.raises(CorruptEntryError):
            await near_cache.stat(OTHER)
        assert await repository.stat_many([OTHER]) == {}
    assert near(near_cache)["entries"] == before


async def test_stat_many_requests_and_keeps_missing_entries(client, near_cache, repository):
    await repository.set_descriptor(OTHER, Descriptor(OTHER, 7, "text/plain"))
    await repository.stat(DIGEST)
    known = await repository.stat_many([OTHER, Digest.of(b"unknown"), DIGEST])
    assert list(known) == [OTHER, DIGEST]
    assert repository.peek(OTHER) == known[OTHER]
    before = await stats_on_server(client)
    assert await repository.stat_many([OTHER, DIGEST]) == known
    assert await stats_on_server(client) == before


async def test_a_clear_by_another_process_drops_the_entry(near_cache, repository, elsewhere):
    assert await repository.stat(DIGEST) == await near_cache.stat(DIGEST)
    await elsewhere.clear(DIGEST)
    await until(lambda: repository.peek(DIGEST) is None)
    assert near_cache.peek(DIGEST) is None
    with pytest.raises(BlobUnknownError):
        await repository.stat(DIGEST)


async def test_a_set_by_another_process_drops_the_entry(near_cache, repository, elsewhere):
    await repository.stat(DIGEST)
    await elsewhere.set_descriptor(DIGEST, Descriptor(DIGEST, 99, "text/html"))
    await until(lambda: repository.peek(DIGEST) is None)
    assert await repository.stat(DIGEST) == Descriptor(DIGEST, 99, "text/html")


async def test_a_push_drops_entries_of_the_repository_once(near_cache, repository, elsewhere):
    await repository.stat(DIGEST)
    await elsewhere.set_descriptor(OTHER, Descriptor(OTHER, 7, "text/plain"))
    await until(lambda: repository.peek(DIGEST) is None)
    await repository.stat(DIGEST)
    assert repository.peek(DIGEST) == DESCRIPTOR


async def test_a_process_sees_its_own_writes_over_several_connections(client, server):
    async with provider(server.url, lanes=4) as cache:
        await is_on(cache)
        repository = cache.repository_scoped(NAME)
        readers = [asyncio.create_task(read_on(repository)) for _ in range(20)]
        for size in range(300):
            await repository.set_descriptor(DIGEST, Descriptor(DIGEST, size, "a/b"))
            seen = await asyncio.gather(*(repository.stat(DIGEST) for _ in range(4)))
            assert {one.size for one in seen} == {size}
            if size % 3 == 0:
                await repository.clear(DIGEST)
                assert repository.peek(DIGEST) is None
                with pytest.raises(BlobUnknownError):
                    await repository.stat(DIGEST)
        for reader in readers:
            reader.cancel()
        await asyncio.wait(readers)
        assert all(reader.cancelled() for reader in readers)
        assert near(cache)["hits"] > 1_000


async def read_on(repository):
    while True:
        await repository.stat_many([DIGEST])
        await asyncio.sleep(0)


async def test_a_cancelled_own_write_drops_the_entry(client, near_cache, repository):
    await repository.stat(DIGEST)
    clearing = asyncio.create_task(repository.clear(DIGEST))
    await asyncio.sleep(0)
    assert repository.peek(DIGEST) is None
    clearing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await clearing
    assert repository.peek(DIGEST) is None


async def test_the_observer_receives_the_figures_of_info(client, server):
    class Heard(Observer):
        def __init__(self):
            self.stats = []

        def near_cache(self, stats):
            self.stats.append(stats)

    heard = Heard()
    async with provider(server.url, observer=heard, max_staleness=2.0) as cache:
        await is_on(cache)
        await cache.set_descriptor(DIGEST, DESCRIPTOR)
        for _ in range(3):
            await cache.stat(DIGEST)
        invalidations = near(cache)["invalidations"]
        await client.delete(descriptor_key(DIGEST))
        peeked = 0
        while cache.peek(DIGEST) is not None:
            peeked += 1
            await asyncio.sleep(0)
        assert near(cache)["invalidations"] == invalidations + 1
        await client.flushall()
        await until(lambda: near(cache)["flushes"] == 1)
        count = len(heard.stats)
        await until(lambda: len(heard.stats) >= count + 2)
        latest = heard.stats[-1]
        assert isinstance(latest, NearCacheStats)
        assert latest.hits == near(cache)["hits"] == 2 + peeked
        assert latest.misses == near(cache)["misses"] == 1
        assert latest.invalidations == near(cache)["invalidations"] > invalidations
        assert latest.flushes == 1
        assert latest.evictions == 0
        assert latest.entries == 1
        assert latest.why_off is None
        assert 0 <= latest.lease_age < 2.0


async def test_the_number_of_entries_stays_within_the_limit(client, server):
    digests = [Digest.of(b"%d" % number) for number in range(500)]
    async with provider(server.url, near_cache=50) as cache:
        await is_on(cache)
        for digest in digests:
            await cache.set_descriptor(digest, Descriptor(digest, 1, "a/b"))
        for _ in range(2):
            answers = await asyncio.gather(*(cache.stat(digest) for digest in digests))
            assert [answer.digest for answer in answers] == digests
            assert near(cache)["entries"] == 50
        assert near(cache)["evictions"] == 900  # each round: all, but for the 50 that there is room for
        assert near(cache)["hits"] == 50


async def test_an_entry_is_kept_no_longer_than_the_ttl(client, server):
    async with provider(server.url, ttl=0.3) as cache:
        await is_on(cache)
        await cache.set_descriptor(DIGEST, DESCRIPTOR)
        await cache.stat(DIGEST)
        assert cache.peek(DIGEST) == DESCRIPTOR
        await until(lambda: cache.peek(DIGEST) is None)


async def test_a_read_through_hit_does_not_suspend(near_cache, repository):
    layers = CachedRegistry(near_cache, Storage()).blobs(NAME)
    assert await layers.stat(DIGEST) == DESCRIPTOR
    assert without_suspending(layers.stat(DIGEST)) == DESCRIPTOR
    assert layers.peek(DIGEST) == DESCRIPTOR
    assert CachedRegistry(near_cache, Storage()).manifests(NAME).peek(DIGEST) is None


async def test_the_near_cache_is_logged_as_on_once(client, server, caplog):
    await client.config_resetstat()
    with caplog.at_level(logging.INFO, "aioblobcache.near"):
        async with provider(server.url, max_staleness=0.2) as cache:
            await until(lambda: near(cache)["why_off"] is None)

            async def has_beaten():
                return await calls_on_server(client, "role") >= 4

            await until_server_says(has_beaten)
    assert [record.getMessage() for record in caplog.records] == [f"the near cache of 127.0.0.1:{server.port} is on"]


# --- servers that do not take part ---------------------------------------------------------------


@pytest.mark.parametrize("kind", [VALKEY, REDIS])
@pytest.mark.parametrize(
    ("rules", "reason"),
    [
        ("-client|tracking", "CLIENT was answered NOPERM"),
        ("-role", "ROLE was answered NOPERM"),
        ("-set", "SET was answered NOPERM"),
        ("resetkeys ~blobs::* ~repository::*", "GET was answered NOPERM"),
    ],
)
async def test_a_refused_command_disables_the_near_cache_with_one_line(kind, rules, reason, tmp_path, caplog):
    server = RedisServer(kind, tmp_path)
    with running(server):
        async with Redis.from_url(server.url) as admin:
            await admin.execute_command("ACL", "SETUSER", "limited", "on", ">secret", "+@all", "~*", *rules.split())
            await admin.hset(descriptor_key(DIGEST), mapping={"digest": DIGEST, "size": 6, "mediatype": "text/plain"})
            url = server.url.replace("://", "://limited:secret@")
            with caplog.at_level(logging.INFO, "aioblobcache"):
                async with provider(url, max_staleness=0.05) as cache:
                    await until(lambda: reason in str(near(cache)["why_off"]))
                    assert await cache.stat(DIGEST) == DESCRIPTOR
                    assert cache.peek(DIGEST) is None
                    assert near(cache)["entries"] == 0
                    # It goes on asking, and serves once it may.
                    await admin.execute_command("ACL", "SETUSER", "limited", "~*", "+@all")
                    await is_served_from_here(cache)
                    assert "secret" not in caplog.text
    lines = [record.getMessage() for record in caplog.records if record.name == "aioblobcache.near"]
    assert [line.partition(": ")[0] for line in lines] == [
        f"the near cache of 127.0.0.1:{server.port} is off",
        f"the near cache of 127.0.0.1:{server.port} is on",
    ]
    assert reason in lines[0]


async def test_a_server_without_resp3_disables_the_near_cache(tmp_path):
    server = RedisServer(REDIS, tmp_path, "--rename-command", "HELLO", "")
    with running(server):
        async with provider(server.url) as cache:
            await cache.set_descriptor(DIGEST, DESCRIPTOR)
            assert await cache.stat(DIGEST) == DESCRIPTOR
            assert cache.peek(DIGEST) is None
            assert cache.info()["road"] == "pipeline"
            assert near(cache)["why_off"] == "no lane is connected and confirmed"


async def test_a_replica_serves_no_near_entry_until_promoted(tmp_path):
    server = RedisServer(VALKEY, tmp_path)
    with running(server):
        async with Redis.from_url(server.url) as admin, provider(server.url, max_staleness=0.05) as cache:
            await is_on(cache)
            await cache.set_descriptor(DIGEST, DESCRIPTOR)
            await cache.stat(DIGEST)
            await admin.execute_command("REPLICAOF", "127.0.0.1", "1")
            await until(lambda: "no primary" in str(near(cache)["why_off"]))
            assert cache.peek(DIGEST) is None
            assert await cache.stat(DIGEST) == DESCRIPTOR
            assert cache.peek(DIGEST) is None
            await admin.execute_command("REPLICAOF", "NO", "ONE")
            await is_served_from_here(cache)


async def test_the_near_cache_starts_when_its_server_starts(tmp_path):
    server = RedisServer(VALKEY, tmp_path)
    async with provider(server.url, timeout=0.25) as cache:
        with pytest.raises(CacheUnavailableError):
            await cache.stat(DIGEST)
        assert cache.peek(DIGEST) is None
        with running(server):
            await is_on(cache)


async def test_a_closed_provider_leaves_no_task_and_serves_nothing(client, server):
    before = asyncio.all_tasks()
    async with provider(server.url, lanes=3) as cache:
        await is_on(cache)
        await cache.set_descriptor(DIGEST, DESCRIPTOR)
        await cache.stat(DIGEST)
        assert cache.peek(DIGEST) == DESCRIPTOR
    assert asyncio.all_tasks() == before
    assert cache.peek(DIGEST) is None
    with pytest.raises(LifecycleError):
        await cache.stat(DIGEST)


async def test_the_first_answer_of_a_connection_is_kept(client, server):
    async with provider(server.url) as cache:
        await cache.set_descriptor(DIGEST, DESCRIPTOR)
        await cache.stat(DIGEST)
        assert cache.peek(DIGEST) == DESCRIPTOR


# --- options -------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [-1, 1.5, True, "5", 10**9, None])
def test_a_size_out_of_range_is_refused(value):
    with pytest.raises(ConfigurationError, match="near_cache is an int from 0"):
        RedisBlobDescriptorCache.from_url("redis://127.0.0.1:1", near_cache=value)


@pytest.mark.parametrize("option", ["max_staleness", "near_max_age"])
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), True, "1", None])
def test_a_time_out_of_range_is_refused(option, value):
    with pytest.raises(ConfigurationError, match=f"{option} is a number of seconds"):
        RedisBlobDescriptorCache.from_url("redis://127.0.0.1:1", **{option: value})


def test_a_staleness_below_the_minimum_is_refused():
    with pytest.raises(ConfigurationError, match=r"max_staleness is 0\.05 seconds or more"):
        RedisBlobDescriptorCache.from_url("redis://127.0.0.1:1", max_staleness=0.01)


async def test_connect_accepts_the_options_of_the_near_cache(server):
    async with connect(server.url, near_cache=10, max_staleness=0.5) as cache:
        assert not isinstance(cache, MemoryBlobDescriptorCache)
        await is_on(cache)
