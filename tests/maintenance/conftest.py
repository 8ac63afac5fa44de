from __future__ import annotations

from tests.support.cached_image import filled, keyspace, storage
from tests.support.one_server import server

__all__ = ["filled", "keyspace", "server", "storage"]
