"""The promise of the near cache: what Redis has confirmed is not contradicted by any process after ``max_staleness``.

Whatever happens to that process, its network, or the server.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import time
from contextlib import ExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import attrs
import pytest
from redis.asyncio import Redis

from aioblobcache import BlobUnknownError, CacheUnavailableError, CorruptEntryError, RedisBlobDescriptorCache
from aioblobcache.conformance import descriptor_of
from aioblobcache.redis.keys import descriptor_key, membership_key, override_key
from tests.support.lateness import LoopTime
from tests.support.ports import free_port
from tests.support.servers import REDIS, VALKEY, RedisServer, running, stopped
from tests.support.waiting import until, until_server_says

pytestmark = pytest.mark.anyio

NAME = "foo/bar"
BLOB = descriptor_of("a blob")
DIGEST = BLOB.digest
STALENESS = 0.5


def provider(url, **options):
    # No connection is given up within a test: only the lease can end what is served.
    return RedisBlobDescriptorCache.from_url(url, **{"timeout": 30.0, "near_cache": 100, **options})


async def served_near(service):
    """Return when the blob is served from the near cache."""
    while service.peek(DIGEST) is None:
        await service.stat(DIGEST)
        await asyncio.sleep(0)


@asynccontextmanager
async def writer(url):
    """Another process, as Redis sees it, that sets and clears the blob in the repository."""
    async with RedisBlobDescriptorCache.from_url(url, timeout=10.0) as cache:
        repository = cache.repository_scoped(NAME)
        await repository.set_descriptor(DIGEST, BLOB)
        yield repository


@asynccontextmanager
async def a_reader_and_others(kind, folder, max_staleness=60.0):
    """A server; a provider with a near cache and its repository, a plain client, and another process's repository."""
    server = RedisServer(kind, folder)
    with running(server):
        async with (
            writer(server.url) as elsewhere,
            Redis.from_url(server.url) as client,
            provider(server.url, max_staleness=max_staleness) as cache,
        ):
            yield cache, cache.repository_scoped(NAME), client, elsewhere


async def last_served(service, until_when):
    """When the blob was served for the last time, by ``time.monotonic``."""
    last = 0.0
    while (now := time.monotonic()) < until_when:
        if service.peek(DIGEST) is not None:
            last = now
        await asyncio.sleep(0)
    return last


# --- a network that is silently dead -------------------------------------------------------------


@pytest.mark.parametrize("silent", ["requests", "replies", "both"])
async def test_a_silent_network_ends_near_hits_with_the_lease(own_server, proxy, silent):
    """Neither end hears that the connection is dead. The invalidation of the clear never comes."""
    async with (
        LoopTime() as clock,
        writer(own_server.url) as elsewhere,
        provider(proxy.url, max_staleness=STALENESS) as cache,
    ):
        repository = cache.repository_scoped(NAME)
        await served_near(repository)
        lost = clock.lost
        if silent != "replies":
            proxy.lets_requests_through.clear()
        if silent != "requests":
            proxy.lets_replies_through.clear()
        await elsewhere.clear(DIGEST)
        cleared = time.monotonic()
        last = await last_served(repository, cleared + 2 * STALENESS)
        assert last < cleared + STALENESS
        if silent != "requests":
            # Or this has shown nothing; unless the machine took the lease's time.
            assert last > cleared or clock.lost - lost > STALENESS / 4
        asked = asyncio.create_task(repository.stat(DIGEST))
        await asyncio.sleep(0.05)
        assert not asked.done()
        proxy.lets_requests_through.set()
        proxy.lets_replies_through.set()
        with pytest.raises(BlobUnknownError):
            await asked


async def test_a_lease_starts_when_its_heartbeat_is_sent(own_server, proxy):
    """Replies that take longer than the lease confirm nothing."""
    async with writer(own_server.url), provider(proxy.url, max_staleness=0.1) as cache:
        repository = cache.repository_scoped(NAME)
        await served_near(repository)
        proxy.delay = 0.2
        await asyncio.sleep(0.3)
        ends = time.monotonic() + 1.0
        while time.monotonic() < ends:
            assert await repository.stat(DIGEST) == BLOB
            assert repository.peek(DIGEST) is None
        assert cache.info()["reconnects"] == 0


