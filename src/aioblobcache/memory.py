"""The in-memory provider: the semantics of the Redis one, without a server."""

from __future__ import annotations

import abc
import secrets
import time
from collections import OrderedDict
from collections.abc import Iterable
from types import TracebackType
from typing import Generic, Self, TypeVar

import attrs

from .descriptor import Descriptor, require_cacheable, written_digests
from .digest import Digest
from .errors import BlobUnknownError, ConfigurationError
from .interfaces import FillToken
from .lifecycle import LoopBinding
from .names import validate_repository_name

__all__ = ["MemoryBlobDescriptorCache"]

K = TypeVar("K")
V = TypeVar("V")


class _Lru(OrderedDict[K, V], Generic[K, V]):
    """At most ``limit`` items: the one neither read nor written for longest goes first."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit

    def touch(self, key: K) -> V | None:
        """Return the value as the most recent one, or ``None``."""
        value = self.get(key)
        if value is not None:
            self.move_to_end(key)
        return value

    def __setitem__(self, key: K, value: V) -> None:
        super().__setitem__(key, value)
        self.move_to_end(key)
        if len(self) > self._limit:
            self.popitem(last=False)


@attrs.frozen
class _Guard:
    """Either a miss's token or a clear's tombstone, until ``expires`` (``time.monotonic``)."""

    value: bytes
    expires: float
    is_tombstone: bool


# A guard stands where it is in Redis: beside a repository's membership, or beside the descriptor.
_GuardKey = tuple[str | None, Digest]


@attrs.define(eq=False)
class _Tables:
    """What Redis holds in keys. An item may vanish at any time, and no table speaks for another."""

    descriptors: _Lru[Digest, Descriptor]
    links: _Lru[tuple[str, Digest], str]  # membership, with the repository's media type
    guards: _Lru[_GuardKey, _Guard]
    guard_ttl: float

    def write_descriptor(self, digest: Digest, descriptor: Descriptor) -> None:
        """Overwrite digest and size; a media type that is there stays."""
        known = self.descriptors.touch(digest)
        self.descriptors[digest] = (
            descriptor if known is None else attrs.evolve(descriptor, media_type=known.media_type)
        )

    def guard(self, key: _GuardKey) -> _Guard | None:
        guard = self.guards.touch(key)
        return guard if guard is not None and guard.expires > time.monotonic() else None

    def take(self, key: _GuardKey) -> _Guard:
        guard = self.guard(key)
        if guard is None:
            guard = self.guards[key] = self._new_guard(is_tombstone=False)
        return guard

    def bury(self, key: _GuardKey) -> None:
        self.guards[key] = self._new_guard(is_tombstone=True)

    def _new_guard(self, *, is_tombstone: bool) -> _Guard:
        return _Guard(secrets.token_bytes(16), time.monotonic() + self.guard_ttl, is_tombstone)


class _MemoryService(abc.ABC):
    """One scope over the tables; the subclasses say what a scope reads, writes and removes."""

    _tables: _Tables
    _binding: LoopBinding

    @property
    def guard_ttl(self) -> float:
        """How long a clear keeps fills away, in seconds."""
        return self._tables.guard_ttl

    @abc.abstractmethod
    def _read(self, digest: Digest) -> Descriptor | None: ...

    @abc.abstractmethod
    def _write(self, digests: tuple[Digest, ...], descriptor: Descriptor) -> None: ...

    @abc.abstractmethod
    def _clear(self, digest: Digest) -> bool: ...

    @abc.abstractmethod
    def _guard_keys(self, digest: Digest) -> tuple[_GuardKey, ...]: ...

    @abc.abstractmethod
    def _unknown(self, digest: Digest) -> BlobUnknownError: ...

    async def stat(self, digest: str) -> Descriptor:
        """Describe the blob.

        :raises BlobUnknownError: not known in this scope.
        :raises InvalidDigestError: ``digest`` is not one.
        """
        digest = Digest(digest)
        self._binding.check()
        descriptor = self._read(digest)
        if descriptor is None:
            raise self._unknown(digest)
        return descriptor

    def peek(self, digest: str) -> Descriptor | None:
        """The same without waiting, and ``None`` for what is not known.

        :raises InvalidDigestError: ``digest`` is not one.
        """
        digest = Digest(digest)
        return None if self._binding.loop is None else self._read(digest)

    async def stat_many(self, digests: Iterable[str]) -> dict[Digest, Descriptor]:
        """Describe those of the blobs that are known."""
        wanted = dict.fromkeys(Digest(digest) for digest in digests)
        self._binding.check()
        found = ((digest, self._read(digest)) for digest in wanted)
        return {digest: descriptor for digest, descriptor in found if descriptor is not None}

    async def set_descriptor(self, digest: str, descriptor: Descriptor) -> None:
        """Keep ``descriptor`` under ``digest``, without regard to guards: the caller vouches for it.

        :raises InvalidDescriptorError: it has no media type, or is another blob's.
        :raises InvalidDigestError: ``digest`` is not one.
        """
        digest = Digest(digest)
        require_cacheable(digest, descriptor)
        self._binding.check()
        self._write(written_digests(digest, descriptor), descriptor)

    async def clear(self, digest: str) -> None:
        """Forget the blob, and refuse every fill of it for ``guard_ttl`` seconds.

        :raises BlobUnknownError: nothing was known in this scope.
        :raises InvalidDigestError: ``digest`` is not one.
        """
        digest = Digest(digest)
        self._binding.check()
        if not self._clear(digest):
            raise self._unknown(digest)

    async def take_token(self, digest: str) -> FillToken:
        """Take the token that a fill has to show; see :class:`~aioblobcache.FillToken`."""
        digest = Digest(digest)
        self._binding.check()
        guards = [self._tables.take(key) for key in self._guard_keys(digest)]
        return FillToken(tuple(guard.value for guard in guards), not any(guard.is_tombstone for guard in guards))

    async def fill(self, digest: str, descriptor: Descriptor, token: FillToken) -> bool:
        """Write the entry if nothing has cleared the blob since ``token`` was taken; say whether it was.

        :raises InvalidDescriptorError: it has no media type, or is another blob's.
        """
        digest = Digest(digest)
        require_cacheable(digest, descriptor)
        self._binding.check()
        keys = self._guard_keys(digest)
        held = [self._tables.guard(key) for key in keys]
        if not token.permits_fill or token.guards != tuple(guard.value if guard else None for guard in held):
            return False
        self._write((digest,), descriptor)
        del self._tables.guards[keys[0]]  # others are shared with the misses of other repositories
        return True


class MemoryRepositoryCache(_MemoryService):
    """The scope of one repository."""

    def __init__(self, tables: _Tables, binding: LoopBinding, name: str) -> None:
        self._tables = tables
        self._binding = binding
        self.name = name

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, MemoryRepositoryCache):
            return NotImplemented
        return self._tables is other._tables and self.name == other.name

    def __hash__(self) -> int:
        return hash((id(self._tables), self.name))

    def __repr__(self) -> str:
        return f"<repository {self.name} of an in-memory blob descriptor cache>"

    def _read(self, digest: Digest) -> Descriptor | None:
        media_type = self._tables.links.touch((self.name, digest))
        descriptor = self._tables.descriptors.touch(digest)
        if media_type is None or descriptor is None:
            return None
        return descriptor if media_type == descriptor.media_type else attrs.evolve(descriptor, media_type=media_type)

    def _write(self, digests: tuple[Digest, ...], descriptor: Descriptor) -> None:
        for digest in digests:
            self._tables.links[self.name, digest] = descriptor.media_type
            self._tables.write_descriptor(digest, descriptor)

    def _clear(self, digest: Digest) -> bool:
        self._tables.bury((self.name, digest))
        if self._tables.links.pop((self.name, digest), None) is None:
            return False  # a repository cannot clear what it does not hold
        self._tables.bury((None, digest))
        self._tables.descriptors.pop(digest, None)
        return True

    def _guard_keys(self, digest: Digest) -> tuple[_GuardKey, ...]:
        return ((self.name, digest), (None, digest))

    def _unknown(self, digest: Digest) -> BlobUnknownError:
        return BlobUnknownError(digest, self.name)


class MemoryBlobDescriptorCache(_MemoryService):
    """Blob descriptors in this process: for tests, tools and registries of one process.

    ``max_entries`` bounds the descriptors, and by itself the links of blobs into repositories; the
    least recently used go first. ``guard_ttl`` is how long a clear keeps fills away, in seconds.

    Its own scope is the global one. Use it as an asynchronous context manager, like any provider.

    :raises ConfigurationError: an option is not a positive number.
    """

    def __init__(self, max_entries: int = 100_000, *, guard_ttl: float = 60.0) -> None:
        if not isinstance(max_entries, int) or isinstance(max_entries, bool) or max_entries < 1:
            raise ConfigurationError(f"max_entries is a positive int, not {max_entries!r}")
        if not isinstance(guard_ttl, int | float) or not guard_ttl > 0:
            raise ConfigurationError(f"guard_ttl is a positive number of seconds, not {guard_ttl!r}")
        self._binding = LoopBinding(type(self).__name__)
        self._tables = _Tables(_Lru(max_entries), _Lru(max_entries), _Lru(2 * max_entries), guard_ttl)

    def repository_scoped(self, name: str) -> MemoryRepositoryCache:
        """The descriptors of the repository ``name``.

        :raises RepositoryNameError: not a repository name.
        """
        return MemoryRepositoryCache(self._tables, self._binding, validate_repository_name(name))

    async def __aenter__(self) -> Self:
        self._binding.enter()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._binding.leave()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {len(self._tables.descriptors)} descriptors, {len(self._tables.links)} links>"

    def _read(self, digest: Digest) -> Descriptor | None:
        return self._tables.descriptors.touch(digest)

    def _write(self, digests: tuple[Digest, ...], descriptor: Descriptor) -> None:
        self._tables.write_descriptor(digests[0], descriptor)

    def _clear(self, digest: Digest) -> bool:
        self._tables.bury((None, digest))
        return self._tables.descriptors.pop(digest, None) is not None

    def _guard_keys(self, digest: Digest) -> tuple[_GuardKey, ...]:
        return ((None, digest),)

    def _unknown(self, digest: Digest) -> BlobUnknownError:
        return BlobUnknownError(digest)
