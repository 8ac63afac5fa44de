"""Manifests: which one a tag or a digest names is read from storage; that the cache holds it proves no link."""

from __future__ import annotations

from contextlib import suppress

from .. import media_types
from ..descriptor import Descriptor
from ..digest import Digest
from ..errors import BlobUnknownError
from ..readthrough import CachedRegistry
from ..storage import RegistryStorage
from .conditions import etag_of, is_known_to_client
from .messages import Request, Response
from .problems import MANIFEST_INVALID, MANIFEST_UNKNOWN, Problem

__all__ = ["Manifests"]


class Manifests:
    """The manifests of each repository (OCI Distribution Specification v1.1, "Pulling" and "Deleting Manifests").

    They are sent as they were pushed, byte for byte, whatever ``Accept`` says.
    """

    def __init__(self, registry: CachedRegistry, storage: RegistryStorage) -> None:
        self._registry = registry
        self._storage = storage

    async def head(self, request: Request, name: str, reference: str) -> Response:
        """What the manifest is. A cache cannot say that it is one, nor that it is linked: it is read, as for a GET."""
        return await self.get(request, name, reference)

    async def get(self, request: Request, name: str, reference: str) -> Response:
        """The manifest itself."""
        digest = await self._named(name, reference)
        try:
            found, content = await self._storage.manifests(name).read(digest)
        except BlobUnknownError as error:
            await self._registry.manifests(name).evict(digest)
            raise _unknown(name, reference) from error
        return _answer(request, found, content)

    async def delete(self, request: Request, name: str, reference: str) -> Response:
        """Of a digest: remove the link, and first the tags that name it. Of a tag: remove that alone."""
        tags = self._storage.tags(name)
        if ":" not in reference:
            if not await tags.remove(reference):
                raise _unknown(name, reference)
            return Response(202, {"Content-Length": "0"})
        digest = Digest(reference)
        try:
            named = await self._storage.manifests(name).target(digest)
            # A cache that does not confirm forbids it all, as long as nothing is gone.
            with suppress(BlobUnknownError):
                await self._registry.cache.repository_scoped(name).clear(digest)
            await tags.remove_those_of(named)
            await self._registry.manifests(name).clear(digest)
        except BlobUnknownError as error:
            raise _unknown(name, reference) from error
        return Response(202, {"Content-Length": "0"})

    async def _named(self, name: str, reference: str) -> Digest:
        """The digest that ``reference`` is, or that the tag names."""
        if ":" in reference:
            return Digest(reference)
        digest = await self._storage.tags(name).resolve(reference)
        if digest is None:
            raise _unknown(name, reference)
        return digest


def _answer(request: Request, found: Descriptor, content: bytes) -> Response:
    """A manifest, if it is one that clients still take."""
    if found.media_type in media_types.SCHEMA_1:
        raise Problem(MANIFEST_INVALID, "Schema 1 manifest not supported")  # Distribution's words, since 3.0
    if found.media_type not in media_types.MANIFESTS:
        raise Problem(MANIFEST_UNKNOWN, {"digest": found.digest, "reason": "what is stored is no manifest"})
    etag = etag_of(found.digest)
    headers = {"Content-Type": found.media_type, "Docker-Content-Digest": found.digest, "ETag": etag}
    if is_known_to_client(request.headers, etag):
        return Response(304, headers)
    return Response(200, headers | {"Content-Length": str(found.size)}, content)


def _unknown(name: str, reference: str) -> Problem:
    return Problem(MANIFEST_UNKNOWN, {"name": name, "reference": reference[:200]})
