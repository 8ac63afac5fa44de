"""The Redis provider: what a caller asks, in either scope."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache, partial
from itertools import islice
from types import TracebackType
from typing import Any, Final, Self, Unpack

from ..descriptor import Descriptor, require_cacheable, written_digests
from ..digest import Digest, as_digest
from ..errors import CorruptEntryError
from ..interfaces import FillToken
from ..names import validate_repository_name
from .client import AnyClient, client_from_url, close_client, topology_of
from .coherence import Coherence
from .engine import OBSTACLES, Engine
from .failures import FAILURES, cause_of, unavailable
from .guards import TOKEN_SHAPES, decode_token, guard_keys, token_requests
from .heartbeat import boot_time
from .lanes import LaneMaker
from .options import RedisOptions, RedisOptionsDict
from .wire import GlobalScope, RepositoryScope, Scope
from .writes import Steps

__all__ = ["RedisBlobDescriptorCache", "RedisRepositoryCache"]


_REMEMBERED_REPOSITORIES: Final = 16_384


class _RedisService:
    """One scope of the shared Redis: the whole registry, or one repository."""

    def __init__(self, engine: Engine, scope: Scope) -> None:
        self._engine = engine
        self._scope = scope
        self._near = None if engine.coherence is None else engine.coherence.near.table(scope.name)

    @property
    def guard_ttl(self) -> float:
        """How long a clear keeps fills away, in seconds."""
        return self._engine.options.guard_ttl

    async def stat(self, digest: str) -> Descriptor:
        """Describe the blob, in one round trip, or from the near cache in none.

        By HMGET of the descriptor; in a repository by SISMEMBER and HGET as well, sent together. A key that is
        missing, evicted or expired makes the blob unknown, as in CNCF Distribution. The media type may be empty.

        :raises BlobUnknownError: not known in this scope.
        :raises CorruptEntryError: what is kept cannot be a descriptor; a ``BlobUnknownError`` too.
        :raises InvalidDigestError: ``digest`` is not one; nothing was sent.
        :raises CacheUnavailableError: Redis gave no usable answer within ``timeout``.
        """
        if type(digest) is not Digest:
            digest = as_digest(digest)
        if self._near is not None:
            if (known := self._near.look(digest, boot_time())) is not None:
                return known
            self._near.missed(1)
        try:
            try:
                return await self._engine.stat(self._scope, digest, self._near)
            except OBSTACLES as error:
                obstacle = error
            return await self._engine.stat_around(obstacle, self._scope, digest)
        except CorruptEntryError as error:
            self._engine.options.observer.corrupt_entry(error)
            raise

    def peek(self, digest: str) -> Descriptor | None:
        """What the near cache says of the blob; ``None`` if it says nothing. Asks nobody.

        :raises InvalidDigestError: ``digest`` is not one.
        """
        if type(digest) is not Digest:
            digest = as_digest(digest)
        return None if self._near is None else self._near.look(digest, boot_time())

    async def stat_many(self, digests: Iterable[str]) -> dict[Digest, Descriptor]:
        """Describe those of the blobs that are known, in one round trip for all: by HMGET of each, and in a
        repository by one SMISMEMBER and an HGET of each.

        :raises InvalidDigestError: one of ``digests`` is not one; nothing was sent.
        :raises CacheUnavailableError: Redis gave no usable answer within ``timeout``.
        """
        wanted = dict.fromkeys(map(Digest, digests))
        known = {digest: found for digest in wanted if (found := self.peek(digest)) is not None}
        asked = [digest for digest in wanted if digest not in known]
        if self._near is not None:
            self._near.missed(len(asked))
        answers = await self._engine.stat_many(self._scope, asked, self._near) if asked else []
        for digest, answer in zip(asked, answers, strict=True):
            if type(answer) is Descriptor:
                known[digest] = answer
            elif isinstance(answer, CorruptEntryError):
                self._engine.options.observer.corrupt_entry(answer)
        return {digest: known[digest] for digest in wanted if digest in known}

    async def set_descriptor(self, digest: str, descriptor: Descriptor) -> None:
        """Keep ``descriptor`` under ``digest``; in a repository, link the blob into it as well.

        Authoritative: it pays no heed to guards, the caller vouches that the blob is there now. A
        read-through sets by :meth:`fill` instead. The global media type is set only if there is none.
        In a repository, what has a digest of another algorithm is kept under that too. All of
        it is one script (EVALSHA); in a Cluster one for each key, the membership last.

        :raises InvalidDescriptorError: no media type, or another blob's; nothing was sent.
        :raises InvalidDigestError: ``digest`` is not one; nothing was sent.
        :raises CacheUnavailableError: no confirmation within ``timeout``: it may still take effect.
        """
        digest = Digest(digest)
        require_cacheable(digest, descriptor)
        with self._writing(*written_digests(digest, descriptor)):
            await self._engine.run(
                self._engine.writes.set(self._scope.name, digest, descriptor, self._engine.options.ttl_ms)
            )

    async def clear(self, digest: str) -> None:
        """Forget the blob, and refuse every fill of it for ``guard_ttl`` seconds; one script, as a set is.

        In a repository that holds the blob, the global descriptor goes too; one that does not hold
        it can remove nothing.

        :raises BlobUnknownError: nothing was known in this scope.
        :raises InvalidDigestError: ``digest`` is not one; nothing was sent.
        :raises CacheUnavailableError: no confirmation within ``timeout``: it may still take effect.
        """
        digest = Digest(digest)
        with self._writing(digest):
            cleared = await self._engine.run(
                self._engine.writes.clear(self._scope.name, digest, _nonce(), self._engine.options.guard_ms)
            )
        if not cleared:
            raise self._scope.unknown(digest)

    async def take_token(self, digest: str) -> FillToken:
        """Take the token that a fill has to show, in one round trip (SET NX, GET); see
        :class:`~aioblobcache.FillToken`.

        :raises InvalidDigestError: ``digest`` is not one; nothing was sent.
        :raises CacheUnavailableError: Redis gave no usable answer within ``timeout``.
        """
        [token] = await self.take_tokens([digest])
        return token

    async def take_tokens(self, digests: Sequence[str]) -> list[FillToken]:
        """The same for several blobs, in one round trip for all.

        :raises InvalidDigestError: one of ``digests`` is not one; nothing was sent.
        :raises CacheUnavailableError: Redis gave no usable answer within ``timeout``.
        """
        wanted = [Digest(digest) for digest in digests]
        nonce = _nonce()
        guard_ms = self._engine.options.guard_ms
        guards = [guard_keys(self._scope.name, digest) for digest in wanted]
        questions = [token_requests(key, nonce, guard_ms) for keys in guards for key in keys]
        if not questions:
            return []
        # Sent twice, the first might take the guard after all, when a clear's tombstone in it has been lost.
        replies = await self._engine.send_here_or_nowhere([(requests, TOKEN_SHAPES) for requests in questions])
        answers = iter(replies)
        try:
            return [decode_token([*islice(answers, len(keys) * len(TOKEN_SHAPES))], nonce) for keys in guards]
        except FAILURES as error:
            raise unavailable(self._engine.address, error, questions[0][0]) from cause_of(error)

    async def fill(self, digest: str, descriptor: Descriptor, token: FillToken) -> bool:
        """Write the entry if nothing has cleared the blob since ``token`` was taken; say whether it was.

        The server looks at the token and writes in one step, so a fill that it executes late is
        harmless. The token is spent.

        :raises InvalidDescriptorError: no media type, or another blob's; nothing was sent.
        :raises InvalidDigestError: ``digest`` is not one; nothing was sent.
        :raises CacheUnavailableError: no confirmation within ``timeout``.
        """
        digest = Digest(digest)
        require_cacheable(digest, descriptor)
        steps = self._fill_steps(digest, descriptor, token)
        if not steps:
            return False
        with self._writing(digest):
            return await self._engine.run_here_or_nowhere(steps)

    async def fill_many(self, entries: Sequence[tuple[str, Descriptor, FillToken]]) -> list[bool]:
        """The same for several blobs, in one round trip for all (in a Cluster: for each step of a fill).

        :raises InvalidDescriptorError: one has no media type, or is another blob's; nothing was sent.
        :raises CacheUnavailableError: no confirmation within ``timeout``: some may be written.
        """
        wanted = [(Digest(digest), descriptor, token) for digest, descriptor, token in entries]
        for digest, descriptor, _ in wanted:
            require_cacheable(digest, descriptor)
        fills = {place: steps for place, entry in enumerate(wanted) if (steps := self._fill_steps(*entry))}
        with self._writing(*(digest for digest, _, _ in wanted)):
            outcomes = await self._engine.run_all_here_or_nowhere([*fills.values()])
        written = dict(zip(fills, outcomes, strict=True))
        return [written.get(place, False) for place in range(len(wanted))]

    def _fill_steps(self, digest: Digest, descriptor: Descriptor, token: FillToken) -> Steps:
        """How to fill; no steps: the token does not permit it."""
        name = self._scope.name
        if not token.permits_fill or len(token.guards) != len(guard_keys(name, digest)):
            return ()
        return self._engine.writes.fill(name, digest, descriptor, self._engine.options.ttl_ms, token)

    def _writing(self, *digests: Digest) -> AbstractContextManager[None]:
        """While a write is under way, and when it has ended, whatever its outcome, no older answer is seen here."""
        coherence = self._engine.coherence
        return nullcontext() if coherence is None else coherence.near.writing(digests)


class RedisRepositoryCache(_RedisService):
    """The descriptors of one repository; made by :meth:`~aioblobcache.RedisBlobDescriptorCache.repository_scoped`.

    Costs nothing to make, and compares equal for the same provider and name.
    """

    def __init__(self, engine: Engine, name: str) -> None:
        super().__init__(engine, RepositoryScope(validate_repository_name(name)))
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
    * ``connect_timeout``: seconds that one attempt to connect may take (1.0, and at least ``timeout``).
    * ``longest_pause``: seconds between two attempts, at most (1.0).
    * ``guard_ttl``: seconds that a miss's token and a clear's tombstone live (60).
    * ``max_in_flight``: requests that may be under way at once on a lane; more callers wait their turn (4096).
    * ``lanes``: connections (1).
    * ``near_cache``: answers that may be kept in the process, most (0: none); Redis tells of their changes.
    * ``max_staleness``: seconds after which no answer is served that contradicts what Redis has confirmed,
      whatever becomes of the network (1.0).
    * ``near_max_age``: seconds that an answer may be served at all (60, and at most ``ttl``).
    * ``read_from``: ``"replica"`` takes stats to the replicas of a Cluster, whose answers may be old (``"primary"``).
    * ``observer``: an :class:`~aioblobcache.Observer`.

    Needs Redis 7.0 or Valkey 7.2, or newer.

    :raises ConfigurationError: an option is of the wrong type or out of range.
    """

    def __init__(self, client: AnyClient, **options: Unpack[RedisOptionsDict]) -> None:
        chosen = RedisOptions(**options)
        coherence = Coherence(chosen) if chosen.near_cache else None
        topology = topology_of(client, LaneMaker(chosen, coherence))
        super().__init__(Engine(topology, chosen, coherence, type(self).__name__), GlobalScope())
        self._owned_client: AnyClient | None = None
        # A handler asks for one with each request; nothing that could be told apart is shared.
        self._repository = lru_cache(_REMEMBERED_REPOSITORIES)(partial(RedisRepositoryCache, self._engine))

    @classmethod
    def from_url(cls, url: str, **options: Unpack[RedisOptionsDict]) -> Self:
        """Connect by a URL: ``redis://``, ``rediss://`` (TLS) or ``unix://``, and with several hosts
        ``redis+sentinel://hosts/service`` or ``redis+cluster://hosts``.

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

        ``topology``: ``"node"``, ``"sentinel"`` or ``"cluster"``. ``road``: ``"lane"``, or where the client's
        connections cannot be taken over ``"pipeline"`` (in a Cluster ``"none"``), and then ``why_no_lane``.
        ``address``, ``lanes``, ``lanes_open``, ``in_flight`` and ``waiting`` (requests), ``reconnects`` (since the
        provider was entered). ``near_cache``: the fields of
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
                await close_client(self._owned_client)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} at {self._engine.address}>"


def _nonce() -> bytes:
    """Something that no guard has held before."""
    return secrets.token_hex(16).encode("ascii")
