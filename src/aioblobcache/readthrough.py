"""Read-through: the cache first, the backend for what it does not know, and no way for a fill to
bring back what was deleted.

A miss takes a token from the cache *before* it reads the backend, and the cache accepts the fill
only while the token still stands; a clear replaces it by a tombstone. So whatever the backend
answered before a clear is never kept after it, however late the fill arrives.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Coroutine
from functools import lru_cache, partial
from typing import Any, Final, TypeVar, cast

import anyio
import attrs

from . import media_types
from .descriptor import Descriptor, require_cacheable, written_digests
from .digest import Digest
from .errors import BlobUnknownError, CacheUnavailableError, ConfigurationError, CorruptEntryError, UnsupportedError
from .flights import Flights
from .interfaces import (
    BlobStatter,
    BlobStore,
    FillToken,
    GuardedCacheProvider,
    GuardedDescriptorService,
    RegistryBackend,
)
from .names import validate_repository_name
from .observer import Observer, as_observer

__all__ = ["CachedBlobStatter", "CachedRegistry"]

_log = logging.getLogger("aioblobcache.readthrough")

# Services of repositories that are kept ready.
_REMEMBERED: Final = 4096

# Malformed entries that were told of.
_TOLD: Final = 1024

T = TypeVar("T")


@attrs.define(eq=False)
class _Shared:
    """What lives as long as the application: the flights, and whether the cache last answered."""

    observer: Observer
    flights: Flights[Descriptor | None] = attrs.field(factory=Flights)
    cache_answers: bool = True
    _told: set[tuple[Digest, str | None]] = attrs.field(factory=set)

    def is_news(self, entry: tuple[Digest, str | None]) -> bool:
        """Whether an entry that is wrong was not met before: of one that nobody mends each request would tell."""
        if entry in self._told:
            return False
        if len(self._told) >= _TOLD:
            self._told.clear()
        self._told.add(entry)
        return True

    def cache_answered(self) -> None:
        if not self.cache_answers:
            self.cache_answers = True
            _log.info("the cache answers again")

    def cache_failed(self, digest: Digest, error: CacheUnavailableError) -> None:
        self.observer.cache_unavailable(digest, error)
        if self.cache_answers:
            self.cache_answers = False
            _log.warning("answering from the backend alone: %s", error)


class CachedBlobStatter:
    """A cache in front of a backend: itself a service, of the scope that the two have in common.

    ``cache`` is a service of this library's providers. ``backend`` is anything with
    ``await stat(digest)``, and with ``await clear(digest)`` if blobs are to be deleted through here.
    What the backend raises is passed on as it is.

    A cache fault never fails a request that the backend can answer. Concurrent misses of one blob
    ask the backend once. In handlers that make a service for each request, take the services from a
    :class:`CachedRegistry`, which keeps the calls under way in common.

    :raises ConfigurationError: a cache that cannot be filled under guard, or what is no observer.
    """

    def __init__(
        self, cache: GuardedDescriptorService, backend: BlobStatter, *, observer: Observer | None = None
    ) -> None:
        _require_guarded(cache)
        self._cache = cache
        self._backend = backend
        self._shared = _Shared(as_observer(observer))
        self._scope: tuple[str, bool] | None = None

    @classmethod
    def _sharing(
        cls, cache: GuardedDescriptorService, backend: BlobStatter, shared: _Shared, scope: tuple[str, bool]
    ) -> CachedBlobStatter:
        statter = cls.__new__(cls)
        statter._cache = cache
        statter._backend = backend
        statter._shared = shared
        statter._scope = scope
        return statter

    async def stat(self, digest: str) -> Descriptor:
        """Describe the blob: from the cache, else from the backend, filling the cache.

        :raises BlobUnknownError: the backend does not know it.
        :raises InvalidDigestError: ``digest`` is not one.
        :raises InvalidDescriptorError: the backend answered for another blob.
        :raises StorageError: a storage of this library could not tell.
        """
        digest = Digest(digest)
        token: FillToken | None = None
        try:
            descriptor = await self._cache.stat(digest)
        except BlobUnknownError as miss:
            self._missed(digest, miss)
            token = await self._take_token(digest)
        except CacheUnavailableError as error:
            self._shared.cache_failed(digest, error)
        else:
            self._shared.cache_answered()
            self._shared.observer.cache_hit(digest)
            return descriptor
        # Callers with equal tokens may share one look into the backend: nothing that was cleared
        # in between could make it too old for the later one. Without a cache there is no telling,
        # and an answer may be as old as one call of the backend takes.
        key, ask = (self._scope, digest, token), partial(self._ask_backend, digest, token)
        flights = self._shared.flights
        joined = key in flights
        answer = await flights.join(key, ask)
        if answer is None and joined:
            # Pushed since that call began, perhaps: a push changes no guard. One begun now can tell.
            answer = await flights.join(key, ask)
        if answer is None:
            raise BlobUnknownError(digest, self._repository)
        return answer

    def peek(self, digest: str) -> Descriptor | None:
        """What the cache knows in this process, without waiting: ``None`` if only :meth:`stat` can tell.

        :raises InvalidDigestError: ``digest`` is not one.
        """
        digest = Digest(digest)
        descriptor = self._cache.peek(digest)
        if descriptor is not None:
            self._shared.observer.cache_hit(digest)
        return descriptor

    async def set_descriptor(self, digest: str, descriptor: Descriptor) -> None:
        """Announce a blob that was just stored: call it after the storage write.

        What is kept is what the backend says now, with the media type of ``descriptor``. If the
        blob is being deleted at the same time, or the cache is down, nothing is kept, without error.

        :raises InvalidDescriptorError: no media type, or another blob's.
        :raises InvalidDigestError: ``digest`` is not one.
        :raises BlobUnknownError: the backend does not know the blob.
        """
        digest = Digest(digest)
        require_cacheable(digest, descriptor)
        token = await self._take_token(digest)
        stored = await self._backend.stat(digest)
        await self._fill(digest, attrs.evolve(stored, media_type=descriptor.media_type), token)

    async def clear(self, digest: str) -> None:
        """Delete the blob from the cache, then from the backend, then once more from the cache.

        Runs to its end even if the caller is cancelled meanwhile; the cancellation follows then.

        :raises BlobUnknownError: the backend did not know it.
        :raises CacheUnavailableError: the cache did not confirm. Before the backend was touched if
            it still has the blob; repeat it in either case.
        :raises UnsupportedError: the backend cannot delete.
        :raises InvalidDigestError: ``digest`` is not one.
        """
        digest = Digest(digest)
        if not hasattr(self._backend, "clear"):
            raise UnsupportedError(f"{type(self._backend).__name__} cannot delete: it has no clear()")
        await _to_the_end(self._clear(digest))

    async def evict(self, digest: str) -> None:
        """Make the cache forget a blob that it knows, because the backend contradicts it; no fill follows for a while.

        The backend is not touched, and a cache that does not answer changes nothing.

        :raises InvalidDigestError: ``digest`` is not one.
        """
        digest = Digest(digest)
        try:
            # Most that storage does not have, the cache does not know either: nothing is written for those.
            known = await self._cache.stat(digest)
            for name in written_digests(digest, known):
                await self._clear_cache(name)
        except BlobUnknownError:
            return
        except CacheUnavailableError as error:
            self._shared.cache_failed(digest, error)

    @property
    def _repository(self) -> str | None:
        return getattr(self._cache, "name", None)

    def _missed(self, digest: Digest, miss: BlobUnknownError) -> None:
        self._shared.cache_answered()
        self._shared.observer.cache_miss(digest)
        if isinstance(miss, CorruptEntryError) and self._shared.is_news((digest, self._repository)):
            _log.warning("%s; asking the backend", miss)

    async def _take_token(self, digest: Digest) -> FillToken | None:
        try:
            return await self._cache.take_token(digest)
        except CacheUnavailableError as error:
            self._shared.cache_failed(digest, error)
            return None

    async def _ask_backend(self, digest: Digest, token: FillToken | None) -> Descriptor | None:
        """The backend's answer, kept if the token permits; ``None``: unknown."""
        try:
            descriptor = await self._backend.stat(digest)
        except BlobUnknownError:
            return None
        if descriptor.media_type:  # without one it can be answered, not kept
            await self._fill(digest, descriptor, token)
        return descriptor

    async def _fill(self, digest: Digest, descriptor: Descriptor, token: FillToken | None) -> None:
        require_cacheable(digest, descriptor)
        if token is None:
            return
        try:
            written = await self._cache.fill(digest, descriptor, token)
        except CacheUnavailableError as error:
            self._shared.cache_failed(digest, error)
        else:
            if not written:
                self._shared.observer.fill_refused(digest)

    async def _clear(self, digest: Digest) -> None:
        # The backend comes second: a crash leaves either nothing deleted or nothing cached. The
        # second clear takes what a fill put in between, should the first tombstone have been lost.
        await self._clear_cache(digest)
        renewal = asyncio.create_task(self._keep_buried(digest))
        try:
            try:
                await cast("BlobStore", self._backend).clear(digest)
            finally:
                renewal.cancel()
                await asyncio.wait([renewal])
        except BlobUnknownError:
            await self._clear_cache(digest)
            raise
        except BaseException:  # that the backend failed matters more than that the cache does not answer either
            try:
                await self._clear_cache(digest)
            except CacheUnavailableError as error:
                self._shared.cache_failed(digest, error)
            raise
        await self._clear_cache(digest)

    async def _keep_buried(self, digest: Digest) -> None:
        """Renew the tombstone while a slow backend works."""
        while True:
            await asyncio.sleep(self._cache.guard_ttl / 3)
            try:
                await self._clear_cache(digest)
            except CacheUnavailableError as error:
                self._shared.cache_failed(digest, error)

    async def _clear_cache(self, digest: Digest) -> None:
        with contextlib.suppress(BlobUnknownError):  # its tombstone stands all the same
            await self._cache.clear(digest)


