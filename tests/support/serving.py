"""The API behind each framework, on a real port."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import attrs
import uvicorn
from aiohttp import web
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.routing import Mount
from yarl import URL

from aioblobcache import CachedRegistry
from aioblobcache.contrib.aiohttp import add_registry, cache_context
from aioblobcache.contrib.starlette import RegistryApp, lifespan
from tests.support.waiting import until


@attrs.frozen
class Answer:
    status: int
    headers: Any
    body: bytes


@attrs.frozen
class Client:
    """Asks a server; nothing that it sends or gets is changed on the way."""

    url: str
    session: aiohttp.ClientSession

    async def ask(self, method: str, path: str, **headers: str) -> Answer:
        url = URL(f"{self.url}{path}", encoded=True)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.session.request(method, url, headers=named, allow_redirects=False) as response:
            return Answer(response.status, response.headers, await response.read())

    async def get(self, path: str, **headers: str) -> Answer:
        return await self.ask("GET", path, **headers)

    async def head(self, path: str, **headers: str) -> Answer:
        return await self.ask("HEAD", path, **headers)


@asynccontextmanager
async def asking(url: str) -> AsyncIterator[Client]:
    session = aiohttp.ClientSession(auto_decompress=False, headers={"Accept-Encoding": "gzip"})
    async with session:
        yield Client(url, session)


@asynccontextmanager
async def by_uvicorn(app: Any) -> AsyncIterator[str]:
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None, lifespan="on", ws="none")
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    await until(lambda: server.started or task.done())
    try:
        [listening] = server.servers
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        await task


@asynccontextmanager
async def by_aiohttp(app: web.Application) -> AsyncIterator[str]:
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def starlette_app(registry: CachedRegistry, **options: Any) -> Starlette:
    return Starlette(routes=[Mount("/v2", RegistryApp(registry, **options))], lifespan=lifespan(registry))


def fastapi_app(registry: CachedRegistry, **options: Any) -> FastAPI:
    app = FastAPI(lifespan=lifespan(registry))
    app.mount("/v2", RegistryApp(registry, **options))
    return app


def aiohttp_app(registry: CachedRegistry, **options: Any) -> web.Application:
    app = web.Application()
    app.cleanup_ctx.append(cache_context(registry))
    add_registry(app, registry, **options)
    return app


FRAMEWORKS = {
    "starlette": (starlette_app, by_uvicorn),
    "fastapi": (fastapi_app, by_uvicorn),
    "aiohttp": (aiohttp_app, by_aiohttp),
}


@asynccontextmanager
async def serving(framework: str, registry: CachedRegistry, **options: Any) -> AsyncIterator[Client]:
    """Serve the registry, and ask it."""
    make_app, serve = FRAMEWORKS[framework]
    async with serve(make_app(registry, **options)) as url, asking(url) as client:
        yield client
