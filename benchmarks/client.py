"""The process of a Python peer: ``python -m benchmarks.client PEER ADDRESS FOLDER [uvloop]``.

Jobs come on standard input and measurements go to standard output, a JSON document a line each.
Every answer is compared with what the corpus says; the first wrong one ends the process.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeAlias

import attrs

from .corpus import Blob, Corpus
from .jobs import HIT, MISS, MIXED, WRITE_EVERY, Job, Measurement
from .peers import PYTHON_PEERS
from .peers.interface import Answer, Peer

# Ask for what is drawn at a position, and say whether the answer is right.
Ask: TypeAlias = Callable[[Blob, int], Awaitable[Any]]
Verify: TypeAlias = Callable[[Any, Blob, int], bool]


class WrongAnswerError(Exception):
    """A peer answered something else than what is kept."""


async def serve(peer: Peer, corpus: Corpus) -> None:
    """Do the jobs that standard input asks for."""
    # What stands here for ever is not to be searched for garbage again and again.
    gc.collect()
    gc.freeze()
    repositories = corpus.by_repository()
    next_line = asyncio.to_thread(sys.stdin.readline)
    while line := await next_line:
        job = Job(**json.loads(line))
        measurement = await _work(peer, corpus, repositories, job)
        print(json.dumps(attrs.asdict(measurement)), flush=True)  # noqa: T201
        next_line = asyncio.to_thread(sys.stdin.readline)


async def _work(peer: Peer, corpus: Corpus, repositories: dict[str, list[Blob]], job: Job) -> Measurement:
    ask, verify = _questions(peer, repositories, job)
    latencies: list[float] = []
    step = len(corpus.draws) // job.callers
    _forget_peak_memory()
    cpu, began = time.process_time(), time.perf_counter()
    async with asyncio.TaskGroup() as callers:
        for number in range(job.callers):
            callers.create_task(_call(corpus, number * step, began + job.seconds, latencies, ask, verify))
    ended = time.perf_counter()
    cpu = time.process_time() - cpu
    memory = _peak_memory()
    latencies.sort()
    p50, p99, p999 = (latencies[int(share * (len(latencies) - 1))] * 1e6 for share in (0.5, 0.99, 0.999))
    return Measurement(len(latencies) * job.batch, ended - began, p50, p99, p999, cpu, memory)


async def _call(
    corpus: Corpus, position: int, deadline: float, latencies: list[float], ask: Ask, verify: Verify
) -> None:
    blobs, draws, clock = corpus.blobs, corpus.draws, time.perf_counter
    while True:
        blob = blobs[draws[position % len(draws)]]
        began = clock()
        answer = await ask(blob, position)
        ended = clock()
        latencies.append(ended - began)
        if not verify(answer, blob, position):
            raise WrongAnswerError(f"{answer!r:.500} where {blob} is kept")
        if ended >= deadline:
            return
        position += 1


def _questions(peer: Peer, repositories: dict[str, list[Blob]], job: Job) -> tuple[Ask, Verify]:
    def batch_at(blob: Blob, position: int) -> list[Blob]:
        blobs = repositories[blob.repository]
        start = position % (len(blobs) - job.batch)
        return blobs[start : start + job.batch]

    def stat_or_set(blob: Blob, position: int) -> Awaitable[Any]:
        return peer.set(blob) if position % WRITE_EVERY == 0 else peer.stat(blob.repository, blob.digest)

    def stat_many(blob: Blob, position: int) -> Awaitable[Any]:
        return peer.stat_many(blob.repository, [one.digest for one in batch_at(blob, position)])

    def all_right(answers: dict[str, Answer], blob: Blob, position: int) -> bool:
        batch = batch_at(blob, position)
        return len(answers) == len(batch) and all(_is_right(answers[one.digest], one, position) for one in batch)

    if job.workload == HIT:
        return lambda blob, _: peer.stat(blob.repository, blob.digest), _is_right
    if job.workload == MISS:
        return lambda blob, _: peer.is_unknown(blob.repository, blob.absent), lambda answer, _, __: answer is True
    if job.workload == MIXED:
        return stat_or_set, lambda answer, blob, at: at % WRITE_EVERY == 0 or _is_right(answer, blob, at)
    return stat_many, all_right


def _is_right(answer: Answer, blob: Blob, _: int) -> bool:
    return answer.digest == blob.digest and answer.size == blob.size and answer.media_type == blob.media_type


def _forget_peak_memory() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def _peak_memory() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return 1024 * int(line.split()[1])
    raise OSError("no VmHWM in /proc/self/status")


async def _main(name: str, address: str, folder: str) -> None:
    host, _, port = address.rpartition(":")
    async with PYTHON_PEERS[name]().open(host, int(port)) as peer:
        await serve(peer, Corpus.read(Path(folder)))


if __name__ == "__main__":
    if sys.argv[4:] == ["uvloop"]:
        import uvloop

        uvloop.run(_main(*sys.argv[1:4]))
    else:
        asyncio.run(_main(*sys.argv[1:4]))
