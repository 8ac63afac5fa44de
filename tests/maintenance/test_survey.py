"""What a person is told of a Redis, and of one answer."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from aioblobcache import CacheUnavailableError, Digest, InvalidDigestError, RepositoryNameError
from aioblobcache.maintenance import Keyspace, explain, survey
from aioblobcache.redis.client import client_from_url, close_client
from aioblobcache.redis.keys import descriptor_key, membership_key, override_key
from tests.support.cached_image import CONFIG, IMAGE, LAYER, MANIFEST, NAME, OTHER
from tests.support.one_server import on_both_servers
from tests.support.servers import VALKEY

pytestmark = pytest.mark.anyio


@on_both_servers
async def test_survey_counts_keys_by_kind(client, server, filled):
    await client.hset(descriptor_key(Digest.of(b"old")), mapping={"digest": Digest.of(b"old"), "length": 3})
    await client.hset(descriptor_key(CONFIG), "size", "abc")
    await client.expire(descriptor_key(LAYER), 1_000)
    await client.set("registry:db:{repository:x}", "x")
    await client.mset({"session": "x", "blobs::nonsense": "x"})
    met = []
    found = await survey(client, filled, on_keys=met.append)
    counts = {kind: one.count for kind, one in found.keys.items()}
    guards = counts.pop("guard")
    assert guards > 0
    assert counts == {"descriptor": 5, "repository": 2, "override": 8, "gitlab": 1, "other": 2}
    assert sum(met) == sum(counts.values()) + guards
    assert (found.members, found.legacy, found.malformed, found.without_ttl) == (8, 1, 1, 4)
    assert found.keys["descriptor"].bytes > 5 * 50
    said = await client.info("server")
    assert found.server == (
        f"Valkey {said['valkey_version']}" if server.kind == VALKEY else f"Redis {said['redis_version']}"
    )
    assert (found.topology, found.road, found.why_no_lane, found.why_no_near_cache) == ("node", "lane", None, None)
    assert found.nodes == [f"127.0.0.1:{server.port}"]
    assert 0 < found.round_trip < 1
    said = " ".join(found.warnings())
    assert "GitLab" in said
    assert "form of 2014" in said
    assert "cannot be read" in said


@on_both_servers
async def test_survey_warns_of_a_volatile_eviction_policy(client, keyspace):
    before = await client.config_get("maxmemory*")
    try:
        await client.config_set("maxmemory", "1gb")
        await client.config_set("maxmemory-policy", "volatile-lru")
        found = await survey(client, keyspace)
        assert (found.eviction_policy, found.max_memory) == ("volatile-lru", 1 << 30)
        assert any("guards go first" in warning for warning in found.warnings())
    finally:
        await client.config_set("maxmemory", before["maxmemory"])
        await client.config_set("maxmemory-policy", before["maxmemory-policy"])


async def test_survey_covers_all_nodes_of_a_cluster(cluster):
    client = client_from_url(cluster.url)
    try:
        async with Keyspace(client) as keyspace:
            for blob in (*IMAGE.blobs, IMAGE.manifest):
                await keyspace.cache.repository_scoped(NAME).set_descriptor(blob.digest, blob)
            found = await survey(client, keyspace)
    finally:
        await close_client(client)
    assert (found.topology, len(found.nodes), found.members) == ("cluster", 3, 4)
    assert found.keys["descriptor"].count == found.keys["override"].count == 4


# --- why an answer is what it is -------------------------------------------------------------------


@on_both_servers
async def test_hit_is_explained_by_its_keys(filled):
    found = await explain(filled, NAME, MANIFEST)
    assert found.descriptor == IMAGE.manifest
    says = {state.key: state.says for state in found.keys}
    assert says[f"repository::{NAME}::blobs"] == "is a member"
    assert f"size={IMAGE.manifest.size}" in says[f"blobs::{MANIFEST}"]
    assert says[f"repository::{NAME}::blobs::{MANIFEST}"] == f"mediatype={IMAGE.manifest.media_type}"
    guard = next(state for state in found.keys if state.key == f"aioblobcache::guard::{{blobs::{MANIFEST}}}")
    assert guard.says == "token"
    assert 0 < guard.ttl <= 60


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda client: client.srem(membership_key(NAME), LAYER), "it is no member of library/demo"),
        (lambda client: client.delete(descriptor_key(LAYER)), "but there is no descriptor"),
        (lambda client: client.hdel(descriptor_key(LAYER), "size"), "but there is no descriptor"),
        (lambda client: client.delete(override_key(NAME, LAYER)), "but there is no media type of the repository"),
        (lambda client: client.hset(descriptor_key(LAYER), "size", "abc"), "malformed: size is b'abc'"),
    ],
)
async def test_miss_is_explained_by_what_is_absent(client, filled, damage, why):
    await damage(client)
    found = await explain(filled, NAME, LAYER)
    assert found.descriptor is None
    assert why in found.why


@on_both_servers
async def test_explanation_escapes_values_and_names_wrong_types(client, keyspace):
    await client.set(descriptor_key(LAYER), "x")
    await client.hset(override_key(NAME, LAYER), "mediatype", "a\x1b[31mb")
    await client.set(membership_key(NAME), "x")
    found = await explain(keyspace, NAME, LAYER)
    assert [state.says for state in found.keys[:3]] == [
        "(of another type)",
        "(of another type)",
        r"mediatype='a\x1b[31mb'",
    ]
    assert "of another type" in found.why


async def test_explanation_of_a_cleared_blob_shows_its_tombstone(filled):
    await filled.clear(OTHER, LAYER)
    found = await explain(filled, None, LAYER)
    assert (found.descriptor, found.why) == (None, "there is no descriptor with digest and size")
    assert found.keys[-1].says == "tombstone"


async def test_explain_refuses_an_invalid_digest_or_name(keyspace):
    with pytest.raises(InvalidDigestError):
        await explain(keyspace, None, "nonsense")
    with pytest.raises(RepositoryNameError):
        await explain(keyspace, "Nonsense", LAYER)


@on_both_servers
async def test_refused_command_fails_the_explanation(client, server, filled):
    await client.acl_setuser("weak", enabled=True, passwords=["+weak"], keys=["*"], commands=["+@all", "-sismember"])
    try:
        async with Redis(port=server.port, username="weak", password="weak") as weak, Keyspace(weak) as keyspace:
            with pytest.raises(CacheUnavailableError, match="sismember"):
                await explain(keyspace, NAME, LAYER)
    finally:
        await client.acl_deluser("weak")
