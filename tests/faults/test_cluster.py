"""A Cluster that loses a node, demotes one, and moves slots, under its callers."""

from __future__ import annotations

import asyncio
import time
from itertools import count

import pytest
from redis.asyncio import Redis

from aioblobcache import CacheUnavailableError, RedisBlobDescriptorCache
from aioblobcache.conformance import descriptor_of
from aioblobcache.redis import keys
from aioblobcache.redis.keys import slot_of
from tests.support.groups import Cluster, running_cluster
from tests.support.load import Load, running_load
from tests.support.servers import VALKEY
from tests.support.waiting import until, until_replicated, until_server_says

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def shared_cluster(tmp_path_factory):
    cluster = Cluster(VALKEY, tmp_path_factory.mktemp("six"), replicas=1)
    with running_cluster(cluster):
        yield cluster


@pytest.fixture
def six_nodes(shared_cluster):
    """Three primaries with a replica each; slots that a test moves and replicas that it stops are mended."""
    yield shared_cluster
    shared_cluster.mend()


@pytest.fixture
def breakable(tmp_path):
    cluster = Cluster(VALKEY, tmp_path, replicas=1)
    with running_cluster(cluster):
        yield cluster


class Place:
    """A blob in a repository, and who serves its three keys."""

    def __init__(self, ports, name, number):
        self.name = name
        self.descriptor = descriptor_of(f"{name} {number}")
        self.keys = (
            keys.membership_key(name),
            keys.descriptor_key(self.descriptor.digest),
            keys.override_key(name, self.descriptor.digest),
        )
        self.ports = {ports[slot_of(key)] for key in self.keys}


def places(cluster):
    """One after the other, without an end, over many repositories."""
    ports = cluster.ports_by_slot()
    for number in count():
        yield Place(ports, f"team-{number % 50}/app", number)


def some(found, most):
    return [place for place, _ in zip(found, range(most), strict=False)]


def load_of(cache, asked, **options):
    return Load(((cache.repository_scoped(place.name), place.descriptor) for place in asked), **options)


async def put(cluster, all_places):
    """In as much time as a busy machine needs."""
    async with RedisBlobDescriptorCache.from_url(cluster.url, timeout=30.0) as cache:
        for start in range(0, len(all_places), 100):
            await asyncio.gather(
                *(
                    cache.repository_scoped(place.name).set_descriptor(place.descriptor.digest, place.descriptor)
                    for place in all_places[start : start + 100]
                )
            )


async def test_a_killed_node_harms_only_its_own_keys_until_failover(breakable, figures):
    victim = breakable.primaries[0]
    others = some((place for place in places(breakable) if victim.port not in place.ports), 50)
    affected = some((place for place in places(breakable) if victim.port in place.ports), 50)
    async with RedisBlobDescriptorCache.from_url(breakable.url, timeout=1.0) as cache:
        await until(lambda: cache.info()["lanes_open"] == 3)
        await put(breakable, others + affected)
        await until_replicated(victim.port, 1)
        calm, troubled = load_of(cache, others), load_of(cache, affected)
        async with running_load(calm, troubled, callers=32):
            await until(lambda: min(calm.answers, troubled.answers) > 1_000)
            assert troubled.failures == 0
            await asyncio.to_thread(victim.stop)
            killed = time.monotonic()
            await until(lambda: troubled.failures > 100)
            failing = calm.answers
            await until(lambda: calm.answers > failing + 1_000)  # while the others fail
            answered = troubled.answers
            await until(lambda: troubled.answers > answered + 1_000)
            recovered = troubled.answered_last
            failures = troubled.failures
            await asyncio.sleep(0.5)
        assert all(
            [
                await cache.repository_scoped(place.name).stat(place.descriptor.digest) == place.descriptor
                for place in affected
            ]
        )

    figures(
        failures_of_others=calm.failures,
        answers_of_others=calm.answers,
        failures_of_its_own=failures,
        recovered_after=recovered - killed,
        longest_call=max(calm.longest, troubled.longest),
    )
    assert calm.failures == calm.wrong == troubled.wrong == 0


