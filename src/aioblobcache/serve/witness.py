"""What happened lately, for the status page; and the metrics hear of it too."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator

import attrs
from prometheus_client import REGISTRY, CollectorRegistry

from ..contrib.prometheus import PrometheusObserver
from ..digest import Digest
from ..errors import CacheUnavailableError, CorruptEntryError

__all__ = ["Event", "Witness"]

_REMEMBERED = 20


@attrs.define
class Event:
    """An error, when it was met last, and how often in a row."""

    what: str
    at: float  # seconds since the epoch
    times: int = 1


class Witness(PrometheusObserver):
    """Counts what read-through and provider tell, and remembers the latest errors."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        super().__init__(registry)
        self.hits = self.misses = self.unavailable = 0
        self._events: deque[Event] = deque(maxlen=_REMEMBERED)

    def cache_hit(self, digest: Digest) -> None:
        super().cache_hit(digest)
        self.hits += 1

    def cache_miss(self, digest: Digest) -> None:
        super().cache_miss(digest)
        self.misses += 1

    def cache_unavailable(self, digest: Digest, error: CacheUnavailableError) -> None:
        super().cache_unavailable(digest, error)
        self.unavailable += 1
        self.remember(str(error))

    def corrupt_entry(self, error: CorruptEntryError) -> None:
        super().corrupt_entry(error)
        self.remember(str(error))

    def remember(self, what: str) -> None:
        """Keep an error for the page."""
        events = self._events
        if events and events[-1].what == what:
            events[-1].at = time.time()
            events[-1].times += 1
        else:
            events.append(Event(what, time.time()))

    def latest(self) -> Iterator[Event]:
        """The latest errors, the last one first."""
        return reversed(self._events)
