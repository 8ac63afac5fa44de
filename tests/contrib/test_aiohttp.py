"""The cache opened with an application of aiohttp."""

from __future__ import annotations

import asyncio
import gc
import os
from pathlib import Path

import pytest
from aiohttp import web

from aioblobcache import ConfigurationError, LifecycleError
from aioblobcache.contrib.aiohttp import REGISTRY, add_registry, cache_context
from tests.support.registry_content import IMAGE, LAYER, NAME, store_blob
from tests.support.serving import asking, by_aiohttp
from tests.support.waiting import until

pytestmark = pytest.mark.anyio


async def test_cache_is_open_only_while_the_application_runs(registry):
    async def size(request: web.Request) -> web.Response:
        found = await request.config_dict[REGISTRY].blobs(NAME).stat(LAYER.digest)
        return web.json_response(found.size)

    inner = web.Application()
    inner.router.add_get("/size", size)
    app = web.Application()
    app.cleanup_ctx.append(cache_context(registry))
    app.add_subapp("/inner", inner)
    async with by_aiohttp(app) as url, asking(url) as client:
        assert (await client.get("/inner/size")).body == b"%d" % LAYER.size
    with pytest.raises(LifecycleError, match="had ended"):
        await registry.cache.stat(LAYER.digest)


async def test_links_hold_the_prefix_of_every_application(registry):
    inner = web.Application()
    add_registry(inner, registry, prefix="/down/v2")
    app = web.Application()
    app.cleanup_ctx.append(cache_context(registry))
    app.add_subapp("/deep", inner)
    async with by_aiohttp(app) as url, asking(url) as client:
        answer = await client.get(f"/deep/down/v2/{NAME}/tags/list?n=1")
        assert answer.headers["Link"] == f'</deep/down/v2/{NAME}/tags/list?n=1&last=1.0>; rel="next"'
        assert (await client.get("/deep/down/v2")).status == 200
        assert (await client.get("/deep/down/v2/")).status == 200
        assert (await client.get("/deep/down/v2x/")).status == 404


@pytest.mark.parametrize("prefix", ["v2", "/v2/", "/{x}/v2", ""])
async def test_invalid_prefix_is_refused(registry, prefix):
    with pytest.raises(ConfigurationError, match="prefix"):
        add_registry(web.Application(), registry, prefix=prefix)


async def test_compression_middleware_leaves_registry_content_alone(registry):
    async def compress(request, response):
        response.enable_compression()

    app = web.Application()
    app.on_response_prepare.append(compress)
    app.cleanup_ctx.append(cache_context(registry))
    add_registry(app, registry)
    async with by_aiohttp(app) as url, asking(url) as client:
        for path in (f"manifests/{IMAGE.manifest.digest}", f"blobs/{LAYER.digest}"):
            answer = await client.get(f"/v2/{NAME}/{path}")
            assert answer.body == IMAGE.content[path.partition("/")[2]]
            assert answer.headers["Content-Length"] == str(len(answer.body))


async def test_blob_file_is_closed_as_soon_as_the_client_leaves(registry, storage):
    large = await store_blob(storage, bytes(64 * 1024 * 1024))
    app = web.Application()
    app.cleanup_ctx.append(cache_context(registry))
    add_registry(app, registry)
    opened = Path("/proc/self/fd")

    def is_open():
        return any(large.digest.encoded in os.readlink(file) for file in opened.iterdir() if file.is_symlink())

    gc.collect()
    gc.disable()
    try:
        async with by_aiohttp(app) as url:
            async with asking(url) as client:
                request = client.session.get(f"{url}/v2/{NAME}/blobs/{large.digest}")
                async with request as response:
                    await response.content.read(1000)
                    assert is_open()
                    response.close()
            await until(lambda: not is_open())
    finally:
        gc.enable()


async def test_client_that_reads_nothing_fills_no_memory(registry, storage):
    large = await store_blob(storage, b"the beginning of a blob that is never read to its end")
    os.truncate(storage.store.prefix / storage.layout.data(large.digest), 8 * 1024**3)  # hardly any of it on the disk
    app = web.Application()
    app.cleanup_ctx.append(cache_context(registry))
    add_registry(app, registry)

    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    async with by_aiohttp(app) as url:
        before = resident()
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        writer.write(f"GET /v2/{NAME}/blobs/{large.digest} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert (await reader.read(1000)).startswith(b"HTTP/1.1 200")
        writer.transport.pause_reading()
        await asyncio.sleep(1.0)  # for as much as it would take in while the client takes nothing
        assert resident() - before < 64 * 1024 * 1024
        writer.transport.abort()
