"""An image in two repositories of a storage, and a cache that knows all of it."""

from __future__ import annotations

import pytest
from obstore.store import LocalStore

from aioblobcache import CachedRegistry, Digest
from aioblobcache.cli.sample import build_image, store_image
from aioblobcache.maintenance import Keyspace
from aioblobcache.media_types import OCTET_STREAM
from aioblobcache.redis.keys import descriptor_key
from aioblobcache.storage import RegistryStorage

NAME = "library/demo"
OTHER = "library/other"
IMAGE = build_image([{"etc/motd": "welcome\n"}, {"bin/start": "#!/bin/sh\n"}])
CONFIG, LAYER, MANIFEST = IMAGE.config.digest, IMAGE.layers[0].digest, IMAGE.manifest.digest


@pytest.fixture
async def storage(tmp_path):
    """A storage with an image in two repositories."""
    storage = RegistryStorage(LocalStore(tmp_path / "storage", mkdir=True))
    for name in (NAME, OTHER):
        await store_image(storage, name, "latest", IMAGE)
    return storage


@pytest.fixture
async def keyspace(client):
    async with Keyspace(client) as keyspace:
        yield keyspace


async def fill(keyspace, storage, *names):
    """Let the cache know all of the image, in these repositories."""
    registry = CachedRegistry(keyspace.cache, storage)
    for name in names or (NAME, OTHER):
        for blob in IMAGE.blobs:
            await registry.blobs(name).stat(blob.digest)
        await registry.manifests(name).stat(MANIFEST)


@pytest.fixture
async def filled(keyspace, storage):
    await fill(keyspace, storage)
    return keyspace


def lose(storage, digest):
    (storage.store.prefix / storage.layout.data(digest)).unlink()


def unlink(storage, name, digest):
    (storage.store.prefix / storage.layout.link(storage.layout.layer_links(name), digest)).unlink()


async def many(client, count=5_000):
    """Global entries of blobs of a byte."""
    digests = [Digest.of(f"{number}".encode()) for number in range(count)]
    pipeline = client.pipeline(transaction=False)
    for digest in digests:
        pipeline.hset(descriptor_key(digest), mapping={"digest": digest, "size": 1, "mediatype": OCTET_STREAM})
    await pipeline.execute()
    return digests
