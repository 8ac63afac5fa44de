"""A server with tracking, several connections to it, and one near cache behind them, step by step.

The reference that the near cache is compared with: it knows of every answer which values it was made
of, and of every value when it was replaced, and by whom.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import attrs

from aioblobcache import Descriptor, Digest
from aioblobcache.redis.keys import descriptor_key, membership_key, override_key
from aioblobcache.redis.lease import Lease
from aioblobcache.redis.near import NearCache, Reading, Source

MAX_STALENESS = 10
MAX_AGE = 40

NAMES = (None, "foo", "foo/bar")  # the first is the global scope
DIGESTS = (Digest.of(b"1"), Digest.of(b"2"), Digest.of(b"3", "sha512"))


def keys_of(name: str | None, digest: Digest) -> list[bytes]:
    """The keys that an answer depends on, in the order in which they are read."""
    if name is None:
        return [descriptor_key(digest)]
    return [membership_key(name), descriptor_key(digest), override_key(name, digest)]


KEYS = sorted({key for name in NAMES for digest in DIGESTS for key in keys_of(name, digest)})


@attrs.define(eq=False)
class Group:
    """A stat: its reads go over one connection, or over two as they would to two nodes of a Cluster."""

    name: str | None
    digest: Digest
    reading: Reading
    missing: int
    read: dict[bytes, int] = attrs.field(factory=dict)
    lost: bool = False


@attrs.define(eq=False)
class OwnWrite:
    """A write of the process that has the near cache."""

    context: AbstractContextManager[None]
    digest: Digest
    keys: list[bytes]
    versions: dict[bytes, int] = attrs.field(factory=dict)
    confirmed: bool = False


@attrs.define(eq=False)
class Connection:
    """What has been sent and not been executed, what the server tracks for it, and what has not been parsed."""

    source: Source
    requests: deque[tuple[Any, ...]] = attrs.field(factory=deque)
    tracked: set[bytes] = attrs.field(factory=set)
    stream: deque[Callable[[], None]] = attrs.field(factory=deque)


class World:
    """Each method is one step of somebody; :meth:`look` compares."""

    def __init__(self, connections: int, limit: int) -> None:
        self.now = 0
        self.near = NearCache(limit, max_staleness=MAX_STALENESS, max_age=MAX_AGE)
        # As the provider's services do, they hold the tables.
        self.tables = {name: self.near.table(name) for name in NAMES}
        self.connections = [Connection(Source(self.near)) for _ in range(connections)]
        self.own_writes: list[OwnWrite] = []
        self.served = 0
        # Of each key: the versions it has had, when each was replaced, and how long that may go unnoticed.
        self._version = dict.fromkeys(KEYS, 0)
        self._replaced: dict[tuple[bytes, int], tuple[int, int]] = {}
        # What this process knows that it has written: of a membership set, only whether this one blob is in it.
        self._own_version: dict[tuple[bytes, Digest], int] = {}
        self._answers: list[dict[bytes, int]] = []

    # --- the process -----------------------------------------------------------------------------

    def ask(self, name: str | None, digest: Digest, first: int, second: int) -> None:
        """Put a question: the membership is read over the second connection, all else over the first."""
        used = [self.connections[second if key == keys_of(name, digest)[0] else first] for key in keys_of(name, digest)]
        lease = Lease.joint({connection.source.lease for connection in used})
        reading = Reading(self.near, digest, self.tables[name].membership, lease)
        group = Group(name, digest, reading, len(used))
        for connection, key in zip(used, keys_of(name, digest), strict=True):
            connection.requests.append(("read", key, group))

    def write(self, name: str | None, digest: Digest, over: int) -> None:
        """Begin an own write of all keys of a blob."""
        own = OwnWrite(self.near.writing([digest]), digest, keys_of(name, digest))
        own.context.__enter__()
        self.own_writes.append(own)
        self.connections[over].requests.append(("write", own))

    def end_write(self, number: int) -> None:
        """The caller of a write is told, or gives up."""
        if self.own_writes:
            own = self.own_writes.pop(number % len(self.own_writes))
            own.context.__exit__(None, None, None)
            if own.confirmed:
                for key, version in own.versions.items():
                    own_version = self._own_version.get((key, own.digest), 0)
                    self._own_version[key, own.digest] = max(own_version, version)

    def beat(self, over: int) -> None:
        """Send a heartbeat."""
        connection = self.connections[over]
        connection.requests.append(("beat", connection.source.lease, self.now))

    def parse(self, over: int) -> None:
        """Parse the next of what has come."""
        stream = self.connections[over].stream
        if stream:
            stream.popleft()()

    def lose(self, over: int) -> None:
        """The connection is lost; what was sent may have been executed or not, now and never later."""
        connection = self.connections[over]
        for request in connection.requests:
            if request[0] == "read":
                request[2].lost = True
        connection.requests.clear()
        connection.stream.clear()
        connection.tracked.clear()
        connection.source.flush()

    # --- the server and its other clients --------------------------------------------------------

    def execute(self, over: int) -> None:
        """The server executes the next request of a connection."""
        connection = self.connections[over]
        if not connection.requests:
            return
        kind, *arguments = connection.requests.popleft()
        if kind == "read":
            key, group = arguments
            connection.tracked.add(key)
            version = self._version[key]
            connection.stream.append(lambda: self._replied(group, key, version))
        elif kind == "write":
            [own] = arguments
            connection.stream.append(lambda: setattr(own, "confirmed", True))
            for key in own.keys:
                self.change(key)
                own.versions[key] = self._version[key]
        else:
            lease, sent = arguments
            connection.stream.append(lambda: self.near.renew(lease, sent))

    def change(self, key: bytes) -> None:
        """Somebody writes a key, and whoever has read it is told."""
        self._replace(key, MAX_STALENESS)
        for connection in self.connections:
            if key in connection.tracked:
                connection.tracked.remove(key)
                connection.stream.append(self._push(connection, [b"invalidate", [key]]))

    def expire(self, key: bytes) -> None:
        """A key expires, and the server does not get round to telling anybody."""
        self._replace(key, MAX_AGE)

    def flush_all(self) -> None:
        """FLUSHALL."""
        for key in KEYS:
            self._replace(key, MAX_STALENESS)
        for connection in self.connections:
            connection.tracked.clear()
            connection.stream.append(self._push(connection, [b"invalidate", None]))

    # --- the comparison --------------------------------------------------------------------------

    def look(self, name: str | None, digest: Digest) -> None:
        """What is served must not have been replaced for longer than is promised, nor by an own write at all."""
        found = self.tables[name].look(digest, self.now)
        if found is None:
            return
        self.served += 1
        read = self._answers[found.size]
        assert list(read) == keys_of(name, digest)
        assert found.digest == digest
        for key, version in read.items():
            assert version >= self._own_version.get((key, digest), 0), "an answer from before an own write"
            if version != self._version[key]:
                when, bound = self._replaced[key, version]
                assert self.now < when + bound, f"{key!r} was replaced {self.now - when} ago"

    def _replied(self, group: Group, key: bytes, version: int) -> None:
        group.read[key] = version
        group.missing -= 1
        if not group.missing and not group.lost:
            self._answers.append({key: group.read[key] for key in keys_of(group.name, group.digest)})
            group.reading.keep(Descriptor(group.digest, len(self._answers) - 1, "a/b"))

    def _push(self, connection: Connection, push: list[Any]) -> Callable[[], None]:
        return lambda: connection.source.pushed(push)

    def _replace(self, key: bytes, bound: int) -> None:
        self._replaced[key, self._version[key]] = (self.now, bound)
        self._version[key] += 1
