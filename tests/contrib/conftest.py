from __future__ import annotations

from tests.registry_api.conftest import registry, storage

__all__ = ["registry", "storage"]
