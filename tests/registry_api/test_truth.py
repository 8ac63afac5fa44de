"""Storage is believed, and a cache that says otherwise is corrected."""

from __future__ import annotations

import json

import obstore
import pytest
from redis.asyncio import Redis

from aioblobcache import BlobUnknownError, CachedRegistry, Descriptor, RedisBlobDescriptorCache
from aioblobcache.redis.keys import descriptor_key, membership_key, override_key
from aioblobcache.registry_api import RegistryApi, Request
from tests.support.registry_content import IMAGE, LARGE, LAYER, NAME, UNKNOWN, store_blob, store_manifest
from tests.support.servers import VALKEY, RedisServer, running
from tests.support.serving import serving

pytestmark = pytest.mark.anyio

V2 = f"/v2/{NAME}"
DATA = IMAGE.content[LAYER.digest]
MANIFEST = IMAGE.manifest


async def is_known(service, digest):
    try:
        await service.stat(digest)
    except BlobUnknownError:
        return False
    return True


def code_of(answer):
    [error] = json.loads(answer.body)["errors"]
    return error["code"]


async def test_hit_without_data_is_unknown_and_evicted_in_both_scopes(client, registry, storage):
    cache = registry.cache
    await cache.repository_scoped(NAME).set_descriptor(LAYER.digest, LAYER)
    await obstore.delete_async(storage.store, storage.layout.data(LAYER.digest))
    assert (await client.head(f"{V2}/blobs/{LAYER.digest}")).status == 200  # which is what the cache is for
    answer = await client.get(f"{V2}/blobs/{LAYER.digest}")
    assert (answer.status, code_of(answer)) == (404, "BLOB_UNKNOWN")
    assert not await is_known(cache, LAYER.digest)
    assert not await is_known(cache.repository_scoped(NAME), LAYER.digest)
    assert (await client.head(f"{V2}/blobs/{LAYER.digest}")).status == 404


@pytest.mark.parametrize("wrong", [LAYER.size - 1, LAYER.size + 1, 0, 2**63 - 1])
async def test_lengths_come_from_storage_and_wrong_sizes_are_evicted(client, registry, wrong):
    entry = Descriptor(LAYER.digest, wrong, "application/octet-stream")
    scoped = registry.cache.repository_scoped(NAME)
    for asked, part in [("bytes=-10", slice(-10, None)), ("bytes=5-", slice(5, None)), (None, slice(None))]:
        await scoped.set_descriptor(LAYER.digest, entry)
        answer = await client.get(f"{V2}/blobs/{LAYER.digest}", **({"Range": asked} if asked else {}))
        assert answer.body == DATA[part]
        assert answer.headers["Content-Length"] == str(len(DATA[part]))
        assert not await is_known(registry.cache, LAYER.digest)
        assert not await is_known(scoped, LAYER.digest)


async def test_alias_of_another_algorithm_is_followed(client, storage):
    from aioblobcache import Digest

    alias = Digest.of(DATA, "sha512")
    link = storage.layout.link(storage.layout.layer_links(NAME), alias)
    await obstore.put_async(storage.store, link, LAYER.digest.encode())
    answer = await client.get(f"{V2}/blobs/{alias}")
    assert (answer.status, answer.body) == (200, DATA)
    assert answer.headers["Docker-Content-Digest"] == LAYER.digest


async def test_cached_manifest_is_unknown_without_a_revision_link(client, registry, storage):
    data = IMAGE.content[MANIFEST.digest]
    elsewhere = await store_blob(storage, data, "somewhere/else")  # as a blob, and not as a manifest
    assert elsewhere.digest == MANIFEST.digest
    await registry.cache.repository_scoped("somewhere/else").set_descriptor(MANIFEST.digest, MANIFEST)
    for ask in (client.head, client.get):
        assert (await ask(f"/v2/somewhere/else/manifests/{MANIFEST.digest}")).status == 404
    assert not await is_known(registry.cache.repository_scoped("somewhere/else"), MANIFEST.digest)


SCHEMA_1 = {"schemaVersion": 1, "name": NAME, "tag": "old", "fsLayers": [], "history": []}


@pytest.mark.parametrize("document", [SCHEMA_1, {**SCHEMA_1, "signatures": []}])
async def test_schema_1_manifest_is_refused(client, storage, document):
    old = await store_manifest(storage, document, "old")
    for reference in ("old", old.digest):
        answer = await client.get(f"{V2}/manifests/{reference}")
        assert (answer.status, code_of(answer)) == (400, "MANIFEST_INVALID")
        assert (await client.head(f"{V2}/manifests/{reference}")).status == 400


@pytest.mark.parametrize("document", [b"", b"not JSON", b"[]", b"{}", b"x" * (4 * 1024 * 1024 + 1)])
async def test_blob_that_is_no_manifest_is_manifest_unknown(client, storage, document):
    stored = await store_manifest(storage, document, "odd")
    for reference in ("odd", stored.digest):
        answer = await client.get(f"{V2}/manifests/{reference}")
        assert (answer.status, code_of(answer)) == (404, "MANIFEST_UNKNOWN")
        assert (await client.head(f"{V2}/manifests/{reference}")).status == 404


