"""Guards on a real server and a real folder: lost at any moment, and processes killed and suspended between the steps.

Nothing that storage does not have may be readable when all have ended. Those who clear are suspended, not killed:
a clear that was killed half way *and* a guard that was lost is the exception that the documentation names.
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
import subprocess
import sys
from collections import Counter
from contextlib import ExitStack, contextmanager
from pathlib import Path

import obstore
import pytest
from redis.asyncio import Redis

from aioblobcache import BlobUnknownError, connect
from aioblobcache.storage import RegistryStorage
from tests.servers import REDIS, VALKEY, RedisServer, running
from tests.stress.worker import CONTENTS, DIGESTS, NAMES

pytestmark = pytest.mark.anyio

ROLES = ("fill", "fill", "push", "clear")
GUARD_TTL = 0.3
ROOT = Path(__file__).parents[2]


class Workers:
    """The processes, each with what started it."""

    def __init__(self, url, folder):
        self._url = url
        self._folder = folder
        self._seeds = iter(range(10**6))
        self.running = [(role, self._start(role)) for role in ROLES]
        self.done = Counter()
        self.go_on = True

    def _start(self, role):
        command = [sys.executable, "-m", "tests.stress.worker", role, self._url, str(self._folder)]
        pipe = subprocess.PIPE
        arguments = [*command, str(next(self._seeds)), str(GUARD_TTL)]
        return subprocess.Popen(arguments, cwd=ROOT, stdin=pipe, stdout=pipe, text=True)

    def kill(self, place):
        """Kill one, and let another one go on."""
        role, process = self.running[place]
        process.kill()
        process.communicate()
        self.running[place] = (role, self._start(role))

    def stop(self):
        """Let all end what they have begun."""
        for _, process in self.running:
            said, _ = process.communicate()
            assert process.returncode == 0
            self.done.update(json.loads(said))

    def kill_all(self):
        for _, process in self.running:
            process.kill()
            process.communicate()


@contextmanager
def workers(url, folder):
    started = Workers(url, folder)
    try:
        yield started
    finally:
        started.kill_all()


async def lose_guards(client, draw, done):
    """Some of them, or all with everything else."""
    if draw.random() < 0.2:
        await client.flushall()
        done["flushed"] += 1
        return
    async for key in client.scan_iter(match="aioblobcache::guard::*"):
        if draw.random() < 0.5:
            done["guards lost"] += await client.delete(key)


async def disturb(workers, client, draw, done):
    while workers.go_on:
        await asyncio.sleep(draw.random() * 0.1)
        await lose_guards(client, draw, done)
        place = draw.randrange(len(ROLES))
        role, process = workers.running[place]
        if draw.random() < 0.3 and role != "clear":
            await asyncio.to_thread(workers.kill, place)
            done["killed"] += 1
        elif draw.random() < 0.5:
            process.send_signal(signal.SIGSTOP)
            try:
                await asyncio.sleep(draw.random() * 3 * GUARD_TTL)
            finally:
                process.send_signal(signal.SIGCONT)
            done["suspended"] += 1


@pytest.mark.timeout(0)
@pytest.mark.parametrize("topology", [VALKEY, REDIS, "cluster"])
async def test_whatever_happens_to_guards_and_processes_nothing_is_readable_that_storage_does_not_have(
    request, tmp_path, figures, topology
):
    seconds = request.config.getoption("--stress-seconds")
    draw = random.Random(topology)
    done = Counter()
    store = tmp_path / "store"
    store.mkdir()
    storage = RegistryStorage.from_url(f"file://{store}")
    for digest, content in zip(DIGESTS, CONTENTS, strict=True):
        await obstore.put_async(storage.store, storage.layout.data(digest), content)
    with ExitStack() as stack:
        if topology == "cluster":
            cluster = request.getfixturevalue("valkey_cluster")
            cluster.flush()
            url, ports = cluster.url, [node.port for node in cluster.primaries]
        else:
            server = RedisServer(topology, tmp_path)
            stack.enter_context(running(server))
            url, ports = server.url, [server.port]
        started = stack.enter_context(workers(url, store))
        clients = [Redis(port=port) for port in ports]
        async with asyncio.TaskGroup() as disturbers:
            for client in clients:
                disturbers.create_task(disturb(started, client, draw, done))
            await asyncio.sleep(seconds)
            started.go_on = False
        await asyncio.to_thread(started.stop)
        readable, wrong = await compare(url, storage)
        for client in clients:
            await client.aclose()
    figures(**{key.replace(" ", "_"): count for key, count in {**done, **started.done}.items()}, readable=readable)
    assert wrong == []
    assert started.done["found"] > 100
    assert started.done["cleared"] > 20
    assert min(done["killed"], done["suspended"], done["guards lost"]) > 0


async def compare(url, storage):
    """How many blobs the cache says are there, and which of them storage does not have."""
    readable, wrong = 0, []
    async with connect(url, timeout=10.0) as cache:
        for name in NAMES:
            for digest in DIGESTS:
                try:
                    await cache.repository_scoped(name).stat(digest)
                except BlobUnknownError:
                    continue
                readable += 1
                try:
                    await storage.blobs(name).stat(digest)
                except BlobUnknownError:
                    wrong.append((name, digest))
    return readable, wrong
