"""Blobs that are sent in chunks: storage is closed when the client leaves, and a blob cut short is never passed off
as whole."""

from __future__ import annotations

import os
from pathlib import Path

import aiohttp
import attrs
import pytest

from aioblobcache import StorageError
from aioblobcache.storage import OpenedObject
from tests.support.registry_content import LARGE, LAYER, NAME, store_blob
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

V2 = f"/v2/{NAME}"


@pytest.fixture
def bodies(monkeypatch):
    """The bodies that have been opened. The list holds them, so that only an explicit close ends one early."""
    opened = []
    original = OpenedObject.chunks

    def noted(self):
        opened.append(original(self))
        return opened[-1]

    monkeypatch.setattr(OpenedObject, "chunks", noted)
    return opened


def is_closed(body):
    return body.ag_frame is None


async def test_body_is_closed_when_the_response_has_ended(client, storage, bodies):
    blob = await store_blob(storage, LARGE)
    assert (await client.get(f"{V2}/blobs/{blob.digest}")).body == LARGE
    [body] = bodies
    await until(lambda: is_closed(body))


async def test_body_is_closed_as_soon_as_the_client_leaves(client, storage, bodies):
    blob = await store_blob(storage, LARGE * 64)
    async with client.session.get(f"{client.url}{V2}/blobs/{blob.digest}") as response:
        await response.content.readexactly(1000)
        [body] = bodies
        assert not is_closed(body)
        response.close()
    await until(lambda: is_closed(body))


@attrs.frozen
class ShortResult:
    """A store's answer that ends early, as that of an obstore which does not look at the size does."""

    content: bytes

    async def bytes_async(self):
        return self.content

    async def stream(self, *, min_chunk_size):
        yield self.content


@pytest.mark.parametrize("read", [OpenedObject.read, lambda opened: whole(opened.chunks())], ids=["whole", "chunks"])
async def test_object_shorter_than_announced_is_a_storage_error(read):
    assert await read(OpenedObject(10, 0, 10, "a/path", ShortResult(b"0123456789"))) == b"0123456789"
    with pytest.raises(StorageError, match="gave 4 bytes of 10"):
        await read(OpenedObject(10, 0, 10, "a/path", ShortResult(b"0123")))


async def whole(chunks):
    return b"".join([chunk async for chunk in chunks])


async def test_short_store_breaks_the_connection(client, storage, monkeypatch):
    """Also where the store itself says nothing of it."""
    blob = await store_blob(storage, LARGE)
    original = OpenedObject.chunks

    def short(self):
        return original(attrs.evolve(self, result=ShortResult(LARGE[:-1])))

    monkeypatch.setattr(OpenedObject, "chunks", short)
    with pytest.raises(aiohttp.ClientPayloadError):
        await client.get(f"{V2}/blobs/{blob.digest}")


async def test_small_blob_shorter_than_announced_is_unavailable(client, storage, monkeypatch):
    original = OpenedObject.read

    async def short(self):
        return await original(attrs.evolve(self, result=ShortResult(b"too short")))

    monkeypatch.setattr(OpenedObject, "read", short)
    answer = await client.get(f"{V2}/blobs/{LAYER.digest}")
    assert answer.status == 503
    assert b"too short" not in answer.body


# --- links ---------------------------------------------------------------------------------------

SPARSE = 128 * 1024 * 1024


def bytes_read():
    """Bytes that this process has read from files so far."""
    fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(fields["rchar"])


@pytest.mark.parametrize("kind", ["tag", "layer"])
async def test_link_over_300_bytes_is_refused_unread(client, storage, kind):
    blob = await store_blob(storage, b"never asked for before")
    layout = storage.layout
    if kind == "tag":
        link, path = layout.current(NAME, "latest"), f"{V2}/manifests/latest"
    else:
        link, path = layout.link(layout.layer_links(NAME), blob.digest), f"{V2}/blobs/{blob.digest}"
    os.truncate(storage.store.prefix / link, SPARSE)
    before = bytes_read()
    assert (await client.get(path)).status == 404
    assert bytes_read() - before < SPARSE // 8