@pytest.mark.parametrize("content", [b"", b"sha256:12", b"../../../etc/passwd", UNKNOWN.encode()])
async def test_broken_tag_is_unknown(client, storage, content):
    await obstore.put_async(storage.store, storage.layout.current(NAME, "broken"), content)
    assert (await client.get(f"{V2}/manifests/broken")).status == 404


async def test_large_blob_is_sent_unchanged_in_chunks(client, storage):
    large = await store_blob(storage, LARGE * 8)
    answer = await client.get(f"{V2}/blobs/{large.digest}")
    assert (answer.status, answer.body == LARGE * 8) == (200, True)


async def test_requests_succeed_from_storage_while_redis_is_down(framework, storage, tmp_path):
    server = RedisServer(VALKEY, tmp_path)
    cache = RedisBlobDescriptorCache.from_url(server.url)
    async with serving(framework, CachedRegistry(cache, storage)) as client:
        for _ in range(2):
            assert (await client.get(f"{V2}/blobs/{LAYER.digest}")).body == DATA
            assert (await client.head(f"{V2}/blobs/{LAYER.digest}")).status == 200
            assert (await client.head(f"{V2}/manifests/latest")).status == 200
            assert (await client.get(f"{V2}/blobs/{UNKNOWN}")).status == 404


async def test_hit_without_data_is_evicted_from_redis(framework, storage, tmp_path):
    server = RedisServer(VALKEY, tmp_path)
    keys = (membership_key(NAME), descriptor_key(LAYER.digest), override_key(NAME, LAYER.digest))
    with running(server):
        cache = RedisBlobDescriptorCache.from_url(server.url, timeout=10.0, near_cache=10)
        async with Redis.from_url(server.url) as redis, serving(framework, CachedRegistry(cache, storage)) as client:
            assert (await client.get(f"{V2}/blobs/{LAYER.digest}")).status == 200
            assert await redis.exists(*keys) == 3
            await obstore.delete_async(storage.store, storage.layout.data(LAYER.digest))
            assert (await client.get(f"{V2}/blobs/{LAYER.digest}")).status == 404
            assert await redis.exists(*keys) == 0


async def test_unreadable_storage_is_unavailable_not_unknown(client, storage, tmp_path):
    path = tmp_path / "registry" / storage.layout.link(storage.layout.layer_links(NAME), LAYER.digest)
    path.unlink()
    path.symlink_to(path.name)  # a link that leads to itself cannot be read
    answer = await client.get(f"{V2}/blobs/{LAYER.digest}")
    assert (answer.status, code_of(answer)) == (503, "UNAVAILABLE")
    assert str(tmp_path) not in answer.body.decode()


@pytest.mark.parametrize("wrong", [7, 2**63 - 1])
async def test_manifest_length_comes_from_storage(client, registry, wrong):
    entry = Descriptor(MANIFEST.digest, wrong, MANIFEST.media_type)
    await registry.cache.repository_scoped(NAME).set_descriptor(MANIFEST.digest, entry)
    for reference in ("latest", MANIFEST.digest):
        for ask in (client.head, client.get):
            assert (await ask(f"{V2}/manifests/{reference}")).headers["Content-Length"] == str(MANIFEST.size)


async def test_cached_media_type_makes_nothing_a_manifest(client, registry, storage):
    odd = await store_manifest(storage, {"not": "a manifest"}, "odd")
    entry = Descriptor(odd.digest, odd.size, MANIFEST.media_type)
    await registry.cache.repository_scoped(NAME).set_descriptor(odd.digest, entry)
    for ask in (client.head, client.get, client.head):
        assert (await ask(f"{V2}/manifests/{odd.digest}")).status == 404


async def test_manifest_without_data_is_unknown_and_evicted(client, registry, storage):
    await registry.cache.repository_scoped(NAME).set_descriptor(MANIFEST.digest, MANIFEST)
    await obstore.delete_async(storage.store, storage.layout.data(MANIFEST.digest))
    assert (await client.head(f"{V2}/manifests/{MANIFEST.digest}")).status == 404
    assert not await is_known(registry.cache, MANIFEST.digest)


async def test_unreadable_object_is_logged_once(registry, storage, caplog):
    """However often it is asked for, and what is well between."""
    path = storage.store.prefix / storage.layout.link(storage.layout.layer_links(NAME), UNKNOWN)
    path.parent.mkdir(parents=True)
    path.symlink_to(path.name)
    caplog.set_level("INFO", "aioblobcache.registry_api")
    api = RegistryApi(registry)

    def request(path):
        return Request("GET", path, "/v2", {}, {}, None)

    async with registry.cache:
        for _ in range(5):
            assert (await api.handle(request(f"/{NAME}/blobs/{UNKNOWN}"))).status == 503
            assert (await api.handle(request("/"))).status == 200
            assert (await api.handle(request(f"/{NAME}/blobs/{LAYER.digest}"))).status == 200
    assert len([record for record in caplog.records if record.name == "aioblobcache.registry_api"]) == 1
