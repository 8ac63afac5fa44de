"""Backends for the read-through's tests: a real one of dicts, which can be held up and can fail."""

from __future__ import annotations

import asyncio

from aioblobcache import BlobUnknownError, Descriptor


class Backend:
    """Holds descriptors by digest, and counts what it is asked.

    While ``gate`` is set to an event, every call waits for it, before it looks or deletes.
    """

    def __init__(self, *descriptors: Descriptor) -> None:
        self.held: dict[str, Descriptor] = {descriptor.digest: descriptor for descriptor in descriptors}
        self.stats = 0
        self.clears = 0
        self.gate: asyncio.Event | None = None
        self.entered = asyncio.Event()
        self.failure: BaseException | None = None

    async def stat(self, digest: str) -> Descriptor:
        self.stats += 1
        found = self.held.get(digest)  # what is answered is what was there when it was asked
        await self._pass()
        if found is None:
            raise BlobUnknownError(digest)
        return found

    async def clear(self, digest: str) -> None:
        self.clears += 1
        await self._pass()
        if self.held.pop(digest, None) is None:
            raise BlobUnknownError(digest)

    async def _pass(self) -> None:
        self.entered.set()
        if self.gate is not None:
            await self.gate.wait()
        if self.failure is not None:
            raise self.failure


class Storage:
    """A registry's storage of such backends, one for each name and kind."""

    def __init__(self) -> None:
        self.backends: dict[tuple[str, str], Backend] = {}

    def blobs(self, name: str) -> Backend:
        return self.backends.setdefault(("blobs", name), Backend())

    def manifests(self, name: str) -> Backend:
        return self.backends.setdefault(("manifests", name), Backend())
