"""The library's private state, for the few tests that have to see it. Nothing else in the tests reaches for it."""

from __future__ import annotations

from typing import Any

import attrs

from aioblobcache import CachedBlobStatter, MemoryBlobDescriptorCache, RedisBlobDescriptorCache
from aioblobcache.redis.lane import Lane


@attrs.frozen
class CacheInternals:
    """A provider's parts."""

    _cache: RedisBlobDescriptorCache

    @property
    def engine(self) -> Any:
        return self._cache._engine

    @property
    def topology(self) -> Any:
        return self.engine._topology

    @property
    def nodes(self) -> Any:
        """The nodes of a Cluster."""
        return self.topology._nodes

    @property
    def lane(self) -> Lane:
        """The only connection to a single node."""
        [lane] = self.topology.lanes
        return lane

    @property
    def client(self) -> Any:
        """The client that the provider made of a URL."""
        return self._cache._owned_client


def internals(cache: RedisBlobDescriptorCache) -> CacheInternals:
    return CacheInternals(cache)


def scope_of(repository: Any) -> Any:
    """What makes the requests of a repository's service."""
    return repository._scope


def bytes_received(lane: Lane) -> int:
    """Bytes since the last whole reply."""
    return lane._bytes_received


def unsent_bytes(lane: Lane) -> int:
    return lane._transport.get_write_buffer_size()


def flights_of(statter: CachedBlobStatter) -> Any:
    """The calls that a read-through has under way."""
    return statter._shared.flights


def flying(flights: Any) -> list[Any]:
    """Each call under way, in the order they began."""
    return list(flights._flying.values())


def memory_tables(cache: MemoryBlobDescriptorCache) -> Any:
    return cache._tables


def joint_leases(lease: Any) -> Any:
    """The joint leases that a lease is part of."""
    return lease._joint


def digests_indexed(near: Any) -> list[Any]:
    """The digests by which a near cache finds entries to drop."""
    return list(near._about)


def entries_indexed(near: Any, digest: Any) -> list[Any]:
    """The linked entries about a blob, the latest first; their links are checked in both directions."""
    found, previous, entry = [], None, near._about.get(digest)
    while entry is not None:
        assert entry.previous_of_blob is previous
        found.append(entry)
        previous, entry = entry, entry.next_of_blob
    return found


def tables_of(near: Any) -> list[str]:
    """The repositories of which a near cache holds a table."""
    return sorted(near._tables)


def idle_connections(client: Any) -> list[Any]:
    """The connections that wait in the pool of a client of redis-py."""
    return client.connection_pool._available_connections


def read_storage_through(audit: Any, truth: Any) -> None:
    """Let an audit ask another storage from now on."""
    audit._truth = truth


def suspects_of(audit: Any) -> int:
    """The number of an audit's suspects that wait for their second look."""
    return len(audit._suspects)


def set_limits(monkeypatch: Any, module: Any, **limits: float) -> None:
    """Replace a module's private limits, each named without its underscore, for one test."""
    for name, limit in limits.items():
        monkeypatch.setattr(module, f"_{name}", limit)


def count_scans(monkeypatch: Any, referrers: type) -> list[str]:
    """Return a list that grows by the name of each repository whose manifests a referrers index reads."""
    names: list[str] = []
    original = referrers._read  # type: ignore[attr-defined]

    async def noted(self: Any, name: str) -> Any:
        names.append(name)
        return await original(self, name)

    monkeypatch.setattr(referrers, "_read", noted)
    return names


def remembered_failure(referrers: Any, name: str) -> BaseException:
    """The failure of the last scan of a repository."""
    return referrers._failures[name][1]
