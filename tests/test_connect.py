from __future__ import annotations

import pytest
from redis.asyncio import Sentinel, SSLConnection
from redis.asyncio.sentinel import SentinelManagedSSLConnection

from aioblobcache import ConfigurationError, MemoryBlobDescriptorCache, RedisBlobDescriptorCache, connect
from tests.support.internals import internals

SECRET = "s3cr3t-pa55"


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://example:7000/3", "example:7000"),
        ("rediss://user:pw@example", "example:6379"),
        ("unix:///run/redis.sock?db=2", "unix:/run/redis.sock"),
        ("redis://example?protocol=2", "example:6379"),
        ("redis+cluster://user:pw@one,two:7000,three", "the cluster of one:6379"),
        ("rediss+cluster://[::1]:7000/0?ssl_ca_certs=/ca.pem", "the cluster of ::1:7000"),
        ("redis+sentinel://user:pw@one,two:7000/blobs/3?sentinel_password=x", "blobs by Sentinel"),
        ("rediss+sentinel://one/blobs", "blobs by Sentinel"),
    ],
)
def test_a_redis_url_makes_a_redis_provider(url, address):
    provider = connect(url, ttl=60)
    assert repr(provider) == f"<RedisBlobDescriptorCache at {address}>"
    assert internals(provider).engine.options.ttl == 60


def test_pooled_connections_speak_resp2_by_default():
    def protocol(url):
        return int(internals(connect(url)).client.connection_pool.connection_kwargs["protocol"])

    assert protocol("redis://example") == 2
    assert protocol("redis://example?protocol=3") == 3


def test_hosts_of_a_cluster_url_are_its_startup_nodes():
    client = internals(connect("rediss+cluster://user:p%40ss@one,two:7000?socket_timeout=2")).client
    assert sorted(client.nodes_manager.startup_nodes) == ["one:6379", "two:7000"]
    [node, _] = client.nodes_manager.startup_nodes.values()
    assert node.connection_class is SSLConnection
    kwargs = node.connection_kwargs
    assert (kwargs["username"], kwargs["password"], kwargs["socket_timeout"]) == ("user", "p@ss", 2.0)


def test_a_sentinel_url_separates_credentials_of_sentinels_and_server():
    url = "rediss+sentinel://user:pw@one,two:7000/my%20blobs/3?sentinel_username=s&sentinel_password=p%40&ssl_ca_certs=/ca"
    pool = internals(connect(url)).client.connection_pool
    assert pool.service_name == "my blobs"
    assert pool.connection_class is SentinelManagedSSLConnection
    own = pool.connection_kwargs
    assert (own["username"], own["password"], own["db"], own["ssl_ca_certs"]) == ("user", "pw", 3, "/ca")
    for sentinel, place in zip(pool.sentinel_manager.sentinels, [("one", 26379), ("two", 7000)], strict=True):
        theirs = sentinel.connection_pool.connection_kwargs
        assert (theirs["host"], theirs["port"]) == place
        assert (theirs["username"], theirs["password"], theirs["ssl_ca_certs"]) == ("s", "p@", "/ca")


def test_a_memory_url_makes_a_memory_provider():
    provider = connect("memory://", max_entries=5, guard_ttl=2.0)
    assert isinstance(provider, MemoryBlobDescriptorCache)
    assert provider.guard_ttl == 2.0


@pytest.mark.parametrize(
    "url", ["http://x", "redis:/x", "redis", "", "memory://x", None, 5, b"redis://x", "x" * 10_000 + "://"]
)
@pytest.mark.parametrize("make", [connect, RedisBlobDescriptorCache.from_url])
def test_a_url_of_another_scheme_is_refused(make, url):
    with pytest.raises(ConfigurationError, match="a cache URL begins with") as caught:
        make(url)
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize(
    "url",
    [
        "redis://x:port",
        "redis://x/0?socket_timeout=soon",
        "redis://x?no_such_option=1",
        "redis://[::1",
        "redis://x?protocol=7",
        "redis+cluster://",
        "redis+cluster://x,,y",
        "redis+cluster://x:port",
        "redis+cluster://x/3",
        "redis+cluster://x?no_such_option=1",
        "redis+sentinel://x",
        "redis+sentinel://x/",
        "redis+sentinel:///blobs",
        "redis+sentinel://x:port/blobs",
        "redis+sentinel://x/blobs/first",
        "redis+sentinel://x/blobs?no_such_option=1",
        "redis+sentinel://x/blobs?sentinel_port=1",
    ],
)
def test_a_malformed_url_is_refused(url):
    with pytest.raises(ConfigurationError, match=r"malformed redis(\+\w+)?:// URL|Redis"):
        RedisBlobDescriptorCache.from_url(url)


@pytest.mark.parametrize(
    "url",
    [
        f"redis://user:{SECRET}@x:port",
        f"redis://:{SECRET}/slash@x",
        f"http://user:{SECRET}@x",
        f"{SECRET}@x",
        f"redis://user:{SECRET}@x?no_such_option=1",
        f"redis://x?password={SECRET}&socket_timeout=soon",
        f"redis://x?password={SECRET}&protocol=7",
        f"rediss://x?password={SECRET}&ssl_cert_reqs=bogus",
        f"redis://x?password={SECRET}&retry=abc",
        f"redis://x?password={SECRET}&username=a&credential_provider=b",
        f"default:{SECRET}@h://x",
        f"redis+cluster://user:{SECRET}@x:port",
        f"redis+sentinel://user:{SECRET}@x",
        f"redis+sentinel://x/blobs?sentinel_password={SECRET}&sentinel_port=1",
    ],
)
def test_no_error_repeats_a_password(url):
    with pytest.raises(ConfigurationError) as caught:
        connect(url)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize(
    "url",
    [
        f"redis://user:{SECRET}@example:7000",
        f"redis+cluster://user:{SECRET}@example",
        f"redis+sentinel://user:{SECRET}@example/blobs?sentinel_password={SECRET}",
    ],
)
def test_no_representation_repeats_a_password(url):
    provider = connect(url)
    for thing in (provider, provider.repository_scoped("foo"), internals(provider).engine.options):
        assert SECRET not in repr(thing)


@pytest.mark.parametrize("url", ["memory://", "redis://example"])
def test_an_unknown_option_is_named(url):
    with pytest.raises(ConfigurationError, match="no_such_option"):
        connect(url, no_such_option=1)


def test_an_option_of_the_other_provider_is_named():
    with pytest.raises(ConfigurationError, match="ttl"):
        connect("memory://", ttl=5)


def test_an_unusable_client_is_refused_with_advice():
    sentinel = Sentinel([("example", 26379)])
    for client, message in [
        (sentinel, r"sentinel\.master_for"),
        (sentinel.slave_for("blobs"), "not slave_for"),
        ("redis://example", "not a str"),
    ]:
        with pytest.raises(ConfigurationError, match=message):
            RedisBlobDescriptorCache(client)


def test_a_near_cache_excludes_reading_from_replicas():
    with pytest.raises(ConfigurationError, match="read_from"):
        connect("redis+cluster://x", near_cache=10, read_from="replica")
    with pytest.raises(ConfigurationError, match="read_from"):
        connect("redis+cluster://x", read_from="nearest")
