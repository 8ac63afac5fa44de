"""What storage says, of many blobs at a time: the side of an audit that is right."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from fnmatch import fnmatchcase
from typing import Protocol, TypeVar

import attrs

from ..digest import Digest
from ..errors import BlobUnknownError, StorageError
from ..storage import RegistryStorage
from .findings import InRepository
from .options import check_count

__all__ = ["StorageTruth", "Truth", "at_once", "is_wanted"]

_T = TypeVar("_T")
_R = TypeVar("_R")


class Truth(Protocol):
    """What an audit asks of storage. What could not be told is in its place, and never means that nothing is there."""

    async def sizes(self, digests: Sequence[Digest]) -> Sequence[int | StorageError | None]:
        """How many bytes the data of each has; ``None``: there is none."""
        ...

    async def in_repository(self, name: str, digests: Sequence[Digest]) -> Sequence[InRepository | StorageError]:
        """What there is of each in a repository, where a link by another algorithm is followed."""
        ...

    def manifests(self) -> AsyncIterator[Digest]:
        """All manifests that any repository links, some of them more than once."""
        ...

    async def manifest_types(self, digests: Sequence[Digest]) -> Sequence[str | StorageError | None]:
        """The media type of each of these manifests; ``None``: there is no data."""
        ...


@attrs.frozen
class StorageTruth:
    """A registry's storage, of which so many objects are looked at at once."""

    storage: RegistryStorage
    objects_at_once: int = attrs.field(default=64, validator=check_count)
    _turns: asyncio.Semaphore = attrs.field(init=False, repr=False, eq=False)

    @_turns.default
    def _make_turns(self) -> asyncio.Semaphore:
        return asyncio.Semaphore(self.objects_at_once)

    async def sizes(self, digests: Sequence[Digest]) -> Sequence[int | StorageError | None]:
        return await self._of_each(self._size, digests)

    async def in_repository(self, name: str, digests: Sequence[Digest]) -> Sequence[InRepository | StorageError]:
        # A layer or a config is what most are.
        kinds = (self.storage.blobs(name), self.storage.manifests(name))

        async def look(digest: Digest) -> InRepository:
            for kind in kinds:
                target = await kind.target_if_linked(digest)
                if target is not None:
                    return InRepository(True, await self._size(target))
            return InRepository(False, await self._size(digest))

        return await self._of_each(look, digests)

    async def manifests(self) -> AsyncIterator[Digest]:
        async for name in self.storage.repositories():
            async for digest in self.storage.manifests(name).links():
                yield digest

    async def manifest_types(self, digests: Sequence[Digest]) -> Sequence[str | StorageError | None]:
        async def look(digest: Digest) -> str | None:
            try:
                return (await self.storage.stat_manifest(digest)).media_type
            except BlobUnknownError:
                return None

        return await self._of_each(look, digests)

    async def _of_each(
        self, look: Callable[[Digest], Awaitable[_R]], digests: Sequence[Digest]
    ) -> list[_R | StorageError]:
        """Look at each; of all that are asked about, by whomever, so many at once."""

        async def look_in_turn(digest: Digest) -> _R:
            async with self._turns:
                return await look(digest)

        return await at_once(look_in_turn, digests, self.objects_at_once)

    async def _size(self, digest: Digest) -> int | None:
        try:
            return (await self.storage.stat(digest)).size
        except BlobUnknownError:
            return None


async def at_once(ask: Callable[[_T], Awaitable[_R]], items: Sequence[_T], most: int) -> list[_R | StorageError]:
    """Ask about each, of so many at once; what storage could not tell is in its place."""
    answers: dict[int, _R | StorageError] = {}
    pending = iter(enumerate(items))

    async def work() -> None:
        for place, item in pending:
            try:
                answers[place] = await ask(item)
            except StorageError as error:
                answers[place] = error

    tasks = [asyncio.create_task(work()) for _ in range(min(most, len(items)))]
    try:
        await asyncio.gather(*tasks)
    finally:  # the first that fails ends the others
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
    return [answers[place] for place in range(len(items))]


def is_wanted(name: str, pattern: str | None) -> bool:
    """Whether a repository is among those that were asked for: ``None`` for all, ``library/*`` for some."""
    return pattern is None or fnmatchcase(name, pattern)