class CachedRegistry:
    """A cache in front of a registry's storage, for as long as the application lives.

    It owns the backend calls under way, so that handlers which make a service for each request
    share them still; the services cost nothing to ask for.

    ``cache`` is one of this library's providers, which the application opens and closes; ``storage``
    has ``blobs(name)`` and ``manifests(name)``, as :class:`aioblobcache.storage.RegistryStorage` has.

    :raises ConfigurationError: a cache that cannot be filled under guard, or what is no observer.
    """

    def __init__(
        self, cache: GuardedCacheProvider, storage: RegistryBackend, *, observer: Observer | None = None
    ) -> None:
        _require_guarded(cache)
        self.cache = cache
        self.storage = storage
        self._shared = _Shared(as_observer(observer))
        # A handler asks for one with each request; nothing that could be told apart is shared.
        self._statter = lru_cache(_REMEMBERED)(self._make_statter)

    def blobs(self, name: str) -> CachedBlobStatter:
        """The layers and configs of the repository ``name``.

        :raises RepositoryNameError: not a repository name.
        """
        return self._of(name, manifests=False)

    def manifests(self, name: str) -> CachedBlobStatter:
        """The manifest revisions of the repository ``name``.

        :raises RepositoryNameError: not a repository name.
        """
        return self._of(name, manifests=True)

    def _of(self, name: str, *, manifests: bool) -> CachedBlobStatter:
        return self._statter(name if type(name) is str else validate_repository_name(name), manifests)

    def _make_statter(self, name: str, manifests: bool) -> CachedBlobStatter:
        cache = _OfOneKind(self.cache.repository_scoped(name), name, manifests)
        backend = self.storage.manifests(name) if manifests else self.storage.blobs(name)
        return CachedBlobStatter._sharing(cache, backend, self._shared, (name, manifests))


