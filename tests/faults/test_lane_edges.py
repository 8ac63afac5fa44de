"""The lane where its surroundings misbehave: parsers, clients, scopes that end at a bad moment."""

from __future__ import annotations

import asyncio
import os
import signal

import anyio
import pytest
from redis.asyncio import Connection, ConnectionPool, Redis

from aioblobcache import BlobUnknownError, CacheUnavailableError, RedisBlobDescriptorCache
from tests.support.internals import bytes_received, internals
from tests.support.providers import (
    FIRST,
    NAME,
    SECOND,
    THIRD,
    fill,
    provider,
    until_it_answers,
)
from tests.support.waiting import until

pytestmark = pytest.mark.anyio


async def test_a_write_never_gets_the_reply_of_another_write(own_server, proxy):
    """A status in front of the replies: each call's own would be the one before it."""
    await fill(own_server.url, [FIRST, SECOND])
    async with provider(proxy.url) as cache:
        repository = cache.repository_scoped(NAME)
        await until_it_answers(repository, FIRST)
        proxy.put_in_front(b"+OK\r\n")
        clears = (repository.clear(blob.digest) for blob in (FIRST, THIRD, SECOND))
        outcomes = await asyncio.gather(*clears, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [CacheUnavailableError] * 3


async def test_a_reply_that_cannot_be_parsed_replaces_the_connection(own_server, proxy, caplog):
    await fill(own_server.url, [FIRST])
    async with provider(proxy.url) as cache:
        repository = cache.repository_scoped(NAME)
        await until_it_answers(repository, FIRST)
        proxy.inject(b"%1\r\n*0\r\n:1\r\n")  # a map with a list as its key
        await until(lambda: cache.info()["reconnects"] == 1)
        await until_it_answers(repository, FIRST)
    assert "Fatal error" not in caplog.text


async def test_many_pushes_do_not_count_as_an_endless_reply(own_server, proxy):
    await fill(own_server.url, [FIRST])
    async with provider(proxy.url) as cache:
        repository = cache.repository_scoped(NAME)
        await until_it_answers(repository, FIRST)
        push = b">2\r\n+unknown\r\n$100000\r\n" + bytes(100_000) + b"\r\n"
        lane = internals(cache).lane
        expected = bytes_received(lane) + 180 * len(push)
        proxy.inject(push * 180)
        await until(lambda: bytes_received(lane) >= expected)
        assert await repository.stat(FIRST.digest) == FIRST
        assert cache.info()["reconnects"] == 0


async def test_a_provider_closed_by_cancellation_leaves_no_connection(own_server):
    with anyio.CancelScope() as scope:
        async with provider(own_server.url) as cache:
            with pytest.raises(BlobUnknownError):
                await cache.stat(FIRST.digest)
            scope.cancel()
            await anyio.sleep_forever()
    async with Redis.from_url(own_server.url) as client:
        while len(await client.client_list()) > 1:  # the server learns of it in its own time
            pass


class WithoutTransport(Connection):
    """A connection whose writer hides its transport."""

    class Writer:
        def __init__(self, writer):
            self.writer = writer

        def __getattr__(self, name):
            if name == "transport":
                raise AttributeError(name)
            return getattr(self.writer, name)

    async def _connect(self):
        await super()._connect()
        self._writer = self.Writer(self._writer)


async def test_a_writer_without_a_transport_uses_the_fallback(own_server):
    pool = ConnectionPool(connection_class=WithoutTransport, port=own_server.port, protocol=3)
    client = Redis(connection_pool=pool)
    async with RedisBlobDescriptorCache(client, timeout=10.0) as cache:
        await cache.set_descriptor(FIRST.digest, FIRST)
        assert await cache.stat(FIRST.digest) == FIRST
        assert cache.info()["road"] == "pipeline"
        assert "does not hold a stream of asyncio" in cache.info()["why_no_lane"]
    await client.aclose()
    await pool.disconnect()


@pytest.mark.parametrize("ticks", [0, 1, 2, 3, 4, 6, 8, 12])
async def test_closing_does_not_wait_for_a_hung_connection_attempt(
    own_server,
    proxy,
    ticks,
):
    cache = provider(proxy.url, timeout=60.0, lanes=3)
    await cache.__aenter__()
    with pytest.raises(BlobUnknownError):
        await cache.stat(FIRST.digest)
    await until(lambda: cache.info()["lanes_open"] == 3 and cache.info()["in_flight"] == 0)
    proxy.inject(b":1\r\n")
    await until(lambda: cache.info()["reconnects"] == 3)
    os.kill(own_server.pid, signal.SIGSTOP)
    try:
        for _ in range(ticks):
            await asyncio.sleep(0)
        async with asyncio.timeout(20):  # the server would be waited for a minute
            await cache.__aexit__(None, None, None)
    finally:
        os.kill(own_server.pid, signal.SIGCONT)
