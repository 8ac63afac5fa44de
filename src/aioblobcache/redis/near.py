"""The near cache: answers kept in the process, what they rest on, and when they are dropped. No I/O, no clock.

An entry is one scope's answer about one blob. It is served only while all that it rests on holds:

* its *blob*: neither the descriptor key nor a repository's override for the digest has changed;
* its *membership*: the repository's set has not changed (the global scope has none, its always holds);
* its *lease*: the connection it was read by is known to have told of all changes until lately;
* its age: a key that expires is announced only when the server gets round to it.

To drop entries is to end what they rest on, which takes the same time for one entry and for a million.
Dropped entries are replaced when their blob is read again, or evicted before any other.

**Why stream order suffices.** The server tracks a key for a connection when that connection reads it, and
sends the invalidation by the same connection, in the order of execution. So of an answer and an
invalidation the one that arrives later was made later; an answer from before a change is kept, if at all,
only until the invalidation right behind it. The reads of one answer are several commands, and another
client's write may fall between them; there may be several connections; and the process itself writes. For
these a *reading* notes, when its question is put, how often its blob and its repository have changed, and is
kept only if they have not changed again when its last reply has been parsed. All of it is called where
replies are parsed, never from the task that awaits them: that runs later, when more may have been parsed.

What would break it: replies and invalidations by different connections (REDIRECT, a proxy that shares
connections), a lease that is renewed for another connection than the one its entries came by, NOLOOP (the
server then forgets a key that this connection writes, without a word), and SWAPDB, of which nobody is told.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final, cast
from weakref import WeakValueDictionary

from ..descriptor import Descriptor
from ..digest import Digest
from .keys import subject_of
from .lease import Lease
from .resp import Reply, UnexpectedReplyError
from .sieve import Item, Sieve

__all__ = ["NearCache", "NearTable", "Reading", "Source", "invalidated_keys"]

# Counters of changes that blobs share by their hash: who shares one loses a chance to be kept, no more.
_COUNTERS: Final = 8192


class _Membership:
    """The state of a repository's membership set that entries were read in."""

    __slots__ = ("holds", "table")

    def __init__(self, table: NearTable) -> None:
        self.table = table
        self.holds = True


class _Entry(Item):
    """An answer, and its neighbours among those about the same blob in other scopes: mostly there are none."""

    __slots__ = ("descriptor", "digest", "expires", "holds", "lease", "membership", "next_of_blob", "previous_of_blob")

    def __init__(self, descriptor: Descriptor, digest: Digest, membership: _Membership, lease: Lease) -> None:
        self.marked = False
        self.descriptor = descriptor
        self.digest = digest
        self.holds = True  # the blob has not changed
        self.membership = membership
        self.lease = lease
        self.expires = lease.expires
        self.next_of_blob: _Entry | None = None
        self.previous_of_blob: _Entry | None = None


class NearTable:
    """The entries of one scope; made by :meth:`NearCache.table`."""

    __slots__ = ("__weakref__", "entries", "membership", "near")

    def __init__(self, near: NearCache) -> None:
        self.near = near
        self.entries: dict[Digest, _Entry] = {}
        self.membership = _Membership(self)

    def look(self, digest: Digest, now: float) -> Descriptor | None:
        """The answer, if there is one that may be served at ``now``."""
        entry = self.entries.get(digest)
        if (
            entry is not None
            and now < entry.expires
            and entry.holds
            and entry.membership.holds
            and (now < entry.lease.until or now < entry.lease.reckoned())
        ):
            entry.marked = True
            self.near.hits += 1
            return entry.descriptor
        return None

    def missed(self, count: int) -> None:
        """So many questions go to Redis, since nothing was found."""
        self.near.misses += count


class Reading:
    """A question that is under way, whose answer may be kept."""

    __slots__ = ("_changes", "_digest", "_lease", "_membership", "_near")

    def __init__(self, near: NearCache, digest: Digest, membership: _Membership, lease: Lease) -> None:
        self._near = near
        self._digest = digest
        self._membership = membership
        self._lease = lease
        self._changes = near.changes[hash(digest) % _COUNTERS]

    def keep(self, descriptor: Descriptor) -> None:
        """Keep the answer, unless something that it rests on has changed since the question was put."""
        near, digest, lease, membership = self._near, self._digest, self._lease, self._membership
        if lease.is_confirmed and membership.holds and near.changes[hash(digest) % _COUNTERS] == self._changes:
            near.keep(digest, descriptor, membership, lease)


