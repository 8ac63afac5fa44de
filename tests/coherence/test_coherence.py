"""Several processes with near caches ask, others write in every way, and each answer is held against the writes."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
from redis.asyncio import Redis

from aioblobcache import Digest, RedisBlobDescriptorCache
from tests.coherence.history import BOUND, UNKNOWN, Blob, History, read_answers
from tests.coherence.writers import Written, flush_now_and_then, write_by_library, write_by_registry, write_raw
from tests.support.docker_registry import Registry, leaves_membership
from tests.support.servers import REDIS, VALKEY, RedisServer, running

pytestmark = pytest.mark.anyio

READERS = 3
SHORT_SECONDS = 2.5
MIN_ANSWERS_PER_SECOND = 2_000  # a busy machine gives a fifth of its usual ten thousand
BY_LIBRARY, BY_COMMANDS, BY_REGISTRY = range(70), range(70, 140), range(140, 150)


def test_the_history_distinguishes_correct_and_stale_answers():
    history = History()
    history.write(1, begun=10.0, confirmed=11.0)
    history.write(2, begun=20.0, confirmed=21.0)
    for answer, asked, answered, allowed in [
        (UNKNOWN, 5.0, 5.0, True),
        (1, 5.0, 9.0, False),
        (1, 5.0, 10.5, True),
        (UNKNOWN, 10.5, 10.5, True),
        (UNKNOWN, 11.2, 11.2, True),
        (UNKNOWN, 11.4, 11.4, False),
        (1, 15.0, 15.0, True),
        (2, 15.0, 15.0, False),
        (1, 21.2, 21.2, True),
        (1, 21.4, 99.0, False),
        (2, 99.0, 99.0, True),
        (3, 99.0, 99.0, False),
    ]:
        assert history.allows(answer, asked, answered, bound=0.3) is allowed, (answer, asked, answered)


@pytest.mark.whole_machine
@pytest.mark.parametrize("kind", [VALKEY, REDIS])
async def test_no_answer_of_a_short_run_contradicts_an_older_write(kind, tmp_path):
    counts = await read_and_write(kind, SHORT_SECONDS, tmp_path)
    assert counts["near"] > counts["answers"] / 50


@pytest.mark.slow
@pytest.mark.whole_machine
@pytest.mark.timeout(0)
@pytest.mark.parametrize("kind", [VALKEY, REDIS])
async def test_no_answer_contradicts_a_write_older_than_max_staleness(kind, request, tmp_path):
    counts = await read_and_write(kind, request.config.getoption("--coherence-seconds"), tmp_path)
    assert counts["near"] > counts["answers"] / 5
    assert counts["outdated"] > 0  # within the bound: the window is there


async def read_and_write(kind, seconds, tmp_path):
    draw = random.Random(f"{kind} {seconds}")
    contents = {number: b"blob %d" % number + b"." * number for number in BY_REGISTRY}
    blobs = [
        Blob(Digest.of(contents.get(number, b"%d" % number)), (f"team/{number % 10}", f"team/{10 + number % 6}"))
        for number in range(BY_REGISTRY.stop)
    ]
    tmp_path.joinpath("blobs.json").write_text(json.dumps([(blob.digest, blob.names) for blob in blobs]))
    written = Written(blobs)
    with ExitStack() as stack:
        server = RedisServer(kind, tmp_path)
        stack.enter_context(running(server))
        registry = Registry(tmp_path, server.port)
        stack.enter_context(running(registry))
        readers = [stack.enter_context(reading_process(server, tmp_path, number)) for number in range(READERS)]
        for reader in readers:
            stack.callback(reader.kill)  # should this fail: they read until they are told to end
        for reader in readers:
            assert await asyncio.to_thread(reader.stdout.readline) == "ready\n"
        async with (
            Redis.from_url(server.url) as client,
            RedisBlobDescriptorCache.from_url(server.url, timeout=30.0, near_cache=50, lanes=2) as cache,
        ):
            deletes_whole = not await leaves_membership(registry, client)
            work = [
                *(write_by_library(written, cache, BY_LIBRARY, random.Random(seed)) for seed in range(4)),
                *(write_raw(written, client, BY_COMMANDS, random.Random(seed)) for seed in range(4)),
                write_by_registry(written, registry, BY_REGISTRY, contents, deletes_whole, random.Random(1)),
                flush_now_and_then(written, client, random.Random(2)),
                disturb(written, client, readers, draw),
            ]
            await do_for(seconds, work, written)
        for reader in readers:
            await asyncio.to_thread(reader.communicate)
            assert reader.returncode == 0
    counts = check(written, tmp_path)
    print(f"{kind}: {written.writes} writes, {counts}")  # noqa: T201
    assert set(written.writes) == {"library", "raw commands", "docker-registry", "FLUSHALL"}
    assert counts["answers"] >= MIN_ANSWERS_PER_SECOND * seconds
    assert counts["unknown"] > counts["answers"] / 50
    return counts


def reading_process(server, folder, number):
    url = f"{server.url}?client_name=reader"
    command = [sys.executable, "-m", "tests.coherence.reader", url, str(folder), str(number)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=Path(__file__).parents[2], stdin=pipe, stdout=pipe, text=True)


async def do_for(seconds, work, written):
    """Do it all side by side for so long, to the end of what has been begun; whatever fails, fails this."""
    tasks = [asyncio.create_task(one) for one in work]
    await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    written.goes_on = False
    await asyncio.gather(*tasks)


async def disturb(written, client, readers, draw):
    """Kill a reader's connection, or suspend a reader for up to three times what is promised."""
    while written.goes_on:
        await asyncio.sleep(draw.uniform(0.1, 0.6))
        if draw.random() < 0.5:
            connections = [one for one in await client.client_list() if one["name"] == "reader"]
            if connections:
                await client.client_kill_filter(_id=draw.choice(connections)["id"])
        else:
            reader = draw.choice(readers)
            os.kill(reader.pid, signal.SIGSTOP)
            try:
                await asyncio.sleep(draw.uniform(0, 3 * BOUND))
            finally:
                os.kill(reader.pid, signal.SIGCONT)


def check(written, folder):
    """Hold every answer against the writes."""
    counts = dict.fromkeys(["answers", "near", "unknown", "outdated"], 0)
    for number in range(READERS):
        for answer in read_answers(folder / f"answers-{number}"):
            history = written.histories[answer.blob][answer.scope]
            counts["answers"] += 1
            counts["near"] += answer.near
            counts["unknown"] += answer.size == UNKNOWN
            counts["outdated"] += not history.allows(answer.size, answer.asked, answer.answered, bound=0.0)
            assert history.allows(answer.size, answer.asked, answer.answered), (answer, history.around(answer.asked))
    return counts
