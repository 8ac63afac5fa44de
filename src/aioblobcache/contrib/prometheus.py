"""For Prometheus: what read-through and provider do, under the names that Distribution's dashboards know::

    metrics = PrometheusObserver()
    cache = timed(connect("redis://localhost", observer=metrics), metrics)
    registry = CachedRegistry(cache, storage, observer=metrics)
    async with cache, sampled(cache, metrics):
        ...

Needs the extra ``prometheus``.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, Protocol, get_args

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from ..digest import Digest
from ..errors import CacheUnavailableError, CorruptEntryError
from ..interfaces import GuardedCacheProvider
from ..observer import Observer
from .around import AroundCache, Operation

__all__ = ["PrometheusObserver", "WithInfo", "sampled", "timed"]

# Seconds: an answer takes a fifth of a millisecond, and a call is given up after a quarter of a second.
_BUCKETS: Final = (
    0.00005, 0.0001, 0.00015, 0.0002, 0.0003, 0.0005, 0.00075, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0,
)  # fmt: skip

# What info() counts since the provider was entered, by where it stands there, and what it is called here.
_COUNTED: Final = {
    ("reconnects",): ("aioblobcache_reconnects", "Connections to Redis that were made anew."),
    ("near_cache", "hits"): ("aioblobcache_near_hits", "Stats that the near cache answered."),
    ("near_cache", "misses"): ("aioblobcache_near_misses", "Stats that the near cache could not answer."),
    ("near_cache", "invalidations"): ("aioblobcache_near_invalidations", "Keys that Redis said have changed."),
    ("near_cache", "flushes"): ("aioblobcache_near_flushes", "How often all entries of the near cache were dropped."),
    ("near_cache", "evictions"): ("aioblobcache_near_evictions", "Entries that gave way to others."),
}

_AGE: Final = ("near_cache", "lease_age")

# What info() says about this moment.
_MEASURED: Final = {
    ("lanes_open",): ("aioblobcache_lanes_open", "Connections to Redis that are open."),
    ("in_flight",): ("aioblobcache_in_flight", "Requests that Redis has not answered yet."),
    ("waiting",): ("aioblobcache_waiting", "Requests that wait for their turn."),
    ("near_cache", "entries"): ("aioblobcache_near_entries", "Entries of the near cache."),
    _AGE: ("aioblobcache_near_lease_age_seconds", "Since when changes may be unknown."),
}


class WithInfo(Protocol):
    """What can say how it is: a provider, or a layer around one."""

    def info(self) -> dict[str, Any]: ...


class PrometheusObserver(Observer):
    """Counts what it hears; give it to the provider and to the read-through. One for each process and ``registry``.

    An unavailable cache is counted as a request and an error, each time that it was needed.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        def counter(name: str, meaning: str) -> Counter:
            return Counter(name, meaning, registry=registry)

        self._requests = counter("registry_storage_cache_requests", "Questions to the blob descriptor cache.")
        self._hits = counter("registry_storage_cache_hits", "Questions that the cache answered.")
        self._errors = counter("registry_storage_cache_errors", "Questions that the cache could not answer.")
        self._corrupt = counter("aioblobcache_corrupt_entries", "Entries met that cannot be a descriptor.")
        self._refused = counter("aioblobcache_fills_refused", "Fills that a guard refused: cleared meanwhile.")
        self.redis_seconds = Histogram(
            "registry_storage_cache_redis_seconds",
            "How long Redis took to answer.",
            ["operation"],
            buckets=_BUCKETS,
            registry=registry,
        )
        self._counted = {path: counter(*names) for path, names in _COUNTED.items()}
        self._last = dict.fromkeys(_COUNTED, 0)
        self._measured = {
            path: Gauge(name, meaning, registry=registry, multiprocess_mode="livemax" if path == _AGE else "livesum")
            for path, (name, meaning) in _MEASURED.items()
        }

    def cache_hit(self, digest: Digest) -> None:
        self._requests.inc()
        self._hits.inc()

    def cache_miss(self, digest: Digest) -> None:
        self._requests.inc()

    def cache_unavailable(self, digest: Digest, error: CacheUnavailableError) -> None:
        self._requests.inc()
        self._errors.inc()

    def corrupt_entry(self, error: CorruptEntryError) -> None:
        self._corrupt.inc()

    def fill_refused(self, digest: Digest) -> None:
        self._refused.inc()

    def sample(self, info: Mapping[str, Any]) -> None:
        """Take over what a provider's ``info()`` says."""
        for path, counter in self._counted.items():
            now = _at(info, path) or 0
            # Less than before: a provider that was entered later.
            counter.inc(now - self._last[path] if now >= self._last[path] else now)
            self._last[path] = now
        for path, gauge in self._measured.items():
            value = _at(info, path)
            # No lease is no age, and not the best of all.
            gauge.set(math.nan if value is None and path == _AGE else value or 0)


def timed(cache: GuardedCacheProvider, metrics: PrometheusObserver) -> AroundCache:
    """The provider with ``registry_storage_cache_redis_seconds`` around what goes to Redis."""
    timers = {operation: metrics.redis_seconds.labels(operation) for operation in get_args(Operation)}
    return AroundCache(cache, lambda operation, name, digest: timers[operation].time())


@asynccontextmanager
async def sampled(cache: WithInfo, metrics: PrometheusObserver, *, every: float = 1.0) -> AsyncIterator[None]:
    """Take over what the provider says of itself, every so many seconds, until the context is left."""

    async def sample() -> None:
        while True:
            metrics.sample(cache.info())
            await asyncio.sleep(every)

    task = asyncio.create_task(sample())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


def _at(info: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    value: Any = info
    for part in path:
        value = None if value is None else value.get(part)
    return value
