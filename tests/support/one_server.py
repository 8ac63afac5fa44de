"""One server for tests in which the server's own behaviour does not matter, and both for those in which it does."""

from __future__ import annotations

import pytest

from tests.support.servers import REDIS, VALKEY, RedisServer

__all__ = ["on_both_servers", "server"]

on_both_servers = pytest.mark.parametrize("server", [VALKEY, REDIS], indirect=True)


@pytest.fixture
def server(request: pytest.FixtureRequest) -> RedisServer:
    """Valkey, or the server that ``on_both_servers`` selects."""
    return request.getfixturevalue(f"{getattr(request, 'param', VALKEY)}_server")
