"""The protocols that caches, storage and read-through meet in.

Wherever a digest is asked for, a plain ``str`` is accepted and validated
(:class:`~aioblobcache.InvalidDigestError`); a :class:`~aioblobcache.Digest` is not validated again.
"""

from __future__ import annotations

from typing import Protocol

import attrs

from .descriptor import Descriptor

__all__ = [
    "BlobDescriptorCacheProvider",
    "BlobDescriptorService",
    "BlobStatter",
    "BlobStore",
    "FillToken",
    "GuardedCacheProvider",
    "GuardedDescriptorService",
    "RegistryBackend",
]


class BlobStatter(Protocol):
    """Anything that can describe a blob: a cache, a storage backend, both in a row."""

    async def stat(self, digest: str, /) -> Descriptor:
        """Describe the blob.

        :raises BlobUnknownError: it is not known here.
        :raises InvalidDigestError: ``digest`` is not one.
        :raises CacheUnavailableError: a cache could not be asked; what a read-through goes on without.
        :raises StorageError: storage could not tell, which is never absence.
        """
        ...


class BlobStore(BlobStatter, Protocol):
    """A backend that can also forget a blob: the storage side of a read-through."""

    async def clear(self, digest: str, /) -> None:
        """Remove the blob.

        :raises BlobUnknownError: there is nothing to remove.
        :raises InvalidDigestError: ``digest`` is not one.
        :raises StorageError: storage refused, or could not tell.
        """
        ...


class BlobDescriptorService(BlobStatter, Protocol):
    """Descriptors by digest, of one scope: the whole registry, or one repository."""

    async def set_descriptor(self, digest: str, descriptor: Descriptor, /) -> None:
        """Keep ``descriptor`` under ``digest``: the caller vouches that the blob is there now.

        :raises InvalidDescriptorError: it has no media type, or is another blob's; nothing was written.
        :raises InvalidDigestError: ``digest`` is not one.
        :raises CacheUnavailableError: there was no confirmation: it may still take effect.
        """
        ...

    async def clear(self, digest: str, /) -> None:
        """Forget what is kept under ``digest``.

        :raises BlobUnknownError: nothing was known.
        :raises InvalidDigestError: ``digest`` is not one.
        :raises CacheUnavailableError: there was no confirmation: it may still take effect.
        """
        ...


class BlobDescriptorCacheProvider(BlobDescriptorService, Protocol):
    """The global scope, and the way to each repository's."""

    def repository_scoped(self, name: str, /) -> BlobDescriptorService:
        """The descriptors of the repository ``name``; a blob is known there only where it is linked.

        :raises RepositoryNameError: not a repository name.
        """
        ...


@attrs.frozen
class FillToken:
    """The permission that a miss takes before it reads the backend, to be shown to ``fill``.

    Equal tokens of one blob mean that nothing has cleared the blob between their takings.
    ``permits_fill`` is false where a clear was met: what the backend answers may already be old.
    ``guards`` is what stands in each guard, the repository's and then the blob's own; globally that alone. It means
    nothing to anybody else.
    """

    guards: tuple[bytes, ...]
    permits_fill: bool


class GuardedDescriptorService(BlobDescriptorService, Protocol):
    """A service that a read-through can fill without ever bringing back what was cleared."""

    @property
    def guard_ttl(self) -> float:
        """How long a clear keeps fills away, in seconds; a longer clear must be renewed within it."""
        ...

    def peek(self, digest: str, /) -> Descriptor | None:
        """What this process knows of the blob by itself; ``None`` says nothing. Never waits, never asks.

        What it returns is what ``stat`` would return at this moment.
        """
        ...

    async def take_token(self, digest: str, /) -> FillToken:
        """Take the token of a miss, before the backend is asked; misses of one blob share it.

        :raises InvalidDigestError: ``digest`` is not one.
        :raises CacheUnavailableError: there is none to be had, and nothing may be filled.
        """
        ...

    async def fill(self, digest: str, descriptor: Descriptor, token: FillToken, /) -> bool:
        """Write the entry if, and only if, the blob has not been cleared since ``token`` was taken.

        Returns whether it was written; a token that an earlier fill has spent writes nothing. Writes
        under ``digest`` alone, never under the descriptor's own digest of another algorithm: no token
        was taken for that.

        :raises InvalidDescriptorError: as for ``set_descriptor``.
        :raises InvalidDigestError: ``digest`` is not one.
        :raises CacheUnavailableError: there was no confirmation; executed late, it does no harm.
        """
        ...


class GuardedCacheProvider(GuardedDescriptorService, Protocol):
    """A provider whose services can all be filled under guard: what a ``CachedRegistry`` needs."""

    def repository_scoped(self, name: str, /) -> GuardedDescriptorService:
        """As in :class:`BlobDescriptorCacheProvider`."""
        ...


class RegistryBackend(Protocol):
    """A registry's storage, with its two kinds of link kept apart."""

    def blobs(self, name: str, /) -> BlobStore:
        """The layers and configs linked into the repository ``name``."""
        ...

    def manifests(self, name: str, /) -> BlobStore:
        """The manifest revisions of the repository ``name``."""
        ...
