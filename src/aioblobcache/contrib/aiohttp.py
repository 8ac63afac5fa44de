"""For aiohttp: the cache opened with the application, and a registry's API to add to it.

    registry = CachedRegistry(connect("redis://localhost"), RegistryStorage.from_url("file:///var/lib/registry"))
    app = web.Application()
    app.cleanup_ctx.append(cache_context(registry))
    add_registry(app, registry)

Needs the extra ``aiohttp``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Final, Unpack

from aiohttp import web

from ..errors import ConfigurationError
from ..readthrough import CachedRegistry
from ..registry_api import RegistryApi
from ..registry_api import Request as ApiRequest
from ..registry_api.api import RegistryOptions
from ..registry_api.messages import not_to_be_compressed
from .lifespan import opened

__all__ = ["REGISTRY", "add_registry", "cache_context"]

# Where handlers find the registry: request.app[REGISTRY], or request.config_dict[REGISTRY] in a sub-application.
REGISTRY: Final = web.AppKey("REGISTRY", CachedRegistry)


def cache_context(registry: CachedRegistry) -> Callable[[web.Application], AsyncIterator[None]]:
    """For ``app.cleanup_ctx``: opens the registry's cache before the application serves, closes it afterwards."""

    async def run(app: web.Application) -> AsyncIterator[None]:
        app[REGISTRY] = registry
        async with opened(registry):
            yield

    return run


def add_registry(
    app: web.Application, registry: CachedRegistry, *, prefix: str = "/v2", **options: Unpack[RegistryOptions]
) -> None:
    """Serve the registry's API below ``prefix``; the options are those of ``RegistryApi``.

    :raises ConfigurationError: as ``RegistryApi`` does, or ``prefix`` is no path that begins with a slash.
    """
    if not prefix.startswith("/") or prefix.endswith("/") or "{" in prefix:
        raise ConfigurationError(f"prefix is a path such as /v2, not {prefix!r}")
    api = RegistryApi(registry, **options)

    async def handle(request: web.Request) -> web.StreamResponse:
        path = request.match_info["path"]
        base = request.path.removesuffix(path) if path else request.path
        answered = await api.handle(ApiRequest(request.method, path, base, request.query, request.headers, request))
        headers = not_to_be_compressed(answered, request.headers)
        if isinstance(answered.body, bytes) and request.method != "HEAD":
            return web.Response(status=answered.status, headers=headers, body=answered.body)
        response = web.StreamResponse(status=answered.status, headers=headers)
        if isinstance(answered.body, bytes):
            await response.prepare(request)
        else:
            async with aclosing(answered.body) as chunks:  # whoever leaves, what is open is closed now
                await response.prepare(request)
                async for chunk in chunks:
                    await response.write(chunk)
        await response.write_eof()
        return response

    app.router.add_route("*", prefix + "{path:(/.*)?}", handle)
