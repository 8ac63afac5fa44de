"""A node that sends its clients elsewhere: who gets their password."""

from __future__ import annotations

import asyncio
import re
import ssl
from contextlib import asynccontextmanager

import pytest
import trustme
from redis import Redis

from aioblobcache import CacheUnavailableError, RedisBlobDescriptorCache
from aioblobcache.conformance import digest_of
from tests.support.groups import wait_until
from tests.support.ports import free_port
from tests.support.proxy import Proxy
from tests.support.servers import REDIS, VALKEY, RedisServer, running

pytestmark = pytest.mark.anyio

PASSWORD = "correct-horse"


class Elsewhere:
    """Who listens where clients are sent to, and notes what they say, behind TLS if there is any."""

    def __init__(self):
        self.port = 0
        self.called = asyncio.Event()
        self.heard = bytearray()

    async def _listen(self, reader, writer):
        self.called.set()
        self.heard += await reader.read(65536)
        writer.close()

    @asynccontextmanager
    async def listening(self, context=None):
        async with await asyncio.start_server(self._listen, "127.0.0.1", 0, ssl=context) as server:
            self.port = server.sockets[0].getsockname()[1]
            yield self


def cluster_of_one(server):
    with Redis(port=server.port, password=PASSWORD) as client:
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        wait_until(lambda: client.cluster("INFO")["cluster_state"] == "ok", "the cluster is ready")


async def asked_in_vain(url):
    async with RedisBlobDescriptorCache.from_url(url, timeout=2.0) as cache:
        with pytest.raises(CacheUnavailableError) as caught:
            await cache.repository_scoped("foo/bar").stat(digest_of("x"))
    return str(caught.value)


async def test_a_single_node_cannot_redirect_a_client(tmp_path):
    server = RedisServer(VALKEY, tmp_path, "--requirepass", PASSWORD)
    with running(server):
        async with Elsewhere().listening() as elsewhere, Proxy(server.port) as proxy:
            moved = b"-MOVED 1 127.0.0.1:%d\r\n" % elsewhere.port
            # The first of the three replies to a stat is whether the blob is a member; then those of redis-py, which a
            # lane asks about a redirection.
            proxy.edit = lambda data: re.sub(rb":0\r\n.*$", moved * 3, data, flags=re.DOTALL)
            said = await asked_in_vain(f"redis://:{PASSWORD}@127.0.0.1:{proxy.port}/0")
            assert not elsewhere.called.is_set()
    assert "MOVED" in said
    assert PASSWORD not in said


async def test_tls_keeps_the_password_from_an_uncertified_cluster_node(tmp_path, certificates):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    port = free_port()
    async with Elsewhere().listening(context) as elsewhere:
        options = ["--cluster-enabled", "yes", "--cluster-port", str(free_port()), "--requirepass", PASSWORD]
        tls = [*certificates.options(port), "--tls-cluster", "yes", "--tls-auth-clients", "no"]
        announced = ["--cluster-announce-ip", "127.0.0.1", "--cluster-announce-tls-port", str(elsewhere.port)]
        server = RedisServer(REDIS, tmp_path, *options, *tls, *announced)
        with running(server):
            await asyncio.to_thread(cluster_of_one, server)
            url = f"rediss+cluster://:{PASSWORD}@127.0.0.1:{port}?ssl_ca_certs={certificates.authority}"
            said = await asked_in_vain(url)
        assert elsewhere.heard == b""
    assert PASSWORD not in said


async def test_a_cluster_without_tls_can_redirect_the_password(tmp_path):
    """Which is why SECURITY.md says what it says."""
    async with Elsewhere().listening() as elsewhere:
        options = ["--cluster-enabled", "yes", "--cluster-port", str(free_port()), "--requirepass", PASSWORD]
        announced = ["--cluster-announce-ip", "127.0.0.1", "--cluster-announce-port", str(elsewhere.port)]
        server = RedisServer(VALKEY, tmp_path, *options, *announced)
        with running(server):
            await asyncio.to_thread(cluster_of_one, server)
            await asked_in_vain(f"redis+cluster://:{PASSWORD}@127.0.0.1:{server.port}")
        assert PASSWORD.encode() in elsewhere.heard
