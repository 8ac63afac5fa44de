"""One process of the guards' stress test: ``python -m tests.stress.worker ROLE CACHE FOLDER SEED GUARD_TTL``.

It works until its standard input ends, and then says what it has done.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections import Counter

import obstore

from aioblobcache import (
    BlobUnknownError,
    CachedRegistry,
    CacheUnavailableError,
    Descriptor,
    Digest,
    connect,
)
from aioblobcache.cli.sample import link_blob
from aioblobcache.storage import RegistryStorage

NAMES = ("team/app", "other/app")

# Blobs are numbered, and their time comes by the clock, so many a second: each is pushed and asked for, a while later
# cleared, and then left alone, so that what went wrong with it stays to be seen.
RATE = 50
PUSHED, ASKED, CLEARED = range(4), range(-30, 4), range(-30, -20)

# What storage takes at most, in seconds.
LONGEST = 0.2


def content_of(number):
    return b"blob %d" % number


def digest_of(number):
    return Digest.of(content_of(number))


def now():
    """The number of the blob whose time begins."""
    return int(time.time() * RATE)


class SlowBlobs:
    """A repository's blobs in storage, behind a slow network."""

    def __init__(self, inner, draw):
        self._inner = inner
        self._draw = draw

    async def stat(self, digest):
        await self._wait()
        found = await self._inner.stat(digest)
        await self._wait()
        return found

    async def clear(self, digest):
        await self._wait()
        try:
            await self._inner.clear(digest)
        finally:
            await self._wait()

    async def _wait(self):
        await asyncio.sleep(self._draw.random() ** 4 * LONGEST)


class SlowStorage:
    def __init__(self, storage, draw):
        self._storage = storage
        self._draw = draw

    def blobs(self, name):
        return SlowBlobs(self._storage.blobs(name), self._draw)

    def manifests(self, name):
        return SlowBlobs(self._storage.manifests(name), self._draw)


async def fill(statter, storage, name, number, done):
    try:
        await statter.stat(digest_of(number))
        done["found"] += 1
    except BlobUnknownError:
        done["unknown"] += 1


async def push(statter, storage, name, number, done):
    digest = digest_of(number)
    await obstore.put_async(storage.store, storage.layout.data(digest), content_of(number))
    await link_blob(storage, name, digest)
    try:
        await statter.set_descriptor(digest, Descriptor(digest, len(content_of(number)), "application/octet-stream"))
        done["pushed"] += 1
    except (BlobUnknownError, CacheUnavailableError):
        done["pushed in vain"] += 1


async def clear(statter, storage, name, number, done):
    """Until it has succeeded: a clear that was given up half way leaves its second half to be done."""
    while True:
        try:
            await statter.clear(digest_of(number))
        except BlobUnknownError:
            done["cleared in vain"] += 1
        except CacheUnavailableError:
            done["cleared again"] += 1
            continue
        else:
            done["cleared"] += 1
        return


ROLES = {"fill": (fill, ASKED, 16), "push": (push, PUSHED, 4), "clear": (clear, CLEARED, 8)}


async def main(role, url, folder, seed, guard_ttl):
    draw = random.Random(seed)
    done = Counter()
    storage = RegistryStorage.from_url(f"file://{folder}")
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin, ended.set)
    async with connect(url, timeout=5.0, guard_ttl=float(guard_ttl)) as cache:
        registry = CachedRegistry(cache, SlowStorage(storage, draw))

        async def call():
            while not ended.is_set():
                name, number = draw.choice(NAMES), now() + draw.choice(when)
                await act(registry.blobs(name), storage, name, number, done)
                await asyncio.sleep(draw.random() * 0.01)

        act, when, callers = ROLES[role]
        await asyncio.gather(*(call() for _ in range(callers)))
    print(json.dumps(done))  # noqa: T201


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
