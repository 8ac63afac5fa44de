"""What every Python peer is asked for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, NamedTuple, Protocol

from ..corpus import Blob

__all__ = ["Answer", "NearPeer", "Peer", "Pipelined", "Stated"]


class Answer(Protocol):
    """A descriptor, whatever its class."""

    @property
    def digest(self) -> str: ...
    @property
    def size(self) -> int: ...
    @property
    def media_type(self) -> str: ...


class Peer(Protocol):
    """A client of the cache. Those who are not this library return the cheapest thing that holds an answer."""

    def open(self, host: str, port: int, kept: int) -> AbstractAsyncContextManager[Peer]:
        """Connect, for as long as the context lasts; with a near cache of so many blobs, if the peer has one."""
        ...

    async def stat(self, blob: Blob) -> Answer:
        """A blob, in its repository."""
        ...

    async def is_unknown(self, blob: Blob) -> bool:
        """Ask for ``blob.absent``, and say whether it is unknown."""
        ...

    async def stat_many(self, repository: str, digests: list[str]) -> dict[str, Answer]:
        """Blobs that the repository holds, in one round trip."""
        ...

    async def set(self, blob: Blob) -> bool:
        """Set a descriptor, as Distribution does; returns True."""
        ...


class NearPeer(Peer, Protocol):
    """One that has a near cache."""

    def prepare(self, blobs: Sequence[Blob]) -> list[Any]:
        """What the next two take, so that nothing but the question is timed."""
        ...

    async def stat_each(self, prepared: Sequence[Any]) -> list[Answer]:
        """Each blob, one after the other."""
        ...

    def peek_each(self, prepared: Sequence[Any]) -> list[Answer | None]:
        """The same, of the near cache alone."""
        ...

    def invalidations(self) -> int:
        """How many keys it has been told of."""
        ...


class Stated(NamedTuple):
    """An answer that nothing has validated."""

    digest: str
    size: int
    media_type: str

    @classmethod
    def of(cls, member: Any, fields: list[bytes], override: bytes) -> Stated:
        """What the three replies say; fails if the blob is unknown."""
        if not member:
            raise KeyError(fields)
        digest, size, _ = fields
        return cls(digest.decode(), int(size), override.decode())

    @classmethod
    def of_many(cls, digests: Sequence[str], replies: Sequence[Any]) -> dict[str, Answer]:
        """The same of several blobs, each with its three replies."""
        triples = zip(replies[::3], replies[1::3], replies[2::3], strict=True)
        return {digest: cls.of(*triple) for digest, triple in zip(digests, triples, strict=True)}


class Pipelined(ABC):
    """A peer that sends any number of commands at once, and gets their replies in order."""

    @abstractmethod
    async def ask(self, repository: str, digests: list[str]) -> list[Any]:
        """The three replies about each blob, one after the other."""

    async def stat(self, blob: Blob) -> Answer:
        return Stated.of(*await self.ask(blob.repository, [blob.digest]))

    async def is_unknown(self, blob: Blob) -> bool:
        member, _, _ = await self.ask(blob.repository, [blob.absent])
        return not member

    async def stat_many(self, repository: str, digests: list[str]) -> dict[str, Answer]:
        return Stated.of_many(digests, await self.ask(repository, digests))
