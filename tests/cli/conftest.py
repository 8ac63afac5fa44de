from __future__ import annotations

import os

import pytest

from tests.support.cached_image import filled, keyspace, storage
from tests.support.one_server import server

__all__ = ["filled", "keyspace", "server", "storage"]


@pytest.fixture(autouse=True)
def niceness(monkeypatch):
    """How far behind others a command has put itself: it is run in this process, which stays where it is."""
    put: list[int] = []
    monkeypatch.setattr(os, "setpriority", lambda which, who, value: put.append(value))
    return put


@pytest.fixture
def folder(storage):
    """The storage's folder."""
    return str(storage.store.prefix)
