"""What a purge removes, and that it is no more than that."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from aioblobcache import CacheUnavailableError, Digest, InvalidDigestError, RepositoryNameError
from aioblobcache.maintenance import Keyspace, purge_all, purge_digest, purge_repository
from aioblobcache.redis.keys import descriptor_key, membership_key, override_key
from tests.support.cached_image import IMAGE, LAYER, NAME, OTHER
from tests.support.one_server import on_both_servers

pytestmark = pytest.mark.anyio

# What other programs may have in the same database.
OTHERS = {
    b"blobs": b"x",
    b"blobs::no-digest": b"x",
    b"repository::UPPER::blobs": b"x",
    b"registry:db:{repository:x}": b"x",
    b"session::blobs::x": b"x",
}


@pytest.fixture
async def shared(client, filled):
    await client.mset(OTHERS)
    await client.hset(descriptor_key(LAYER), "of others", "x")
    return filled


async def keys(client):
    return {key async for key in client.scan_iter() if not key.startswith(b"aioblobcache::")}


async def test_repository_purge_removes_memberships_overrides_and_descriptors(client, shared):
    report = await purge_repository(shared, NAME)
    assert (report.descriptors, report.members, report.overrides) == (4, 4, 4)
    left = {membership_key(OTHER), *(override_key(OTHER, digest) for digest in IMAGE.content), descriptor_key(LAYER)}
    assert await keys(client) == left | OTHERS.keys()
    assert await client.hgetall(descriptor_key(LAYER)) == {b"of others": b"x"}


async def test_purge_counts_the_members_and_keys_it_met(filled):
    """A scan may meet a key twice, and the members of a small set once."""
    assert (await purge_repository(filled, NAME)).met == 4
    left = 1 + 4  # the other repository's members and media types
    assert (await purge_digest(filled, LAYER)).met >= left
    assert (await purge_all(filled)).met >= left - 1


async def test_digest_purge_removes_the_blob_from_every_repository(client, shared):
    before = await keys(client)
    report = await purge_digest(shared, LAYER)
    assert (report.descriptors, report.members, report.overrides) == (1, 2, 2)
    assert before - await keys(client) == {override_key(NAME, LAYER), override_key(OTHER, LAYER)}
    assert await client.hgetall(descriptor_key(LAYER)) == {b"of others": b"x"}
    assert not await client.sismember(membership_key(NAME), LAYER)


@on_both_servers
async def test_full_purge_keeps_keys_outside_the_layout(client, shared):
    report = await purge_all(shared)
    assert (report.descriptors, report.members, report.overrides) == (4, 2, 8)
    assert await keys(client) == {*OTHERS, descriptor_key(LAYER)}
    assert await client.hgetall(descriptor_key(LAYER)) == {b"of others": b"x"}


@on_both_servers
async def test_purge_removes_keys_of_wrong_type(client, keyspace):
    await client.set(descriptor_key(LAYER), "x")
    await client.set(membership_key(NAME), "x")
    await client.sadd(override_key(NAME, LAYER), "x")
    await purge_digest(keyspace, LAYER)
    assert await keys(client) == {membership_key(NAME)}
    await purge_repository(keyspace, NAME)
    assert await keys(client) == set()
    await client.set(descriptor_key(LAYER), "x")
    await client.set(membership_key(NAME), "x")
    await purge_all(keyspace)
    assert await keys(client) == set()


async def test_repository_purge_removes_members_that_are_not_digests(client, keyspace):
    await client.sadd(membership_key(NAME), "x", "y")
    await purge_repository(keyspace, NAME)
    assert await keys(client) == set()


@on_both_servers
async def test_refused_removal_is_raised(client, server, filled):
    await client.acl_setuser("weak", enabled=True, passwords=["+weak"], keys=["*"], commands=["+@all", "-hdel"])
    try:
        async with Redis(port=server.port, username="weak", password="weak") as weak, Keyspace(weak) as keyspace:
            with pytest.raises(CacheUnavailableError, match="hdel"):
                await keyspace.forget([LAYER])
    finally:
        await client.acl_deluser("weak")
    assert await client.exists(descriptor_key(LAYER))


@on_both_servers
async def test_repository_purge_works_in_bounded_batches(client, keyspace):
    digests = [Digest.of(f"{number}".encode()) for number in range(3_000)]
    await client.sadd(membership_key(NAME), *digests)
    await client.config_resetstat()
    report = await purge_repository(keyspace, NAME)
    assert report.members == 3_000
    calls = {name: told["calls"] for name, told in (await client.info("commandstats")).items()}
    assert await keys(client) == set()
    assert calls["cmdstat_sscan"] >= calls["cmdstat_srem"] >= 10  # of some hundred members each
    assert calls.keys().isdisjoint({"cmdstat_keys", "cmdstat_smembers"})


async def test_purge_refuses_an_invalid_digest_or_name(keyspace):
    with pytest.raises(InvalidDigestError):
        await purge_digest(keyspace, "nonsense")
    with pytest.raises(RepositoryNameError):
        await purge_repository(keyspace, "Nonsense")
