from __future__ import annotations

from tests.support.cached_image import filled, keyspace, storage

__all__ = ["filled", "keyspace", "storage"]
