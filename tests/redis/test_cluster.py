"""The provider on a real Cluster: whom it asks, in how many commands, and what it does when slots are elsewhere."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster
from redis.exceptions import ConnectionError as RedisConnectionError

from aioblobcache import (
    BlobUnknownError,
    CacheUnavailableError,
    Descriptor,
    RedisBlobDescriptorCache,
)
from aioblobcache.conformance import JSON, OCTETS, descriptor_of, digest_of
from aioblobcache.redis import keys
from aioblobcache.redis.cluster import _reading
from aioblobcache.redis.keys import slot_of
from aioblobcache.redis.near import NearCache, Source
from tests.support.internals import internals, scope_of
from tests.support.ports import free_port
from tests.support.waiting import until, until_server_says

pytestmark = pytest.mark.anyio

# A repository whose blobs have their keys on one, two and three nodes. For each repository the slots of descriptors and
# overrides differ by the same bits, whatever the digest, since CRC16 is linear: not every one has blobs of each kind.
NAME = "team/app"


@pytest.fixture
async def cache(cluster):
    async with RedisBlobDescriptorCache.from_url(cluster.url, timeout=10.0) as cache:
        yield cache


@pytest.fixture
def repository(cache):
    return cache.repository_scoped(NAME)


def three_keys(digest):
    return keys.membership_key(NAME), keys.descriptor_key(digest), keys.override_key(NAME, digest)


def blob_on(cluster, nodes):
    """A blob of the repository whose keys are on so many nodes."""
    ports = cluster.ports_by_slot()
    for number in range(5_000):
        blob = descriptor_of(f"{number}")
        if len({ports[slot_of(key)] for key in three_keys(blob.digest)}) == nodes:
            return blob
    raise AssertionError(f"no blob of {NAME} has its keys on {nodes} nodes")


def calls_of(cluster, command):
    """How often all nodes have executed a command."""
    total = 0
    for node in cluster.primaries:
        with cluster.client(node) as client:
            stats = client.info("commandstats")
        total += sum(stat["calls"] for name, stat in stats.items() if name == f"cmdstat_{command}")
    return total


@pytest.mark.parametrize("nodes", [1, 2, 3])
async def test_an_entry_is_served_from_one_two_or_three_nodes(cluster, repository, nodes):
    blob = blob_on(cluster, nodes)
    with pytest.raises(BlobUnknownError):
        await repository.stat(blob.digest)
    await repository.set_descriptor(blob.digest, blob)
    assert await repository.stat(blob.digest) == blob
    assert await repository.stat_many([blob.digest, digest_of("none")]) == {blob.digest: blob}
    await repository.clear(blob.digest)
    with pytest.raises(BlobUnknownError):
        await repository.stat(blob.digest)


async def test_keys_have_the_form_that_distribution_writes(cluster, repository):
    blob = blob_on(cluster, 3)
    await repository.set_descriptor(blob.digest, blob)
    membership, descriptor, override = three_keys(blob.digest)
    async with RedisCluster.from_url(f"redis://127.0.0.1:{cluster.primaries[0].port}") as client:
        assert await client.smembers(membership) == {blob.digest.encode()}
        assert await client.hgetall(descriptor) == {
            b"digest": blob.digest.encode(),
            b"size": b"%d" % blob.size,
            b"mediatype": blob.media_type.encode(),
        }
        assert await client.hgetall(override) == {b"mediatype": blob.media_type.encode()}


@pytest.mark.parametrize("nodes", [1, 2, 3])
async def test_equal_requests_of_one_tick_are_sent_once(cluster, repository, nodes):
    blob = blob_on(cluster, nodes)
    await repository.set_descriptor(blob.digest, blob)
    commands = ("sismember", "hmget", "hget")
    before = [calls_of(cluster, command) for command in commands]
    assert await asyncio.gather(*(repository.stat(blob.digest) for _ in range(50))) == [blob] * 50
    after = [calls_of(cluster, command) for command in commands]
    # The first may have been sent at once, as one who asks alone.
    assert all(count - previous in (1, 2) for count, previous in zip(after, before, strict=True))


async def test_a_request_is_not_merged_with_one_that_failed(cluster, cache, repository):
    """All within one tick: some of its parts are gone, and it will never be answered."""
    blob = blob_on(cluster, 2)
    await repository.set_descriptor(blob.digest, blob)
    topology, scope = internals(cache).topology, scope_of(repository)
    first = topology.stat(scope, blob.digest, None)
    lane = internals(cache).nodes.readers[scope.stat_slots(blob.digest)[0]].lane()
    lane.lost(RedisConnectionError("lost"))
    second = topology.stat(scope, blob.digest, None)
    async with asyncio.timeout(5):
        outcomes = await asyncio.gather(first, second, return_exceptions=True)
    assert all(outcome == blob or isinstance(outcome, CacheUnavailableError) for outcome in outcomes)
    await until(lambda: lane.is_open)
    assert await repository.stat(blob.digest) == blob


def test_an_answer_of_two_connections_needs_both_leases_beforehand():
    near = NearCache(10, max_staleness=1.0, max_age=60.0)
    lanes = [SimpleNamespace(source=Source(near)) for _ in range(2)]
    table, digest = near.table(NAME), digest_of("x")
    near.renew(lanes[0].source.lease, 0.0)
    asked_too_early = _reading(table, digest, lanes)
    assert asked_too_early is None  # and the other lane is confirmed before the last part is answered
    near.renew(lanes[1].source.lease, 0.0)
    _reading(table, digest, lanes).keep(descriptor_of("x"))
    assert table.look(digest, 0.5) == descriptor_of("x")


@pytest.mark.parametrize("place", [0, 1, 2])
async def test_a_set_repairs_a_key_of_another_type(cluster, cache, repository, place):
    blob = blob_on(cluster, 3)
    await repository.set_descriptor(blob.digest, blob)
    async with RedisCluster.from_url(f"redis://127.0.0.1:{cluster.primaries[0].port}") as client:
        await client.set(three_keys(blob.digest)[place], "planted")
    with pytest.raises(BlobUnknownError):
        await repository.stat(blob.digest)
    await repository.set_descriptor(blob.digest, blob)
    assert await repository.stat(blob.digest) == blob


async def test_cancelled_callers_do_not_affect_other_callers(repository):
    blobs = [descriptor_of(f"{number}") for number in range(300)]
    await asyncio.gather(*(repository.set_descriptor(blob.digest, blob) for blob in blobs))
    asked = [asyncio.create_task(repository.stat(blob.digest)) for blob in blobs]
    for step, task in enumerate(asked):
        if step % 30 == 0:
            await asyncio.sleep(0)
        if step % 3 == 0:
            task.cancel()
    answers = await asyncio.gather(*asked, return_exceptions=True)
    for step, (answer, blob) in enumerate(zip(answers, blobs, strict=True)):
        assert answer == blob or (step % 3 == 0 and isinstance(answer, asyncio.CancelledError))
    assert any(isinstance(answer, asyncio.CancelledError) for answer in answers)


async def test_scripts_are_loaded_again_after_a_flush_of_scripts(cluster, repository):
    blob = blob_on(cluster, 3)
    await repository.set_descriptor(blob.digest, blob)
    for node in cluster.primaries:
        with cluster.client(node) as client:
            client.script_flush()
    await repository.set_descriptor(blob.digest, Descriptor(blob.digest, 99, OCTETS))
    assert (await repository.stat(blob.digest)).size == 99
    token = await repository.take_token(digest_of("y"))
    for node in cluster.primaries:
        with cluster.client(node) as client:
            client.script_flush()
    assert await repository.fill(digest_of("y"), descriptor_of("y"), token)
    assert await repository.stat(digest_of("y")) == descriptor_of("y")
    for node in cluster.primaries:
        with cluster.client(node) as client:
            client.script_flush()
    await repository.clear(blob.digest)
    assert await outcome(repository, blob.digest) is None


# --- writes in steps -----------------------------------------------------------------------------


async def outcome(repository, digest):
    try:
        return await repository.stat(digest)
    except BlobUnknownError:
        return None


async def first_steps(cache, steps, number):
    """What a client does that is killed after so many steps of a write."""
    return await internals(cache).engine.run(steps[:number])


@pytest.mark.parametrize("before", ["absent", "present"])
async def test_a_set_stopped_at_any_step_shows_no_mixture(cache, repository, before):
    for number in range(4):
        blob = descriptor_of(f"set {before} {number}", JSON)
        old = None
        if before == "present":
            old = Descriptor(blob.digest, blob.size, OCTETS)
            await repository.set_descriptor(blob.digest, old)
        steps = internals(cache).engine.writes.set(NAME, blob.digest, blob, None)
        assert len(steps) == 3
        await first_steps(cache, steps, number)
        # What is there already stays visible, and becomes the new when its media type is written.
        assert await outcome(repository, blob.digest) == [old, old, blob if old else None, blob][number]


async def test_a_fill_is_invisible_until_its_last_step(cache, repository):
    for number in range(4):
        blob = descriptor_of(f"fill {number}")
        token = await repository.take_token(blob.digest)
        steps = internals(cache).engine.writes.fill(NAME, blob.digest, blob, None, token)
        assert len(steps) == 3
        assert await first_steps(cache, steps, number)
        assert await outcome(repository, blob.digest) == (blob if number == 3 else None)


async def test_a_clear_hides_the_blob_with_its_first_step(cache, repository):
    for number in range(4):
        blob = descriptor_of(f"clear {number}")
        await repository.set_descriptor(blob.digest, blob)
        steps = internals(cache).engine.writes.clear(NAME, blob.digest, b"nonce", 1000)
        assert len(steps) == 3
        await first_steps(cache, steps, number)
        assert await outcome(repository, blob.digest) == (None if number else blob)


@pytest.mark.parametrize("cleared_before", [1, 2, 3])
async def test_a_clear_between_the_steps_refuses_the_fill(cache, repository, cleared_before):
    """Whichever of its steps the clear comes before."""
    blob = descriptor_of(f"overtaken {cleared_before}")
    await repository.set_descriptor(blob.digest, blob)
    token = await repository.take_token(blob.digest)
    steps = internals(cache).engine.writes.fill(NAME, blob.digest, blob, None, token)
    await first_steps(cache, steps, cleared_before - 1)
    await repository.clear(blob.digest)
    assert await internals(cache).engine.run_here_or_nowhere(steps[cleared_before - 1 :]) is False
    assert await outcome(repository, blob.digest) is None


async def test_a_fill_leaves_the_tokens_of_other_repositories(cache):
    blob = descriptor_of("shared")
    one, other = cache.repository_scoped("one"), cache.repository_scoped("other")
    tokens = [await repository.take_token(blob.digest) for repository in (one, other)]
    assert await one.fill(blob.digest, blob, tokens[0])
    assert await other.fill(blob.digest, blob, tokens[1])
    assert not await one.fill(blob.digest, blob, tokens[0])  # which is spent


# --- slots that are elsewhere --------------------------------------------------------------------


class Move:
    """A slot of a blob's key, on its way to another node."""

    def __init__(self, cluster, key):
        self.cluster = cluster
        self.slot = slot_of(key)
        self.source = cluster.serving(key)
        self.target = next(node for node in cluster.primaries if node is not self.source)

    def begin(self):
        self.cluster.begin_move(self.slot, self.source, self.target)

    def keys(self):
        while self.cluster.move_keys(self.slot, self.source, self.target):
            pass

    def end(self):
        self.cluster.end_move(self.slot, self.target)

    def all(self):
        self.begin()
        self.keys()
        self.end()