async def test_a_stopped_server_ends_near_hits_until_it_continues(own_server):
    async with (
        LoopTime() as clock,
        writer(own_server.url),
        provider(own_server.url, max_staleness=STALENESS) as cache,
    ):
        repository = cache.repository_scoped(NAME)
        await served_near(repository)
        lost = clock.lost
        with stopped(own_server):
            since = time.monotonic()
            last = await last_served(repository, since + 2 * STALENESS)
            assert last < since + STALENESS
            assert last > since or clock.lost - lost > STALENESS / 4
        # Nothing was lost: the connection stands, and its first confirmation is good for what was kept.
        await until(lambda: repository.peek(DIGEST) is not None)
        assert cache.info()["reconnects"] == 0


async def test_a_killed_server_drops_its_near_cache_entries(own_server):
    async with writer(own_server.url), provider(own_server.url, timeout=0.25, max_staleness=30.0) as cache:
        repository = cache.repository_scoped(NAME)
        await served_near(repository)
        own_server.stop()
        await until(lambda: repository.peek(DIGEST) is None)
        with pytest.raises(CacheUnavailableError):
            await repository.stat(DIGEST)
        own_server.start()  # with nothing in it
        await until(lambda: cache.info()["near_cache"]["why_off"] is None)
        with pytest.raises(BlobUnknownError):
            await repository.stat(DIGEST)


async def test_a_malformed_reply_to_role_keeps_the_near_cache_off(own_server, proxy, caplog):
    """The reply is none that can be: the connection is replaced, and answers come from the server."""
    proxy.edit = partial(re.compile(rb"\*3\r\n\$6\r\nmaster\r\n:\d+\r\n\*0\r\n").sub, b"*0\r\n")
    async with provider(proxy.url) as cache, writer(own_server.url):
        repository = cache.repository_scoped(NAME)
        await until(lambda: cache.info()["reconnects"] >= 1)
        with suppress(CacheUnavailableError):  # the next connection ends by the same reply
            assert await repository.stat(DIGEST) == BLOB
        assert repository.peek(DIGEST) is None
        assert cache.info()["near_cache"]["why_off"] is not None
        proxy.edit = bytes
        await until(lambda: cache.info()["near_cache"]["why_off"] is None)
        assert await repository.stat(DIGEST) == BLOB
    assert [record for record in caplog.records if record.exc_info] == []


async def test_a_proxy_that_drops_invalidations_is_detected(own_server, proxy):
    """It lets CLIENT TRACKING through, and forwards whatever is a reply."""
    proxy.edit = partial(re.compile(rb">2\r\n\$10\r\ninvalidate\r\n\*1\r\n\$\d+\r\n[^\r]*\r\n").sub, b"")
    async with writer(own_server.url) as elsewhere, provider(proxy.url, max_staleness=4.0) as cache:
        repository = cache.repository_scoped(NAME)
        await until(lambda: "tells of no changes" in str(cache.info()["near_cache"]["why_off"]))
        for _ in range(3):
            assert await repository.stat(DIGEST) == BLOB
            assert repository.peek(DIGEST) is None
        await elsewhere.clear(DIGEST)
        with pytest.raises(BlobUnknownError):
            await repository.stat(DIGEST)
        proxy.edit = bytes
        await until(lambda: cache.info()["near_cache"]["why_off"] is None)


# --- a process that is suspended -----------------------------------------------------------------


def reading_process(url):
    pipe = subprocess.PIPE
    command = [sys.executable, "-m", "tests.faults.near_reader", url, NAME, str(DIGEST), str(STALENESS)]
    return subprocess.Popen(command, cwd=Path(__file__).parents[2], stdin=pipe, stdout=pipe, text=True)


