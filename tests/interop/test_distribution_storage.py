"""The storage of Debian's docker-registry 2.8.2, read by this library: alone, and behind the cache
that the two share."""

from __future__ import annotations

import pytest
from obstore.store import LocalStore

from aioblobcache import BlobUnknownError, CachedRegistry
from aioblobcache.cli.sample import store_image
from aioblobcache.storage import RegistryStorage
from tests.support.docker_registry import BLOB, DATA, GONE, KEPT, NAME, TAG, as_cached

pytestmark = pytest.mark.anyio


@pytest.fixture
def read_through(cache, storage):
    """The registry's storage behind the cache that the registry uses too."""
    return CachedRegistry(cache, storage)


def files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


async def cached(client):
    """All that is cached, as it lies in Redis; guards are nobody else's."""
    content = {}
    async for key in client.scan_iter():
        if key.startswith(b"aioblobcache::"):
            continue
        read = client.smembers if await client.type(key) == b"set" else client.hgetall
        content[key] = await read(key)
    return content


async def known(service, digest):
    try:
        return await service.stat(digest)
    except BlobUnknownError:
        return None


async def test_layers_and_config_are_read_from_storage(image, storage):
    for blob in image.blobs:
        assert await storage.blobs(NAME).stat(blob.digest) == as_cached(blob)
        assert await storage.stat(blob.digest) == as_cached(blob)


async def test_manifest_is_read_from_storage_with_its_media_type(image, storage):
    assert await storage.manifests(NAME).stat(image.manifest.digest) == image.manifest


async def test_layers_and_manifests_are_told_apart(image, storage):
    assert await known(storage.manifests(NAME), image.layers[0].digest) is None
    assert await known(storage.blobs(NAME), image.manifest.digest) is None


async def test_push_by_sha512_is_found_by_both_digests(registry, storage):
    alias = await registry.push_blob(NAME, DATA, "sha512")
    for digest in (alias, BLOB.digest):
        assert await storage.blobs(NAME).stat(digest) == BLOB


async def test_every_link_of_a_repository_is_listed(registry, image, storage):
    alias = await registry.push_blob(NAME, DATA, "sha512")
    layers = {blob.digest for blob in (*image.blobs, BLOB)} | {alias}
    assert {digest async for digest in storage.blobs(NAME).links()} == layers
    assert {digest async for digest in storage.manifests(NAME).links()} == {image.manifest.digest}


async def test_repositories_are_listed_before_those_nested_in_them(registry, storage):
    names = ["deep/er/and/deeper", "library/demo", "library/demo/nested", "solo"]
    for name in reversed(names):
        await registry.push_blob(name, DATA)
    assert [name async for name in storage.repositories()] == names


async def test_sample_image_is_stored_as_a_push_stores_it(registry, image, tmp_path):
    own = tmp_path / "own"
    await store_image(RegistryStorage(LocalStore(own, mkdir=True)), NAME, TAG, image)
    assert files(own) == files(registry.root)


async def test_fill_writes_exactly_what_the_push_wrote(client, image, read_through):
    written_by_registry = await cached(client)
    await client.flushall()
    for blob in image.blobs:
        assert await read_through.blobs(NAME).stat(blob.digest) == as_cached(blob)
    assert await cached(client) == written_by_registry


async def test_registry_answers_from_entries_a_read_through_filled(client, registry, image, read_through):
    await client.flushall()
    for blob in image.blobs:
        await read_through.blobs(NAME).stat(blob.digest)
    registry.lose_storage()
    for blob in image.blobs:
        assert await registry.describe(NAME, blob.digest) == as_cached(blob)


async def test_read_through_answers_from_the_registry_cache(registry, image, read_through):
    registry.lose_storage()
    for blob in image.blobs:
        assert await read_through.blobs(NAME).stat(blob.digest) == as_cached(blob)


async def test_fills_by_both_digests_match_the_registry_entries(client, registry, read_through):
    alias = await registry.push_blob(NAME, DATA, "sha512")
    await registry.describe(NAME, alias)
    written_by_registry = await cached(client)
    await client.flushall()
    for digest in (alias, BLOB.digest):
        assert await read_through.blobs(NAME).stat(digest) == BLOB
    assert await cached(client) == written_by_registry


async def test_registry_serves_a_manifest_a_read_through_filled(client, registry, image, read_through):
    await client.flushall()
    assert await read_through.manifests(NAME).stat(image.manifest.digest) == image.manifest
    assert await registry.describe_manifest(NAME, TAG) == image.manifest
    await registry.pull(NAME, TAG)


async def test_read_through_misses_a_blob_the_registry_deleted(registry, image, read_through):
    digest = image.layers[0].digest
    await registry.delete(NAME, digest)
    assert await known(read_through.blobs(NAME), digest) is None


async def test_registry_misses_a_blob_deleted_through_a_read_through(registry, image, read_through):
    digest = image.layers[0].digest
    await read_through.blobs(NAME).clear(digest)
    assert await registry.describe(NAME, digest) is None


async def test_registry_misses_a_manifest_deleted_through_a_read_through(registry, image, read_through):
    digest = image.manifest.digest
    await registry.describe_manifest(NAME, TAG)
    await read_through.manifests(NAME).clear(digest)
    assert await registry.describe_manifest(NAME, digest) is None


async def test_deleted_blob_stays_gone_when_another_repository_is_read(registry, read_through):
    await registry.push_blob(GONE, DATA)
    await registry.push_blob(KEPT, DATA)
    await read_through.blobs(GONE).clear(BLOB.digest)
    assert await registry.describe(KEPT, BLOB.digest) == BLOB
    assert await registry.describe(GONE, BLOB.digest) is None
    assert await known(read_through.blobs(GONE), BLOB.digest) is None


async def test_tombstone_does_not_hide_a_repeated_push(registry, repository, read_through):
    await registry.push_blob(NAME, DATA)
    await read_through.blobs(NAME).clear(BLOB.digest)
    await registry.push_blob(NAME, DATA)
    assert await repository.stat(BLOB.digest) == BLOB