@pytest.mark.parametrize("place", [0, 1, 2])
async def test_a_moved_slot_is_followed_and_remembered(cluster, cache, repository, place):
    blob = blob_on(cluster, 3)
    await repository.set_descriptor(blob.digest, blob)
    move = Move(cluster, three_keys(blob.digest)[place])
    move.all()
    assert await repository.stat(blob.digest) == blob
    await until(lambda: internals(cache).nodes.primaries[move.slot].endpoint.port == move.target.port)
    await repository.clear(blob.digest)
    Move(cluster, three_keys(blob.digest)[place]).all()
    await repository.set_descriptor(blob.digest, blob)
    assert await repository.stat_many([blob.digest]) == {blob.digest: blob}


async def test_a_refused_token_updates_the_slot_map(cluster, repository):
    """The token is taken in one go or not at all: one who does not get it finds out for the next."""
    blob = blob_on(cluster, 3)
    for key in three_keys(blob.digest)[:2]:
        with pytest.raises(BlobUnknownError):
            await repository.stat(blob.digest)
        Move(cluster, key).all()
        with pytest.raises(CacheUnavailableError, match="MOVED"):
            await repository.take_token(blob.digest)
    token = await repository.take_token(blob.digest)
    assert await repository.fill(blob.digest, blob, token)
    assert await repository.stat(blob.digest) == blob


