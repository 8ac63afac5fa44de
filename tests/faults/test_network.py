"""A network that is bad in every way short of an end: calls end in time, and the read-through goes on without Redis."""

from __future__ import annotations

import asyncio
import time
from statistics import quantiles

import pytest

from aioblobcache import CachedBlobStatter, CacheUnavailableError, RedisBlobDescriptorCache
from aioblobcache.conformance import descriptor_of
from tests.support.backends import Backend
from tests.support.servers import stopped
from tests.support.waiting import until, until_server_says

pytestmark = pytest.mark.anyio

NAME = "foo/bar"
BLOBS = [descriptor_of(f"{number}") for number in range(200)]
TIMEOUT = 0.25
BACKEND = 0.02

# A machine that is busy with other things may take so much longer, in seconds: what was measured is noted.
NOISE = 1.0


@pytest.fixture
async def filled(own_server):
    """All of the blobs are in the server: set beside the proxy, in as much time as a busy machine needs."""
    async with RedisBlobDescriptorCache.from_url(own_server.url, timeout=30.0) as cache:
        repository = cache.repository_scoped(NAME)
        for blob in BLOBS:
            await repository.set_descriptor(blob.digest, blob)


class SlowBackend(Backend):
    """Takes as long as an object store."""

    async def stat(self, digest):
        await asyncio.sleep(BACKEND)
        return await super().stat(digest)


def swallow_all(proxy):
    proxy.lets_requests_through.clear()
    proxy.lets_replies_through.clear()


def swallow_requests(proxy):
    proxy.lets_requests_through.clear()


def swallow_replies(proxy):
    proxy.lets_replies_through.clear()


def slow(proxy):
    proxy.delay = 0.2


def too_slow(proxy):
    proxy.delay = 0.3


def byte_by_byte(proxy):
    proxy.bytewise = True


TROUBLES = [swallow_all, swallow_requests, swallow_replies, slow, too_slow, byte_by_byte]


async def took(call):
    """How long a call takes, and what it says."""
    began = time.monotonic()
    try:
        answer = await call
    except CacheUnavailableError as error:
        answer = error
    return time.monotonic() - began, answer


async def callers(service, seconds):
    """Of 16 who ask one after the other for so long: the times and answers."""
    ends = time.monotonic() + seconds
    outcomes = []

    async def ask(number):
        for blob in BLOBS[number:] + BLOBS[:number]:
            if time.monotonic() > ends:
                return
            outcomes.append((blob, *await took(service.stat(blob.digest))))
            await asyncio.sleep(0.001)

    await asyncio.gather(*(ask(12 * number) for number in range(16)))
    return outcomes


@pytest.mark.parametrize("trouble", TROUBLES)
async def test_every_call_ends_within_the_timeout(filled, proxy, figures, trouble):
    async with RedisBlobDescriptorCache.from_url(proxy.url, timeout=TIMEOUT) as cache:
        repository = cache.repository_scoped(NAME)
        trouble(proxy)
        outcomes = await callers(repository, 1.5)
        for call in (
            repository.stat_many([blob.digest for blob in BLOBS]),
            repository.set_descriptor(BLOBS[0].digest, BLOBS[0]),
            repository.take_token(BLOBS[0].digest),
            repository.clear(BLOBS[0].digest),
        ):
            outcomes.append((None, *await took(call)))
    longest = max(seconds for _, seconds, _ in outcomes)
    figures(longest_call=longest, timeout=TIMEOUT, calls=len(outcomes))
    assert longest < TIMEOUT + NOISE
    answers = [(blob, answer) for blob, _, answer in outcomes if blob]
    assert all(answer == blob or isinstance(answer, CacheUnavailableError) for blob, answer in answers)


@pytest.mark.parametrize("trouble", TROUBLES)
async def test_the_read_through_answers_from_its_backend(filled, proxy, figures, trouble):
    backend = SlowBackend(*BLOBS)
    async with RedisBlobDescriptorCache.from_url(proxy.url, timeout=TIMEOUT) as cache:
        repository = cache.repository_scoped(NAME)
        trouble(proxy)
        outcomes = await callers(CachedBlobStatter(repository, backend), 1.5)
    times = sorted(seconds for _, seconds, _ in outcomes)
    p99 = quantiles(times, n=100)[-1]
    figures(p99=p99, longest=times[-1], bound=TIMEOUT + BACKEND, answers=len(times))
    assert all(answer == blob for blob, _, answer in outcomes)
    assert p99 < TIMEOUT + BACKEND + NOISE


async def test_the_read_through_skips_redis_while_disconnected(proxy, figures):
    """A server that takes connections and says nothing is as one that is not there, once that has been found out."""
    backend = SlowBackend(*BLOBS)
    async with RedisBlobDescriptorCache.from_url(proxy.url, timeout=TIMEOUT) as cache:
        repository = cache.repository_scoped(NAME)
        statter = CachedBlobStatter(repository, backend)
        await repository.set_descriptor(BLOBS[0].digest, BLOBS[0])
        swallow_all(proxy)
        await statter.stat(BLOBS[0].digest)
        await until(lambda: cache.info()["lanes_open"] == 0)
        asked = len(proxy.requests)
        outcomes = await callers(statter, 3.0)
        waited = max(seconds for _, seconds, _ in outcomes)
        sent = bytes(proxy.requests[asked:])
    figures(longest=waited, backend=BACKEND, answers=len(outcomes))
    assert all(answer == blob for blob, _, answer in outcomes)
    assert b"SISMEMBER" not in sent  # only attempts to connect


async def test_a_half_open_connection_is_detected_and_replaced(own_server, proxy):
    """The server is gone without a word, and back behind the same address."""
    async with RedisBlobDescriptorCache.from_url(proxy.url, timeout=TIMEOUT) as cache:
        repository = cache.repository_scoped(NAME)
        await repository.set_descriptor(BLOBS[0].digest, BLOBS[0])
        with stopped(own_server):
            seconds, answer = await took(repository.stat(BLOBS[0].digest))
            assert isinstance(answer, CacheUnavailableError)
            assert seconds < TIMEOUT + NOISE
        await until_server_says(lambda: is_answered(repository))
        assert await repository.stat(BLOBS[0].digest) == BLOBS[0]


async def is_answered(service):
    return not isinstance((await took(service.stat(BLOBS[0].digest)))[1], CacheUnavailableError)
