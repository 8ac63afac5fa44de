"""TLS, on Debian's Redis: who is trusted by whom, in every topology."""

from __future__ import annotations

import asyncio
import ssl

import pytest
from redis import Redis

from aioblobcache import CacheUnavailableError, RedisBlobDescriptorCache
from aioblobcache.conformance import descriptor_of, digest_of
from tests.support.groups import wait_until
from tests.support.internals import internals
from tests.support.ports import free_port
from tests.support.providers import until_set
from tests.support.servers import REDIS, RedisServer, running

pytestmark = pytest.mark.anyio

DESCRIPTOR = descriptor_of("x")


async def serves(url):
    async with RedisBlobDescriptorCache.from_url(url, timeout=10.0) as cache:
        repository = cache.repository_scoped("foo/bar")
        async with asyncio.timeout(30):  # a Sentinel has 0.3 s for a handshake, which a busy machine may not give it
            await until_set(repository, DESCRIPTOR)
        assert cache.info()["road"] == "lane"
        return await repository.stat(DESCRIPTOR.digest) == DESCRIPTOR


async def refusal(url):
    async with RedisBlobDescriptorCache.from_url(url, timeout=10.0) as cache:
        with pytest.raises(CacheUnavailableError) as caught:
            await cache.stat(digest_of("x"))
        return str(caught.value)


@pytest.fixture
def port():
    return free_port()


async def test_only_a_server_of_a_trusted_authority_is_accepted(tmp_path, certificates, other_authority, port):
    with running(RedisServer(REDIS, tmp_path, *certificates.options(port), "--tls-auth-clients", "no")):
        assert await serves(f"rediss://127.0.0.1:{port}?ssl_ca_certs={certificates.authority}")
        for query in (f"ssl_ca_certs={other_authority}", ""):
            assert "CERTIFICATE_VERIFY_FAILED" in await refusal(f"rediss://127.0.0.1:{port}?{query}")
        assert await serves(f"rediss://127.0.0.1:{port}?ssl_cert_reqs=none")


async def test_a_certificate_for_another_host_is_refused_by_default(tmp_path, certificates, port):
    options = certificates.options(port, "elsewhere.example")
    with running(RedisServer(REDIS, tmp_path, *options, "--tls-auth-clients", "no")):
        url = f"rediss://127.0.0.1:{port}?ssl_ca_certs={certificates.authority}"
        assert "not valid for '127.0.0.1'" in await refusal(url)
        assert await serves(f"{url}&ssl_check_hostname=false")


async def test_a_server_may_require_a_client_certificate(tmp_path, certificates, port):
    with running(RedisServer(REDIS, tmp_path, *certificates.options(port), "--tls-auth-clients", "yes")):
        url = f"rediss://127.0.0.1:{port}?ssl_ca_certs={certificates.authority}"
        assert await refusal(url)
        certificate, key = certificates.issue("client.example")
        assert await serves(f"{url}&ssl_certfile={certificate}&ssl_keyfile={key}")


async def test_a_server_without_tls_is_refused(valkey_server):
    assert await refusal(f"rediss://127.0.0.1:{valkey_server.port}")


async def test_a_cluster_is_reached_over_tls(tmp_path, certificates, port):
    bus = free_port()
    cluster = [
        "--cluster-enabled",
        "yes",
        "--cluster-port",
        str(bus),
        "--tls-cluster",
        "yes",
        "--tls-auth-clients",
        "no",
    ]
    server = RedisServer(REDIS, tmp_path, *certificates.options(port), *cluster)
    with running(server):
        with Redis(port=server.port) as client:
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            wait_until(lambda: client.cluster("INFO")["cluster_state"] == "ok", "the cluster is ready")
        url = f"rediss+cluster://127.0.0.1:{port}?ssl_ca_certs={certificates.authority}"
        assert await serves(url)
        assert await refusal(f"rediss+cluster://127.0.0.1:{port}")


async def test_a_master_and_its_sentinel_are_reached_over_tls(tmp_path, certificates, port):
    tls = ["--tls-auth-clients", "no", "--tls-replication", "yes"]
    server = RedisServer(REDIS, tmp_path, *certificates.options(port), *tls)
    sentinel_port = free_port()
    sentinel = RedisServer(REDIS, tmp_path)
    config = tmp_path / "sentinel.conf"
    config.write_text(f"sentinel monitor blobs 127.0.0.1 {port} 1\nport {sentinel.port}\nbind 127.0.0.1\n")
    sentinel.run_with(str(config), "--sentinel", *certificates.options(sentinel_port), *tls)
    with running(server), running(sentinel):
        url = f"rediss+sentinel://127.0.0.1:{sentinel_port}/blobs?ssl_ca_certs={certificates.authority}"
        assert await serves(url)
        assert await refusal(f"rediss+sentinel://127.0.0.1:{sentinel_port}/blobs")


def test_the_name_in_a_certificate_is_checked_by_default():
    for url in ("rediss://x", "rediss+cluster://x", "rediss+sentinel://x/blobs"):
        client = internals(RedisBlobDescriptorCache.from_url(url)).client
        pool = getattr(client, "connection_pool", None)
        [*nodes] = [] if pool else client.nodes_manager.startup_nodes.values()
        made = (
            pool.connection_class(**pool.connection_kwargs)
            if pool
            else nodes[0].connection_class(**nodes[0].connection_kwargs)
        )
        assert made.ssl_context.check_hostname
        assert made.ssl_context.cert_reqs == ssl.CERT_REQUIRED
