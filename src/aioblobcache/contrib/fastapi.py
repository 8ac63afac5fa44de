"""For FastAPI, beside ``aioblobcache.contrib.starlette``: the registry as a dependency::

    @app.get("/size/{name}/{digest}")
    async def size(name: str, digest: str, registry: Registry) -> int:
        return (await registry.blobs(name).stat(digest)).size

Needs the extra ``fastapi``.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

from fastapi import Depends

from ..readthrough import CachedRegistry
from .starlette import cached_registry

__all__ = ["Registry"]

Registry: TypeAlias = Annotated[CachedRegistry, Depends(cached_registry)]