@attrs.frozen
class _OfOneKind:
    """A repository's cached descriptors, of which only its manifests are known, or only its blobs.

    Both share one membership set, so membership proves neither kind of link. A media type of the
    other kind is a miss, and storage tells; it is not kept either.
    """

    _cache: GuardedDescriptorService
    name: str
    manifests: bool

    @property
    def guard_ttl(self) -> float:
        return self._cache.guard_ttl

    async def stat(self, digest: str, /) -> Descriptor:
        descriptor = await self._cache.stat(digest)
        if not self._is_known(descriptor):
            raise BlobUnknownError(digest, self.name)
        return descriptor

    def peek(self, digest: str, /) -> Descriptor | None:
        descriptor = self._cache.peek(digest)
        return descriptor if descriptor is not None and self._is_known(descriptor) else None

    async def set_descriptor(self, digest: str, descriptor: Descriptor, /) -> None:
        await self._cache.set_descriptor(digest, descriptor)

    async def clear(self, digest: str, /) -> None:
        await self._cache.clear(digest)

    async def take_token(self, digest: str, /) -> FillToken:
        return await self._cache.take_token(digest)

    async def fill(self, digest: str, descriptor: Descriptor, token: FillToken, /) -> bool:
        return self._is_known(descriptor) and await self._cache.fill(digest, descriptor, token)

    def _is_known(self, descriptor: Descriptor) -> bool:
        return (descriptor.media_type in media_types.MANIFESTS) is self.manifests


def _require_guarded(cache: object) -> None:
    if not (hasattr(cache, "take_token") and hasattr(cache, "fill")):
        raise ConfigurationError(f"{type(cache).__name__} has no take_token() and fill(): it cannot be filled safely")


async def _to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """Await ``work``; a cancellation of the caller is passed on only when it has ended."""
    task = asyncio.create_task(work)
    cancellation: asyncio.CancelledError | None = None
    with anyio.CancelScope(shield=True):
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError as error:
                cancellation = error
    if cancellation is None:
        return task.result()
    failure = None if task.cancelled() else task.exception()
    if failure is not None:
        _log.warning("a clear whose caller was cancelled failed: %s", failure)
    raise cancellation
