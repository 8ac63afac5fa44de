"""What a web application's start and end mean for a cache, whatever the framework."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, cast

from ..readthrough import CachedRegistry

__all__ = ["opened"]


@asynccontextmanager
async def opened(registry: CachedRegistry) -> AsyncIterator[CachedRegistry]:
    """The registry with its cache entered, and left at the end.

    :raises LifecycleError: the cache was entered before: an application that starts twice needs two.
    """
    async with cast("AbstractAsyncContextManager[Any]", registry.cache):
        yield registry