async def test_a_demoted_primary_gives_no_near_hit_past_max_staleness(breakable, figures):
    """And hears nothing of what the new one changes, since it is cut off from it."""
    max_staleness = 1.0
    old = breakable.primaries[0]
    place = next(place for place in places(breakable) if place.ports == {old.port})
    digest = place.descriptor.digest
    async with (
        RedisBlobDescriptorCache.from_url(breakable.url, timeout=2.0) as writer,
        RedisBlobDescriptorCache.from_url(
            breakable.url, timeout=2.0, near_cache=100, max_staleness=max_staleness
        ) as reader,
    ):
        await until(lambda: reader.info()["near_cache"]["why_off"] is None and reader.info()["lanes_open"] == 3)
        repository = reader.repository_scoped(place.name)
        await put(breakable, [place])
        await repository.stat(digest)
        assert repository.peek(digest) == place.descriptor
        new = await replica_of(breakable, old)
        async with Redis(port=new.port) as client:
            await client.execute_command("ACL", "SETUSER", "default", "-psync", "-sync")
            await client.execute_command("CLUSTER", "FAILOVER")
        async with Redis(port=old.port) as client:
            await until_server_says(lambda: is_replica(client))
            assert (await client.role())[3] != b"connected"
        await until_server_says(lambda: cleared(writer, place))
        acknowledged = time.monotonic()
        last_hit = acknowledged
        while time.monotonic() < acknowledged + 2 * max_staleness:
            now = time.monotonic()
            if repository.peek(digest) is not None:
                last_hit = now
            await asyncio.sleep(0.001)
        async with Redis(port=old.port, single_connection_client=True) as client:
            await client.execute_command("READONLY")
            assert await client.sismember(place.keys[0], digest)  # it still has what was cleared

    figures(last_stale_hit_after=last_hit - acknowledged, max_staleness=max_staleness)
    assert last_hit - acknowledged < max_staleness


async def replica_of(cluster, primary):
    for node in cluster.nodes:
        async with Redis(port=node.port) as client:
            role = await client.role()
            if role[0] == b"slave" and role[2] == primary.port:
                return node
    raise AssertionError("it has no replica")


async def is_replica(client):
    return (await client.role())[0] == b"slave"


async def cleared(cache, place):
    try:
        await cache.repository_scoped(place.name).clear(place.descriptor.digest)
    except CacheUnavailableError:
        return False
    return True


@pytest.mark.parametrize("near_cache", [0, 1_000])
async def test_slots_moved_under_load_give_no_wrong_or_failed_answer(six_nodes, figures, near_cache):
    hot = some(places(six_nodes), 100)
    async with RedisBlobDescriptorCache.from_url(six_nodes.url, timeout=5.0, near_cache=near_cache) as cache:
        await put(six_nodes, hot)
        # Near hits let nobody else run, not even the thread that moves slots: fewer ask, and not all the time.
        load = load_of(cache, hot, pause=0.005 if near_cache else 0.0)
        async with running_load(load, callers=16 if near_cache else 64):
            await until(lambda: load.answers > 1_000)
            moved = 0
            for place in hot[:8]:
                for key in place.keys:
                    await asyncio.to_thread(move, six_nodes, key)
                    moved += 1
            done = load.answers
            await until(lambda: load.answers > done + 1_000)
    figures(slots_moved=moved, answers=load.answers, wrong=load.wrong, failed=load.failures, longest_call=load.longest)
    assert load.errors == {}
    assert load.wrong == load.failures == 0


def move(cluster, key):
    """As operators' tools do it: key by key, with a while in between in which they are on two nodes."""
    source = cluster.serving(key)
    target = next(node for node in cluster.primaries if node is not source)
    slot = slot_of(key)
    cluster.begin_move(slot, source, target)
    while cluster.move_keys(slot, source, target, most=1):
        time.sleep(0.005)
    time.sleep(0.02)
    cluster.end_move(slot, target)


async def test_replicas_serve_stats_and_primaries_serve_writes(six_nodes):
    asked = some(places(six_nodes), 50)
    async with RedisBlobDescriptorCache.from_url(six_nodes.url, timeout=5.0, read_from="replica") as cache:
        await until(lambda: cache.info()["lanes_open"] == 6)
        await put(six_nodes, asked)
        for node in six_nodes.primaries:
            await until_replicated(node.port, 1)
            async with Redis(port=node.port) as client:
                assert "cmdstat_evalsha" in await client.info("commandstats")
                await client.config_resetstat()
        for place in asked:
            assert await cache.repository_scoped(place.name).stat(place.descriptor.digest) == place.descriptor
        for node in six_nodes.primaries:
            async with Redis(port=node.port) as client:
                stats = await client.info("commandstats")
                assert not {"cmdstat_sismember", "cmdstat_hmget", "cmdstat_hget"} & stats.keys()


async def test_a_primary_without_replicas_serves_its_own_stats(six_nodes):
    asked = some(places(six_nodes), 20)
    async with RedisBlobDescriptorCache.from_url(six_nodes.url, timeout=5.0, read_from="replica") as cache:
        await until(lambda: cache.info()["lanes_open"] == 6)
        await put(six_nodes, asked)
        for node in six_nodes.nodes[3:]:
            await asyncio.to_thread(node.stop)
        await until(lambda: cache.info()["lanes_open"] == 3)
        for place in asked:
            assert await cache.repository_scoped(place.name).stat(place.descriptor.digest) == place.descriptor
