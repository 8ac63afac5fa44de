"""redis-py: what a Python registry would write, by a pipeline and by three awaits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final, Self

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.cluster import RedisCluster

from aioblobcache.redis.keys import descriptor_key, membership_key, override_key

from ..corpus import Blob
from .interface import Answer, Pipelined, Stated

__all__ = ["RedisPyAwaits", "RedisPyClusterPipeline", "RedisPyPipeline"]

# Of 8, 16, 32, 64 and 128 connections the best, by a little.
_CONNECTIONS: Final = 64


class _RedisPy:
    """The client, with a pool whose callers wait for a connection rather than fail."""

    _client: Redis | RedisCluster

    @asynccontextmanager
    async def open(self, host: str, port: int, _kept: int) -> AsyncIterator[Self]:
        pool = BlockingConnectionPool(
            host=host, port=port, protocol=3, max_connections=_CONNECTIONS, timeout=None, socket_timeout=10.0
        )
        async with Redis(connection_pool=pool) as self._client:
            yield self
        await pool.aclose()

    async def set(self, blob: Blob) -> bool:
        descriptor = descriptor_key(blob.digest)
        async with self._client.pipeline(transaction=False) as pipeline:
            pipeline.hset(descriptor, mapping={"digest": blob.digest, "size": blob.size})
            pipeline.hsetnx(descriptor, "mediatype", blob.media_type)
            pipeline.hset(override_key(blob.repository, blob.digest), "mediatype", blob.media_type)
            pipeline.sadd(membership_key(blob.repository), blob.digest)
            await pipeline.execute()
        return True


class RedisPyPipeline(Pipelined, _RedisPy):
    """``pipeline(transaction=False)``: one round trip."""

    async def ask(self, repository: str, digests: list[str]) -> list[Any]:
        async with self._client.pipeline(transaction=False) as pipeline:
            for digest in digests:
                pipeline.sismember(membership_key(repository), digest)
                pipeline.hmget(descriptor_key(digest), "digest", "size", "mediatype")
                pipeline.hget(override_key(repository, digest), "mediatype")
            return await pipeline.execute()


class RedisPyClusterPipeline(RedisPyPipeline):
    """The pipeline of ``RedisCluster``, which sends each node its part."""

    @asynccontextmanager
    async def open(self, host: str, port: int, _kept: int) -> AsyncIterator[Self]:
        # It has no pool whose callers wait: it makes as many connections as it is asked for.
        async with RedisCluster(host=host, port=port, protocol=3, socket_timeout=10.0) as self._client:
            # Many pipelines at once fail while it has few connections: it is given them step by step.
            for count in (1, 2, 4, 8, 16, 32, 64, 128, 128):
                pings = (self._client.ping(target_nodes=RedisCluster.PRIMARIES) for _ in range(count))
                await asyncio.gather(*pings, return_exceptions=True)
            yield self


class RedisPyAwaits(_RedisPy):
    """Three commands, one after the other: three round trips."""

    async def stat(self, blob: Blob) -> Answer:
        client: Any = self._client  # its commands are not typed for asyncio alone
        member = await client.sismember(membership_key(blob.repository), blob.digest)
        fields = await client.hmget(descriptor_key(blob.digest), ["digest", "size", "mediatype"])
        return Stated.of(member, fields, await client.hget(override_key(blob.repository, blob.digest), "mediatype"))

    async def is_unknown(self, blob: Blob) -> bool:
        return not await self._client.sismember(membership_key(blob.repository), blob.absent)

    async def stat_many(self, repository: str, digests: list[str]) -> dict[str, Answer]:
        raise NotImplementedError("three awaits for each blob: the same as stat")
