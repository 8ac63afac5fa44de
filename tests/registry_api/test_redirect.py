"""Blobs of an object store that signs: the client is sent there."""

from __future__ import annotations

import aiohttp
import obstore
import pytest
from obstore.store import LocalStore

from aioblobcache import CachedRegistry, ConfigurationError, Descriptor, MemoryBlobDescriptorCache
from aioblobcache.registry_api import RegistryApi
from aioblobcache.storage import RegistryStorage
from tests.support.registry_content import IMAGE, LAYER, NAME, UNKNOWN, store
from tests.support.serving import serving
from tests.support.stores import S3Server

pytestmark = pytest.mark.anyio

V2 = f"/v2/{NAME}"


@pytest.fixture(scope="module")
def s3():
    with S3Server() as server:
        yield server


@pytest.fixture
async def storage(s3):
    storage = RegistryStorage(s3.open(s3.make_bucket()))
    await store(storage)
    return storage


async def test_blob_is_fetched_from_the_redirect_target(framework, storage):
    registry = CachedRegistry(MemoryBlobDescriptorCache(), storage)
    async with serving(framework, registry, redirect=True) as client:
        answer = await client.get(f"{V2}/blobs/{LAYER.digest}")
        assert (answer.status, answer.body) == (307, b"")
        async with aiohttp.ClientSession() as session, session.get(answer.headers["Location"]) as fetched:
            assert await fetched.read() == IMAGE.content[LAYER.digest]
        assert (await client.get(f"{V2}/manifests/latest")).status == 200
        assert (await client.head(f"{V2}/blobs/{LAYER.digest}")).status == 200
        assert (await client.get(f"{V2}/blobs/{UNKNOWN}")).status == 404


async def test_missing_data_is_not_redirected_to(framework, storage):
    registry = CachedRegistry(MemoryBlobDescriptorCache(), storage)
    async with serving(framework, registry, redirect=True) as client:
        assert (await client.head(f"{V2}/blobs/{LAYER.digest}")).status == 200
        await obstore.delete_async(storage.store, storage.layout.data(LAYER.digest))
        assert (await client.get(f"{V2}/blobs/{LAYER.digest}")).status == 404
        assert (await client.head(f"{V2}/blobs/{LAYER.digest}")).status == 404


def test_redirect_needs_a_store_that_signs(tmp_path):
    registry = CachedRegistry(MemoryBlobDescriptorCache(), RegistryStorage(LocalStore(tmp_path)))
    with pytest.raises(ConfigurationError, match="LocalStore"):
        RegistryApi(registry, redirect=True)


@pytest.mark.parametrize("wrong", [LAYER.size - 1, LAYER.size + 1])
async def test_redirect_evicts_an_entry_of_wrong_size(framework, storage, wrong):
    cache = MemoryBlobDescriptorCache()
    scoped = cache.repository_scoped(NAME)
    async with serving(framework, CachedRegistry(cache, storage), redirect=True) as client:
        await scoped.set_descriptor(LAYER.digest, Descriptor(LAYER.digest, wrong, "application/octet-stream"))
        assert (await client.head(f"{V2}/blobs/{LAYER.digest}")).headers["Content-Length"] == str(wrong)
        assert (await client.get(f"{V2}/blobs/{LAYER.digest}")).status == 307
        assert (await client.head(f"{V2}/blobs/{LAYER.digest}")).headers["Content-Length"] == str(LAYER.size)