class NearCache:
    """At most ``limit`` entries, of all scopes of a provider.

    ``max_staleness`` and ``max_age`` are seconds: how much later than a heartbeat was sent it
    vouches for an entry, and how long after it was read an entry may be served at all.
    """

    def __init__(self, limit: int, *, max_staleness: float, max_age: float) -> None:
        self.hits = 0
        self.misses = 0
        self.invalidations = 0
        self.flushes = 0
        self.evictions = 0
        self.entries = 0
        self._limit = limit
        self._max_staleness = max_staleness
        self._max_age = max_age
        self._tables: WeakValueDictionary[str, NearTable] = WeakValueDictionary()
        self._global_table = NearTable(self)
        self._about: dict[Digest, _Entry] = {}  # the first of the entries about a blob that hold
        self.changes = array("Q", bytes(8 * _COUNTERS))  # how often each blob has changed, by the hash of its digest
        self._order: Sieve[_Entry] = Sieve()

    def table(self, name: str | None) -> NearTable:
        """The table of a repository, or of the global scope: one for each, as long as it is used."""
        if name is None:
            return self._global_table
        table = self._tables.get(name)
        if table is None:
            table = self._tables[name] = NearTable(self)
        return table

    def renew(self, lease: Lease, sent: float) -> None:
        """A heartbeat that was sent at ``sent`` has been answered by a primary: all that changed before is known."""
        lease.renew(sent + self._max_staleness, sent + self._max_age)

    # --- dropping --------------------------------------------------------------------------------

    def blob_changed(self, digest: str) -> None:
        """Drop every entry about the blob."""
        self.changes[hash(digest) % _COUNTERS] += 1
        entry = self._about.pop(digest, None)  # type: ignore[call-overload]  # it need not be a valid one
        while entry is not None:
            entry.holds = False
            entry = entry.next_of_blob

    def repository_changed(self, name: str) -> None:
        """Drop every entry of the repository."""
        table = self._tables.get(name)
        if table is not None:
            table.membership.holds = False
            table.membership = _Membership(table)

    @contextmanager
    def writing(self, digests: Iterable[Digest]) -> Iterator[None]:
        """A write of this process: it sees no entry from before, whatever comes of the write.

        Answers that were under way at its beginning or its end are not kept; those in between are dropped.
        """
        written = tuple(digests)
        for digest in written:
            self.blob_changed(digest)
        try:
            yield
        finally:
            for digest in written:
                self.blob_changed(digest)

    # --- keeping and evicting --------------------------------------------------------------------

    def keep(self, digest: Digest, descriptor: Descriptor, membership: _Membership, lease: Lease) -> None:
        """Put an entry in, in place of the one there is, and evict one if there are too many."""
        entries, about = membership.table.entries, self._about
        if digest in entries:
            self._remove(entries[digest])
        first = about.get(digest)
        if first is None:
            entry = about[digest] = _Entry(descriptor, digest, membership, lease)
        else:
            entry = about[digest] = _Entry(descriptor, first.digest, membership, lease)
            entry.next_of_blob = first
            first.previous_of_blob = entry
        entries[entry.digest] = entry
        self._order.add(entry)
        self.entries += 1
        if self.entries > self._limit:
            self._remove(self._order.victim(_is_dropped))
            self.evictions += 1

    def _remove(self, entry: _Entry) -> None:
        self._order.remove(entry)
        digest, about = entry.digest, self._about
        del entry.membership.table.entries[digest]
        following, previous = entry.next_of_blob, entry.previous_of_blob
        if following is not None:
            following.previous_of_blob = previous
        if previous is not None:
            previous.next_of_blob = following
        elif about.get(digest) is entry:
            if following is None:
                del about[digest]
            else:
                about[digest] = following
        self.entries -= 1


def _is_dropped(entry: _Entry) -> bool:
    return entry.lease.is_over or not entry.holds or not entry.membership.holds


def invalidated_keys(push: list[Reply]) -> list[bytes] | None:
    """The keys that the server says have changed; ``None``: all of them, by FLUSHALL or FLUSHDB.

    :raises UnexpectedReplyError: an invalidation of no known form.
    """
    if not push or push[0] != b"invalidate":
        return []
    keys = push[1] if len(push) == 2 else b""
    if keys is None:
        return None
    if not isinstance(keys, list):
        raise UnexpectedReplyError("an invalidation without keys")
    if not all(isinstance(key, bytes) for key in keys):
        raise UnexpectedReplyError("an invalidation of something that is no key")
    return cast("list[bytes]", keys)


class Source:
    """A connection, or the next one in its place, as the near cache sees it."""

    def __init__(self, near: NearCache) -> None:
        self.near = near
        self.lease = Lease()
        self._awaited: bytes | None = None

    def reading(self, table: NearTable, digest: Digest) -> Reading:
        """A question of which no part has been sent."""
        return Reading(self.near, digest, table.membership, self.lease)

    def pushed(self, push: list[Reply]) -> None:
        """What the server sent without being asked, in the order of the stream.

        :raises UnexpectedReplyError: an invalidation of no known form.
        """
        keys = invalidated_keys(push)
        if keys is None:
            self.flush()
            return
        for key in keys:
            name, digest = subject_of(key)
            if digest:
                self.near.blob_changed(digest)
            elif name:
                self.near.repository_changed(name)
            elif key == self._awaited:
                self._awaited = None
        self.near.invalidations += len(keys)

    def flush(self) -> None:
        """Drop all that came by the connection."""
        self.near.flushes += self.lease.is_confirmed
        self.lease.end()
        self.lease = Lease()

    def await_invalidation(self, key: bytes) -> None:
        """Look out for the invalidation of a key that is none of the registry's."""
        self._awaited = key

    @property
    def has_been_told(self) -> bool:
        """Whether that invalidation has come."""
        return self._awaited is None
