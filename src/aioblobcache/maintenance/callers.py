"""Callers who ask about blobs that nobody has, as fast as they are answered."""

from __future__ import annotations

import asyncio
import secrets
import time
from array import array
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from itertools import cycle
from typing import Final, TypeAlias

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.cluster import RedisCluster

from ..digest import Digest
from ..errors import BlobCacheError, BlobUnknownError, shorten
from ..redis.client import AnyClient
from ..redis.keeper import end
from ..redis.keys import descriptor_key, membership_key, override_key
from ..redis.provider import RedisRepositoryCache

__all__ = [
    "NOBODYS",
    "Ask",
    "Callers",
    "WrongAnswerError",
    "ask_pipeline",
    "ask_repository",
    "nobodys_digests",
    "redis_py_like",
]

# A repository of nobody's.
NOBODYS: Final = "aioblobcache/bench"

# Digests of each caller: the same question is never asked by two at once, which would be sent once.
_DIGESTS: Final = 16

# Of redis-py; more of them gain next to nothing, and the server has others to serve.
_CONNECTIONS: Final = 32

# Asks about a blob; returns if it is unknown, and raises if the answer is any other.
Ask: TypeAlias = Callable[[Digest], Awaitable[None]]


class WrongAnswerError(BlobCacheError):
    """A blob that nobody has was not answered by *unknown*."""


def nobodys_digests(callers: int) -> list[list[Digest]]:
    """Digests for so many callers, of nothing that exists."""
    return [[Digest(f"sha256:{secrets.token_hex(32)}") for _ in range(_DIGESTS)] for _ in range(callers)]


class Callers:
    """Callers who each ask again as soon as they are answered. Rates are per second."""

    def __init__(self, ask: Ask, digests: Sequence[Sequence[Digest]]) -> None:
        self.number = len(digests)
        self.asked = 0
        self.took = array("d")  # seconds, of those alone
        self._ask = ask
        self._digests = [cycle(own) for own in digests]

    async def alone(self, seconds: float) -> float:
        """By one caller."""
        clock, note, digests, before = time.perf_counter, self.took.append, self._digests[0], self.asked
        began = last = clock()
        while last < began + seconds:
            await self._ask(next(digests))
            self.asked += 1
            note((now := clock()) - last)
            last = now
        return (self.asked - before) / (last - began)

    async def together(self, seconds: float) -> float:
        """By all."""
        before, began = self.asked, time.perf_counter()
        # No TaskGroup: before Python 3.13, one that fails leaves the task that waits for it marked as being cancelled.
        callers = [asyncio.create_task(self._call(digests, began + seconds)) for digests in self._digests]
        try:
            await asyncio.gather(*callers)
        finally:
            await end(callers)
        return (self.asked - before) / (time.perf_counter() - began)

    async def _call(self, digests: Iterator[Digest], ends: float) -> None:
        while True:
            await self._ask(next(digests))
            self.asked += 1
            if time.perf_counter() >= ends:
                return


def ask_repository(repository: RedisRepositoryCache) -> Ask:
    """The way of a provider."""

    async def ask(digest: Digest) -> None:
        try:
            answer: object = await repository.stat(digest)
        except BlobUnknownError as miss:
            if type(miss) is BlobUnknownError:
                return
            answer = miss
        raise _wrong(answer)

    return ask


def ask_pipeline(client: Redis) -> Ask:
    """The same three commands by redis-py's pipeline."""
    membership = membership_key(NOBODYS)

    async def ask(digest: Digest) -> None:
        async with client.pipeline(transaction=False) as pipeline:
            pipeline.sismember(membership, digest)
            pipeline.hmget(descriptor_key(digest), "digest", "size", "mediatype")
            pipeline.hget(override_key(NOBODYS, digest), "mediatype")
            answer = await pipeline.execute()
        if answer != [0, [None, None, None], None]:
            raise _wrong(answer)

    return ask


def _wrong(answer: object) -> WrongAnswerError:
    said = str(answer) if isinstance(answer, Exception) else shorten(repr(answer))
    return WrongAnswerError(f"asked about a blob that nobody has, the cache said: {said}")


def redis_py_like(client: AnyClient, callers: int) -> AbstractAsyncContextManager[Redis | None]:
    """A client of one node like this, with connections of its own, which end with it."""
    if isinstance(client, RedisCluster):
        return nullcontext()
    pool = client.connection_pool
    own = BlockingConnectionPool(
        min(callers, _CONNECTIONS), None, connection_class=pool.connection_class, **pool.connection_kwargs
    )
    return Redis.from_pool(own)
