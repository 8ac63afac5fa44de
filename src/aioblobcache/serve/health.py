"""Whether the parts answer: storage, without which nothing can be served, and the cache, without which it is slow."""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import Any

import attrs

from ..digest import Digest
from ..errors import BlobCacheError, BlobUnknownError
from ..readthrough import CachedRegistry
from ..storage import RegistryStorage

__all__ = ["Health", "look_at"]

_PATIENCE = 5.0  # seconds


@attrs.frozen
class Health:
    """What the parts say; ``None`` for what is well."""

    storage: str | None
    cache: str | None
    cache_seconds: float | None  # one round trip, if there was one

    @property
    def is_ready(self) -> bool:
        """Whether requests can be answered: a cache that is down is no reason to refuse them."""
        return self.storage is None

    def as_data(self) -> dict[str, Any]:
        """For machines."""
        return {
            "status": "ok" if self.storage is None and self.cache is None else "degraded" if self.is_ready else "down",
            "storage": self.storage or "ok",
            "cache": self.cache or "ok",
        }


async def look_at(registry: CachedRegistry, storage: RegistryStorage) -> Health:
    """Ask both."""
    (cache, seconds), stored = await asyncio.gather(_cache(registry), _storage(storage))
    return Health(stored, cache, seconds)


async def _cache(registry: CachedRegistry) -> tuple[str | None, float | None]:
    # A blob that nobody has, and that no near cache can hold: Redis has to answer, and nothing is written.
    probe = Digest.of(secrets.token_bytes(16))
    began = time.perf_counter()
    try:
        await registry.cache.stat(probe)
    except BlobUnknownError:
        pass
    except BlobCacheError as error:
        return str(error), None
    return None, time.perf_counter() - began


async def _storage(storage: RegistryStorage) -> str | None:
    try:
        async with asyncio.timeout(_PATIENCE):
            if await storage.has_repositories():
                return None
    except TimeoutError:
        return f"no answer within {_PATIENCE:.0f} s"
    except BlobCacheError as error:
        return str(error)
    return f"there is no repository below {storage.layout.repositories}: nothing was pushed, or the root is another"
