"""Forks, threads and several event loops."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from aioblobcache import LifecycleError, RedisBlobDescriptorCache
from aioblobcache.conformance import descriptor_of

BLOB = descriptor_of("a blob")

_FORK = """
import asyncio, os, sys
from aioblobcache import RedisBlobDescriptorCache
from aioblobcache.conformance import descriptor_of

BLOB = descriptor_of("a blob")

async def main(url):
    async with RedisBlobDescriptorCache.from_url(url, timeout=10.0, near_cache=10) as cache:
        await cache.set_descriptor(BLOB.digest, BLOB)
        child = os.fork()
        if child == 0:
            asyncio.run(use(cache))
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert await cache.stat(BLOB.digest) == BLOB  # the parent's connection is unharmed
        print("unharmed")

async def use(cache):
    for call in (cache.stat(BLOB.digest), cache.stat_many([BLOB.digest]), cache.clear(BLOB.digest)):
        try:
            await call
        except Exception as error:
            os.write(1, f"{type(error).__name__}: {error}\\n".encode())

asyncio.run(main(sys.argv[1]))
"""


def test_a_forked_child_is_refused_and_harms_no_parent_call(server):
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _FORK, server.url],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    *refusals, last = ran.stdout.splitlines()
    assert last == "unharmed"
    assert len(refusals) == 3
    assert all(line.startswith("LifecycleError") and "one per event loop and process" in line for line in refusals)


def test_a_second_event_loop_is_refused(server):
    cache = RedisBlobDescriptorCache.from_url(server.url, timeout=10.0)

    async def use():
        async with cache:
            with ThreadPoolExecutor(1) as threads, pytest.raises(LifecycleError, match="one per event loop"):
                await asyncio.get_running_loop().run_in_executor(threads, asyncio.run, cache.stat(BLOB.digest))

    asyncio.run(use())


def test_two_threads_with_a_provider_each_work(server):
    blobs = [[descriptor_of(f"{thread} {number}") for number in range(300)] for thread in range(2)]

    both_have_written = threading.Barrier(2)

    async def use(own, others):
        async with RedisBlobDescriptorCache.from_url(server.url, timeout=10.0, near_cache=100) as cache:
            repository = cache.repository_scoped("foo/bar")
            for _ in range(10):
                await asyncio.gather(*(repository.set_descriptor(blob.digest, blob) for blob in own))
                assert await asyncio.gather(*(repository.stat(blob.digest) for blob in own)) == own
            await asyncio.to_thread(both_have_written.wait, 60)
            assert await repository.stat_many([blob.digest for blob in others]) == {
                blob.digest: blob for blob in others
            }

    with ThreadPoolExecutor(2) as threads:
        for done in [threads.submit(asyncio.run, use(blobs[one], blobs[1 - one])) for one in range(2)]:
            done.result()