@pytest.mark.parametrize("suspended", [0.6, 1.5])
async def test_a_resumed_process_gives_no_stale_answer(own_server, suspended):
    async with writer(own_server.url) as elsewhere:
        with reading_process(own_server.url) as reader:
            assert await asyncio.to_thread(reader.stdout.readline) == "near\n"
            with stopped(reader):
                await elsewhere.clear(DIGEST)
                cleared = time.monotonic()
                await asyncio.sleep(suspended)
            assert await asyncio.to_thread(reader.stdout.readline) == "unknown\n"
            said, _ = await asyncio.to_thread(reader.communicate)
    runs = json.loads(said)
    assert [answer for answer, _, _ in runs] == [BLOB.size, None]
    assert runs[0][2] < cleared + STALENESS


# --- what happens to the keys --------------------------------------------------------------------

KEY = descriptor_key(DIGEST)
MEMBERSHIP = membership_key(NAME)
OVERRIDE = override_key(NAME, DIGEST)


async def fill_up(client):
    """Write until the server evicts the blob's keys."""
    used = (await client.info("memory"))["used_memory"]
    await client.config_set("maxmemory-policy", "allkeys-lru")
    await client.config_set("maxmemory", used + 500_000)
    number = 0
    while await client.exists(KEY):
        await client.set(f"filler {number}", b"x" * 10_000)
        number += 1


CHANGES = {
    "FLUSHALL": lambda client: client.flushall(),
    "FLUSHDB": lambda client: client.flushdb(),
    "FLUSHALL ASYNC": lambda client: client.flushall(asynchronous=True),
    "DEL of the descriptor": lambda client: client.delete(KEY),
    "UNLINK of the override": lambda client: client.unlink(OVERRIDE),
    "HDEL of the size": lambda client: client.hdel(KEY, "size"),
    "SREM from the repository": lambda client: client.srem(MEMBERSHIP, DIGEST),
    "eviction": fill_up,
    "RENAME of the descriptor": lambda client: client.rename(KEY, "elsewhere"),
    "RENAME over the membership": lambda client: client.rename("another set", MEMBERSHIP),
    "MOVE to another database": lambda client: client.move(KEY, 1),
    "COPY over the descriptor": lambda client: client.copy("another hash", KEY, replace=True),
    "SINTERSTORE into the membership": lambda client: client.sinterstore(MEMBERSHIP, ["nothing", "nor here"]),
    "a descriptor of another type": lambda client: client.set(KEY, "a string"),
    "an override of another type": lambda client: client.set(OVERRIDE, "a string"),
    "a membership of another type": lambda client: client.set(MEMBERSHIP, "a string"),
    "a script": lambda client: client.eval("return redis.call('DEL', KEYS[1])", 1, KEY),
}


@pytest.mark.parametrize("kind", [VALKEY, REDIS])
@pytest.mark.parametrize("change", CHANGES)
async def test_any_change_of_a_key_invalidates_its_answer(change, kind, tmp_path):
    """Long before the lease ends, which would end it as well."""
    async with a_reader_and_others(kind, tmp_path) as (_, repository, client, _):
        await client.sadd("another set", "something")
        await client.hset("another hash", "digest", "something")
        await served_near(repository)
        await CHANGES[change](client)
        await until(lambda: repository.peek(DIGEST) is None)
        with pytest.raises(CorruptEntryError if "of another type" in change else BlobUnknownError):
            await repository.stat(DIGEST)


@pytest.mark.parametrize("kind", [VALKEY, REDIS])
@pytest.mark.parametrize("key", [KEY, MEMBERSHIP, OVERRIDE], ids=["descriptor", "membership", "override"])
async def test_an_expired_key_invalidates_its_answer(kind, key, tmp_path):
    async with a_reader_and_others(kind, tmp_path) as (_, repository, client, _):
        await client.pexpire(key, 500)
        await served_near(repository)
        await until(lambda: repository.peek(DIGEST) is None)
        with pytest.raises(BlobUnknownError):
            await repository.stat(DIGEST)


