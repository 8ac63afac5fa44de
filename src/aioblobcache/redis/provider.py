"""The Redis provider: what a caller asks, in either scope."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache, partial
from types import TracebackType
from typing import Any, Final, Self, Unpack

from redis.asyncio import Redis

from ..descriptor import Descriptor, require_cacheable, written_digests
from ..digest import Digest, as_digest
from ..errors import ConfigurationError, CorruptEntryError
from ..interfaces import FillToken
from ..names import validate_repository_name
from .client import client_from_url
from .engine import OBSTACLES, Engine, Obstacle
from .failures import FAILURES, cause_of, unavailable
from .heartbeat import boot_time
from .options import RedisOptions, RedisOptionsDict
from .wire import Answer, GlobalScope, RepositoryScope, Scope, decode_token, token_requests, token_shapes

__all__ = ["RedisBlobDescriptorCache", "RedisRepositoryCache"]


_REMEMBERED_REPOSITORIES: Final = 16_384


class _RedisService:
    """One scope of the shared Redis: the whole registry, or one repository."""

    def __init__(self, engine: Engine, scope: Scope, name: str | None) -> None:
        self._engine = engine
        self._scope = scope
        self._near = None if engine.coherence is None else engine.coherence.near.table(name)

    @property
    def guard_ttl(self) -> float:
        """How long a clear keeps fills away, in seconds."""
        return self._engine.options.guard_ttl

    async def stat(self, digest: str) -> Descriptor:
        """Describe the blob, in one round trip, or from the near cache in none.

        A key that is missing, evicted or expired makes it unknown. The media type may be empty.

        :raises BlobUnknownError: not known in this scope.
        :raises CorruptEntryError: what is kept cannot be a descriptor; a ``BlobUnknownError`` too.
        :raises InvalidDigestError: ``digest`` is not one; nothing was sent.
        :raises CacheUnavailableError: Redis gave no usable answer within ``timeout``.
        """
        if type(digest) is not Digest:
            digest = as_digest(digest)
        if self._near is not None and (known := self._near.look(digest, boot_time())) is not None:
            return known
        try:
            return await self._engine.stat(self._scope, digest, self._near)
        except OBSTACLES as error:
            obstacle = error
        except CorruptEntryError as error:
            self._engine.options.observer.corrupt_entry(error)
            raise
        return await self._stat_around(obstacle, digest)

    def peek(self, digest: str) -> Descriptor | None:
        """What the near cache says of the blob; ``None`` if it says nothing. Asks nobody.

        :raises InvalidDigestError: ``digest`` is not one.
        """
        if type(digest) is not Digest:
            digest = as_digest(digest)
        return None if self._near is None else self._near.look(digest, boot_time())

    async def _stat_around(self, obstacle: Obstacle, digest: Digest) -> Descriptor:
        decode = partial(self._scope.decode_stat, digest)
        try:
            return await self._engine.around(obstacle, self._scope.stat_requests(digest), decode)
        except CorruptEntryError as error:
            self._engine.options.observer.corrupt_entry(error)
            raise

    async def stat_many(self, digests: Iterable[str]) -> dict[Digest, Descriptor]:
        """Describe those of the blobs that are known, in one round trip for all.

        :raises InvalidDigestError: one of ``digests`` is not one; nothing was sent.
        :raises CacheUnavailableError: Redis gave no usable answer within ``timeout``.
        """
        wanted = dict.fromkeys(map(Digest, digests))
        known = {digest: found for digest in wanted if (found := self.peek(digest)) is not None}
        asked = [digest for digest in wanted if digest not in known]
        for digest, answer in zip(asked, await self._stat_many(asked) if asked else (), strict=True):
            if type(answer) is Descriptor:
                known[digest] = answer
            elif isinstance(answer, CorruptEntryError):
                self._engine.options.observer.corrupt_entry(answer)
        return {digest: known[digest] for digest in wanted if digest in known}

    async def _stat_many(self, digests: list[Digest]) -> list[Answer]:
        try:
            return await self._engine.stat_many(self._scope, digests, self._near)
        except OBSTACLES as error:
            obstacle = error
        decode = partial(self._scope.decode_stat_many, digests)
        return await self._engine.around(obstacle, self._scope.stat_many_requests(digests), decode)

    async def set_descriptor(self, digest: str, descriptor: Descriptor) -> None:
        """Keep ``descriptor`` under ``digest``; in a repository, link the blob into it as well.

        Authoritative: it pays no heed to guards, the caller vouches that the blob is there now. A
        read-through sets by :meth:`fill` instead. The global media type is set only if there is none.
        In a repository, what has a digest of another algorithm is kept under that too.

        :raises InvalidDescriptorError: no media type, or another blob's; nothing was sent.
        :raises InvalidDigestError: ``digest`` is not one; nothing was sent.
        :raises CacheUnavailableError: no confirmation within ``timeout``: it may still take effect.
        """
        digest = Digest(digest)
        require_cacheable(digest, descriptor)
        with self._writing(*written_digests(digest, descriptor)):
            await self._engine.run(self._scope.write(digest, descriptor, self._engine.options.ttl_ms, None))

    async def clear(self, digest: str) -> None:
        """Forget the blob, and refuse every fill of it for ``guard_ttl`` seconds.

        In a repository that holds the blob, the global descriptor goes too; one that does not hold
        it can remove nothing.

        :raises BlobUnknownError: nothing was known in this scope.
        :raises InvalidDigestError: ``digest`` is not one; nothing was sent.
        :raises CacheUnavailableError: no confirmation within ``timeout``: it may still take effect.
        """
        digest = Digest(digest)
        with self._writing(digest):
            cleared = await self._engine.run(self._scope.clear(digest, _nonce(), self._engine.options.guard_ms))
        if not cleared:
            raise self._scope.unknown(digest)

    async def take_token(self, digest: str) -> FillToken:
        """Take the token that a fill has to show, in one round trip; see :class:`~aioblobcache.FillToken`.

        :raises InvalidDigestError: ``digest`` is not one; nothing was sent.
        :raises CacheUnavailableError: Redis gave no usable answer within ``timeout``.
        """
        digest = Digest(digest)
        nonce = _nonce()
        requests = token_requests(self._scope, digest, nonce, self._engine.options.guard_ms)
        replies = await self._engine.send(requests, token_shapes(self._scope, digest))
        try:
            return decode_token(replies, nonce)
        except FAILURES as error:
            raise unavailable(self._engine.address, error) from cause_of(error)

    async def fill(self, digest: str, descriptor: Descriptor, token: FillToken) -> bool:
        """Write the entry if nothing has cleared the blob since ``token`` was taken; say whether it was.

        The server looks at the token and writes in one step, so a fill that it executes late is
        harmless. The token is spent.

        :raises InvalidDescriptorError: no media type, or another blob's; nothing was sent.
        :raises CacheUnavailableError: no confirmation within ``timeout``.
        """
        digest = Digest(digest)
        require_cacheable(digest, descriptor)
        if not token.permits_fill or len(token.guards) != len(self._scope.guard_keys(digest)):
            return False
        call = self._scope.write(digest, descriptor, self._engine.options.ttl_ms, token)
        with self._writing(digest):
            return await self._engine.run_here_or_nowhere(call) == 1

    def _writing(self, *digests: Digest) -> AbstractContextManager[None]:
        """While a write is under way, and when it has ended, whatever its outcome, no older answer is seen here."""
        coherence = self._engine.coherence
        return nullcontext() if coherence is None else coherence.near.writing(digests)


class RedisRepositoryCache(_RedisService):
    """The descriptors of one repository; made by :meth:`RedisBlobDescriptorCache.repository_scoped`.

    Costs nothing to make, and compares equal for the same provider and name.
    """

    def __init__(self, engine: Engine, name: str) -> None:
        super().__init__(engine, RepositoryScope(validate_repository_name(name)), name)
        self.name = name

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RedisRepositoryCache):
            return NotImplemented
        return self._engine is other._engine and self.name == other.name

    def __hash__(self) -> int:
        return hash((id(self._engine), self.name))

    def __repr__(self) -> str:
        return f"<repository {self.name} of the blob descriptor cache at {self._engine.address}>"


class RedisBlobDescriptorCache(_RedisService):
    """Blob descriptors in Redis or Valkey, under the keys that CNCF Distribution registries share.

    Its own scope is the global one; :meth:`repository_scoped` gives each repository's. It is an
    asynchronous context manager, entered once, and serves the event loop that entered it. Entering
    sends nothing: a registry starts while Redis is down.

    ``client`` stays the caller's, who closes it; :meth:`from_url` makes a client of its own.

    * ``ttl``: seconds that a descriptor and a repository's media type stand, renewed by each set
      (default ``None``: no limit). Never put on the membership set, which is shared.
    * ``timeout``: seconds that a call may take in all (0.25).
    * ``guard_ttl``: seconds that a miss's token and a clear's tombstone live (60).
    * ``max_in_flight``: requests that may be under way at once on a lane; more callers wait their turn (4096).
    * ``lanes``: connections (1).
    * ``near_cache``: answers that may be kept in the process, most (0: none); Redis tells of their changes.
    * ``max_staleness``: seconds after which no answer is served that contradicts what Redis has confirmed,
      whatever becomes of the network (1.0).
    * ``near_max_age``: seconds that an answer may be served at all (60, and at most ``ttl``).
    * ``observer``: an :class:`~aioblobcache.Observer`.

    Needs Redis 7.0 or Valkey 7.2, or newer.

    :raises ConfigurationError: an option is of the wrong type or out of range.
    """

    def __init__(self, client: Redis, **options: Unpack[RedisOptionsDict]) -> None:
        if not isinstance(client, Redis):
            raise ConfigurationError(f"client is a redis.asyncio.Redis, not a {type(client).__name__}")
        super().__init__(Engine(client, RedisOptions(**options), type(self).__name__), GlobalScope(), None)
        self._owned_client: Redis | None = None
        # A handler asks for one with each request; nothing that could be told apart is shared.
        self._repository = lru_cache(_REMEMBERED_REPOSITORIES)(partial(RedisRepositoryCache, self._engine))

    @classmethod
    def from_url(cls, url: str, **options: Unpack[RedisOptionsDict]) -> Self:
        """Connect by a URL that redis-py understands: ``redis://``, ``rediss://`` (TLS), ``unix://``.

        The provider owns the client and closes it when its context is left.

        :raises ConfigurationError: not such a URL, or an option cannot be used.
        """
        client = client_from_url(url)
        provider = cls(client, **options)
        provider._owned_client = client
        return provider

    def repository_scoped(self, name: str) -> RedisRepositoryCache:
        """The descriptors of the repository ``name``: known there only where the blob is linked.

        :raises RepositoryNameError: not a repository name.
        """
        return self._repository(name) if type(name) is str else self._repository(validate_repository_name(name))

    def info(self) -> dict[str, Any]:
        """What is in use now, for people and dashboards.

        ``road``: ``"lane"``, or ``"pipeline"`` where the client's connections cannot be taken over, and
        then ``why_no_lane``. ``address``, ``lanes``, ``lanes_open``, ``in_flight`` and ``waiting`` (requests),
        ``reconnects`` (since the provider was entered). ``near_cache``: the fields of
        :class:`~aioblobcache.NearCacheStats`, or ``None`` if none was asked for.
        """
        return self._engine.info()

    async def __aenter__(self) -> Self:
        self._engine.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await self._engine.aclose()
        finally:
            if self._owned_client is not None:
                await self._owned_client.aclose()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} at {self._engine.address}>"


def _nonce() -> bytes:
    """Something that no guard has held before."""
    return secrets.token_hex(16).encode("ascii")
