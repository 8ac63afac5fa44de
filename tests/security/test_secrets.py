"""Passwords: in no error, log, representation or figure, whatever goes wrong, in every topology."""

from __future__ import annotations

import logging
import traceback

import pytest
from redis.asyncio import Redis
from redis.credentials import CredentialProvider

from aioblobcache import BlobCacheError, CacheUnavailableError, Observer, RedisBlobDescriptorCache
from aioblobcache.conformance import descriptor_of
from tests.support.internals import internals
from tests.support.ports import free_port
from tests.support.servers import VALKEY, RedisServer, running
from tests.support.waiting import until_server_says

pytestmark = pytest.mark.anyio

SECRET = "s3cr3t-pa55"
DESCRIPTOR = descriptor_of("x")
DIGEST = DESCRIPTOR.digest


class Told(Observer):
    def __init__(self):
        self.all = []

    def corrupt_entry(self, error):
        self.all.append(error)

    def near_cache(self, stats):
        self.all.append(stats)


def urls(own_server):
    closed = free_port()
    for user in (f"user:{SECRET}@", f":{SECRET}@"):
        for port in (own_server.port, closed):
            yield f"redis://{user}127.0.0.1:{port}"
            yield f"rediss://{user}127.0.0.1:{port}"
            yield f"redis+cluster://{user}127.0.0.1:{port}"
            yield f"redis+sentinel://{user}127.0.0.1:{port}/blobs"
            yield f"redis+sentinel://127.0.0.1:{port}/blobs?sentinel_password={SECRET}"
    yield f"unix://{user}/no/such/socket"


async def outcomes(cache):
    repository = cache.repository_scoped("foo/bar")
    for service in (cache, repository):
        for call in (
            service.stat(DIGEST),
            service.stat_many([DIGEST]),
            service.set_descriptor(DIGEST, DESCRIPTOR),
            service.clear(DIGEST),
            service.take_token(DIGEST),
        ):
            try:
                yield repr(await call)
            except BlobCacheError as error:
                yield "".join(traceback.format_exception(error))
                yield repr(error)
                yield str(vars(error))


async def test_no_message_log_or_representation_contains_a_password(tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    server = RedisServer(VALKEY, tmp_path, "--requirepass", "another")
    with running(server):
        for url in urls(server):
            told = Told()
            async with RedisBlobDescriptorCache.from_url(url, timeout=0.5, near_cache=10, observer=told) as cache:
                said = [outcome async for outcome in outcomes(cache)]
                said += [
                    repr(cache),
                    repr(cache.repository_scoped("a")),
                    str(cache.info()),
                    repr(internals(cache).engine.options),
                ]
            said += [repr(one) for one in told.all]
            assert len(said) > 20
            assert not [one for one in said if SECRET in one], url
    assert SECRET not in caplog.text


class Rotating(CredentialProvider):
    """What a client has to say to authenticate, at the time."""

    def __init__(self, password):
        self.password = password

    def get_credentials(self):
        return (self.password,)

    async def get_credentials_async(self):
        return (self.password,)


async def test_a_password_that_is_rotated_is_used_by_the_next_connection(tmp_path):
    server = RedisServer(VALKEY, tmp_path, "--requirepass", "first")
    with running(server):
        provider = Rotating("first")
        async with (
            Redis(port=server.port, credential_provider=provider) as client,
            Redis(port=server.port, password="second") as admin,
            RedisBlobDescriptorCache(client, timeout=5.0) as cache,
        ):
            await cache.set_descriptor(DIGEST, DESCRIPTOR)
            await client.config_set("requirepass", "second")
            assert await cache.stat(DIGEST) == DESCRIPTOR  # who is connected stays so
            await admin.client_kill_filter(_type="normal", skipme=True)
            await until_server_says(lambda: fails(cache))
            provider.password = "second"
            await until_server_says(lambda: answers(cache))


async def answers(cache):
    try:
        return await cache.stat(DIGEST) == DESCRIPTOR
    except CacheUnavailableError:
        return False


async def fails(cache):
    return not await answers(cache)
