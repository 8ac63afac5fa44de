from __future__ import annotations

import pytest

from aioblobcache import BlobUnknownError, ConfigurationError, Descriptor, LifecycleError, MemoryBlobDescriptorCache
from aioblobcache.conformance import OCTETS, descriptor_of, digest_of
from tests.support.internals import memory_tables

pytestmark = pytest.mark.anyio


async def known(service, *descriptors):
    return [d for d in descriptors if d.digest in await service.stat_many([d.digest])]


async def test_the_least_recently_used_descriptor_is_evicted():
    a, b, c = (descriptor_of(text) for text in "abc")
    async with MemoryBlobDescriptorCache(max_entries=2) as cache:
        await cache.set_descriptor(a.digest, a)
        await cache.set_descriptor(b.digest, b)
        await cache.stat(a.digest)
        await cache.set_descriptor(c.digest, c)
        assert await known(cache, a, b, c) == [a, c]


async def test_a_set_counts_as_a_use():
    a, b, c = (descriptor_of(text) for text in "abc")
    async with MemoryBlobDescriptorCache(max_entries=2) as cache:
        for descriptor in (a, b, a, c):
            await cache.set_descriptor(descriptor.digest, descriptor)
        assert await known(cache, a, b, c) == [a, c]


async def test_a_link_without_descriptor_is_unknown():
    a, b = descriptor_of("a"), descriptor_of("b")
    async with MemoryBlobDescriptorCache(max_entries=1) as cache:
        repository = cache.repository_scoped("foo")
        await repository.set_descriptor(a.digest, a)
        await cache.set_descriptor(b.digest, b)
        with pytest.raises(BlobUnknownError):
            await repository.stat(a.digest)
        await cache.set_descriptor(a.digest, a)
        assert await repository.stat(a.digest) == a


async def test_memory_is_bounded_for_any_number_of_blobs():
    async with MemoryBlobDescriptorCache(max_entries=10) as cache:
        for number in range(200):
            descriptor = descriptor_of(str(number))
            repository = cache.repository_scoped(f"repository{number}")
            token = await repository.take_token(descriptor.digest)
            assert await repository.fill(descriptor.digest, descriptor, token)
            with pytest.raises(BlobUnknownError):
                await cache.clear(digest_of(f"unknown {number}"))
        tables = memory_tables(cache)
        assert (len(tables.descriptors), len(tables.links)) == (10, 10)
        assert len(tables.guards) <= 20


async def test_a_single_entry_can_be_filled_in_a_repository():
    descriptor = descriptor_of("x")
    async with MemoryBlobDescriptorCache(max_entries=1) as cache:
        repository = cache.repository_scoped("foo")
        assert await repository.fill(descriptor.digest, descriptor, await repository.take_token(descriptor.digest))


async def test_a_guard_expires(monkeypatch):
    now = 100.0
    monkeypatch.setattr("aioblobcache.memory.time.monotonic", lambda: now)
    descriptor = descriptor_of("x")
    async with MemoryBlobDescriptorCache(guard_ttl=5.0) as cache:
        assert cache.guard_ttl == 5.0
        late = await cache.take_token(descriptor.digest)
        with pytest.raises(BlobUnknownError):
            await cache.clear(descriptor.digest)
        now = 104.9
        assert not (await cache.take_token(descriptor.digest)).permits_fill
        now = 105.0
        token = await cache.take_token(descriptor.digest)
        assert token.permits_fill
        assert not await cache.fill(descriptor.digest, descriptor, late)
        assert await cache.fill(descriptor.digest, descriptor, token)


async def test_an_expired_token_permits_no_fill(monkeypatch):
    now = 100.0
    monkeypatch.setattr("aioblobcache.memory.time.monotonic", lambda: now)
    descriptor = descriptor_of("x")
    async with MemoryBlobDescriptorCache(guard_ttl=5.0) as cache:
        token = await cache.take_token(descriptor.digest)
        now = 105.0
        assert not await cache.fill(descriptor.digest, descriptor, token)


@pytest.mark.parametrize("options", [{"max_entries": 0}, {"max_entries": "5"}, {"guard_ttl": 0}, {"guard_ttl": "1"}])
def test_bad_options_are_refused(options):
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        MemoryBlobDescriptorCache(**options)


async def test_a_memory_provider_works_within_its_context_alone():
    cache = MemoryBlobDescriptorCache()
    with pytest.raises(LifecycleError, match="before it was entered"):
        await cache.stat(digest_of("x"))
    async with cache:
        with pytest.raises(LifecycleError, match="entered once only"):
            await cache.__aenter__()
    with pytest.raises(LifecycleError, match="after its 'async with' block had ended"):
        await cache.repository_scoped("foo").set_descriptor(digest_of("x"), Descriptor(digest_of("x"), 1, OCTETS))


async def test_the_representation_shows_counts():
    async with MemoryBlobDescriptorCache() as cache:
        await cache.repository_scoped("foo").set_descriptor(digest_of("x"), descriptor_of("x"))
        assert repr(cache) == "<MemoryBlobDescriptorCache: 1 descriptors, 1 links>"
        assert repr(cache.repository_scoped("foo")) == "<repository foo of an in-memory blob descriptor cache>"
        assert cache.repository_scoped("foo") != "foo"
