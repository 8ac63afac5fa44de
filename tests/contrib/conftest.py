from __future__ import annotations

from tests.support.registry_content import registry, storage

__all__ = ["registry", "storage"]
