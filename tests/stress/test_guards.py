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
import time
from collections import Counter
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path

import pytest
from redis.asyncio import Redis

from aioblobcache import BlobUnknownError, connect
from aioblobcache.storage import RegistryStorage
from tests.stress.worker import CLEARED, NAMES, PUSHED, digest_of, now
from tests.support.servers import REDIS, VALKEY, RedisServer, running
from tests.support.waiting import until, until_server_says

pytestmark = pytest.mark.anyio

ROLES = ("fill", "fill", "push", "clear")
GUARD_TTL = 0.3
SHORT_SECONDS = 3.0


def unrecorded(**measured):
    """Take the figures of a short form, which are not those of the page."""


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


async def lose_guards(workers, client, draw, done, seconds):
    """Some of them, and now and then all with everything else: not near the end, of which something is to be seen."""
    begun = time.monotonic()
    while workers.go_on:
        await asyncio.sleep(draw.random() * 0.1)
        if draw.random() < 0.05 and time.monotonic() < begun + seconds / 4:
            await client.flushall()
        async for key in client.scan_iter(match="aioblobcache::guard::*"):
            if draw.random() < 0.5:
                done["guards lost"] += await client.delete(key)


async def trouble(workers, draw, done):
    """Suspend one after the other for up to three times as long as a guard lives, and kill one now and then."""
    for number in count():
        if not workers.go_on:
            return
        await asyncio.sleep(draw.random() * 0.1)
        if number % 4 == 3:
            place = draw.choice([place for place, (role, _) in enumerate(workers.running) if role != "clear"])
            await asyncio.to_thread(workers.kill, place)
            done["killed"] += 1
            continue
        _, process = draw.choice(workers.running)
        process.send_signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(draw.random() * 3 * GUARD_TTL)
        finally:
            process.send_signal(signal.SIGCONT)
        done["suspended"] += 1


@pytest.mark.whole_machine
async def test_lost_guards_leave_no_deleted_blob_readable_in_short(request, tmp_path):
    await lose_guards_and_processes(request, tmp_path, unrecorded, VALKEY, SHORT_SECONDS)


@pytest.mark.slow
@pytest.mark.whole_machine
@pytest.mark.timeout(0)
@pytest.mark.parametrize("topology", [VALKEY, REDIS, "cluster"])
async def test_lost_guards_and_processes_leave_no_deleted_blob_readable(request, tmp_path, figures, topology):
    seconds = request.config.getoption("--stress-seconds")
    await lose_guards_and_processes(request, tmp_path, figures, topology, seconds)


async def lose_guards_and_processes(request, tmp_path, figures, topology, seconds):
    draw = random.Random(topology)
    done = Counter()
    store = tmp_path / "store"
    store.mkdir()
    storage = RegistryStorage.from_url(f"file://{store}")
    first = now()
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
            disturbers.create_task(trouble(started, draw, done))
            for client in clients:
                disturbers.create_task(lose_guards(started, client, draw, done, seconds))
            await until_server_says(lambda: holds_keys(clients))  # the processes have started
            await asyncio.sleep(seconds)
            await until(lambda: min(done["killed"], done["suspended"], done["guards lost"]) > 0)
            started.go_on = False
        await asyncio.to_thread(started.stop)
        readable, wrong = await compare(url, storage, range(first + min(CLEARED), now() + max(PUSHED) + 1))
        for client in clients:
            await client.aclose()
    figures(**{key.replace(" ", "_"): count for key, count in {**done, **started.done}.items()}, readable=readable)
    assert wrong == []
    # Those that were killed have not reported what they did.
    assert readable > seconds
    assert started.done["cleared"] > seconds
    assert min(done["killed"], done["suspended"], done["guards lost"]) > 0


async def holds_keys(clients):
    return any([await client.dbsize() for client in clients])


async def compare(url, storage, numbers):
    """How many blobs the cache says are there, and which of them storage does not have."""
    readable, wrong = 0, []
    async with connect(url, timeout=10.0) as cache:
        for name in NAMES:
            for digest in map(digest_of, numbers):
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
