"""For Starlette and FastAPI: the cache opened with the application, and a registry's API to mount.

    registry = CachedRegistry(connect("redis://localhost"), RegistryStorage.from_url("file:///var/lib/registry"))
    app = Starlette(routes=[Mount("/v2", RegistryApp(registry))], lifespan=lifespan(registry))

Needs the extra ``starlette``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from typing import Any, Final, TypeAlias, Unpack, cast

from starlette.requests import HTTPConnection, Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from ..readthrough import CachedRegistry
from ..registry_api import RegistryApi
from ..registry_api import Request as ApiRequest
from ..registry_api.api import RegistryOptions
from ..registry_api.messages import not_to_be_compressed
from .lifespan import opened

__all__ = ["InnerLifespan", "Lifespan", "RegistryApp", "cached_registry", "lifespan"]

Lifespan: TypeAlias = Callable[[Any], AbstractAsyncContextManager[Mapping[str, Any]]]
InnerLifespan: TypeAlias = Callable[[Any], AbstractAsyncContextManager[Mapping[str, Any] | None]]

_STATE: Final = "cached_registry"


def lifespan(registry: CachedRegistry, inner: InnerLifespan | None = None) -> Lifespan:
    """A lifespan that opens the registry's cache before the application serves, and closes it afterwards.

    ``inner`` is a lifespan of your own that runs within it. Give it to the outermost application: those that are
    mounted in another are never told of its start and end. Handlers get the registry by :func:`cached_registry`.
    """

    @asynccontextmanager
    async def run(app: Any) -> AsyncIterator[Mapping[str, Any]]:
        async with opened(registry):
            if inner is None:
                yield {_STATE: registry}
            else:
                async with inner(app) as state:
                    yield {**(state or {}), _STATE: registry}

    return run


def cached_registry(connection: HTTPConnection) -> CachedRegistry:
    """The registry that :func:`lifespan` opened: a dependency of FastAPI, too.

    :raises LookupError: the application was not started with that lifespan.
    """
    try:
        return cast("CachedRegistry", getattr(connection.state, _STATE))
    except AttributeError:
        raise LookupError(
            "no registry is open: start the outermost application with lifespan=lifespan(registry)"
        ) from None


class RegistryApp:
    """The registry's API as an ASGI application, to be mounted at ``/v2``; the options are those of ``RegistryApi``.

    :raises ConfigurationError: as ``RegistryApi`` does.
    """

    def __init__(self, registry: CachedRegistry, **options: Unpack[RegistryOptions]) -> None:
        self._api = RegistryApi(registry, **options)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: D102
        if scope["type"] != "http":
            raise RuntimeError(f"a registry's API serves HTTP requests alone, not {scope['type']!r}")
        native = Request(scope, receive)
        base, path = scope.get("root_path", ""), scope["path"]
        request = ApiRequest(native.method, path.removeprefix(base), base, native.query_params, native.headers, native)
        response = await self._api.handle(request)
        headers = not_to_be_compressed(response, native.headers)
        if isinstance(response.body, bytes):
            await _send(send, response.status, headers, response.body)
        else:
            async with aclosing(response.body) as chunks:  # whoever leaves, what is open is closed now
                await StreamingResponse(chunks, response.status, headers)(scope, receive, send)


async def _send(send: Send, status: int, headers: Mapping[str, str], body: bytes) -> None:
    raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
