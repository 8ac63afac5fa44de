"""One Redis, shared with Debian's docker-registry 2.8: each reads what the other has written, and
notices what the other has cleared."""

from __future__ import annotations

import pytest

from aioblobcache import BlobUnknownError, Descriptor, Digest
from aioblobcache.media_types import OCTET_STREAM
from aioblobcache.redis import keys
from tests.support.docker_registry import BLOB, DATA, GONE, KEPT, NAME, TAG, as_cached, break_by_garbage_collection

pytestmark = pytest.mark.anyio

# No registry would come to this size or media type by itself.
WRONG_SIZE = 4_711
OTHER_TYPE = "application/vnd.example.other"


async def test_push_is_known_in_the_repository_and_globally(image, client, cache, repository):
    pushed = {blob.digest: as_cached(blob) for blob in image.blobs}
    members = [member.decode() for member in await client.smembers(keys.membership_key(NAME))]
    assert await repository.stat_many(members) == pushed
    assert await cache.stat_many(members) == pushed


async def test_push_to_one_repository_is_unknown_in_another(image, cache):
    other = cache.repository_scoped("library/other")
    assert await other.stat_many(blob.digest for blob in image.blobs) == {}


async def test_registry_caches_a_read_manifest_globally_only(registry, image, cache, repository):
    manifest = image.manifest
    assert await cache.stat_many([manifest.digest]) == {}
    assert await registry.describe_manifest(NAME, TAG) == manifest
    assert await cache.stat(manifest.digest) == as_cached(manifest)
    assert await repository.stat_many([manifest.digest]) == {}


async def test_registry_prefers_a_cached_descriptor_to_its_storage(registry, image, repository):
    digest = image.config.digest
    descriptor = Descriptor(digest, WRONG_SIZE, OTHER_TYPE)
    await repository.set_descriptor(digest, descriptor)
    assert await registry.describe(NAME, digest) == descriptor


async def test_registry_answers_for_a_blob_only_set_here(registry, repository):
    await repository.set_descriptor(BLOB.digest, BLOB)
    assert await registry.describe(NAME, BLOB.digest) == BLOB


async def test_global_descriptor_makes_no_blob_visible_in_a_repository(registry, image, cache):
    await cache.set_descriptor(BLOB.digest, BLOB)
    assert await registry.describe(NAME, BLOB.digest) is None


@pytest.mark.parametrize("scope", ["cache", "repository"])
async def test_clear_sends_the_registry_to_its_storage(registry, image, repository, scope, request):
    stored = as_cached(image.config)
    await repository.set_descriptor(stored.digest, Descriptor(stored.digest, WRONG_SIZE, OCTET_STREAM))
    assert await registry.describe(NAME, stored.digest) != stored
    await request.getfixturevalue(scope).clear(stored.digest)
    assert await repository.stat_many([stored.digest]) == {}
    assert await registry.describe(NAME, stored.digest) == stored
    assert await repository.stat(stored.digest) == stored


async def test_clear_makes_the_registry_forget_an_unstored_blob(registry, repository):
    await repository.set_descriptor(BLOB.digest, BLOB)
    await repository.clear(BLOB.digest)
    assert await registry.describe(NAME, BLOB.digest) is None


async def test_blob_deleted_by_the_registry_is_unknown(registry, image, cache, repository):
    layer = image.layers[0]
    await registry.delete(NAME, layer.digest)
    for service in (repository, cache):
        with pytest.raises(BlobUnknownError):
            await service.stat(layer.digest)


async def test_registry_delete_leaves_or_removes_membership_and_media_type(
    registry, delete_leaves_membership, image, client
):
    """As this release does: 2.8.2 leaves both, and where the cure of CVE-2026-35172 is in, neither stays."""
    digest = image.layers[0].digest
    assert await client.sismember(keys.membership_key(NAME), digest)
    await registry.delete(NAME, digest)
    assert bool(await client.sismember(keys.membership_key(NAME), digest)) is delete_leaves_membership
    override = {b"mediatype": OCTET_STREAM.encode()} if delete_leaves_membership else {}
    assert await client.hgetall(keys.override_key(NAME, digest)) == override
    assert not await client.exists(keys.descriptor_key(digest))


async def test_deleted_blob_is_unknown_elsewhere_until_the_registry_reads_it(registry, cache):
    await registry.push_blob(GONE, DATA)
    await registry.push_blob(KEPT, DATA)
    await registry.delete(GONE, BLOB.digest)
    kept = cache.repository_scoped(KEPT)
    assert await kept.stat_many([BLOB.digest]) == {}
    assert await registry.describe(KEPT, BLOB.digest) == BLOB
    assert await kept.stat(BLOB.digest) == BLOB


async def test_deleted_blob_comes_back_only_if_its_membership_was_left(registry, delete_leaves_membership, cache):
    """Where a DELETE leaves the membership, it counts again: a fault of 2.8.2, and a reason to audit."""
    await registry.push_blob(GONE, DATA)
    await registry.push_blob(KEPT, DATA)
    await registry.delete(GONE, BLOB.digest)
    await registry.describe(KEPT, BLOB.digest)
    assert await registry.describe(GONE, BLOB.digest) == (BLOB if delete_leaves_membership else None)
    shown = {BLOB.digest: BLOB} if delete_leaves_membership else {}
    assert await cache.repository_scoped(GONE).stat_many([BLOB.digest]) == shown


async def test_manifest_deleted_by_the_registry_stays_known_globally(registry, image, cache):
    await registry.describe_manifest(NAME, TAG)
    await registry.delete_manifest(NAME, image.manifest.digest)
    assert await registry.describe_manifest(NAME, image.manifest.digest) is None
    assert await cache.stat(image.manifest.digest) == as_cached(image.manifest)


async def test_push_by_sha512_is_cached_under_its_sha256_digest(registry, cache, repository):
    alias = await registry.push_blob(NAME, DATA, "sha512")
    for service in (repository, cache):
        assert await service.stat_many([alias, BLOB.digest]) == {BLOB.digest: BLOB}


async def test_push_read_by_sha512_is_known_by_both_digests(registry, cache, repository):
    alias = await registry.push_blob(NAME, DATA, "sha512")
    assert await registry.describe(NAME, alias) == BLOB
    for service in (repository, cache):
        assert await service.stat_many([alias, BLOB.digest]) == {alias: BLOB, BLOB.digest: BLOB}


async def test_registry_answers_both_digests_of_an_alias_set_here(registry, repository):
    alias = Digest.of(DATA, "sha512")
    await repository.set_descriptor(alias, BLOB)
    assert await registry.describe(NAME, alias) == BLOB
    assert await registry.describe(NAME, BLOB.digest) == BLOB


async def test_clear_lets_collected_blobs_be_pushed_again(registry, image, cache, repository):
    """Its cache goes on promising what is gone, so that clients do not send it."""
    await break_by_garbage_collection(registry, image, NAME, TAG)
    for blob in image.blobs:
        await repository.clear(blob.digest)
    await cache.clear(image.manifest.digest)
    await registry.push(image, NAME, TAG)
    await registry.pull(NAME, TAG)
