"""Redis that is not there, goes, comes back, hangs or refuses."""

from __future__ import annotations

import asyncio
import os
import signal
import traceback

import pytest
from redis.exceptions import RedisError

from aioblobcache import BlobUnknownError, CacheUnavailableError, RedisBlobDescriptorCache
from aioblobcache.conformance import descriptor_of
from tests.support.internals import internals
from tests.support.ports import free_port
from tests.support.servers import REDIS, VALKEY, RedisServer, running

pytestmark = pytest.mark.anyio

DESCRIPTOR = descriptor_of("x")
DIGEST = DESCRIPTOR.digest
NAME = "foo/bar"
SECRET = "s3cr3t-pa55"


@pytest.fixture(params=[VALKEY, REDIS])
def own_server(request, tmp_path):
    """A server of this test alone, to be killed."""
    server = RedisServer(request.param, tmp_path)
    with running(server):
        yield server


def calls(cache):
    repository = cache.repository_scoped(NAME)
    return [
        lambda: cache.stat(DIGEST),
        lambda: repository.stat(DIGEST),
        lambda: repository.stat_many([DIGEST]),
        lambda: repository.set_descriptor(DIGEST, DESCRIPTOR),
        lambda: repository.clear(DIGEST),
        lambda: repository.take_token(DIGEST),
    ]


async def assert_unavailable(cache, address):
    for call in calls(cache):
        with pytest.raises(CacheUnavailableError) as caught:
            await call()
        assert caught.value.address == address
        assert address in str(caught.value)
        assert isinstance(caught.value.__cause__, RedisError | OSError | TimeoutError)


async def until_it_answers(service):
    """Ask until the answer is one of Redis: while a connection is down calls fail at once."""
    while True:
        try:
            await service.stat(DIGEST)
        except CacheUnavailableError:
            await asyncio.sleep(0.01)
        except BlobUnknownError:
            return


async def test_an_unreachable_redis_is_reported_with_its_address():
    port = free_port()
    async with RedisBlobDescriptorCache.from_url(f"redis://user:{SECRET}@127.0.0.1:{port}/0") as cache:
        await assert_unavailable(cache, f"127.0.0.1:{port}")
        with pytest.raises(CacheUnavailableError) as caught:
            await cache.stat(DIGEST)
        assert SECRET not in f"{caught.value}{caught.value!r}{caught.value.__cause__!r}"


async def test_a_missing_unix_socket_is_reported_with_its_path(tmp_path):
    path = f"{tmp_path}/none.sock"
    async with RedisBlobDescriptorCache.from_url(f"unix://{path}") as cache:
        await assert_unavailable(cache, f"unix:{path}")


async def test_a_restarted_redis_is_used_again(own_server):
    async with RedisBlobDescriptorCache.from_url(own_server.url, timeout=10.0) as cache:
        repository = cache.repository_scoped(NAME)
        await repository.set_descriptor(DIGEST, DESCRIPTOR)
        own_server.stop()
        await assert_unavailable(cache, f"127.0.0.1:{own_server.port}")
        own_server.start()
        await until_it_answers(repository)
        await repository.set_descriptor(DIGEST, DESCRIPTOR)
        assert await repository.stat(DIGEST) == DESCRIPTOR


async def test_requests_in_flight_end_when_redis_is_killed(own_server):
    async with RedisBlobDescriptorCache.from_url(own_server.url, timeout=10.0) as cache:
        repository = cache.repository_scoped(NAME)
        await repository.set_descriptor(DIGEST, DESCRIPTOR)
        os.kill(own_server.pid, signal.SIGSTOP)
        stats = [asyncio.create_task(repository.stat(DIGEST)) for _ in range(200)]
        await asyncio.sleep(0.01)  # not to hope with: whatever is under way by now, all must end
        own_server.stop()
        for outcome in await asyncio.gather(*stats, return_exceptions=True):
            assert isinstance(outcome, CacheUnavailableError)


async def test_a_hung_redis_costs_the_timeout_and_recovers(own_server):
    async with RedisBlobDescriptorCache.from_url(own_server.url, timeout=0.2) as cache:
        os.kill(own_server.pid, signal.SIGSTOP)
        try:
            for call in calls(cache):
                with pytest.raises(CacheUnavailableError, match="no answer in time"):
                    await call()
        finally:
            os.kill(own_server.pid, signal.SIGCONT)
        await until_it_answers(cache.repository_scoped(NAME))
    async with RedisBlobDescriptorCache.from_url(own_server.url, timeout=10.0) as cache:
        await cache.repository_scoped(NAME).set_descriptor(DIGEST, DESCRIPTOR)
        assert await cache.repository_scoped(NAME).stat(DIGEST) == DESCRIPTOR


async def test_the_timeout_bounds_the_wait_for_a_connection(own_server):
    """More callers than connections, and none comes back: nobody waits longer than the timeout."""
    async with RedisBlobDescriptorCache.from_url(own_server.url, timeout=0.2) as cache:
        os.kill(own_server.pid, signal.SIGSTOP)
        try:
            async with asyncio.timeout(30):
                outcomes = await asyncio.gather(*(cache.stat(DIGEST) for _ in range(500)), return_exceptions=True)
        finally:
            os.kill(own_server.pid, signal.SIGCONT)
        assert all(isinstance(outcome, CacheUnavailableError) for outcome in outcomes)


