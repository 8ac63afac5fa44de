from __future__ import annotations

import pytest

from tests.maintenance.conftest import filled, keyspace, storage

__all__ = ["filled", "keyspace", "storage"]


@pytest.fixture
def folder(storage):
    """The storage's folder."""
    return str(storage.store.prefix)
