"""Blobs: HEAD is what the cache is for; GET believes storage alone about what it sends."""

from __future__ import annotations

from typing import Final

from .. import media_types
from ..descriptor import Descriptor
from ..digest import Digest
from ..errors import BlobUnknownError
from ..readthrough import CachedBlobStatter, CachedRegistry
from ..storage import OpenedObject, RegistryStorage
from .conditions import etag_of, is_known_to_client, wanted_range
from .messages import Request, Response
from .problems import RANGE_INVALID, Problem

__all__ = ["Blobs"]

# Up to so many bytes a blob is read whole before the answer begins: one message, and an error is still an error.
_READ_WHOLE: Final = 64 * 1024

# What a digest names never changes: as Distribution says it, a year; and nobody on the way may compress it.
_CACHE_CONTROL: Final = "max-age=31536000, no-transform"

# How long a signed URL is good, in seconds: Distribution's twenty minutes.
_SIGNED_FOR: Final = 1200.0


class Blobs:
    """The blobs of each repository (OCI Distribution Specification v1.1, "Pulling blobs", "Deleting Blobs")."""

    def __init__(self, registry: CachedRegistry, storage: RegistryStorage, *, redirect: bool) -> None:
        self._registry = registry
        self._storage = storage
        self._redirect = redirect

    async def head(self, request: Request, name: str, reference: str) -> Response:
        """What the blob is, as the cache knows it."""
        found = await self._registry.blobs(name).stat(reference)
        if is_known_to_client(request.headers, etag_of(found.digest)):
            return Response(304, _headers(found))
        return Response(200, _headers(found) | {"Content-Length": str(found.size)})

    async def get(self, request: Request, name: str, reference: str) -> Response:
        """The blob itself, or a part of it. Its length is what storage says; a cache that differs is corrected."""
        digest = Digest(reference)
        known = self._registry.blobs(name)
        found = await known.stat(digest)
        etag = etag_of(found.digest)
        if is_known_to_client(request.headers, etag):
            return Response(304, _headers(found))
        if self._redirect:
            return await self._redirected(known, digest, found)
        try:
            opened = await self._storage.blobs(name).open(found.digest, wanted_range(request.headers, etag))
        except BlobUnknownError:
            await known.evict(digest)
            raise
        size = opened.size if isinstance(opened, OpenedObject) else opened
        if size != found.size:
            await known.evict(digest)
        if not isinstance(opened, OpenedObject):
            raise Problem(RANGE_INVALID, headers={"Content-Range": f"bytes */{size}"})
        headers = _headers(found) | {"Content-Length": str(opened.length)}
        partial = opened.length != size
        if partial:
            headers["Content-Range"] = f"bytes {opened.start}-{opened.end - 1}/{size}"
        body = await opened.read() if opened.length <= _READ_WHOLE else opened.chunks()
        return Response(206 if partial else 200, headers, body)

    async def delete(self, request: Request, name: str, reference: str) -> Response:
        """Remove the repository's link to the blob; its data stays for a garbage collection."""
        await self._registry.blobs(name).clear(reference)
        return Response(202, {"Content-Length": "0"})

    async def _redirected(self, known: CachedBlobStatter, digest: Digest, found: Descriptor) -> Response:
        # Who is sent on would meet the store's own 404, and the cache would go on sending others there.
        try:
            stored = await self._storage.stat(found.digest)
        except BlobUnknownError:
            await known.evict(digest)
            raise
        if stored.size != found.size:
            await known.evict(digest)
        url = await self._storage.signed_url(found.digest, _SIGNED_FOR)
        return Response(307, {"Location": url, "Content-Length": "0", "Cache-Control": "no-store"})


def _headers(found: Descriptor) -> dict[str, str]:
    return {
        "Content-Type": found.media_type or media_types.OCTET_STREAM,
        "Docker-Content-Digest": found.digest,
        "ETag": etag_of(found.digest),
        "Accept-Ranges": "bytes",
        "Cache-Control": _CACHE_CONTROL,
    }
