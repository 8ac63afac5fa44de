"""The process of a Python peer: ``python -m benchmarks.client PEER ADDRESS FOLDER [uvloop]``.

Jobs come on standard input and measurements go to standard output, a JSON document a line each.
Every answer is compared with what the corpus says; the first wrong one ends the process.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import sys
import time
from array import array
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeAlias

import attrs

from .corpus import Blob, Corpus
from .jobs import HIT, MISS, MIXED, WRITE_EVERY, Job, Measurement
from .peers import PYTHON_PEERS
from .peers.interface import Answer, Peer

# Ask about a blob, and say whether the answer is right.
Ask: TypeAlias = Callable[[Blob], Awaitable[Any]]
Verify: TypeAlias = Callable[[Any, Blob], bool]


class WrongAnswerError(Exception):
    """A peer answered something else than what is kept."""


async def serve(peer: Peer, corpus: Corpus) -> None:
    """Do the jobs that standard input asks for."""
    # What stands here for ever is not to be searched for garbage again and again.
    drawn, repositories = corpus.drawn(), corpus.by_repository()
    gc.collect()
    gc.freeze()
    next_line = asyncio.to_thread(sys.stdin.readline)
    while line := await next_line:
        job = Job(**json.loads(line))
        measurement = await _work(peer, drawn, repositories, job)
        print(json.dumps(attrs.asdict(measurement)), flush=True)  # noqa: T201
        next_line = asyncio.to_thread(sys.stdin.readline)


async def _work(peer: Peer, drawn: list[Blob], repositories: dict[str, list[Blob]], job: Job) -> Measurement:
    ask, verify = _questions(peer, repositories, job)
    latencies = array("d")
    step = len(drawn) // job.callers
    _forget_peak_memory()
    cpu, began = time.process_time(), time.perf_counter()
    async with asyncio.TaskGroup() as callers:
        for number in range(job.callers):
            callers.create_task(_call(drawn, number * step, began + job.seconds, latencies.append, ask, verify))
    ended = time.perf_counter()
    cpu = time.process_time() - cpu
    memory = _peak_memory()
    ordered = sorted(latencies)
    p50, p99, p999 = (ordered[int(share * (len(ordered) - 1))] * 1e6 for share in (0.5, 0.99, 0.999))
    return Measurement(len(ordered) * job.batch, ended - began, p50, p99, p999, cpu, memory)


async def _call(
    drawn: list[Blob], position: int, deadline: float, note: Callable[[float], None], ask: Ask, verify: Verify
) -> None:
    clock = time.perf_counter
    while True:
        blob = drawn[position % len(drawn)]
        began = clock()
        answer = await ask(blob)
        ended = clock()
        note(ended - began)
        if not verify(answer, blob):
            raise WrongAnswerError(f"{answer!r:.500} where {blob} is kept")
        if ended >= deadline:
            return
        position += 1


def _questions(peer: Peer, repositories: dict[str, list[Blob]], job: Job) -> tuple[Ask, Verify]:
    operations = itertools.count()

    def stat_or_set(blob: Blob) -> Awaitable[Any]:
        return peer.set(blob) if next(operations) % WRITE_EVERY == 0 else peer.stat(blob)

    def batch_of(blob: Blob) -> list[Blob]:
        blobs = repositories[blob.repository]
        start = blob.size % (len(blobs) - job.batch)
        return blobs[start : start + job.batch]

    def stat_many(blob: Blob) -> Awaitable[Any]:
        return peer.stat_many(blob.repository, [one.digest for one in batch_of(blob)])

    def all_right(answers: dict[str, Answer], blob: Blob) -> bool:
        batch = batch_of(blob)
        return len(answers) == len(batch) and all(_is_right(answers[one.digest], one) for one in batch)

    if job.workload == HIT:
        return peer.stat, _is_right
    if job.workload == MISS:
        return peer.is_unknown, lambda answer, _: answer is True
    if job.workload == MIXED:
        return stat_or_set, lambda answer, blob: answer is True or _is_right(answer, blob)
    return stat_many, all_right


def _is_right(answer: Answer, blob: Blob) -> bool:
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
