"""What a provider with a near cache has besides its lanes: the cache, a heartbeat for each lane, and the figures."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from ..observer import NearCacheStats
from .heartbeat import Heartbeat, boot_time
from .lane import Companion
from .near import NearCache, Source
from .options import RedisOptions

__all__ = ["Coherence"]

_log = logging.getLogger("aioblobcache.near")


class Coherence:
    """Keeps the near cache of one provider coherent with Redis."""

    def __init__(self, options: RedisOptions) -> None:
        self.near = NearCache(options.near_cache, max_staleness=options.max_staleness, max_age=options.near_age)
        self._options = options
        self._heartbeats: list[Heartbeat] = []

    def companion(self, address: str, probe_key: Callable[[], Awaitable[bytes]]) -> Heartbeat:
        """For another lane; see :class:`Heartbeat`."""
        heartbeat = Heartbeat(
            Source(self.near),
            address,
            probe_key,
            max_staleness=self._options.max_staleness,
            clock=boot_time,
            report=self._report,
        )
        self._heartbeats.append(heartbeat)
        return heartbeat

    def dismiss(self, companion: Companion | None) -> None:
        """Its lane is none of the provider's any more."""
        self._heartbeats = [heartbeat for heartbeat in self._heartbeats if heartbeat is not companion]

    def stats(self) -> NearCacheStats:
        """How it is now."""
        near, now = self.near, boot_time()
        # What a lease vouches for ends at its heartbeat's sending: `max_staleness` before its own end.
        ages = [
            now - heartbeat.source.lease.until + self._options.max_staleness
            for heartbeat in self._heartbeats
            if heartbeat.source.lease.is_confirmed
        ]
        return NearCacheStats(
            hits=near.hits,
            misses=near.misses,
            invalidations=near.invalidations,
            flushes=near.flushes,
            evictions=near.evictions,
            entries=near.entries,
            lease_age=max(ages, default=None),
            why_off=next((heartbeat.why_off for heartbeat in self._heartbeats if heartbeat.why_off), None),
        )

    def _report(self) -> None:
        try:
            self._options.observer.near_cache(self.stats())
        except Exception:  # the heartbeat that tells it goes on
            _log.exception("an observer failed")
