"""The notes of an audit that compare all with all: what is in no repository, what is a manifest.

Which digests there are is remembered in tables of a fixed size, whatever the size of the cache: of ten million digests
one in two thousand is taken for another one, and its note is left out. Faults never depend on them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from ..digest import Digest
from ..media_types import OCTET_STREAM
from ..redis.cached import Cached, Subject
from ..redis.keyspace import Keyspace
from .findings import Finding, Note, notes_on_blob
from .truth import Truth

__all__ = ["DigestFilter", "Notes"]

# Hexadecimal digits that name a place, and how many places stand for a digest: 2**28 bits are 32 MiB.
_DIGITS: Final = 7
_PLACES: Final = 4


class DigestFilter:
    """Which digests were added: those it denies were not, and nearly all of those it affirms were."""

    def __init__(self) -> None:
        self._bits = bytearray(16**_DIGITS // 8)

    def add(self, digest: Digest) -> None:
        """Remember a digest."""
        for place in _places(digest):
            self._bits[place >> 3] |= 1 << (place & 7)

    def __contains__(self, digest: Digest) -> bool:
        return all(self._bits[place >> 3] >> (place & 7) & 1 for place in _places(digest))


def _places(digest: Digest) -> Iterator[int]:
    # A digest is as random as a hash of it would be.
    encoded = digest.encoded
    return (int(encoded[start : start + _DIGITS], 16) for start in range(0, _PLACES * _DIGITS, _DIGITS))


class Notes:
    """Looks for notes; :meth:`prepare` first."""

    def __init__(self, keyspace: Keyspace, truth: Truth) -> None:
        self._keyspace = keyspace
        self._truth = truth
        self._members = DigestFilter()
        self._manifests = DigestFilter()

    async def prepare(self) -> None:
        """Walk over all repositories, of the cache and of storage.

        :raises StorageError: a listing failed.
        :raises CacheUnavailableError: the cache was away for too long, or refused.
        """
        async for page in self._keyspace.pages():
            for one in page.subjects:
                if one.name is not None and one.digest is None:
                    async for digests in self._keyspace.members(one.name):
                        for digest in digests:
                            self._members.add(digest)
        async for digest in self._truth.manifests():
            self._manifests.add(digest)

    async def on_blobs(self, blobs: Sequence[tuple[Digest, Cached]]) -> list[Finding]:
        """The notes on global entries that have no fault."""
        own = {digest: one.descriptor.digest for digest, one in blobs if one.descriptor is not None}
        aliases = {digest: canonical for digest, canonical in own.items() if canonical != digest}
        canonical = dict(zip(aliases, await self._keyspace.descriptors([*aliases.values()]), strict=True))
        untyped = [digest for digest, one in blobs if _is_untyped(one) and digest in self._manifests]
        types = dict(zip(untyped, await self._truth.manifest_types(untyped), strict=True))
        notes = []
        for digest, one in blobs:
            manifest_type = types.get(digest)
            notes += notes_on_blob(
                digest,
                one,
                is_member=digest in self._members,
                has_canonical=digest not in canonical or canonical[digest].descriptor is not None,
                manifest_type=manifest_type if isinstance(manifest_type, str) else None,
            )
        return notes

    async def on_overrides(self, overrides: Sequence[Subject]) -> list[Finding]:
        """The notes on repositories' media types."""
        by_name: dict[str, list[Digest]] = {}
        for one in overrides:
            if one.name is not None and one.digest is not None:
                by_name.setdefault(one.name, []).append(one.digest)
        notes = []
        for name, digests in by_name.items():
            members = await self._keyspace.are_members(name, digests)
            notes += [
                Finding(Note.ORPHAN_OVERRIDE, name, digest, "")
                for digest, is_member in zip(digests, members, strict=True)
                if not is_member
            ]
        return notes


def _is_untyped(cached: Cached) -> bool:
    return cached.descriptor is not None and cached.descriptor.media_type == OCTET_STREAM
