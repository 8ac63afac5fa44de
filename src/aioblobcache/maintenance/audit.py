"""Walking over a cache and comparing it with storage.

What looks like a fault is looked at again some seconds later, cache and storage both: only what then is a fault still
is one. So pushes and deletes that are under way are none. Nothing is written.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Final, TypeVar

import attrs

from ..digest import Digest
from ..errors import ConfigurationError, StorageError
from ..redis.cached import Cached, CachedInRepository, Subject
from ..redis.keyspace import Keyspace, Position
from .findings import Fault, Finding, Note, judge_blob, judge_member, judge_set
from .notes import Notes
from .options import check_delay
from .truth import Truth, at_once, is_wanted

__all__ = ["Audit", "AuditOptions", "AuditReport", "Trouble"]

# Faults and notes that are remembered, of each; all are counted. A hundred thousand take some 30 MB.
_REMEMBERED: Final = 100_000

# Blobs that storage could not tell of, and whose reasons are remembered.
_TROUBLES: Final = 1_000

# Suspects that wait for their second look; the walk waits for them then.
_SUSPECTS: Final = 10_000

# Repositories that are looked at at once: most are small, and each takes some trips to storage, one after the other.
_REPOSITORIES: Final = 8

# So many of them are looked at again together, and so many of these at once.
_PIECE: Final = 500
_AT_ONCE: Final = 64

_T = TypeVar("_T")


@attrs.frozen(kw_only=True)
class AuditOptions:
    """What is looked at: ``repositories`` is a pattern of fnmatch, such as ``library/*``; ``with_notes``: what is only
    unusual as well; ``confirm_after`` is in seconds.

    :raises ConfigurationError: a value is of the wrong type or out of range.
    """

    repositories: str | None = None
    with_notes: bool = False
    confirm_after: float = attrs.field(default=5.0, validator=check_delay)


@attrs.frozen
class Trouble:
    """A blob that storage could not tell of: permission, transport, a broken link."""

    name: str | None
    digest: Digest | None
    reason: str


@attrs.define
class AuditReport:
    """What was found so far; complete once the walk has ended."""

    keys: int = 0  # of the layout that were met
    checked: int = 0  # entries: a global descriptor is one, a membership is one
    faults: list[Finding] = attrs.field(factory=list)
    notes: list[Finding] = attrs.field(factory=list)
    counts: Counter[Fault | Note] = attrs.field(factory=Counter)
    troubles: list[Trouble] = attrs.field(factory=list)
    not_told: int = 0  # how many entries storage could not tell of
    interruptions: int = 0  # how often the cache was away
    position: Position | None = None  # to resume at
    is_complete: bool = False
    _seen: set[tuple[Fault | Note, str | None, Digest | None]] = attrs.field(factory=set, repr=False)

    @property
    def fault_count(self) -> int:
        """All faults, the remembered ones and others."""
        return sum(count for kind, count in self.counts.items() if isinstance(kind, Fault))

    @property
    def fault_share(self) -> float:
        """Of what was checked."""
        return self.fault_count / self.checked if self.checked else 0.0

    def add(self, finding: Finding) -> bool:
        """Take a finding in, once; whether it is new."""
        key = (finding.kind, finding.name, finding.digest)
        kept = self.faults if finding.is_fault else self.notes
        if key in self._seen:  # SCAN may meet a key twice
            return False
        if len(kept) < _REMEMBERED:
            kept.append(finding)
            self._seen.add(key)
        self.counts[finding.kind] += 1
        return True

    def add_trouble(self, name: str | None, digest: Digest | None, error: StorageError) -> None:
        """Take in that storage could not tell."""
        self.not_told += 1
        if len(self.troubles) < _TROUBLES:
            self.troubles.append(Trouble(name, digest, str(error)))


@attrs.frozen
class _Suspect:
    due: float  # by the event loop's clock
    finding: Finding
    before: Position | None  # where to resume so that it is met again


class Audit:
    """One comparison of the whole cache with storage. ``report`` grows while :meth:`run` is under way.

    ``on_finding`` is called with each fault and note when it is certain.
    """

    def __init__(
        self,
        keyspace: Keyspace,
        truth: Truth,
        options: AuditOptions | None = None,
        *,
        on_finding: Callable[[Finding], None] = lambda finding: None,
    ) -> None:
        self.report = AuditReport()
        self._keyspace = keyspace
        self._truth = truth
        self._options = options or AuditOptions()
        self._notes = Notes(keyspace, truth) if self._options.with_notes else None
        self._on_finding = on_finding
        self._suspects: deque[_Suspect] = deque()
        self._reached: Position | None = None
        self._confirming = asyncio.Lock()

    async def run(self, resume: Position | None = None) -> AuditReport:
        """Walk over all that is cached, or what comes after ``resume``. Cancelled, it leaves ``report`` as it is.

        :raises CacheUnavailableError: the cache was away for too long, or refused.
        :raises ConfigurationError: there is nothing to resume at, or notes are wanted as well.
        :raises StorageError: for notes: the manifests cannot be listed.
        """
        if self._notes is not None:
            if resume is not None:
                raise ConfigurationError("notes need a walk from the beginning: they compare all with all")
            await self._notes.prepare()
        self.report.position = self._reached = resume
        async for page in self._keyspace.pages(resume):
            self.report.keys += len(page.subjects)
            await self._look_at(page.subjects)
            self._reached = page.after
            await self._confirm_those_due()
        await self._confirm_those_due(wait_for_all=True)
        self.report.is_complete = True
        return self.report

    async def look_again(self, finding: Finding) -> Finding | None:
        """What is wrong with the same entry now; ``None``: nothing any more.

        :raises StorageError: storage could not tell.
        :raises CacheUnavailableError: the cache was away for too long, or refused.
        """
        name, digest = finding.name, finding.digest
        if digest is None:
            return judge_set(name or "", await self._keyspace.is_set(name or ""))
        if name is None:
            [cached] = await self._keyspace.descriptors([digest])
            [size] = await self._truth.sizes([_data_of(digest, cached)])
            return judge_blob(digest, cached, _told(size))
        if await self._keyspace.are_members(name, [digest]) == [False]:
            return None
        [entry] = await self._keyspace.entries(name, [digest])
        [stored] = await self._truth.in_repository(name, [digest])
        return judge_member(name, digest, entry, _told(stored))

    # --- looking ---------------------------------------------------------------------------------

    async def _look_at(self, subjects: Sequence[Subject]) -> None:
        pattern = self._options.repositories
        blobs = [one.digest for one in subjects if one.name is None and one.digest is not None]
        if pattern is None and blobs:
            await self._look_at_descriptors(blobs, await self._keyspace.descriptors(blobs))
        names = [one.name for one in subjects if one.name is not None and one.digest is None]
        wanted_names = [name for name in names if is_wanted(name, pattern)]
        await at_once(self._look_at_repository, wanted_names, _REPOSITORIES)
        if self._notes is not None:
            overrides = [one for one in subjects if one.name is not None and one.digest is not None]
            wanted = [one for one in overrides if is_wanted(one.name or "", pattern)]
            self._take(await self._notes.on_overrides(wanted))

    async def _look_at_descriptors(self, digests: Sequence[Digest], cached: Sequence[Cached]) -> None:
        known = [(digest, one) for digest, one in zip(digests, cached, strict=True) if one != Cached()]
        sizes = await self._truth.sizes([_data_of(digest, one) for digest, one in known])
        self.report.checked += len(known)
        healthy = []
        for (digest, one), size in zip(known, sizes, strict=True):
            if isinstance(size, StorageError):
                self.report.add_trouble(None, digest, size)
            elif fault := judge_blob(digest, one, size):
                self._suspect(fault)
            else:
                healthy.append((digest, one))
        if self._notes is not None:
            self._take(await self._notes.on_blobs(healthy))

    async def _look_at_repository(self, name: str) -> None:
        if fault := judge_set(name, await self._keyspace.is_set(name)):
            self.report.checked += 1
            self._suspect(fault)
            return
        async for digests in self._keyspace.members(name):
            entries = await self._keyspace.entries(name, digests)
            await self._look_at_members(name, digests, entries)
            if self._options.repositories is not None:
                await self._look_at_descriptors(digests, [entry.blob for entry in entries])
            await self._confirm_those_due()

    async def _look_at_members(
        self, name: str, digests: Sequence[Digest], entries: Sequence[CachedInRepository]
    ) -> None:
        self.report.checked += len(digests)
        stored = await self._truth.in_repository(name, digests)
        for digest, entry, one in zip(digests, entries, stored, strict=True):
            if isinstance(one, StorageError):
                self.report.add_trouble(name, digest, one)
            elif finding := judge_member(name, digest, entry, one):
                if finding.is_fault:
                    self._suspect(finding)
                elif self._notes is not None:
                    self._take([finding])

    # --- confirming ------------------------------------------------------------------------------

    def _suspect(self, finding: Finding) -> None:
        due = asyncio.get_running_loop().time() + self._options.confirm_after
        self._suspects.append(_Suspect(due, finding, self._reached))

    async def _confirm_those_due(self, *, wait_for_all: bool = False) -> None:
        if self._confirming.locked() and len(self._suspects) < _SUSPECTS:
            return  # somebody else does
        loop = asyncio.get_running_loop()
        async with self._confirming:
            while self._suspects:
                remaining = self._suspects[0].due - loop.time()
                if remaining > 0:
                    if not wait_for_all and len(self._suspects) < _SUSPECTS:
                        break
                    await asyncio.sleep(remaining)
                due = [one.finding for one in islice(self._suspects, _PIECE) if one.due <= loop.time()]
                for finding, now in zip(due, await at_once(self.look_again, due, _AT_ONCE), strict=True):
                    if isinstance(now, StorageError):
                        self.report.add_trouble(finding.name, finding.digest, now)
                    elif now is not None and now.is_fault:
                        self._take([now])
                    self._suspects.popleft()
        # What waits for its second look would be lost to who resumes behind it.
        self.report.position = self._suspects[0].before if self._suspects else self._reached
        self.report.interruptions = self._keyspace.interruptions

    def _take(self, findings: Sequence[Finding]) -> None:
        for finding in findings:
            if self.report.add(finding):
                self._on_finding(finding)


def _data_of(digest: Digest, cached: Cached) -> Digest:
    """Under which digest the data of a global entry is stored."""
    return digest if cached.descriptor is None else cached.descriptor.digest


def _told(answer: _T | StorageError) -> _T:
    if isinstance(answer, StorageError):
        raise answer
    return answer
