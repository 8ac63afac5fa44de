"""The one hook that tells what happens: metrics, traces and the demo hang on it."""

from __future__ import annotations

import attrs

from .digest import Digest
from .errors import CacheUnavailableError, ConfigurationError, CorruptEntryError

__all__ = ["NearCacheStats", "Observer", "as_observer"]


@attrs.frozen
class NearCacheStats:
    """A near cache: what it has done since the provider was entered, and how it is now."""

    hits: int
    misses: int  # stats that had to ask Redis
    invalidations: int  # keys that the server said have changed
    flushes: int  # all entries dropped: a lost connection, FLUSHALL, a server that is no primary any more
    evictions: int
    entries: int  # those kept; dropped ones among them until they are replaced or evicted
    lease_age: float | None  # seconds since when changes may be unknown; ``None``: no lease at all
    why_off: str | None  # ``None``: it serves


class Observer:
    """Subclass and override what you want to hear; each method does nothing by itself.

    They are called in the event loop, on the way of a request: they must neither block nor raise.
    """

    def cache_hit(self, digest: Digest) -> None:
        """A read-through was answered by the cache."""

    def cache_miss(self, digest: Digest) -> None:
        """The cache does not know the blob: the read-through goes to its backend."""

    def cache_unavailable(self, digest: Digest, error: CacheUnavailableError) -> None:
        """The cache could not answer: the read-through goes on without it."""

    def corrupt_entry(self, error: CorruptEntryError) -> None:
        """A provider met an entry that cannot be a descriptor; it is a miss as well."""

    def near_cache(self, stats: NearCacheStats) -> None:
        """The near cache reports, several times in each ``max_staleness``."""

    def fill_refused(self, digest: Digest) -> None:
        """A fill was given up: the blob was, or may have been, cleared, or was filled meanwhile."""


def as_observer(observer: Observer | None) -> Observer:
    """The observer that was given, or one that does nothing.

    :raises ConfigurationError: not an :class:`Observer`.
    """
    if observer is None:
        return Observer()
    if not isinstance(observer, Observer):
        raise ConfigurationError(
            f"observer is an instance of a subclass of aioblobcache.Observer, not a {type(observer).__name__}"
        )
    return observer
