"""Those who change the blobs: this library, raw commands, and a registry; and those who disturb the readers."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from redis.asyncio import Redis

from aioblobcache import BlobUnknownError, Descriptor, RedisBlobDescriptorCache
from aioblobcache.redis.keys import descriptor_key, membership_key, override_key
from tests.coherence.history import UNKNOWN, Blob, History
from tests.support.docker_registry import Registry

MEDIA_TYPE = "application/octet-stream"


class Written:
    """The blobs, each written by one at a time, and what has been written so far."""

    def __init__(self, blobs: list[Blob]) -> None:
        self.blobs = blobs
        self.histories = [[History() for _ in blob.answers()] for blob in blobs]
        self.writes: dict[str, int] = {}
        self.goes_on = True
        self._locks = [asyncio.Lock() for _ in blobs]
        self._sizes = iter(range(1, 10**9))

    def new_size(self) -> int:
        """A size that no blob has had: it tells which write an answer is of."""
        return next(self._sizes)

    @asynccontextmanager
    async def change(self, who: str, *numbers: int) -> AsyncIterator[None]:
        """Within, the blobs are changed in Redis as they are in ``blobs``; then it has been confirmed."""
        for number in sorted(numbers):
            await self._locks[number].acquire()
        try:
            begun = time.monotonic()
            yield
            confirmed = time.monotonic()
            for number in numbers:
                for history, answer in zip(self.histories[number], self.blobs[number].answers(), strict=True):
                    history.write(answer, begun, confirmed)
            self.writes[who] = self.writes.get(who, 0) + 1
        finally:
            for number in numbers:
                self._locks[number].release()


async def write_by_library(
    written: Written, cache: RedisBlobDescriptorCache, numbers: range, draw: random.Random
) -> None:
    """Set and clear in either scope; and see at once what was written, in every scope."""
    while written.goes_on:
        number = draw.choice(numbers)
        blob = written.blobs[number]
        name = draw.choice([None, *blob.names])
        service = cache if name is None else cache.repository_scoped(name)
        async with written.change("library", number):
            if draw.random() < 0.75:
                blob.size = written.new_size()
                if name is not None:
                    blob.members.add(name)
                    blob.overrides.add(name)
                await service.set_descriptor(blob.digest, Descriptor(blob.digest, blob.size, MEDIA_TYPE))
            else:
                if name is None or name in blob.members:
                    blob.size = UNKNOWN
                blob.members.discard(name)
                blob.overrides -= {name} - blob.members
                with suppress(BlobUnknownError):
                    await service.clear(blob.digest)
            scopes = [cache, *map(cache.repository_scoped, blob.names)]
            assert [await size_of(scope, blob) for scope in scopes] == blob.answers()
        await asyncio.sleep(draw.uniform(0, 0.03))


async def size_of(service, blob: Blob) -> int:
    try:
        return (await service.stat(blob.digest)).size
    except BlobUnknownError:
        return UNKNOWN


async def write_raw(written: Written, client: Redis, numbers: range, draw: random.Random) -> None:
    """One command that changes one key, or a transaction that writes all."""
    while written.goes_on:
        number = draw.choice(numbers)
        blob = written.blobs[number]
        name = draw.choice(blob.names)
        async with written.change("raw commands", number):
            await draw.choice(RAW)(written, client, blob, name)
        await asyncio.sleep(draw.uniform(0, 0.03))


async def set_all(written: Written, client: Redis, blob: Blob, name: str) -> None:
    blob.size = written.new_size()
    blob.members.add(name)
    blob.overrides.add(name)
    async with client.pipeline(transaction=True) as pipeline:
        fields = {"digest": blob.digest, "size": blob.size, "mediatype": MEDIA_TYPE}
        pipeline.hset(descriptor_key(blob.digest), mapping=fields)
        pipeline.delete(override_key(name, blob.digest))  # it may be a string
        pipeline.hset(override_key(name, blob.digest), "mediatype", MEDIA_TYPE)
        pipeline.sadd(membership_key(name), blob.digest)
        await pipeline.execute()


async def overwrite_size(written: Written, client: Redis, blob: Blob, name: str) -> None:
    if blob.size == UNKNOWN:
        await set_all(written, client, blob, name)
    else:
        blob.size = written.new_size()
        await client.hset(descriptor_key(blob.digest), "size", blob.size)


async def delete_descriptor(written: Written, client: Redis, blob: Blob, name: str) -> None:
    blob.size = UNKNOWN
    await client.unlink(descriptor_key(blob.digest))


async def rename_descriptor(written: Written, client: Redis, blob: Blob, name: str) -> None:
    if blob.size != UNKNOWN:
        blob.size = UNKNOWN
        await client.rename(descriptor_key(blob.digest), f"renamed::{blob.digest}")


async def remove_member(written: Written, client: Redis, blob: Blob, name: str) -> None:
    blob.members.discard(name)
    await client.srem(membership_key(name), blob.digest)


async def add_member(written: Written, client: Redis, blob: Blob, name: str) -> None:
    blob.members.add(name)
    await client.sadd(membership_key(name), blob.digest)


async def delete_override(written: Written, client: Redis, blob: Blob, name: str) -> None:
    blob.overrides.discard(name)
    await client.delete(override_key(name, blob.digest))


async def overwrite_override_by_a_string(written: Written, client: Redis, blob: Blob, name: str) -> None:
    blob.overrides.discard(name)
    await client.set(override_key(name, blob.digest), "not a hash")


async def repair_override(written: Written, client: Redis, blob: Blob, name: str) -> None:
    blob.overrides.add(name)
    async with client.pipeline(transaction=True) as pipeline:
        pipeline.delete(override_key(name, blob.digest))
        pipeline.hset(override_key(name, blob.digest), "mediatype", MEDIA_TYPE)
        await pipeline.execute()


RAW: list[Callable] = [
    *[set_all, overwrite_size] * 5,
    *[delete_descriptor, rename_descriptor, remove_member, add_member],
    *[delete_override, overwrite_override_by_a_string, repair_override],
]


async def flush_now_and_then(written: Written, client: Redis, draw: random.Random) -> None:
    while written.goes_on:
        await asyncio.sleep(draw.uniform(0.5, 2.0))
        async with written.change("FLUSHALL", *range(len(written.blobs))):
            await client.flushall()
            for blob in written.blobs:
                blob.size = UNKNOWN
                blob.members.clear()
                blob.overrides.clear()


async def write_by_registry(
    written: Written,
    registry: Registry,
    numbers: range,
    contents: dict[int, bytes],
    deletes_whole: bool,
    draw: random.Random,
) -> None:
    """Push a blob, or delete it: some releases leave membership and override of a deleted blob behind."""
    while written.goes_on:
        number = draw.choice(numbers)
        blob, content = written.blobs[number], contents[number]
        name = draw.choice(blob.names)
        async with written.change("docker-registry", number):
            if blob.answers()[1 + blob.names.index(name)] == UNKNOWN:
                await registry.push_blob(name, content)
                blob.size = len(content)
                blob.members.add(name)
                blob.overrides.add(name)
            else:
                await registry.delete(name, blob.digest)
                blob.size = UNKNOWN
                if deletes_whole:
                    blob.members.discard(name)
                    blob.overrides.discard(name)
