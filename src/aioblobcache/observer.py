"""The one hook that tells what happens: metrics, traces and the demo hang on it."""

from __future__ import annotations

from .digest import Digest
from .errors import CacheUnavailableError, ConfigurationError, CorruptEntryError

__all__ = ["Observer", "as_observer"]


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
