"""One process of the guards' stress test: ``python -m tests.stress.worker ROLE CACHE FOLDER SEED GUARD_TTL``.

It works until its standard input ends, and then says what it has done.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections import Counter

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
CONTENTS = [b"blob %d" % number for number in range(12)]
DIGESTS = [Digest.of(content) for content in CONTENTS]

# What storage takes at most, in seconds: longer than a guard lives, now and then.
LONGEST = 0.05


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
        await statter.stat(DIGESTS[number])
        done["found"] += 1
    except BlobUnknownError:
        done["unknown"] += 1


async def push(statter, storage, name, number, done):
    await link_blob(storage, name, DIGESTS[number])
    try:
        await statter.set_descriptor(
            DIGESTS[number], Descriptor(DIGESTS[number], len(CONTENTS[number]), "application/octet-stream")
        )
        done["pushed"] += 1
    except (BlobUnknownError, CacheUnavailableError):
        done["pushed in vain"] += 1


async def clear(statter, storage, name, number, done):
    """Until it has succeeded: a clear that was given up half way leaves its second half to be done."""
    while True:
        try:
            await statter.clear(DIGESTS[number])
        except BlobUnknownError:
            done["cleared in vain"] += 1
        except CacheUnavailableError:
            done["cleared again"] += 1
            continue
        else:
            done["cleared"] += 1
        return


ROLES = {"fill": fill, "push": push, "clear": clear}
CALLERS = {"fill": 8, "push": 2, "clear": 2}


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
                name, number = draw.choice(NAMES), draw.randrange(len(DIGESTS))
                await ROLES[role](registry.blobs(name), storage, name, number, done)
                await asyncio.sleep(draw.random() * 0.01)

        await asyncio.gather(*(call() for _ in range(CALLERS[role])))
    print(json.dumps(done))  # noqa: T201


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
