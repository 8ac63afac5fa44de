"""A network that is bad in every way short of an end: calls end in time, and the read-through goes on without Redis."""

from __future__ import annotations

import asyncio
from statistics import quantiles

import pytest

from aioblobcache import CachedBlobStatter, CacheUnavailableError, RedisBlobDescriptorCache
from aioblobcache.conformance import descriptor_of
from tests.support.backends import Backend
from tests.support.lateness import LoopTime
from tests.support.load import CALLERS, answer_and_time, ask_in_turn
from tests.support.servers import stopped
from tests.support.waiting import until, until_server_says

pytestmark = pytest.mark.anyio

NAME = "foo/bar"
BLOBS = [descriptor_of(f"{number}") for number in range(200)]
TIMEOUT = 0.25
BACKEND = 0.02

# What a call may take beyond its bound, in seconds of the time that the process had.
GRACE = 0.05

# How long callers ask.
SHORT, LONG = 0.6, 1.5


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


@pytest.fixture
async def clock():
    async with LoopTime() as clock:
        yield clock


short_and_long = pytest.mark.parametrize(
    "duration", [SHORT, pytest.param(LONG, marks=pytest.mark.slow)], ids=["short", "long"]
)


@short_and_long
@pytest.mark.parametrize("trouble", TROUBLES)
async def test_every_call_ends_within_the_timeout(filled, proxy, figures, clock, trouble, duration):
    async with RedisBlobDescriptorCache.from_url(proxy.url, timeout=TIMEOUT) as cache:
        repository = cache.repository_scoped(NAME)
        trouble(proxy)
        outcomes = await ask_in_turn(repository, BLOBS, duration, clock)
        for call in (
            repository.stat_many([blob.digest for blob in BLOBS]),
            repository.set_descriptor(BLOBS[0].digest, BLOBS[0]),
            repository.take_token(BLOBS[0].digest),
            repository.clear(BLOBS[0].digest),
        ):
            outcomes.append((None, *await answer_and_time(call, clock)))
    longest = max(seconds for _, _, seconds in outcomes)
    if duration == LONG:
        figures(longest_call=longest, timeout=TIMEOUT, calls=len(outcomes))
    assert longest < TIMEOUT + GRACE
    answers = [(blob, answer) for blob, answer, _ in outcomes if blob]
    assert len(answers) >= CALLERS
    assert all(answer == blob or isinstance(answer, CacheUnavailableError) for blob, answer in answers)


@short_and_long
@pytest.mark.parametrize("trouble", TROUBLES)
async def test_the_read_through_answers_from_its_backend(filled, proxy, figures, clock, trouble, duration):
    backend = SlowBackend(*BLOBS)
    async with RedisBlobDescriptorCache.from_url(proxy.url, timeout=TIMEOUT) as cache:
        repository = cache.repository_scoped(NAME)
        trouble(proxy)
        outcomes = await ask_in_turn(CachedBlobStatter(repository, backend), BLOBS, duration, clock)
    times = sorted(seconds for _, _, seconds in outcomes)
    p99 = quantiles(times, n=100)[-1]
    if duration == LONG:
        figures(p99=p99, longest=times[-1], bound=TIMEOUT + BACKEND, answers=len(times))
    assert len(outcomes) >= CALLERS
    assert all(answer == blob for blob, answer, _ in outcomes)
    assert p99 < TIMEOUT + BACKEND + GRACE


async def test_the_read_through_skips_redis_while_disconnected(proxy, figures, clock):
    """A server that accepts connections and answers nothing counts as absent once its silence was noticed."""
    backend = SlowBackend(*BLOBS)
    async with RedisBlobDescriptorCache.from_url(proxy.url, timeout=TIMEOUT) as cache:
        repository = cache.repository_scoped(NAME)
        statter = CachedBlobStatter(repository, backend)
        await repository.set_descriptor(BLOBS[0].digest, BLOBS[0])
        swallow_all(proxy)
        await statter.stat(BLOBS[0].digest)
        await until(lambda: cache.info()["lanes_open"] == 0)
        asked = len(proxy.requests)
        outcomes = await ask_in_turn(statter, BLOBS, 1.5, clock)
        longest = max(seconds for _, _, seconds in outcomes)
        sent = bytes(proxy.requests[asked:])
    figures(longest=longest, backend=BACKEND, answers=len(outcomes))
    assert len(outcomes) >= CALLERS
    assert all(answer == blob for blob, answer, _ in outcomes)
    assert longest < BACKEND + GRACE
    assert b"SISMEMBER" not in sent  # only attempts to connect


async def test_a_half_open_connection_is_detected_and_replaced(own_server, proxy, clock):
    """The server is gone without a word, and back behind the same address."""
    async with RedisBlobDescriptorCache.from_url(proxy.url, timeout=TIMEOUT) as cache:
        repository = cache.repository_scoped(NAME)
        await repository.set_descriptor(BLOBS[0].digest, BLOBS[0])
        with stopped(own_server):
            answer, seconds = await answer_and_time(repository.stat(BLOBS[0].digest), clock)
            assert isinstance(answer, CacheUnavailableError)
            assert seconds < TIMEOUT + GRACE
        await until_server_says(lambda: is_answered(repository))
        assert await repository.stat(BLOBS[0].digest) == BLOBS[0]
        assert cache.info()["reconnects"] >= 1


async def is_answered(service):
    try:
        return await service.stat(BLOBS[0].digest) == BLOBS[0]
    except CacheUnavailableError:
        return False
