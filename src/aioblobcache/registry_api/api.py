"""The API as a whole: which endpoint a request is for, whether it is allowed, and what an error becomes."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias, TypedDict

from .. import media_types
from ..digest import Digest
from ..errors import BlobCacheError, ConfigurationError, StorageError
from ..names import validate_repository_name
from ..readthrough import CachedRegistry
from ..storage import RegistryStorage
from .access import AccessError, Action, Authorize
from .blobs import Blobs
from .listings import Listings
from .manifests import Manifests
from .messages import Request, Response, json_response
from .problems import NAME_UNKNOWN, NOT_HERE, UNSUPPORTED, Problem, problem_of
from .referrers import Referrers
from .routes import Endpoint, Route, find_route

__all__ = ["RegistryApi", "RegistryOptions"]

_log = logging.getLogger("aioblobcache.registry_api")

# What every answer says, as Distribution's do: which API this is, and that a type is what it says it is.
_ALWAYS: Final = {"Docker-Distribution-Api-Version": "registry/2.0", "X-Content-Type-Options": "nosniff"}

# How long storage must not have failed to be said to answer again, in seconds.
_QUIET: Final = 10.0

_Handler: TypeAlias = Callable[[Request, Route], Awaitable[Response]]


class RegistryOptions(TypedDict, total=False):
    """The options of :class:`RegistryApi`, for those who pass them on."""

    authorize: Authorize | None
    deletes: bool
    redirect: bool
    referrers: bool


class RegistryApi:
    """A read-only registry's API over a :class:`~aioblobcache.CachedRegistry` whose storage is a ``RegistryStorage``.

    * ``authorize``: ``await authorize(request, repository, action)`` with the framework's own request; it returns, or
      raises :class:`UnauthorizedError` or :class:`ForbiddenError`. Without it everybody may pull.
    * ``deletes``: also DELETE blobs, manifests and tags; needs ``authorize``.
    * ``redirect``: send who GETs a blob to a URL that the object store signed, instead of passing the blob on.
    * ``referrers``: answer which manifests refer to one; else clients are told to look at tags themselves.

    :raises ConfigurationError: ``deletes`` without ``authorize``, ``redirect`` with a store that cannot sign, or
        another kind of storage.
    """

    def __init__(
        self,
        registry: CachedRegistry,
        *,
        authorize: Authorize | None = None,
        deletes: bool = False,
        redirect: bool = False,
        referrers: bool = False,
    ) -> None:
        storage = registry.storage
        if not isinstance(storage, RegistryStorage):
            raise ConfigurationError(f"the API reads a RegistryStorage, not a {type(storage).__name__}")
        if deletes and authorize is None:
            raise ConfigurationError("deletes=True needs authorize=…: else anybody could delete anything")
        if redirect and not storage.can_sign:
            raise ConfigurationError(
                f"redirect=True needs a store that signs URLs, not a {type(storage.store).__name__}"
            )
        self._authorize = authorize
        self._storage = storage
        self._listings = Listings(storage)
        self._referrers = Referrers(storage) if referrers else None
        self._storage_answers = True
        self._storage_failed_at = 0.0
        blobs, manifests = Blobs(registry, storage, redirect=redirect), Manifests(registry, storage)
        self._handlers: dict[Endpoint, dict[str, _Handler]] = {
            Endpoint.BASE: {"GET": self._base, "HEAD": self._base},
            Endpoint.CATALOG: {"GET": self._catalog},
            Endpoint.BLOB: {"GET": _of(blobs.get), "HEAD": _of(blobs.head)},
            Endpoint.MANIFEST: {"GET": _of(manifests.get), "HEAD": _of(manifests.head)},
            Endpoint.TAGS: {"GET": self._tags},
            Endpoint.REFERRERS: {"GET": self._refer},
            Endpoint.UPLOADS: {},
        }
        if deletes:
            self._handlers[Endpoint.BLOB]["DELETE"] = _of(blobs.delete)
            self._handlers[Endpoint.MANIFEST]["DELETE"] = _of(manifests.delete)

    async def handle(self, request: Request) -> Response:
        """Answer a request. Nothing but a fault of the program, and a cancellation, is raised."""
        try:
            response = await self._handle(request)
        except Problem as problem:
            response = problem.response()
        except (BlobCacheError, AccessError) as error:
            self._note(error)
            known = problem_of(error)
            if known is None:
                raise
            response = known.response()
        headers = response.headers | _ALWAYS
        return Response(response.status, headers, b"" if request.method == "HEAD" else response.body)

    async def _handle(self, request: Request) -> Response:
        route = find_route(request.path)
        if route is None:
            raise Problem(NOT_HERE)
        methods = self._handlers[route.endpoint]
        handler = methods.get(request.method)
        if route.name:
            validate_repository_name(route.name)
        if self._authorize is not None:
            await self._authorize(request.native, route.name or None, _action(route, request.method))
        if handler is None:
            raise Problem(UNSUPPORTED, headers={"Allow": ", ".join(methods)})
        response = await handler(request, route)
        if _has_asked_storage(route, request.method, response):
            self._note(None)
        return response

    async def _base(self, request: Request, route: Route) -> Response:
        return json_response({})

    async def _catalog(self, request: Request, route: Route) -> Response:
        return await self._listings.catalog(request)

    async def _tags(self, request: Request, route: Route) -> Response:
        return await self._listings.tags(request, route.name)

    async def _refer(self, request: Request, route: Route) -> Response:
        """OCI Distribution Specification v1.1, "Listing Referrers"."""
        subject = Digest(route.reference)
        if self._referrers is None:
            raise Problem(NOT_HERE)
        found = await self._referrers.of(route.name, subject)
        if found is None:
            raise Problem(NOT_HERE)
        if not found and not await self._storage.tags(route.name).is_repository():
            raise Problem(NAME_UNKNOWN, {"name": route.name})
        headers = {"Content-Type": media_types.OCI_INDEX}
        wanted = request.query.get("artifactType")
        if wanted:
            found = [one for one in found if one.get("artifactType") == wanted]
            headers["OCI-Filters-Applied"] = "artifactType"
        index = {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": found}
        return json_response(index, headers=headers)

    def _note(self, error: Exception | None) -> None:
        """Say once that storage does not answer, and once that it has done so again for a while.

        One object that cannot be read, among others that can, is one line and no more.
        """
        now = time.monotonic()
        if isinstance(error, StorageError):
            self._storage_failed_at = now
            if self._storage_answers:
                self._storage_answers = False
                _log.warning("%s", error)
        elif error is None and not self._storage_answers and now - self._storage_failed_at >= _QUIET:
            self._storage_answers = True
            _log.info("storage answers again")


def _of(method: Callable[[Request, str, str], Awaitable[Response]]) -> _Handler:
    """An endpoint of something in a repository."""
    return lambda request, route: method(request, route.name, route.reference)


def _has_asked_storage(route: Route, method: str, response: Response) -> bool:
    """Whether an answer shows that storage answers: a blob's HEAD is the cache's, and so is *not modified*."""
    if route.endpoint is Endpoint.BLOB:
        return method != "HEAD" and response.status != 304
    return route.endpoint in (Endpoint.CATALOG, Endpoint.MANIFEST, Endpoint.TAGS)


def _action(route: Route, method: str) -> Action:
    if route.endpoint is Endpoint.BASE:
        return "base"
    if route.endpoint is Endpoint.CATALOG:
        return "catalog"
    return "delete" if method == "DELETE" else "pull"