async def test_a_wrong_password_is_unavailable_and_never_shown(tmp_path):
    server = RedisServer(VALKEY, tmp_path, "--requirepass", "right")
    with running(server):
        async with RedisBlobDescriptorCache.from_url(
            f"redis://:{SECRET}@127.0.0.1:{server.port}", timeout=10.0
        ) as cache:
            await assert_unavailable(cache, f"127.0.0.1:{server.port}")
            with pytest.raises(CacheUnavailableError) as caught:
                await cache.stat(DIGEST)
            assert SECRET not in f"{caught.value}{caught.value.__cause__!r}"


async def test_a_read_only_replica_refuses_writes_and_answers_stats(own_server, tmp_path):
    async with RedisBlobDescriptorCache.from_url(own_server.url, timeout=10.0) as cache:
        repository = cache.repository_scoped(NAME)
        await repository.set_descriptor(DIGEST, DESCRIPTOR)
        client = internals(cache).client
        await client.replicaof("127.0.0.1", str(free_port()))
        for write in (
            repository.set_descriptor(DIGEST, DESCRIPTOR),
            repository.clear(DIGEST),
            repository.take_token(DIGEST),
        ):
            with pytest.raises(CacheUnavailableError, match=r"ReadOnlyError|READONLY"):
                await write
        assert await repository.stat(DIGEST) == DESCRIPTOR
        await client.replicaof("NO", "ONE")
        await repository.clear(DIGEST)


async def test_a_missing_permission_is_unavailable_with_the_servers_message(client, server):
    await client.acl_setuser("reader", enabled=True, nopass=True, keys=["*"], commands=["+hmget", "+hello"])
    try:
        url = f"redis://reader@127.0.0.1:{server.port}"
        async with RedisBlobDescriptorCache.from_url(url, timeout=10.0) as cache:
            with pytest.raises(BlobUnknownError):
                await cache.stat(DIGEST)
            for call in (cache.repository_scoped(NAME).stat(DIGEST), cache.clear(DIGEST), cache.take_token(DIGEST)):
                with pytest.raises(CacheUnavailableError, match=r"NoPermissionError|NOPERM"):
                    await call
    finally:
        await client.acl_deluser("reader")


@pytest.mark.parametrize("write", ["set_descriptor", "clear"])
async def test_a_user_without_script_load_gets_a_permission_error(client, server, write):
    await client.acl_setuser("writer", enabled=True, nopass=True, keys=["*"], commands=["+@all", "-script|load"])
    try:
        await client.script_flush()
        url = f"redis://writer@127.0.0.1:{server.port}"
        async with RedisBlobDescriptorCache.from_url(url, timeout=10.0) as cache:
            arguments = (DIGEST, DESCRIPTOR) if write == "set_descriptor" else (DIGEST,)
            with pytest.raises(CacheUnavailableError, match=r"(?i)NOPERM|NoPermission"):
                await getattr(cache, write)(*arguments)
    finally:
        await client.acl_deluser("writer")


async def test_a_password_that_cannot_be_encoded_is_never_shown(valkey_server):
    url = f"redis://127.0.0.1:{valkey_server.port}?password={SECRET}%C3%A4&encoding=ascii"
    async with RedisBlobDescriptorCache.from_url(url, timeout=10.0) as cache:
        with pytest.raises(CacheUnavailableError) as caught:
            await cache.stat(DIGEST)
        assert SECRET not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("scope", ["global", "scoped"])
async def test_a_clear_with_a_lost_reply_is_unavailable(client, server, scope):
    """Sent again by itself it would find nothing to clear, and say that there was nothing."""
    lost = asyncio.Event()

    async def relay(reader, writer):
        upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", server.port)
        while data := await reader.read(65536):
            upstream_writer.write(data)
            reply = await upstream_reader.read(65536)
            if b"EVALSHA" in data and not reply.startswith(b"-"):
                lost.set()
                break
            writer.write(reply)
            await writer.drain()
        for end in (writer, upstream_writer):
            end.close()

    proxy = await asyncio.start_server(relay, "127.0.0.1", 0)
    port = proxy.sockets[0].getsockname()[1]
    async with RedisBlobDescriptorCache.from_url(server.url, timeout=10.0) as direct:
        await direct.repository_scoped(NAME).set_descriptor(DIGEST, DESCRIPTOR)
    async with RedisBlobDescriptorCache.from_url(f"redis://127.0.0.1:{port}", timeout=10.0) as cache:
        service = cache if scope == "global" else cache.repository_scoped(NAME)
        with pytest.raises(CacheUnavailableError):
            await service.clear(DIGEST)
        assert lost.is_set()
    proxy.close()
    await proxy.wait_closed()


async def test_a_malformed_reply_is_unavailable():
    async def babble(reader, writer):
        while await reader.read(4096):
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            await writer.drain()
        writer.close()

    fake = await asyncio.start_server(babble, "127.0.0.1", 0)
    port = fake.sockets[0].getsockname()[1]
    async with RedisBlobDescriptorCache.from_url(f"redis://127.0.0.1:{port}", timeout=5.0) as cache:
        await assert_unavailable(cache, f"127.0.0.1:{port}")
    fake.close()
    await fake.wait_closed()
