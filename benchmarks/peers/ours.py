"""This library, used as a handler uses it: names and digests are plain strings, and all are validated."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aioblobcache import BlobUnknownError, Descriptor, Digest, RedisBlobDescriptorCache
from aioblobcache.redis.provider import RedisRepositoryCache

from ..corpus import Blob
from .interface import Answer

__all__ = ["Ours", "OursOnCluster"]


class Ours:
    """:class:`RedisBlobDescriptorCache`."""

    _scheme = "redis"

    def __init__(self) -> None:
        self._digests: dict[str, Digest] = {}

    @asynccontextmanager
    async def open(self, host: str, port: int, kept: int) -> AsyncIterator[Ours]:
        url = f"{self._scheme}://{host}:{port}/0"
        async with RedisBlobDescriptorCache.from_url(url, timeout=10.0, near_cache=kept) as self._cache:
            while kept and self._cache.info()["near_cache"]["why_off"]:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
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

    def prepare(self, blobs: Sequence[Blob]) -> list[tuple[RedisRepositoryCache, Digest]]:
        pairs = {
            blob: (self._cache.repository_scoped(blob.repository), self._digest(blob.digest)) for blob in set(blobs)
        }
        return [pairs[blob] for blob in blobs]

    def _digest(self, text: str) -> Digest:
        """The same object for the same digest."""
        digest = self._digests.get(text)
        if digest is None:
            digest = self._digests[text] = Digest(text)
        return digest

    async def stat_each(self, prepared: Sequence[tuple[RedisRepositoryCache, Digest]]) -> list[Answer]:
        return [await repository.stat(digest) for repository, digest in prepared]

    def peek_each(self, prepared: Sequence[tuple[RedisRepositoryCache, Digest]]) -> list[Answer | None]:
        return [repository.peek(digest) for repository, digest in prepared]

    def invalidations(self) -> int:
        return int(self._cache.info()["near_cache"]["invalidations"])

    async def set(self, blob: Blob) -> bool:
        digest = Digest(blob.digest)
        descriptor = Descriptor(digest, blob.size, blob.media_type)
        await self._cache.repository_scoped(blob.repository).set_descriptor(digest, descriptor)
        return True


class OursOnCluster(Ours):
    """The same on a Cluster."""

    _scheme = "redis+cluster"
