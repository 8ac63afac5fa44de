"""coredis: by its pipeline, which is quicker than commands sent side by side; by commands where it caches."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from coredis import Redis
from coredis.patterns.cache import LRUCache

from aioblobcache.redis.keys import descriptor_key, membership_key, override_key

from ..corpus import REPOSITORIES, Blob
from .interface import Answer, Stated

__all__ = ["CoredisPipeline"]

# Of 8, 32 and 128 the best.
_CONNECTIONS: Final = 128

# Its cache counts keys: descriptor and override of each blob, and the repositories.
_KEYS_OF_A_BLOB: Final = 2


class CoredisPipeline:
    """``pipeline(transaction=False)``: one round trip. Its tracking cache serves single commands only."""

    @asynccontextmanager
    async def open(self, host: str, port: int, kept: int) -> AsyncIterator[CoredisPipeline]:
        self._cache = LRUCache(max_keys=_KEYS_OF_A_BLOB * kept + REPOSITORIES) if kept else None
        async with Redis(host=host, port=port, max_connections=_CONNECTIONS, cache=self._cache) as self._client:
            yield self

    def prepare(self, blobs: Sequence[Blob]) -> list[Any]:
        return list(blobs)

    async def stat_each(self, prepared: Sequence[Any]) -> list[Answer]:
        return [await self.stat(blob) for blob in prepared]

    def peek_each(self, prepared: Sequence[Any]) -> list[Answer | None]:
        raise NotImplementedError("it is asked by awaiting only")

    def invalidations(self) -> int:
        return 0  # it does not count those of keys that it does not hold

    async def stat(self, blob: Blob) -> Answer:
        if self._cache is not None:
            client = self._client
            member = await client.sismember(membership_key(blob.repository), blob.digest)
            fields = await client.hmget(descriptor_key(blob.digest), ["digest", "size", "mediatype"])
            override = await client.hget(override_key(blob.repository, blob.digest), "mediatype")
            return Stated.of(member, list(fields), override)  # type: ignore[arg-type]
        return (await self.stat_many(blob.repository, [blob.digest]))[blob.digest]

    async def is_unknown(self, blob: Blob) -> bool:
        async with self._client.pipeline(transaction=False) as pipeline:
            member = pipeline.sismember(membership_key(blob.repository), blob.absent)
            fields = pipeline.hmget(descriptor_key(blob.absent), ["digest", "size", "mediatype"])
            override = pipeline.hget(override_key(blob.repository, blob.absent), "mediatype")
        await fields
        await override
        return not await member

    async def stat_many(self, repository: str, digests: list[str]) -> dict[str, Answer]:
        async with self._client.pipeline(transaction=False) as pipeline:
            asked = [
                (
                    pipeline.sismember(membership_key(repository), digest),
                    pipeline.hmget(descriptor_key(digest), ["digest", "size", "mediatype"]),
                    pipeline.hget(override_key(repository, digest), "mediatype"),
                )
                for digest in digests
            ]
        return {
            digest: Stated.of(await member, list(await fields), await override)  # type: ignore[arg-type]
            for digest, (member, fields, override) in zip(digests, asked, strict=True)
        }

    async def set(self, blob: Blob) -> bool:
        descriptor = descriptor_key(blob.digest)
        async with self._client.pipeline(transaction=False) as pipeline:
            commands = (
                pipeline.hset(descriptor, {"digest": blob.digest, "size": blob.size}),
                pipeline.hsetnx(descriptor, "mediatype", blob.media_type),
                pipeline.hset(override_key(blob.repository, blob.digest), {"mediatype": blob.media_type}),
                pipeline.sadd(membership_key(blob.repository), [blob.digest]),
            )
        for command in commands:
            await command
        return True
