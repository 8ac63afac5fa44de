"""The tags of a repository."""

from __future__ import annotations

import asyncio
import re
from typing import Final

from ..digest import Digest
from .layout import StorageLayout
from .links import read_link
from .objects import Objects

__all__ = ["Tags", "is_tag"]

# OCI Distribution Specification v1.1, "Pulling manifests".
_TAG: Final = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")

# Of many tags, so many are looked at at once.
_AT_ONCE: Final = 16


def is_tag(text: str) -> bool:
    """Whether ``text`` may be a tag: 128 characters at most, none that could extend a path."""
    return _TAG.fullmatch(text) is not None


class Tags:
    """The tags of one repository (OCI Distribution Specification v1.1, "Pulling manifests"); made by
    :meth:`RegistryStorage.tags`."""

    def __init__(self, objects: Objects, layout: StorageLayout, name: str) -> None:
        self._objects = objects
        self._layout = layout
        self.name = name

    async def resolve(self, tag: str) -> Digest | None:
        """The digest of the manifest that ``tag`` names; ``None``: there is no such tag, or its link is broken.

        :raises StorageError: the store could not tell.
        """
        if not is_tag(tag):
            return None
        try:
            return await read_link(self._objects, self._layout.current(self.name, tag))
        except FileNotFoundError:
            return None

    async def names(self) -> list[str] | None:
        """All tags, in the order of their bytes; ``None``: there is no such repository.

        One listing, all of it in memory: some hundred bytes for each tag.

        :raises StorageError: the listing failed.
        """
        found = await self._objects.folders(self._layout.tags(self.name))
        if not found and not await self.is_repository():
            return None
        return sorted(filter(is_tag, found))

    async def is_repository(self) -> bool:
        """Whether there is such a repository, with or without tags; one listing of a few folders.

        :raises StorageError: the listing failed.
        """
        children = await self._objects.folders(f"{self._layout.repositories}/{self.name}")
        return not children.isdisjoint(("_layers", "_manifests"))

    async def remove(self, tag: str) -> bool:
        """Remove a tag and its history; whether there was one. What it named stays.

        :raises StorageError: the store could not tell, or refused.
        """
        if not is_tag(tag):
            return False
        history = f"{self._layout.tags(self.name)}/{tag}"
        try:
            await self._objects.remove(self._layout.current(self.name, tag))
        except FileNotFoundError:
            # What a removal that was interrupted has left names nothing, and is listed all the same.
            if not await self._objects.folders(history):
                return False
        await self._objects.remove_all(history)
        return True

    async def remove_those_of(self, digest: Digest) -> list[str]:
        """Remove every tag that names this manifest; which those were.

        :raises StorageError: the store could not tell, or refused; some may be removed.
        """
        turns = asyncio.Semaphore(_AT_ONCE)

        async def remove_if_its(tag: str) -> bool:
            async with turns:
                return await self.resolve(tag) == digest and await self.remove(tag)

        tags = await self.names() or []
        outcomes = await asyncio.gather(*map(remove_if_its, tags), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        return [tag for tag, removed in zip(tags, outcomes, strict=True) if removed]

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.name}>"
