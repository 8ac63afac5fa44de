"""The process of a Python peer: ``python -m benchmarks.client PEER ADDRESS FOLDER LOOP TOPOLOGY``.

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
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypeAlias, cast

import attrs

from .answers import is_right, require
from .corpus import Blob, Corpus
from .jobs import BARE, MISS, MIXED, WRITE_EVERY, Job, Measurement
from .memory import forget_peak_memory, memory_bytes
from .near import BareDict, Questions, blobs_of, is_in_chunks, warm, work_in_chunks
from .peers import CLUSTER_PEERS, PYTHON_PEERS
from .peers.interface import Answer, NearPeer, Peer

# Ask about a blob, and say whether the answer is right.
Ask: TypeAlias = Callable[[Blob], Awaitable[Any]]
Verify: TypeAlias = Callable[[Any, Blob], bool]


async def serve(open_peer: Callable[[int], AbstractAsyncContextManager[Peer]], corpus: Corpus) -> None:
    """Do the jobs that standard input asks for; the peer is opened anew for another size of its near cache."""
    repositories = corpus.by_repository()
    blobs = lru_cache(partial(blobs_of, corpus=corpus))
    line = await asyncio.to_thread(sys.stdin.readline)
    while line:
        kept = Job(**json.loads(line)).kept
        ready_for = ""
        async with open_peer(kept) as peer:
            while line and (job := Job(**json.loads(line))).kept == kept:
                drawn = blobs(job.workload)
                if job.workload != ready_for:
                    ready_for = job.workload
                    questions = None
                    asked = BareDict() if job.workload in BARE else cast("NearPeer", peer)
                    if kept or is_in_chunks(job):
                        questions = Questions(asked, drawn)
                    if kept and questions and not isinstance(asked, BareDict):
                        await warm(asked, questions)
                # What stands here for ever is not to be searched for garbage again and again.
                gc.unfreeze()
                gc.collect()
                gc.freeze()
                measurement = await _work(peer, asked, questions, drawn, repositories, job)
                print(json.dumps(attrs.asdict(measurement)), flush=True)  # noqa: T201
                line = await asyncio.to_thread(sys.stdin.readline)


async def _work(
    peer: Peer,
    asked: NearPeer | BareDict,
    questions: Questions | None,
    drawn: Sequence[Blob],
    repositories: dict[str, list[Blob]],
    job: Job,
) -> Measurement:
    told_before = cast("NearPeer", peer).invalidations() if job.kept else 0
    forget_peak_memory()
    cpu = time.process_time()
    if questions and is_in_chunks(job):
        latencies, seconds = await work_in_chunks(asked, questions, job)
    else:
        latencies, seconds = await _work_side_by_side(peer, drawn, repositories, job)
    cpu = time.process_time() - cpu
    memory = memory_bytes("VmHWM")
    told = cast("NearPeer", peer).invalidations() - told_before if job.kept else 0
    ordered = sorted(latencies)
    p50, p99, p999 = (ordered[int(share * (len(ordered) - 1))] * 1e6 for share in (0.5, 0.99, 0.999))
    return Measurement(len(ordered) * job.batch, seconds, p50, p99, p999, cpu, memory, told)


async def _work_side_by_side(
    peer: Peer, drawn: Sequence[Blob], repositories: dict[str, list[Blob]], job: Job
) -> tuple[array[float], float]:
    """Callers who each ask again as soon as they are answered; the seconds for each question, and in all."""
    ask, verify = _questions(peer, repositories, job)
    latencies = array("d")
    step = len(drawn) // job.callers
    began = time.perf_counter()
    async with asyncio.TaskGroup() as callers:
        for number in range(job.callers):
            callers.create_task(_call(drawn, number * step, began + job.seconds, latencies.append, ask, verify))
    return latencies, time.perf_counter() - began


async def _call(
    drawn: Sequence[Blob], position: int, deadline: float, note: Callable[[float], None], ask: Ask, verify: Verify
) -> None:
    clock = time.perf_counter
    while True:
        blob = drawn[position % len(drawn)]
        began = clock()
        answer = await ask(blob)
        ended = clock()
        note(ended - began)
        require(verify(answer, blob), answer, blob)
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
        return len(answers) == len(batch) and all(is_right(answers[one.digest], one) for one in batch)

    if job.workload == MISS:
        return peer.is_unknown, lambda answer, _: answer is True
    if job.workload == MIXED:
        return stat_or_set, lambda answer, blob: answer is True or is_right(answer, blob)
    if job.batch > 1:
        return stat_many, all_right
    return peer.stat, is_right


async def _main(name: str, address: str, folder: str, topology: str) -> None:
    host, _, port = address.rpartition(":")
    kind = (CLUSTER_PEERS if topology == "cluster" else PYTHON_PEERS)[name]
    await serve(partial(kind().open, host, int(port)), Corpus.read(Path(folder)))


if __name__ == "__main__":
    name, address, folder, loop, topology = sys.argv[1:]
    if loop == "uvloop":
        import uvloop

        uvloop.run(_main(name, address, folder, topology))
    else:
        asyncio.run(_main(name, address, folder, topology))
