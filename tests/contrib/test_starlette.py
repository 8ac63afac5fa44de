"""The cache opened with an application of Starlette or FastAPI, and what middleware must leave alone."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Mount, Route

from aioblobcache import CachedRegistry, LifecycleError, MemoryBlobDescriptorCache
from aioblobcache.contrib.fastapi import Registry
from aioblobcache.contrib.starlette import RegistryApp, cached_registry, lifespan
from aioblobcache.storage import OpenedObject
from tests.support.registry_content import IMAGE, LARGE, LAYER, NAME, store_blob
from tests.support.serving import asking, by_uvicorn

pytestmark = pytest.mark.anyio

V2 = f"/v2/{NAME}"


async def test_cache_is_open_only_while_the_application_runs(registry):
    async def size(request: Request):
        found = await cached_registry(request).blobs(NAME).stat(LAYER.digest)
        return JSONResponse(found.size)

    app = Starlette(routes=[Route("/size", size)], lifespan=lifespan(registry))
    with pytest.raises(LifecycleError, match="before it was entered"):
        await registry.cache.stat(LAYER.digest)
    async with by_uvicorn(app) as url, asking(url) as client:
        assert (await client.get("/size")).body == b"%d" % LAYER.size
    with pytest.raises(LifecycleError, match="had ended"):
        await registry.cache.stat(LAYER.digest)


async def test_inner_lifespan_runs_while_the_cache_is_open(registry):
    said = []

    @asynccontextmanager
    async def own(app):
        said.append(await is_open(registry))
        yield {"colour": "blue"}
        said.append(await is_open(registry))

    async def colour(request: Request):
        assert cached_registry(request) is registry
        return PlainTextResponse(request.state.colour)

    app = Starlette(routes=[Route("/", colour)], lifespan=lifespan(registry, own))
    async with by_uvicorn(app) as url, asking(url) as client:
        assert (await client.get("/")).body == b"blue"
    assert said == [True, True]


async def is_open(registry):
    try:
        registry.cache.peek(LAYER.digest)
        await registry.blobs(NAME).stat(LAYER.digest)
    except LifecycleError:
        return False
    return True


async def test_missing_lifespan_raises_a_helpful_error(registry):
    async def handler(request: Request):
        with pytest.raises(LookupError, match=r"lifespan=lifespan\(registry\)"):
            cached_registry(request)
        return PlainTextResponse("told")

    async with by_uvicorn(Starlette(routes=[Route("/", handler)])) as url, asking(url) as client:
        assert (await client.get("/")).body == b"told"


async def test_lifespan_cannot_open_the_same_cache_twice(storage):
    registry = CachedRegistry(MemoryBlobDescriptorCache(), storage)
    run = lifespan(registry)
    async with run(None):
        pass
    with pytest.raises(LifecycleError, match="entered once only"):
        async with run(None):
            pass


async def test_fastapi_injects_the_registry(registry):
    app = FastAPI(lifespan=lifespan(registry))
    app.mount("/v2", RegistryApp(registry))

    @app.get("/size/{digest}")
    async def size(digest: str, registry: Registry) -> int:
        return (await registry.blobs(NAME).stat(digest)).size

    async with by_uvicorn(app) as url, asking(url) as client:
        assert (await client.get(f"/size/{LAYER.digest}")).body == b"%d" % LAYER.size
        assert (await client.get(f"{V2}/blobs/{LAYER.digest}")).body == IMAGE.content[LAYER.digest]


@pytest.mark.parametrize("path", [f"/blobs/{LAYER.digest}", "/manifests/latest", f"/blobs/{IMAGE.layers[1].digest}"])
async def test_compression_middleware_leaves_registry_content_alone(registry, path):
    async def compressible(request: Request):
        return PlainTextResponse("x" * 10_000)

    app = Starlette(
        routes=[Mount("/v2", RegistryApp(registry)), Route("/", compressible)],
        middleware=[Middleware(GZipMiddleware, minimum_size=0)],
        lifespan=lifespan(registry),
    )
    async with by_uvicorn(app) as url, asking(url) as client:
        assert (await client.get("/")).headers["Content-Encoding"] == "gzip"
        answer = await client.get(f"{V2}{path}")
        digest = IMAGE.manifest.digest if path == "/manifests/latest" else path.rpartition("/")[2]
        assert answer.body == IMAGE.content[digest]
        assert answer.headers["Content-Length"] == str(len(answer.body))
        assert answer.headers["Content-Encoding"] == "identity"


@pytest.mark.parametrize("prefix", ["", "/deep/down"])
async def test_links_hold_the_prefix_of_every_mount(registry, prefix):
    inner = Starlette(routes=[Mount("/v2", RegistryApp(registry))])
    app = Starlette(routes=[Mount(prefix or "/", inner)], lifespan=lifespan(registry))
    async with by_uvicorn(app) as url, asking(url) as client:
        answer = await client.get(f"{prefix}{V2}/tags/list?n=1")
        assert answer.headers["Link"] == f'<{prefix}{V2}/tags/list?n=1&last=1.0>; rel="next"'
        assert (await client.get(f"{prefix}{V2}/manifests/latest")).status == 200


async def test_mounted_fastapi_injects_the_registry(registry):
    inner = FastAPI()

    @inner.get("/size")
    async def size(registry: Registry) -> int:
        return (await registry.blobs(NAME).stat(LAYER.digest)).size

    app = FastAPI(lifespan=lifespan(registry))
    app.mount("/inner", inner)
    async with by_uvicorn(app) as url, asking(url) as client:
        assert (await client.get("/inner/size")).body == b"%d" % LAYER.size


@pytest.mark.parametrize("told_by", ["message", "failed send"])
async def test_body_is_closed_when_the_client_leaves_while_sending(registry, storage, monkeypatch, told_by):
    """By both ways in which an ASGI server tells it; the body stands at a yield, where no cancellation reaches it."""
    bodies = []
    original = OpenedObject.chunks
    sending = asyncio.Event()

    def noted(self):  # held here, so that only an explicit close ends it
        bodies.append(original(self))
        return bodies[-1]

    async def receive():
        await (sending.wait() if told_by == "message" else asyncio.Event().wait())
        return {"type": "http.disconnect"}

    async def send(message):
        if message["type"] == "http.response.body":
            sending.set()
            if told_by == "failed send":
                raise OSError("the connection is closed")
            await asyncio.Event().wait()

    monkeypatch.setattr(OpenedObject, "chunks", noted)
    blob = await store_blob(storage, LARGE)
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3" if told_by == "message" else "2.4"},
        "method": "GET",
        "path": f"{V2}/blobs/{blob.digest}",
        "root_path": "/v2",
        "query_string": b"",
        "headers": [],
    }
    async with registry.cache:
        if told_by == "message":
            await RegistryApp(registry)(scope, receive, send)
        else:
            with pytest.raises((ClientDisconnect, ExceptionGroup)):  # an older Starlette passes the error on
                await RegistryApp(registry)(scope, receive, send)
    [body] = bodies
    assert sending.is_set()
    assert body.ag_frame is None
