"""A user of Redis with the least rights, those that the documentation names; and what is said when one is missing."""

from __future__ import annotations

import re

import pytest
from redis.asyncio import Redis

from aioblobcache import CacheUnavailableError, RedisBlobDescriptorCache
from aioblobcache.conformance import GuardedCacheConformance, descriptor_of, digest_of
from aioblobcache.redis.keys import slot_of
from tests.support.waiting import until, until_server_says

pytestmark = pytest.mark.anyio

PASSWORD = "s3cr3t-pa55"


async def set_user(port, *rules):
    async with Redis(port=port) as admin:
        await admin.execute_command("ACL", "SETUSER", "registry", "reset", "on", f">{PASSWORD}", *rules)


class TestOneNode(GuardedCacheConformance):
    @pytest.fixture
    async def provider(self, client, server, minimal_acl):
        await set_user(server.port, *minimal_acl)
        url = f"redis://registry:{PASSWORD}@127.0.0.1:{server.port}/1"
        async with RedisBlobDescriptorCache.from_url(url, timeout=10.0, near_cache=100) as provider:
            await until(lambda: provider.info()["near_cache"]["why_off"] is None)
            yield provider


class TestCluster(GuardedCacheConformance):
    @pytest.fixture
    async def provider(self, cluster, minimal_acl):
        for node in cluster.nodes:
            await set_user(node.port, *minimal_acl)
        url = f"redis+cluster://registry:{PASSWORD}@{cluster.hosts}"
        async with RedisBlobDescriptorCache.from_url(url, timeout=10.0, near_cache=100) as provider:
            await until(lambda: provider.info()["near_cache"]["why_off"] is None)
            yield provider


async def test_moved_slots_are_followed_with_minimal_permissions(cluster, minimal_acl):
    """ASKING, too, has to be granted."""
    blob = descriptor_of("x")
    for node in cluster.nodes:
        await set_user(node.port, *minimal_acl)
    async with RedisBlobDescriptorCache.from_url(
        f"redis+cluster://registry:{PASSWORD}@{cluster.hosts}", timeout=10.0
    ) as cache:
        await cache.set_descriptor(blob.digest, blob)
        key = f"blobs::{blob.digest}".encode()
        source = cluster.serving(key)
        target = next(node for node in cluster.primaries if node is not source)
        slot = slot_of(key)
        cluster.begin_move(slot, source, target)
        cluster.move_keys(slot, source, target)
        assert await cache.stat(blob.digest) == blob
        cluster.end_move(slot, target)
        assert await cache.stat(blob.digest) == blob


# What each call does first, and on which keys.
CALLS = [
    ("stat", "sismember", "~repository::*"),
    ("stat", "hmget", "~blobs::*"),
    ("stat", "hget", "~repository::*"),
    ("stat_many", "smismember", "~repository::*"),
    ("set_descriptor", "evalsha", "~blobs::*"),
    ("set_descriptor", "hset", "~blobs::*"),
    ("clear", "srem", "~repository::*"),
    ("take_token", "set", "~aioblobcache::*"),
    ("take_token", "get", "~aioblobcache::*"),
]


def call(repository, name):
    blob = descriptor_of("x")
    if name == "set_descriptor":
        return repository.set_descriptor(blob.digest, blob)
    if name == "stat_many":
        return repository.stat_many([blob.digest])
    return getattr(repository, name)(blob.digest)


@pytest.mark.parametrize(("name", "command", "pattern"), CALLS)
async def test_a_missing_command_permission_is_named_with_its_keys(client, server, minimal_acl, name, command, pattern):
    async with RedisBlobDescriptorCache.from_url(server.url) as setter:
        blob = descriptor_of("x")
        await setter.repository_scoped("foo/bar").set_descriptor(blob.digest, blob)
    await set_user(server.port, *minimal_acl, f"-{command}")
    await assert_named(server, name, rf"grant [^)]*\+{command} [^)]*{re.escape(pattern)}")


@pytest.mark.parametrize(
    ("name", "pattern"), [("stat", "~repository::*"), ("stat", "~blobs::*"), ("take_token", "~aioblobcache::*")]
)
async def test_a_missing_key_permission_is_named_with_the_command(client, server, minimal_acl, name, pattern):
    async with RedisBlobDescriptorCache.from_url(server.url) as setter:
        blob = descriptor_of("x")
        await setter.repository_scoped("foo/bar").set_descriptor(blob.digest, blob)
    await set_user(server.port, *(rule for rule in minimal_acl if rule != pattern))
    await assert_named(server, name, rf"grant \+\w+ {re.escape(pattern)}")


async def assert_named(server, name, message):
    url = f"redis://registry:{PASSWORD}@127.0.0.1:{server.port}"
    async with RedisBlobDescriptorCache.from_url(url, timeout=10.0) as cache:
        with pytest.raises(CacheUnavailableError, match=message) as caught:
            await call(cache.repository_scoped("foo/bar"), name)
        assert PASSWORD not in str(caught.value)


async def test_a_missing_tracking_permission_disables_the_near_cache(client, server, minimal_acl):
    await set_user(server.port, *minimal_acl, "-client|tracking")
    url = f"redis://registry:{PASSWORD}@127.0.0.1:{server.port}"
    async with RedisBlobDescriptorCache.from_url(url, timeout=10.0, near_cache=10) as cache:
        await until(lambda: "client|tracking" in str(cache.info()["near_cache"]["why_off"]))
        await cache.set_descriptor(digest_of("x"), descriptor_of("x"))
        assert await cache.stat(digest_of("x")) == descriptor_of("x")


async def test_sentinels_need_only_the_documented_permissions(sentinels, minimal_acl):
    for sentinel in sentinels.sentinels:
        await set_user(sentinel.port, "-@all", "+sentinel|masters", "+subscribe", "+ping", "&+switch-master")
    for node in sentinels.servers:
        await set_user(node.port, *minimal_acl)
    hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in sentinels.sentinels)
    credentials = f"sentinel_username=registry&sentinel_password={PASSWORD}"
    url = f"redis+sentinel://registry:{PASSWORD}@{hosts}/{sentinels.service}?{credentials}"
    blob = descriptor_of("x")
    async with RedisBlobDescriptorCache.from_url(url, timeout=10.0) as cache:
        await cache.set_descriptor(blob.digest, blob)
        assert await cache.stat(blob.digest) == blob
        for sentinel in sentinels.sentinels:
            async with Redis(port=sentinel.port) as admin:
                await until_server_says(lambda admin=admin: is_listened_to(admin))


async def is_listened_to(sentinel):
    return any(one["user"] == "registry" and one["sub"] == "1" for one in await sentinel.client_list(_type="pubsub"))
