from __future__ import annotations

import pytest

from aioblobcache import ConfigurationError, MemoryBlobDescriptorCache, RedisBlobDescriptorCache, connect

SECRET = "s3cr3t-pa55"


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://example:7000/3", "example:7000"),
        ("rediss://user:pw@example", "example:6379"),
        ("unix:///run/redis.sock?db=2", "unix:/run/redis.sock"),
        ("redis://example?protocol=2", "example:6379"),
    ],
)
def test_a_url_of_redis_makes_a_redis_provider(url, address):
    provider = connect(url, ttl=60)
    assert repr(provider) == f"<RedisBlobDescriptorCache at {address}>"
    assert provider._engine.options.ttl == 60


def test_pooled_connections_speak_resp2_which_every_server_does_unless_the_url_says_otherwise():
    def protocol(url):
        return int(connect(url)._owned_client.connection_pool.connection_kwargs["protocol"])

    assert protocol("redis://example") == 2
    assert protocol("redis://example?protocol=3") == 3


def test_memory_makes_a_memory_provider():
    provider = connect("memory://", max_entries=5, guard_ttl=2.0)
    assert isinstance(provider, MemoryBlobDescriptorCache)
    assert provider.guard_ttl == 2.0


@pytest.mark.parametrize(
    "url", ["http://x", "redis:/x", "redis", "", "memory://x", None, 5, b"redis://x", "x" * 10_000 + "://"]
)
@pytest.mark.parametrize("make", [connect, RedisBlobDescriptorCache.from_url])
def test_a_url_of_another_kind_is_refused(make, url):
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
    ],
)
def test_a_malformed_url_is_refused(url):
    with pytest.raises(ConfigurationError, match=r"malformed redis:// URL|Redis"):
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
    ],
)
def test_no_error_repeats_a_password(url):
    with pytest.raises(ConfigurationError) as caught:
        connect(url)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_no_representation_repeats_a_password():
    provider = connect(f"redis://user:{SECRET}@example:7000")
    for thing in (provider, provider.repository_scoped("foo"), provider._engine.options):
        assert SECRET not in repr(thing)


@pytest.mark.parametrize("url", ["memory://", "redis://example"])
def test_an_unknown_option_is_named(url):
    with pytest.raises(ConfigurationError, match="no_such_option"):
        connect(url, no_such_option=1)


def test_an_option_of_the_other_provider_is_named():
    with pytest.raises(ConfigurationError, match="ttl"):
        connect("memory://", ttl=5)