@pytest.mark.parametrize("kind", [VALKEY, REDIS])
async def test_a_restored_value_is_read_again(kind, tmp_path):
    async with a_reader_and_others(kind, tmp_path) as (_, repository, client, _):
        await client.hset(KEY, "size", 99)
        backup = await client.dump(KEY)
        await client.hset(KEY, "size", BLOB.size)
        await served_near(repository)
        await client.restore(KEY, 0, backup, replace=True)
        await until(lambda: repository.peek(DIGEST) is None)
        assert (await repository.stat(DIGEST)).size == 99


async def test_near_cache_max_age_bounds_an_unannounced_expiry(tmp_path):
    server = RedisServer(VALKEY, tmp_path, "--enable-debug-command", "yes")
    with running(server):
        async with (
            LoopTime() as clock,
            writer(server.url),
            Redis.from_url(server.url) as client,
            provider(server.url, max_staleness=0.2, near_max_age=1.0) as cache,
        ):
            repository = cache.repository_scoped(NAME)
            # What a server does that has a million other keys to expire: it does not come to this one.
            await client.execute_command("DEBUG", "SET-ACTIVE-EXPIRE", "0")
            await client.pexpire(KEY, 100)
            await served_near(repository)
            lost = clock.lost
            since = time.monotonic()
            last = await last_served(repository, since + 1.5)
            assert last - since < 1.0
            # Longer than the lease of 0.2 s, which was renewed all the while.
            assert last - since > 0.3 or clock.lost - lost > 0.1
            with pytest.raises(BlobUnknownError):
                await repository.stat(DIGEST)


@pytest.mark.parametrize("kind", [VALKEY, REDIS])
async def test_killing_connections_ends_stale_hits_after_swapdb(kind, tmp_path):
    """The one thing that no lease bounds: see docs/near-cache.md."""
    async with a_reader_and_others(kind, tmp_path, max_staleness=0.1) as (cache, repository, client, _):
        await served_near(repository)
        await client.execute_command("SWAPDB", 0, 1)
        await asyncio.sleep(0.4)  # four leases
        await until(lambda: repository.peek(DIGEST) is not None)
        await client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await until(lambda: repository.peek(DIGEST) is None)
        await until(lambda: cache.info()["near_cache"]["why_off"] is None)
        with pytest.raises(BlobUnknownError):
            await repository.stat(DIGEST)


@pytest.mark.parametrize("kind", [VALKEY, REDIS])
async def test_a_killed_connection_drops_its_near_cache_entries(kind, tmp_path):
    async with a_reader_and_others(kind, tmp_path) as (cache, repository, client, elsewhere):
        await served_near(repository)
        await client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await until(lambda: repository.peek(DIGEST) is None)
        while True:
            try:
                await elsewhere.clear(DIGEST)
                break
            except CacheUnavailableError:
                await asyncio.sleep(0.01)
        await until(lambda: cache.info()["near_cache"]["why_off"] is None)
        with pytest.raises(BlobUnknownError):
            await repository.stat(DIGEST)


async def test_a_full_tracking_table_costs_only_near_hits(tmp_path):
    server = RedisServer(VALKEY, tmp_path, "--tracking-table-max-keys", "100")
    blobs = [descriptor_of(f"blob {number}") for number in range(300)]
    with running(server):
        async with provider(server.url, near_cache=1000, max_staleness=60.0) as cache:
            repository = cache.repository_scoped(NAME)
            for blob in blobs:
                await repository.set_descriptor(blob.digest, blob)
            for _ in range(3):
                assert await repository.stat_many([blob.digest for blob in blobs]) == {
                    blob.digest: blob for blob in blobs
                }
            async with RedisBlobDescriptorCache.from_url(server.url, timeout=10.0) as other:
                elsewhere = other.repository_scoped(NAME)
                for blob in blobs:
                    await elsewhere.set_descriptor(blob.digest, attrs.evolve(blob, size=blob.size + 1))
            await until(lambda: all(repository.peek(blob.digest) is None for blob in blobs))


# --- servers that change places ------------------------------------------------------------------