@pytest.mark.parametrize("place", [0, 1, 2])
async def test_a_migrating_key_is_read_where_it_is(cluster, repository, place):
    blob = blob_on(cluster, 3)
    await repository.set_descriptor(blob.digest, blob)
    move = Move(cluster, three_keys(blob.digest)[place])
    move.begin()
    assert await repository.stat(blob.digest) == blob  # still here
    move.keys()
    assert await repository.stat(blob.digest) == blob  # already there
    assert await repository.stat_many([blob.digest]) == {blob.digest: blob}
    move.end()
    assert await repository.stat(blob.digest) == blob


async def test_a_write_to_a_migrating_slot_waits_for_its_end(cluster, repository):
    """A guard that is not there yet would be created on the new node, and its set is on the old one."""
    blob = blob_on(cluster, 3)
    await repository.set_descriptor(blob.digest, blob)
    move = Move(cluster, keys.membership_key(NAME))
    move.begin()
    clearing = asyncio.create_task(repository.clear(blob.digest))
    await asyncio.sleep(0.1)  # on the way to and fro
    assert not clearing.done()
    await asyncio.to_thread(move.keys)
    await asyncio.to_thread(move.end)
    await clearing
    assert await outcome(repository, blob.digest) is None


async def test_a_write_to_a_migrating_slot_fails_after_the_timeout(cluster):
    blob = blob_on(cluster, 3)
    async with RedisBlobDescriptorCache.from_url(cluster.url, timeout=0.5) as cache:
        repository = cache.repository_scoped(NAME)
        await repository.set_descriptor(blob.digest, blob)
        move = Move(cluster, keys.membership_key(NAME))
        move.begin()
        with pytest.raises(CacheUnavailableError):
            await repository.clear(blob.digest)
        assert await repository.stat(blob.digest) == blob
        move.keys()
        move.end()


