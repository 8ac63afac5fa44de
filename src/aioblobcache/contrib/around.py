"""A layer around a provider: each call that goes to Redis is made within a context, which times it or traces it.

Without the layer nothing of it is there. What the near cache answers goes to nobody, and is not surrounded.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias, cast

import attrs

from ..descriptor import Descriptor
from ..digest import Digest
from ..interfaces import FillToken, GuardedCacheProvider, GuardedDescriptorService

__all__ = ["Around", "AroundCache", "Operation"]

# What is asked of Redis: the names that Distribution's metrics have for them, and three of this library's own.
Operation: TypeAlias = Literal[
    "Stat", "SetDescriptor", "Clear", "TakeToken", "RepoStat", "RepoSetDescriptor", "RepoClear", "RepoTakeToken"
]

# The context of one call: which operation, in which repository (``None``: globally), about which blob.
Around: TypeAlias = Callable[[Operation, str | None, Digest], AbstractContextManager[object]]


@attrs.frozen
class _Names:
    stat: Operation
    set_descriptor: Operation  # a fill as well: it is what a read-through sets by
    clear: Operation
    take_token: Operation


_GLOBAL = _Names("Stat", "SetDescriptor", "Clear", "TakeToken")
_OF_REPOSITORY = _Names("RepoStat", "RepoSetDescriptor", "RepoClear", "RepoTakeToken")


@attrs.frozen
class _AroundService:
    """One scope of the provider; the methods mean what they mean in :mod:`aioblobcache.interfaces`."""

    _service: GuardedDescriptorService
    _around: Around
    _names: _Names
    name: str | None

    @property
    def guard_ttl(self) -> float:
        return self._service.guard_ttl

    def peek(self, digest: str, /) -> Descriptor | None:
        return self._service.peek(digest)

    async def stat(self, digest: str, /) -> Descriptor:
        digest = Digest(digest)
        known = self._service.peek(digest)
        if known is not None:
            return known
        with self._around(self._names.stat, self.name, digest):
            return await self._service.stat(digest)

    async def set_descriptor(self, digest: str, descriptor: Descriptor, /) -> None:
        digest = Digest(digest)
        with self._around(self._names.set_descriptor, self.name, digest):
            await self._service.set_descriptor(digest, descriptor)

    async def clear(self, digest: str, /) -> None:
        digest = Digest(digest)
        with self._around(self._names.clear, self.name, digest):
            await self._service.clear(digest)

    async def take_token(self, digest: str, /) -> FillToken:
        digest = Digest(digest)
        with self._around(self._names.take_token, self.name, digest):
            return await self._service.take_token(digest)

    async def fill(self, digest: str, descriptor: Descriptor, token: FillToken, /) -> bool:
        digest = Digest(digest)
        with self._around(self._names.set_descriptor, self.name, digest):
            return await self._service.fill(digest, descriptor, token)


class AroundCache(_AroundService):
    """A provider, and the context that ``around`` gives around each of its calls that go to Redis.

    It is opened and closed by ``async with``, and opens and closes the provider.
    """

    def __init__(self, cache: GuardedCacheProvider, around: Around) -> None:
        super().__init__(cache, around, _GLOBAL, None)

    def repository_scoped(self, name: str, /) -> GuardedDescriptorService:
        """The repository ``name``, with the same around it."""
        cache = cast("GuardedCacheProvider", self._service)
        return _AroundService(cache.repository_scoped(name), self._around, _OF_REPOSITORY, name)

    def info(self) -> dict[str, Any]:
        """What the provider says of itself; nothing, of one that says nothing."""
        return cast("dict[str, Any]", getattr(self._service, "info", dict)())

    async def __aenter__(self) -> Self:
        await cast("AbstractAsyncContextManager[Any]", self._service).__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await cast("AbstractAsyncContextManager[Any]", self._service).__aexit__(kind, error, traceback)