@pytest.mark.parametrize("kind", [VALKEY, REDIS])
async def test_a_demoted_primary_ends_near_hits_with_the_lease(kind, tmp_path):
    """The other is the primary now, and confirms clears; the old one is cut off from it, and answers what it knew."""
    folders = [tmp_path / "old", tmp_path / "new"]
    for folder in folders:
        folder.mkdir()
    old, new = (RedisServer(kind, folder, "--repl-diskless-sync-delay", "0") for folder in folders)
    with running(old), running(new):
        async with (
            Redis.from_url(old.url) as old_client,
            Redis.from_url(new.url) as new_client,
            writer(old.url),
            provider(old.url, max_staleness=STALENESS) as cache,
        ):
            await new_client.execute_command("REPLICAOF", "127.0.0.1", old.port)
            await until_server_says(partial(new_client.exists, OVERRIDE))
            repository = cache.repository_scoped(NAME)
            await served_near(repository)
            await new_client.execute_command("REPLICAOF", "NO", "ONE")
            await old_client.execute_command("REPLICAOF", "127.0.0.1", free_port())
            async with RedisBlobDescriptorCache.from_url(new.url, timeout=10.0) as promoted:
                await promoted.repository_scoped(NAME).clear(DIGEST)
            cleared = time.monotonic()
            last = await last_served(repository, cleared + 2 * STALENESS)
            assert last < cleared + STALENESS
            assert cache.info()["lanes_open"] == 1
            assert cache.info()["near_cache"]["why_off"] == "the server is no primary"
            # A plain read of the old one still finds it: that is what one gets who asks a replica.
            assert await repository.stat(DIGEST) == BLOB
            assert repository.peek(DIGEST) is None


async def cluster_of_two(stack, kind, folder):
    """Two nodes, of which the first has all slots; with a client of each."""
    nodes = []
    for name in ("first", "second"):
        (folder / name).mkdir()
        options = ["--cluster-enabled", "yes", "--cluster-port", str(free_port())]
        node = RedisServer(kind, folder / name, *options)
        stack.enter_context(running(node))
        nodes.append((node, Redis.from_url(node.url)))
    (_, first), (second_node, second) = nodes
    await first.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
    bus = (await second.config_get("cluster-port"))["cluster-port"]
    await first.execute_command("CLUSTER", "MEET", "127.0.0.1", second_node.port, bus)
    for _, client in nodes:
        await until_server_says(partial(knows_both, client))
    return nodes


async def knows_both(client):
    info = await client.execute_command("CLUSTER INFO")
    return info["cluster_state"] == "ok" and info["cluster_known_nodes"] == "2"


@pytest.mark.parametrize(
    ("kind", "how", "key"),
    [
        (VALKEY, "key by key", KEY),
        (VALKEY, "key by key", MEMBERSHIP),
        (VALKEY, "key by key", OVERRIDE),
        (REDIS, "key by key", KEY),
        (VALKEY, "atomically", KEY),
    ],
)
async def test_a_moved_slot_drops_its_near_cache_entries(kind, how, key, tmp_path):
    with ExitStack() as stack:
        (node, first), (other, second) = await cluster_of_two(stack, kind, tmp_path)
        async with first, second, provider(node.url, max_staleness=60.0) as cache:
            await first.hset(KEY, mapping={"digest": DIGEST, "size": BLOB.size, "mediatype": BLOB.media_type})
            await first.hset(OVERRIDE, "mediatype", BLOB.media_type)
            await first.sadd(MEMBERSHIP, DIGEST)
            repository = cache.repository_scoped(NAME)
            await served_near(repository)
            slot = await first.execute_command("CLUSTER", "KEYSLOT", key)
            ours, theirs = [await client.execute_command("CLUSTER", "MYID") for client in (first, second)]
            if how == "atomically":
                await first.execute_command("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", theirs)
            else:
                await second.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", ours)
                await first.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", theirs)
                await first.execute_command("MIGRATE", "127.0.0.1", other.port, "", 0, 5000, "KEYS", key)
                for client in (second, first):
                    await client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", theirs)
            await until(lambda: repository.peek(DIGEST) is None)
