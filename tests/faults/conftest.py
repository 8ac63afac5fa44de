from __future__ import annotations

import pytest

from tests.support.proxy import Proxy
from tests.support.servers import VALKEY, RedisServer, running


@pytest.fixture
def own_server(tmp_path):
    """A server of this test alone, to be stopped."""
    server = RedisServer(VALKEY, tmp_path)
    with running(server):
        yield server


@pytest.fixture
async def proxy(own_server):
    async with Proxy(own_server.port) as proxy:
        yield proxy