# --- beginning and ending ------------------------------------------------------------------------


async def test_one_reachable_startup_node_is_enough(cluster):
    url = f"redis+cluster://127.0.0.1:{free_port()},127.0.0.1:{cluster.primaries[1].port}"
    async with RedisBlobDescriptorCache.from_url(url, timeout=10.0) as cache:
        await cache.set_descriptor(digest_of("x"), descriptor_of("x"))
        assert await cache.stat(digest_of("x")) == descriptor_of("x")
        await until(lambda: cache.info()["lanes_open"] == 3)
        assert cache.info()["lanes"] == 3  # the dead one is none of the Cluster


async def test_a_given_cluster_client_is_left_open(cluster):
    async with RedisCluster(host="127.0.0.1", port=cluster.primaries[0].port) as client:
        async with RedisBlobDescriptorCache(client, timeout=10.0) as cache:
            await cache.set_descriptor(digest_of("x"), descriptor_of("x"))
        assert await client.hget(keys.descriptor_key(digest_of("x")), "size") == b"1"


async def test_calls_fail_with_the_reason_without_any_node(cluster):
    async with RedisBlobDescriptorCache.from_url(f"redis+cluster://127.0.0.1:{free_port()}", timeout=5.0) as cache:
        repository = cache.repository_scoped(NAME)
        for call in (
            repository.stat(digest_of("x")),
            repository.stat_many([digest_of("x")]),
            repository.clear(digest_of("x")),
            repository.take_token(digest_of("x")),
        ):
            with pytest.raises(CacheUnavailableError, match="the cluster of 127"):
                await call


