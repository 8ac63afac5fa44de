"""Read-through on the memory provider, on a real server, and with a near cache: the same tests.

The read-through speaks to no server itself: what the two servers might do differently is tested with the provider.
"""

from __future__ import annotations

import asyncio
import logging

import anyio
import pytest

from aioblobcache import (
    BlobUnknownError,
    CachedBlobStatter,
    CachedRegistry,
    CacheUnavailableError,
    ConfigurationError,
    CorruptEntryError,
    Descriptor,
    Digest,
    InvalidDescriptorError,
    InvalidDigestError,
    MemoryBlobDescriptorCache,
    Observer,
    RedisBlobDescriptorCache,
    RepositoryNameError,
    UnsupportedError,
)
from aioblobcache.conformance import JSON, OCTETS, descriptor_of, digest_of
from aioblobcache.media_types import OCI_MANIFEST
from tests.support.backends import Backend, Storage
from tests.support.internals import flights_of, flying, internals
from tests.support.ports import free_port
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

DESCRIPTOR = descriptor_of("x")
DIGEST = DESCRIPTOR.digest


class Listener(Observer):
    """Writes down what it hears."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.failures: list[tuple[str, type[Exception]]] = []

    def cache_hit(self, digest):
        self.heard.append("hit")

    def cache_miss(self, digest):
        self.heard.append("miss")

    def cache_unavailable(self, digest, error):
        self.heard.append("unavailable")
        self.failures.append((digest, type(error)))

    def fill_refused(self, digest):
        self.heard.append("refused")


@pytest.fixture(params=["memory", "valkey_server", "near cache"])
async def provider(request):
    if request.param == "memory":
        async with MemoryBlobDescriptorCache() as provider:
            yield provider
        return
    near = request.param == "near cache"
    url = request.getfixturevalue("valkey_server" if near else request.param).url
    async with RedisBlobDescriptorCache.from_url(url, timeout=30.0, near_cache=1000 * near) as provider:
        await internals(provider).client.flushall()
        if near:
            await until(lambda: provider.info()["near_cache"]["why_off"] is None)
        yield provider


@pytest.fixture
def cache(provider):
    return provider.repository_scoped("foo/bar")


@pytest.fixture
def listener():
    return Listener()


@pytest.fixture
async def dead_cache():
    """A cache whose Redis is not there."""
    async with RedisBlobDescriptorCache.from_url(f"redis://127.0.0.1:{free_port()}") as provider:
        yield provider.repository_scoped("foo/bar")


async def cancel(task):
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


# --- stat ----------------------------------------------------------------------------------------


async def test_a_miss_reads_the_backend_and_fills_the_cache(cache, listener):
    backend = Backend(DESCRIPTOR)
    statter = CachedBlobStatter(cache, backend, observer=listener)
    assert await statter.stat(DIGEST) == DESCRIPTOR
    assert await statter.stat(str(DIGEST)) == DESCRIPTOR
    assert backend.stats == 1
    assert listener.heard == ["miss", "hit"]
    assert await cache.stat(DIGEST) == DESCRIPTOR


def keeps_in_process(provider):
    return isinstance(provider, MemoryBlobDescriptorCache) or provider.info()["near_cache"] is not None


async def test_peek_reads_this_process_alone(provider, cache, listener):
    backend = Backend(DESCRIPTOR)
    statter = CachedBlobStatter(cache, backend, observer=listener)
    assert statter.peek(DIGEST) is None
    assert backend.stats == 0
    await statter.stat(DIGEST)
    await statter.stat(DIGEST)
    heard = len(listener.heard)
    known = statter.peek(str(DIGEST))
    assert known == cache.peek(DIGEST) == (DESCRIPTOR if keeps_in_process(provider) else None)
    assert listener.heard[heard:] == ["hit"] * keeps_in_process(provider)
    with pytest.raises(InvalidDigestError):
        statter.peek("sha256:abc")


async def test_peek_separates_layers_from_manifests(provider):
    registry = CachedRegistry(provider, Storage())
    repository = provider.repository_scoped("foo")
    await repository.set_descriptor(DIGEST, Descriptor(DIGEST, 1, OCI_MANIFEST))
    await repository.stat(DIGEST)
    assert registry.blobs("foo").peek(DIGEST) is None
    expected = Descriptor(DIGEST, 1, OCI_MANIFEST) if keeps_in_process(provider) else None
    assert registry.manifests("foo").peek(DIGEST) == expected


async def test_an_unknown_blob_is_not_kept(cache):
    backend = Backend()
    statter = CachedBlobStatter(cache, backend)
    for _ in range(2):
        with pytest.raises(BlobUnknownError) as caught:
            await statter.stat(DIGEST)
        assert (caught.value.digest, caught.value.repository) == (DIGEST, "foo/bar")
    assert backend.stats == 2
    backend.held[DIGEST] = DESCRIPTOR
    assert await statter.stat(DIGEST) == DESCRIPTOR


async def test_a_thousand_concurrent_misses_read_the_backend_once(provider):
    backend, callers = Backend(DESCRIPTOR), 1000
    backend.gate = asyncio.Event()
    cache = CountTokens(provider.repository_scoped("foo/bar"), callers, backend.gate)
    statter = CachedBlobStatter(cache, backend)
    assert await asyncio.gather(*(statter.stat(DIGEST) for _ in range(callers))) == [DESCRIPTOR] * callers
    assert backend.stats == 1


class CountTokens:
    """A cache that opens a gate when all callers have missed."""

    def __init__(self, cache, callers, gate):
        self.cache, self.left, self.gate = cache, callers, gate

    async def take_token(self, digest):
        token = await self.cache.take_token(digest)
        self.left -= 1
        if not self.left:
            self.gate.set()
        return token

    def __getattr__(self, name):
        return getattr(self.cache, name)


async def test_cancelling_the_first_caller_does_not_affect_others(cache):
    backend = Backend(DESCRIPTOR)
    backend.gate = asyncio.Event()
    statter = CachedBlobStatter(cache, backend)
    first = asyncio.create_task(statter.stat(DIGEST))
    await backend.entered.wait()
    others = [asyncio.create_task(statter.stat(DIGEST)) for _ in range(5)]
    [flight] = flying(flights_of(statter))
    await until(lambda: len(flight.waiters) == 6)
    await cancel(first)
    backend.gate.set()
    assert await asyncio.gather(*others) == [DESCRIPTOR] * 5
    assert backend.stats == 1


async def test_cancelling_all_callers_leaves_no_call(cache):
    backend = Backend(DESCRIPTOR)
    backend.gate = asyncio.Event()
    statter = CachedBlobStatter(cache, backend)
    caller = asyncio.create_task(statter.stat(DIGEST))
    await backend.entered.wait()
    await cancel(caller)
    await until(lambda: len(flights_of(statter)) == 0)
    with pytest.raises(BlobUnknownError):
        await cache.stat(DIGEST)


async def test_an_exception_of_the_backend_is_passed_on(cache):
    backend = Backend(DESCRIPTOR)
    backend.failure = OSError("the store is on fire")
    statter = CachedBlobStatter(cache, backend)
    with pytest.raises(OSError, match="on fire"):
        await statter.stat(DIGEST)
    with pytest.raises(BlobUnknownError):
        await cache.stat(DIGEST)
    backend.failure = None
    assert await statter.stat(DIGEST) == DESCRIPTOR


async def test_an_answer_without_media_type_is_not_kept(cache):
    bare = Descriptor(DIGEST, 1, "")
    statter = CachedBlobStatter(cache, Backend(bare))
    assert await statter.stat(DIGEST) == bare
    with pytest.raises(BlobUnknownError):
        await cache.stat(DIGEST)


async def test_an_answer_for_another_blob_is_an_error(cache):
    backend = Backend()
    backend.held[DIGEST] = descriptor_of("another")
    with pytest.raises(InvalidDescriptorError, match="another blob"):
        await CachedBlobStatter(cache, backend).stat(DIGEST)


async def test_an_alias_is_filled_under_the_requested_digest(cache):
    alias, backend = digest_of("x", "sha512"), Backend()
    backend.held[alias] = DESCRIPTOR
    statter = CachedBlobStatter(cache, backend)
    assert await statter.stat(alias) == DESCRIPTOR
    assert await cache.stat(alias) == DESCRIPTOR


async def test_invalid_input_reaches_neither_cache_nor_backend(cache, listener):
    backend = Backend(DESCRIPTOR)
    statter = CachedBlobStatter(cache, backend, observer=listener)
    for call in (statter.stat, statter.clear):
        with pytest.raises(InvalidDigestError):
            await call("garbage")
    with pytest.raises(InvalidDigestError):
        await statter.set_descriptor("garbage", DESCRIPTOR)
    with pytest.raises(InvalidDescriptorError):
        await statter.set_descriptor(DIGEST, Descriptor(DIGEST, 1, ""))
    assert (backend.stats, backend.clears, listener.heard) == (0, 0, [])


async def test_a_plain_str_is_passed_on_as_a_digest(provider, cache):
    types = []

    class Noted(Observer):
        def cache_miss(self, digest):
            types.append(type(digest))

        cache_hit = cache_miss

    class NotedBackend(Backend):
        async def stat(self, digest):
            types.append(type(digest))
            return await super().stat(digest)

    statter = CachedBlobStatter(cache, NotedBackend(DESCRIPTOR), observer=Noted())
    assert await statter.stat(str(DIGEST)) == DESCRIPTOR
    assert await statter.stat(str(DIGEST)) == DESCRIPTOR
    assert types == [Digest, Digest, Digest]
    statter.peek(str(DIGEST))
    assert types[3:] == [Digest] * keeps_in_process(provider)


# --- the refill race -----------------------------------------------------------------------------


async def test_a_fill_does_not_restore_a_deleted_blob(provider, cache, listener):
    """The classic hole: read the backend, lose the blob and the cache entry, then fill."""
    backend = Backend(DESCRIPTOR)
    backend.gate = asyncio.Event()
    reader = CachedBlobStatter(cache, backend, observer=listener)
    reading = asyncio.create_task(reader.stat(DIGEST))
    await backend.entered.wait()

    deleted = Backend(DESCRIPTOR)
    await CachedBlobStatter(provider.repository_scoped("foo/bar"), deleted).clear(DIGEST)
    backend.gate.set()
    assert await reading == DESCRIPTOR  # it was there when it was asked
    assert listener.heard == ["miss", "refused"]
    with pytest.raises(BlobUnknownError):
        await cache.stat(DIGEST)


async def test_a_stat_after_a_clear_joins_no_earlier_call(cache):
    backend = Backend(DESCRIPTOR)
    statter = CachedBlobStatter(cache, backend)
    backend.gate = asyncio.Event()
    before = asyncio.create_task(statter.stat(DIGEST))
    await backend.entered.wait()
    held_up, backend.gate = backend.gate, None
    await statter.clear(DIGEST)
    with pytest.raises(BlobUnknownError):
        await statter.stat(DIGEST)
    held_up.set()
    assert await before == DESCRIPTOR
    with pytest.raises(BlobUnknownError):
        await statter.stat(DIGEST)


async def test_a_tombstone_prevents_keeping_the_backends_answer(cache, listener):
    backend = Backend(DESCRIPTOR)
    statter = CachedBlobStatter(cache, backend, observer=listener)
    await statter.clear(DIGEST)
    backend.held[DIGEST] = DESCRIPTOR
    for _ in range(2):
        assert await statter.stat(DIGEST) == DESCRIPTOR
    assert listener.heard == ["miss", "refused"] * 2


# --- set_descriptor ------------------------------------------------------------------------------


async def test_a_push_takes_its_token_before_it_reads_the_backend(provider, cache, listener):
    backend = Backend(DESCRIPTOR)
    backend.gate = asyncio.Event()
    statter = CachedBlobStatter(cache, backend, observer=listener)
    pushing = asyncio.create_task(statter.set_descriptor(DIGEST, DESCRIPTOR))
    await backend.entered.wait()
    await CachedBlobStatter(provider.repository_scoped("foo/bar"), Backend(DESCRIPTOR)).clear(DIGEST)
    backend.gate.set()
    await pushing
    assert listener.heard == ["refused"]
    with pytest.raises(BlobUnknownError):
        await cache.stat(DIGEST)


async def test_a_push_answered_for_another_blob_is_an_error(cache):
    backend = Backend()
    backend.held[DIGEST] = descriptor_of("another")
    with pytest.raises(InvalidDescriptorError, match="another blob"):
        await CachedBlobStatter(cache, backend).set_descriptor(DIGEST, DESCRIPTOR)
    with pytest.raises(BlobUnknownError):
        await cache.stat(DIGEST)


async def test_a_push_keeps_the_backends_size_with_its_media_type(cache):
    backend = Backend(DESCRIPTOR)
    statter = CachedBlobStatter(cache, backend)
    await statter.set_descriptor(DIGEST, Descriptor(DIGEST, 999, JSON))
    assert await cache.stat(DIGEST) == Descriptor(DIGEST, DESCRIPTOR.size, JSON)


async def test_a_push_of_an_absent_blob_is_unknown(cache):
    with pytest.raises(BlobUnknownError):
        await CachedBlobStatter(cache, Backend()).set_descriptor(DIGEST, DESCRIPTOR)
    with pytest.raises(BlobUnknownError):
        await cache.stat(DIGEST)


async def test_a_push_never_removes_a_tombstone(cache, listener):
    backend = Backend(DESCRIPTOR)
    statter = CachedBlobStatter(cache, backend, observer=listener)
    await statter.clear(DIGEST)
    backend.held[DIGEST] = DESCRIPTOR
    await statter.set_descriptor(DIGEST, DESCRIPTOR)
    with pytest.raises(BlobUnknownError):
        await cache.stat(DIGEST)
    assert listener.heard == ["refused"]
    assert not (await cache.take_token(DIGEST)).permits_fill


# --- clear ---------------------------------------------------------------------------------------


async def test_a_clear_removes_the_blob_from_cache_and_backend(cache):
    backend = Backend(DESCRIPTOR)
    statter = CachedBlobStatter(cache, backend)
    await statter.stat(DIGEST)
    await statter.clear(DIGEST)
    assert backend.held == {}
    with pytest.raises(BlobUnknownError):
        await statter.stat(DIGEST)


async def test_a_clear_deletes_an_uncached_blob_in_the_backend(cache):
    backend = Backend(DESCRIPTOR)
    await CachedBlobStatter(cache, backend).clear(DIGEST)
    assert backend.held == {}
    assert not (await cache.take_token(DIGEST)).permits_fill


async def test_a_clear_of_an_absent_blob_removes_its_entry(cache):
    await cache.set_descriptor(DIGEST, DESCRIPTOR)
    with pytest.raises(BlobUnknownError):
        await CachedBlobStatter(cache, Backend()).clear(DIGEST)
    with pytest.raises(BlobUnknownError):
        await cache.stat(DIGEST)


async def test_a_set_during_the_delete_does_not_survive_it(cache):
    backend = Backend(DESCRIPTOR)
    backend.gate = asyncio.Event()
    clearing = asyncio.create_task(CachedBlobStatter(cache, backend).clear(DIGEST))
    await backend.entered.wait()
    await cache.set_descriptor(DIGEST, DESCRIPTOR)
    backend.gate.set()
    await clearing
    with pytest.raises(BlobUnknownError):
        await cache.stat(DIGEST)


async def test_a_failed_delete_clears_the_cache_too(cache):
    backend = Backend(DESCRIPTOR)
    backend.failure = OSError("the store is on fire")
    await cache.set_descriptor(DIGEST, DESCRIPTOR)
    with pytest.raises(OSError, match="on fire"):
        await CachedBlobStatter(cache, backend).clear(DIGEST)
    with pytest.raises(BlobUnknownError):
        await cache.stat(DIGEST)


class ClearedOnce:
    """A cache that goes away after the first clear."""

    def __init__(self, cache):
        self._cache = cache
        self.clears = 0

    def __getattr__(self, name):
        return getattr(self._cache, name)

    async def clear(self, digest):
        self.clears += 1
        if self.clears > 1:
            raise CacheUnavailableError("localhost:6379", "gone")
        await self._cache.clear(digest)


@pytest.mark.parametrize(
    ("failure", "passed_on"),
    [
        (OSError("the store is on fire"), OSError),
        (BlobUnknownError(DIGEST), CacheUnavailableError),
        (None, CacheUnavailableError),
    ],
    ids=["a backend that fails", "a backend that does not know it", "a backend that deletes"],
)
async def test_a_failed_second_clear_hides_no_backend_failure(cache, listener, failure, passed_on):
    backend = Backend(DESCRIPTOR)
    backend.failure = failure
    await cache.set_descriptor(DIGEST, DESCRIPTOR)
    with pytest.raises(passed_on):
        await CachedBlobStatter(ClearedOnce(cache), backend, observer=listener).clear(DIGEST)
    assert listener.heard == (["unavailable"] if passed_on is OSError else [])


@pytest.mark.parametrize("times", [1, 3])
async def test_a_cancelled_clear_runs_to_its_end(cache, times, caplog):
    backend = Backend(DESCRIPTOR)
    backend.gate = asyncio.Event()
    clearing = asyncio.create_task(CachedBlobStatter(cache, backend).clear(DIGEST))
    await backend.entered.wait()
    await cache.set_descriptor(DIGEST, DESCRIPTOR)
    for _ in range(times):
        clearing.cancel()
        await asyncio.sleep(0)
    assert not clearing.done()
    backend.gate.set()
    with pytest.raises(asyncio.CancelledError):
        await clearing
    assert backend.held == {}
    assert caplog.records == []
    with pytest.raises(BlobUnknownError):
        await cache.stat(DIGEST)


async def test_a_clear_in_a_cancelled_scope_runs_to_its_end(cache):
    backend = Backend(DESCRIPTOR)
    backend.gate = asyncio.Event()
    async with anyio.create_task_group() as group:
        group.start_soon(CachedBlobStatter(cache, backend).clear, DIGEST)
        await backend.entered.wait()
        group.cancel_scope.cancel()
        backend.gate.set()
    assert backend.held == {}


async def test_a_failure_of_a_cancelled_clear_is_logged(cache, caplog):
    backend = Backend(DESCRIPTOR)
    backend.gate = asyncio.Event()
    backend.failure = OSError("the store is on fire")
    clearing = asyncio.create_task(CachedBlobStatter(cache, backend).clear(DIGEST))
    await backend.entered.wait()
    clearing.cancel()
    await asyncio.sleep(0)
    backend.gate.set()
    with pytest.raises(asyncio.CancelledError):
        await clearing
    assert "a clear whose caller was cancelled failed: the store is on fire" in caplog.text


async def test_the_tombstone_is_renewed_during_a_slow_delete():
    class CountClears:
        name, guard_ttl, count = "foo", 0.03, 0

        async def take_token(self, digest): ...
        async def fill(self, digest, descriptor, token): ...

        async def clear(self, digest):
            self.count += 1
            if self.count == 3:
                raise CacheUnavailableError("127.0.0.1:1", "gone for a moment")
            raise BlobUnknownError(digest)

    cache, backend = CountClears(), Backend(DESCRIPTOR)
    backend.gate = asyncio.Event()
    clearing = asyncio.create_task(CachedBlobStatter(cache, backend).clear(DIGEST))
    await until(lambda: cache.count == 6)
    before = asyncio.all_tasks()
    backend.gate.set()
    await clearing
    assert len(before - asyncio.all_tasks()) == 3, "the caller's task, the clear and what renews the tombstone"


async def test_a_tombstone_is_renewed_three_times_in_its_life(monkeypatch):
    delays, sleep = [], asyncio.sleep

    async def noted(delay):
        delays.append(delay)
        await sleep(0)

    class Buried:
        name, guard_ttl, clears = "foo", 60.0, 0

        async def take_token(self, digest): ...
        async def fill(self, digest, descriptor, token): ...

        async def clear(self, digest):
            self.clears += 1

    cache, backend = Buried(), Backend(DESCRIPTOR)
    backend.gate = asyncio.Event()
    monkeypatch.setattr(asyncio, "sleep", noted)
    clearing = asyncio.create_task(CachedBlobStatter(cache, backend).clear(DIGEST))
    while cache.clears < 4:
        await sleep(0)
    backend.gate.set()
    await clearing
    assert set(delays) == {20.0}


async def test_a_failed_renewal_of_a_tombstone_is_logged_and_repeated(monkeypatch, caplog):
    sleep = asyncio.sleep
    monkeypatch.setattr(asyncio, "sleep", lambda delay: sleep(0))

    class FailsOnce:
        name, guard_ttl, clears = "foo", 60.0, 0

        async def take_token(self, digest): ...
        async def fill(self, digest, descriptor, token): ...

        async def clear(self, digest):
            self.clears += 1
            if self.clears == 2:
                raise CacheUnavailableError("localhost:6379", "no answer in time")

    cache, backend = FailsOnce(), Backend(DESCRIPTOR)
    backend.gate = asyncio.Event()
    clearing = asyncio.create_task(CachedBlobStatter(cache, backend).clear(DIGEST))
    while cache.clears < 4:
        await sleep(0)
    backend.gate.set()
    await clearing
    assert DIGEST not in backend.held
    lost = "answering from the backend alone: cache at localhost:6379"
    assert [record.getMessage().startswith(lost) for record in caplog.records] == [True]


async def test_a_clear_clears_the_cache_before_and_after_the_backend(cache):
    order = []

    class Noted(Backend):
        async def clear(self, digest):
            order.append("backend")
            await super().clear(digest)

    class Cleared(ClearedOnce):
        async def clear(self, digest):
            order.append("cache")
            await self._cache.clear(digest)

    await CachedBlobStatter(Cleared(cache), Noted(DESCRIPTOR)).clear(DIGEST)
    assert order == ["cache", "backend", "cache"]


async def test_a_backend_without_clear_is_refused_before_any_change(cache):
    class ReadOnly:
        async def stat(self, digest):
            return DESCRIPTOR

    await cache.set_descriptor(DIGEST, DESCRIPTOR)
    with pytest.raises(UnsupportedError, match="ReadOnly cannot delete"):
        await CachedBlobStatter(cache, ReadOnly()).clear(DIGEST)
    assert await cache.stat(DIGEST) == DESCRIPTOR


# --- evict ---------------------------------------------------------------------------------------


async def test_an_evicted_blob_is_unknown_in_both_scopes(provider, cache, listener):
    backend = Backend(DESCRIPTOR)
    statter = CachedBlobStatter(cache, backend, observer=listener)
    await statter.stat(DIGEST)
    await statter.evict(str(DIGEST))
    for service in (provider, cache):
        with pytest.raises(BlobUnknownError):
            await service.stat(DIGEST)
    assert await statter.stat(DIGEST) == DESCRIPTOR  # the backend was not touched
    assert listener.heard[-1] == "refused"
    with pytest.raises(BlobUnknownError):
        await cache.stat(DIGEST)


async def test_an_alias_is_evicted_with_its_canonical_digest(cache):
    alias = digest_of("x", "sha512")
    await cache.set_descriptor(alias, DESCRIPTOR)
    await CachedBlobStatter(cache, Backend()).evict(alias)
    for digest in (alias, DIGEST):
        with pytest.raises(BlobUnknownError):
            await cache.stat(digest)


async def test_evicting_an_unknown_blob_leaves_no_tombstone(cache):
    statter = CachedBlobStatter(cache, Backend(DESCRIPTOR))
    await statter.evict(DIGEST)
    await statter.stat(DIGEST)
    assert await cache.stat(DIGEST) == DESCRIPTOR  # no tombstone had kept the fill away
    with pytest.raises(InvalidDigestError):
        await statter.evict("sha256:12")


async def test_without_redis_an_eviction_does_not_fail(dead_cache, listener):
    await CachedBlobStatter(dead_cache, Backend(DESCRIPTOR), observer=listener).evict(DIGEST)
    assert listener.heard == ["unavailable"]


async def test_an_eviction_that_loses_the_cache_midway_fails_no_request(cache, listener):
    class LosesClear(ClearedOnce):
        async def clear(self, digest):
            raise CacheUnavailableError("127.0.0.1:1", "gone")

    await cache.set_descriptor(DIGEST, DESCRIPTOR)
    await CachedBlobStatter(LosesClear(cache), Backend(DESCRIPTOR), observer=listener).evict(DIGEST)
    assert listener.heard == ["unavailable"]
    assert await cache.stat(DIGEST) == DESCRIPTOR


# --- a cache that is down ------------------------------------------------------------------------


async def test_without_redis_concurrent_callers_share_one_backend_call(dead_cache):
    backend = Backend(DESCRIPTOR)
    backend.gate = asyncio.Event()
    statter = CachedBlobStatter(dead_cache, backend)
    callers = [asyncio.create_task(statter.stat(DIGEST)) for _ in range(20)]
    await backend.entered.wait()
    [flight] = flying(flights_of(statter))
    await until(lambda: len(flight.waiters) == 20)
    backend.gate.set()
    assert await asyncio.gather(*callers) == [DESCRIPTOR] * 20
    assert backend.stats == 1


async def test_without_redis_an_answer_for_another_blob_is_an_error(dead_cache):
    backend = Backend()
    backend.held[DIGEST] = descriptor_of("another")
    with pytest.raises(InvalidDescriptorError, match="another blob"):
        await CachedBlobStatter(dead_cache, backend).stat(DIGEST)


async def test_without_redis_the_backend_answers(dead_cache, listener):
    backend = Backend(DESCRIPTOR)
    statter = CachedBlobStatter(dead_cache, backend, observer=listener)
    assert await statter.stat(DIGEST) == DESCRIPTOR
    with pytest.raises(BlobUnknownError):
        await statter.stat(digest_of("unknown"))
    assert listener.heard == ["unavailable"] * 2
    assert listener.failures == [(DIGEST, CacheUnavailableError), (digest_of("unknown"), CacheUnavailableError)]


async def test_without_redis_a_push_succeeds(dead_cache):
    await CachedBlobStatter(dead_cache, Backend(DESCRIPTOR)).set_descriptor(DIGEST, DESCRIPTOR)


async def test_without_redis_a_clear_does_not_touch_the_backend(dead_cache):
    backend = Backend(DESCRIPTOR)
    with pytest.raises(CacheUnavailableError):
        await CachedBlobStatter(dead_cache, backend).clear(DIGEST)
    assert backend.clears == 0
    assert backend.held == {DIGEST: DESCRIPTOR}


async def test_a_cache_failure_after_the_miss_fails_no_request(cache, listener):
    class FailsLater:
        def __init__(self, *failing):
            self._failing = failing

        def __getattr__(self, name):
            if name in self._failing:
                return self._fail
            return getattr(cache, name)

        async def _fail(self, *_):
            raise CacheUnavailableError("127.0.0.1:1", "gone")

    for failing in (["take_token"], ["fill"]):
        statter = CachedBlobStatter(FailsLater(*failing, "fill"), Backend(DESCRIPTOR), observer=listener)
        assert await statter.stat(DIGEST) == DESCRIPTOR
    assert listener.heard == ["miss", "unavailable"] * 2


@pytest.mark.parametrize("first", ["hit", "miss"])
async def test_losing_and_regaining_the_cache_logs_one_line_each(cache, dead_cache, caplog, first):
    caplog.set_level(logging.INFO, "aioblobcache")

    class Switch:
        target = dead_cache

        def __getattr__(self, name):
            if name in ("take_token", "fill", "name"):
                return getattr(self.target, name)
            return None

        async def stat(self, digest):
            return await self.target.stat(digest)

    switch = Switch()
    statter = CachedBlobStatter(switch, Backend(DESCRIPTOR))
    for _ in range(3):
        await statter.stat(DIGEST)
    switch.target = cache
    if first == "hit":
        await cache.set_descriptor(DIGEST, DESCRIPTOR)
    await statter.stat(DIGEST)
    assert caplog.records[-1].getMessage() == "the cache answers again"
    for _ in range(3):
        await statter.stat(DIGEST)
    lines = [record.getMessage() for record in caplog.records if record.name == "aioblobcache.readthrough"]
    assert len(lines) == len(caplog.records) == 2
    assert lines[0].startswith("answering from the backend alone: cache at 127.0.0.1:")
    assert lines[1] == "the cache answers again"


async def test_a_corrupt_entry_is_logged_and_refilled(valkey_server, caplog):
    async with RedisBlobDescriptorCache.from_url(valkey_server.url, timeout=30.0) as provider:
        await internals(provider).client.flushall()
        await internals(provider).client.set(f"blobs::{DIGEST}", "planted")
        statter = CachedBlobStatter(provider, Backend(DESCRIPTOR))
        assert await statter.stat(DIGEST) == DESCRIPTOR
        assert "its cache entry is malformed" in caplog.text
        assert await provider.stat(DIGEST) == DESCRIPTOR


class CorruptCache:
    """A cache whose entries are all malformed, and which takes no fill."""

    async def stat(self, digest):
        raise CorruptEntryError(digest, self.name, "planted")

    async def take_token(self, digest): ...
    async def fill(self, digest, descriptor, token):
        return True

    def __init__(self, name):
        self.name = name

    def repository_scoped(self, name):
        return CorruptCache(name)


def corrupt_lines(caplog):
    return [record.getMessage() for record in caplog.records if "malformed" in record.getMessage()]


async def test_a_corrupt_entry_is_logged_once_for_each_repository(caplog):
    storage = Storage()
    registry = CachedRegistry(CorruptCache(None), storage)
    for name in ("one", "other"):
        storage.blobs(name).held[DIGEST] = DESCRIPTOR
        for _ in range(3):
            assert await registry.blobs(name).stat(DIGEST) == DESCRIPTOR
    assert corrupt_lines(caplog) == [
        f"blob {DIGEST} is unknown in repository {name}: its cache entry is malformed: planted; asking the backend"
        for name in ("one", "other")
    ]


async def test_1024_corrupt_entries_are_remembered_as_logged(caplog):
    blobs = [descriptor_of(f"{number}") for number in range(1025)]
    statter = CachedBlobStatter(CorruptCache("foo"), Backend(*blobs))
    for blob in blobs[:1024] * 2:
        await statter.stat(blob.digest)
    assert len(corrupt_lines(caplog)) == 1024
    for blob in (blobs[1024], blobs[0], blobs[1024]):
        await statter.stat(blob.digest)
    assert len(corrupt_lines(caplog)) == 1026


# --- CachedRegistry ------------------------------------------------------------------------------


async def test_services_of_concurrent_requests_share_backend_calls(provider):
    storage = Storage()
    backend = storage.blobs("foo/bar")
    backend.held[DIGEST] = DESCRIPTOR
    backend.gate = asyncio.Event()
    registry = CachedRegistry(CountScopedTokens(provider, 100, backend.gate), storage)
    answers = await asyncio.gather(*(registry.blobs("foo/bar").stat(DIGEST) for _ in range(100)))
    assert answers == [DESCRIPTOR] * 100
    assert backend.stats == 1


class CountScopedTokens(CountTokens):
    def repository_scoped(self, name):
        outer = self

        class Scoped(CountTokens):
            async def take_token(self, digest):
                token = await self.cache.take_token(digest)
                outer.left -= 1
                if not outer.left:
                    outer.gate.set()
                return token

        return Scoped(self.cache.repository_scoped(name), 0, None)


async def test_kinds_and_names_share_no_answers(provider):
    storage = Storage()
    manifest = Descriptor(DIGEST, 1, OCI_MANIFEST)
    storage.blobs("foo").held[DIGEST] = DESCRIPTOR
    storage.manifests("bar").held[DIGEST] = manifest
    registry = CachedRegistry(provider, storage)
    assert await registry.blobs("foo").stat(DIGEST) == DESCRIPTOR
    assert await registry.manifests("bar").stat(DIGEST) == manifest
    for service in (registry.manifests("foo"), registry.blobs("other")):
        with pytest.raises(BlobUnknownError):
            await service.stat(DIGEST)


async def test_membership_alone_does_not_make_a_manifest(provider):
    """A layer that is cached in the repository is no manifest of it, whatever the cache says."""
    storage = Storage()
    registry = CachedRegistry(provider, storage)
    await provider.repository_scoped("foo").set_descriptor(DIGEST, DESCRIPTOR)
    with pytest.raises(BlobUnknownError) as caught:
        await registry.manifests("foo").stat(DIGEST)
    assert caught.value.repository == "foo"
    assert storage.manifests("foo").stats == 1


async def test_a_manifest_cached_as_octets_is_refilled(provider):
    storage = Storage()
    manifest = Descriptor(DIGEST, 1, OCI_MANIFEST)
    storage.manifests("foo").held[DIGEST] = manifest
    await provider.repository_scoped("foo").set_descriptor(DIGEST, Descriptor(DIGEST, 1, OCTETS))
    registry = CachedRegistry(provider, storage)
    for _ in range(2):
        assert await registry.manifests("foo").stat(DIGEST) == manifest
    assert storage.manifests("foo").stats == 1


async def test_a_manifest_is_pushed_and_cleared_through_the_registry(provider):
    storage = Storage()
    manifest = Descriptor(DIGEST, 1, OCI_MANIFEST)
    manifests = CachedRegistry(provider, storage).manifests("foo")
    storage.manifests("foo").held[DIGEST] = manifest
    await manifests.set_descriptor(DIGEST, manifest)
    assert await manifests.stat(DIGEST) == manifest
    assert storage.manifests("foo").stats == 1
    await manifests.clear(DIGEST)
    assert storage.manifests("foo").held == {}
    with pytest.raises(BlobUnknownError):
        await manifests.stat(DIGEST)


@pytest.mark.parametrize("kind", ["blobs", "manifests"])
async def test_an_invalid_repository_name_is_refused(provider, kind):
    registry = CachedRegistry(provider, Storage())
    for name in ("../etc", "", None, 5, b"foo", ["foo"]):
        with pytest.raises(RepositoryNameError):
            getattr(registry, kind)(name)


def test_a_service_is_made_once_for_each_name_and_kind():
    registry = CachedRegistry(MemoryBlobDescriptorCache(), Storage())
    made = [make(name) for make in (registry.blobs, registry.manifests) for name in ("foo", "bar")]
    assert [make(name) for make in (registry.blobs, registry.manifests) for name in ("foo", "bar")] == made
    assert len(set(made)) == 4


def test_a_name_may_be_any_str_that_is_one():
    class Name(str):
        __slots__ = ()

    registry = CachedRegistry(MemoryBlobDescriptorCache(), Storage())
    assert registry.blobs(Name("foo")) is registry.blobs("foo")


class TakesNoToken:
    async def fill(self, digest, descriptor, token): ...


class TakesNoFill:
    async def take_token(self, digest): ...


@pytest.mark.parametrize("cache", [{}, TakesNoToken(), TakesNoFill()], ids=lambda cache: type(cache).__name__)
@pytest.mark.parametrize("make", [CachedBlobStatter, CachedRegistry])
def test_a_cache_without_guarded_fills_is_refused(make, cache):
    with pytest.raises(ConfigurationError, match=rf"{type(cache).__name__} has no take_token\(\) and fill\(\)"):
        make(cache, Backend)


async def test_a_cached_manifest_is_not_a_layer(provider):
    storage = Storage()
    await provider.repository_scoped("foo").set_descriptor(DIGEST, Descriptor(DIGEST, 1, OCI_MANIFEST))
    with pytest.raises(BlobUnknownError):
        await CachedRegistry(provider, storage).blobs("foo").stat(DIGEST)
    assert storage.blobs("foo").stats == 1


async def test_an_unknown_answer_from_before_a_push_is_repeated(cache):
    backend = Backend()
    statter = CachedBlobStatter(cache, backend)
    with pytest.raises(BlobUnknownError):
        await statter.clear(DIGEST)  # a tombstone: nothing can be filled, everyone asks the backend
    backend.gate = asyncio.Event()
    backend.entered.clear()
    before = asyncio.create_task(statter.stat(DIGEST))
    await backend.entered.wait()
    backend.held[DIGEST] = DESCRIPTOR
    [flight] = flying(flights_of(statter))
    after = asyncio.create_task(statter.stat(DIGEST))
    await until(lambda: len(flight.waiters) == 2)
    backend.gate.set()
    with pytest.raises(BlobUnknownError):
        await before
    assert await after == DESCRIPTOR


@pytest.mark.parametrize(("kind", "media_type"), [("blobs", OCI_MANIFEST), ("manifests", "application/x-own")])
async def test_a_blob_of_the_other_kind_is_not_kept(provider, kind, media_type):
    storage = Storage()
    found = Descriptor(DIGEST, 1, media_type)
    getattr(storage, kind)("foo").held[DIGEST] = found
    assert await getattr(CachedRegistry(provider, storage), kind)("foo").stat(DIGEST) == found
    with pytest.raises(BlobUnknownError):
        await provider.repository_scoped("foo").stat(DIGEST)


async def test_an_observer_that_is_falsy_is_called(cache):
    class Empty(Listener, list):
        pass

    listener = Empty()
    await CachedBlobStatter(cache, Backend(DESCRIPTOR), observer=listener).stat(DIGEST)
    assert listener.heard == ["miss"]


@pytest.mark.parametrize("make", [CachedBlobStatter, CachedRegistry])
async def test_an_invalid_observer_is_refused(provider, make):
    with pytest.raises(ConfigurationError, match="observer"):
        make(provider, Storage(), observer="x")
