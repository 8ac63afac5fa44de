"""This library, used as a handler uses it: names and digests are plain strings, and all are validated."""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from aioblobcache import BlobUnknownError, Descriptor, Digest, RedisBlobDescriptorCache

from ..corpus import Blob
from .interface import Answer

__all__ = ["Ours"]


class Ours:
    """:class:`RedisBlobDescriptorCache`."""

    @asynccontextmanager
    async def open(self, host: str, port: int) -> AsyncIterator[Ours]:
        async with RedisBlobDescriptorCache.from_url(f"redis://{host}:{port}/0", timeout=10.0) as self._cache:
            yield self

    def stat(self, blob: Blob) -> Coroutine[Any, Any, Answer]:
        return self._cache.repository_scoped(blob.repository).stat(blob.digest)

    async def is_unknown(self, blob: Blob) -> bool:
        try:
            await self._cache.repository_scoped(blob.repository).stat(blob.absent)
        except BlobUnknownError:
            return True
        return False

    async def stat_many(self, repository: str, digests: list[str]) -> dict[str, Answer]:
        return await self._cache.repository_scoped(repository).stat_many(digests)  # type: ignore[return-value]

    async def set(self, blob: Blob) -> bool:
        digest = Digest(blob.digest)
        descriptor = Descriptor(digest, blob.size, blob.media_type)
        await self._cache.repository_scoped(blob.repository).set_descriptor(digest, descriptor)
        return True