async def test_a_server_without_cluster_support_is_named(valkey_server):
    url = f"redis+cluster://127.0.0.1:{valkey_server.port}"
    async with RedisBlobDescriptorCache.from_url(url, timeout=5.0) as cache:
        with pytest.raises(CacheUnavailableError, match="cluster support disabled"):
            await cache.stat(digest_of("x"))


async def test_a_redirected_single_node_client_names_the_cluster_url(cluster):
    """Of three nodes two do not serve the key."""
    refusals = []
    for node in cluster.primaries:
        async with RedisBlobDescriptorCache.from_url(node.url, timeout=5.0) as cache:
            try:
                await cache.stat(digest_of("x"))
            except BlobUnknownError:
                pass
            except CacheUnavailableError as error:
                refusals.append(str(error))
    assert len(refusals) == 2
    assert all("MOVED" in refusal and "redis+cluster://" in refusal for refusal in refusals)


async def test_closing_fails_waiting_callers_and_leaves_no_task(cluster):
    before = asyncio.all_tasks()
    connections = await connections_to(cluster)
    cache = RedisBlobDescriptorCache.from_url(cluster.url, timeout=10.0)
    async with cache:
        await cache.repository_scoped(NAME).stat_many([digest_of("x")])
        waiting = asyncio.gather(
            *(cache.repository_scoped(NAME).stat(digest_of(f"{number}")) for number in range(100)),
            return_exceptions=True,
        )
        await asyncio.sleep(0)
    outcomes = {type(answer) for answer in await waiting}
    assert outcomes <= {CacheUnavailableError, BlobUnknownError}
    assert asyncio.all_tasks() == before
    # The servers learn of it in their own time.
    await until_server_says(lambda: has_no_more_than(cluster, connections))


async def connections_to(cluster):
    total = 0
    for node in cluster.primaries:
        async with Redis(port=node.port) as client:
            total += len(await client.client_list(_type="normal"))
    return total


async def has_no_more_than(cluster, connections):
    return await connections_to(cluster) <= connections


# --- the near cache ------------------------------------------------------------------------------


@pytest.fixture
async def near(cluster):
    async with RedisBlobDescriptorCache.from_url(cluster.url, timeout=10.0, near_cache=100) as cache:
        await until(lambda: cache.info()["near_cache"]["why_off"] is None and cache.info()["lanes_open"] == 3)
        yield cache


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("nodes", [1, 2, 3])
async def test_a_change_of_any_key_drops_the_near_entry(cluster, near, place, nodes):
    blob = blob_on(cluster, nodes)
    repository = near.repository_scoped(NAME)
    await repository.set_descriptor(blob.digest, blob)
    await repository.stat(blob.digest)
    assert repository.peek(blob.digest) == blob
    async with RedisCluster.from_url(f"redis://127.0.0.1:{cluster.primaries[0].port}") as client:
        await client.delete(three_keys(blob.digest)[place])
    await until(lambda: repository.peek(blob.digest) is None)


async def test_the_loss_of_any_connection_drops_the_near_entry(cluster, near):
    blob = blob_on(cluster, 3)
    repository = near.repository_scoped(NAME)
    await repository.set_descriptor(blob.digest, blob)
    for key in three_keys(blob.digest):
        await repository.stat(blob.digest)
        assert repository.peek(blob.digest) == blob
        async with Redis(port=cluster.serving(key).port) as client:
            await client.client_kill_filter(_type="normal", skipme=True)
        await until(lambda: repository.peek(blob.digest) is None)
        await until(lambda: near.info()["lanes_open"] == 3 and near.info()["near_cache"]["why_off"] is None)
