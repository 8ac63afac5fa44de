"""Filling a cache from storage, before anybody asks.

Each entry is filled as a miss fills it, under a guard: never set. What a garbage collector or a Go registry deletes
meanwhile leaves no tombstone, so all that was filled is looked at once more in storage, some seconds later, and what
has vanished is cleared.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Final

import attrs

from ..descriptor import Descriptor
from ..digest import Digest
from ..errors import BlobUnknownError, StorageError
from ..interfaces import BlobStatter
from ..redis.keyspace import Keyspace
from ..redis.provider import RedisRepositoryCache
from ..storage import RegistryStorage
from .options import check_count, check_delay, check_rate
from .truth import at_once, is_wanted

__all__ = ["Warm", "WarmOptions", "WarmReport"]

_BATCH: Final = 1_000
_PIECE: Final = 250
_PIECES_AT_ONCE: Final = 2

# Repositories that are walked at once: most are small, and each takes some trips to storage, one after the other.
_REPOSITORIES: Final = 8

# Digests that wait for their second look; the next ones wait for them then.
_WAITING: Final = 200_000

# Reasons that are remembered why storage could not tell.
_TROUBLES: Final = 1_000


@attrs.frozen(kw_only=True)
class WarmOptions:
    """What is filled, and how fast: ``rate`` is in entries a second, at most; ``look_again_after`` in seconds.

    :raises ConfigurationError: a value is of the wrong type or out of range.
    """

    repositories: str | None = None
    rate: float | None = attrs.field(default=None, validator=attrs.validators.optional(check_rate))
    look_again_after: float = attrs.field(default=5.0, validator=check_delay)
    objects_at_once: int = attrs.field(default=64, validator=check_count)


@attrs.define
class WarmReport:
    """What was done so far; complete once all repositories have been walked."""

    seen: int = 0  # links
    filled: int = 0
    known: int = 0  # cached already
    refused: int = 0  # a guard forbade it: it was cleared lately, or somebody else filled it
    absent: int = 0  # a link without data
    vanished: int = 0  # filled, then not in storage any more: cleared again
    not_told: int = 0  # storage could not tell
    repositories: int = 0
    last: str = ""  # the repository up to which all are finished: where to resume
    troubles: list[str] = attrs.field(factory=list)  # why storage could not tell, and of what
    is_complete: bool = False


@attrs.frozen
class _Batch:
    due: float  # by the event loop's clock
    cache: RedisRepositoryCache
    backend: BlobStatter
    digests: list[Digest]
    last_of: str | None  # the repository that ends with it


class Warm:
    """One filling of the cache. ``report`` grows while :meth:`run` is under way."""

    def __init__(self, keyspace: Keyspace, storage: RegistryStorage, options: WarmOptions | None = None) -> None:
        self.report = WarmReport()
        self._keyspace = keyspace
        self._storage = storage
        self._options = options or WarmOptions()
        self._turns = asyncio.Semaphore(self._options.objects_at_once)
        self._looking = asyncio.Lock()
        self._batches: deque[_Batch] = deque()
        self._waiting = 0  # digests in them
        self._passed_over = False  # a repository, which a run that resumes has to see
        self._next = 0.0  # when the rate permits the next batch, by the event loop's clock

    async def run(self, after: str = "") -> WarmReport:
        """Walk over all repositories, or over those that come after one. Cancelled, it leaves ``report`` as it is.

        What was filled and not yet looked at again is then looked at by a run that resumes.

        :raises StorageError: the repositories cannot be listed.
        :raises CacheUnavailableError: the cache was away for too long, or refused.
        """
        self.report.last = after
        under_way: deque[tuple[str, asyncio.Task[bool]]] = deque()
        try:
            async for name in self._storage.repositories(after=after):
                if is_wanted(name, self._options.repositories):
                    if len(under_way) == _REPOSITORIES:
                        await self._finish(*under_way.popleft())
                    under_way.append((name, asyncio.create_task(self._warm_repository(name))))
            while under_way:
                await self._finish(*under_way.popleft())
        finally:
            for _, task in under_way:
                task.cancel()
            await asyncio.gather(*(task for _, task in under_way), return_exceptions=True)
        await self._look_again(wait_for_all=True)
        self.report.is_complete = True
        return self.report

    async def _finish(self, name: str, task: asyncio.Task[bool]) -> None:
        """Wait for a repository, in the order in which they are walked."""
        is_whole = await task
        self.report.repositories += 1
        self._passed_over = self._passed_over or not is_whole
        if not self._passed_over:
            self._later(self._keyspace.cache.repository_scoped(name), self._storage.blobs(name), [], last_of=name)
            await self._look_again()

    async def _warm_repository(self, name: str) -> bool:
        """Whether all of its links could be listed."""
        cache = self._keyspace.cache.repository_scoped(name)
        try:
            for links in (self._storage.blobs(name), self._storage.manifests(name)):
                async for digests in _batches(links.links(), self._batch_size):
                    # In pieces, so that Redis works on one while the next is made.
                    pieces = [digests[start : start + _PIECE] for start in range(0, len(digests), _PIECE)]
                    filled = await at_once(partial(self._fill, cache, links), pieces, _PIECES_AT_ONCE)
                    written = [digest for piece in filled if isinstance(piece, list) for digest in piece]
                    self._later(cache, links, written)
                    await self._look_again()
                    await self._keep_to_the_rate(len(digests))
        except StorageError as error:  # a listing: what is left of this repository is left as it is
            self._not_told(error)
            return False
        return True

    async def _fill(self, cache: RedisRepositoryCache, backend: BlobStatter, digests: Sequence[Digest]) -> list[Digest]:
        """Fill those that are not known, by the rule of a read-through; which may have been written."""
        persist, report = self._keyspace.persist, self.report
        known = await persist(lambda: cache.stat_many(digests))
        unknown = [digest for digest in digests if digest not in known]
        report.seen += len(digests)
        report.known += len(known)
        tokens = await persist(lambda: cache.take_tokens(unknown))
        answers = await at_once(partial(self._stat, backend), unknown, self._options.objects_at_once)
        report.absent += answers.count(None)
        self._not_told(*answers)
        entries = [
            (digest, answer, token)
            for digest, answer, token in zip(unknown, answers, tokens, strict=True)
            if isinstance(answer, Descriptor)
        ]
        # One that went unanswered may have been done all the same: then it is refused the second time.
        written = sum(await persist(lambda: cache.fill_many(entries)))
        report.filled += written
        report.refused += len(entries) - written
        return [digest for digest, _, _ in entries]

    def _later(
        self, cache: RedisRepositoryCache, backend: BlobStatter, digests: list[Digest], *, last_of: str | None = None
    ) -> None:
        if digests or last_of is not None:
            due = asyncio.get_running_loop().time() + (self._options.look_again_after if digests else 0.0)
            self._batches.append(_Batch(due, cache, backend, digests, last_of))
            self._waiting += len(digests)

    async def _look_again(self, *, wait_for_all: bool = False) -> None:
        if self._looking.locked() and self._waiting < _WAITING:
            return  # somebody else does
        loop = asyncio.get_running_loop()
        async with self._looking:
            while self._batches:
                remaining = self._batches[0].due - loop.time()
                if remaining > 0:
                    if not wait_for_all and self._waiting < _WAITING:
                        return
                    await asyncio.sleep(remaining)
                due: list[_Batch] = []
                looked_at = 0
                for batch in self._batches:
                    if batch.due > loop.time() or looked_at >= _BATCH:
                        break
                    due.append(batch)
                    looked_at += len(batch.digests)
                await self._clear_what_has_vanished(due)
                for batch in due:
                    self._batches.popleft()
                    self._waiting -= len(batch.digests)
                    self.report.last = batch.last_of or self.report.last

    async def _clear_what_has_vanished(self, batches: Sequence[_Batch]) -> None:
        looked_at = [(batch, digest) for batch in batches for digest in batch.digests]
        most = self._options.objects_at_once
        answers = await at_once(lambda one: self._stat(one[0].backend, one[1]), looked_at, most)
        self._not_told(*answers)
        for (batch, digest), answer in zip(looked_at, answers, strict=True):
            if answer is None and await self._keyspace.clear(batch.cache.name, digest):
                self.report.vanished += 1

    def _not_told(self, *answers: object) -> None:
        for error in answers:
            if isinstance(error, StorageError):
                self.report.not_told += 1
                if len(self.report.troubles) < _TROUBLES:
                    self.report.troubles.append(str(error))

    async def _stat(self, backend: BlobStatter, digest: Digest) -> Descriptor | None:
        async with self._turns:
            try:
                return await backend.stat(digest)
            except BlobUnknownError:
                return None

    @property
    def _batch_size(self) -> int:
        """No more than the rate permits in a second, or each batch would be a burst."""
        rate = self._options.rate
        return _BATCH if rate is None else max(1, min(_BATCH, int(rate)))

    async def _keep_to_the_rate(self, count: int) -> None:
        if self._options.rate is not None:
            now = asyncio.get_running_loop().time()
            self._next = max(self._next, now) + count / self._options.rate
            await asyncio.sleep(self._next - now)


async def _batches(digests: AsyncIterator[Digest], size: int) -> AsyncIterator[list[Digest]]:
    batch: list[Digest] = []
    async for digest in digests:
        batch.append(digest)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
