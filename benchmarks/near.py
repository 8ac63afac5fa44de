"""What the jobs with a near cache ask for, and how those are timed that ask nobody but it."""

from __future__ import annotations

import asyncio
import random
import time
from array import array
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Final

import attrs

from aioblobcache import Descriptor, Digest
from aioblobcache.redis.heartbeat import boot_time

from .answers import WrongAnswerError, is_right, require
from .corpus import MIRROR, Blob, Corpus
from .jobs import (
    BARE,
    COLD,
    HOTTEST,
    IN_STORM,
    NEAR,
    NEAR_SPREAD,
    NEAR_UNIFORM,
    NINE_IN_TEN,
    PEEK,
    PEEK_UNIFORM,
    WITHOUT,
    Job,
    without_bare,
)
from .peers.interface import Answer, NearPeer

__all__ = ["BareDict", "Questions", "blobs_of", "is_in_chunks", "warm", "work_in_chunks"]

# Two readings of the clock take as long as a hit does, so these are asked for so many blobs between two.
_CHUNKS: Final = {
    NEAR: 1_000,
    NEAR_UNIFORM: 1_000,
    NEAR_SPREAD: 1_000,
    PEEK: 1_000,
    PEEK_UNIFORM: 1_000,
    NINE_IN_TEN: 20,
    WITHOUT: 20,
    **dict.fromkeys(BARE, 1_000),
}

# A slow peer is warmed by what it is asked for first.
_LONGEST_WARM_UP: Final = 3.0  # seconds
_CALLERS_OF_WARM_UP: Final = 64

# What a heartbeat takes that is overdue, since to prepare takes longer than a lease lasts.
_UNTIL_CONFIRMED: Final = 0.05  # seconds

# On a busy machine a lease may run out, and nothing is served meanwhile; for longer than this it is a failure.
_LONGEST_UNSERVED: Final = 1.0  # seconds


def blobs_of(workload: str, corpus: Corpus) -> list[Blob]:
    """The blobs that a workload asks for, in order."""
    workload = without_bare(workload)
    if workload in (NEAR_UNIFORM, PEEK_UNIFORM):
        return _in_mirror(_shuffled(corpus))
    if workload in (NEAR, PEEK):
        return _in_mirror(corpus.drawn())
    if workload in (COLD, IN_STORM):
        hottest = random.Random(2016).choices(corpus.blobs[:HOTTEST], k=len(corpus.blobs))  # noqa: S311
        return list(chain.from_iterable(zip(_shuffled(corpus), hottest, strict=True)))
    return corpus.drawn()


def _in_mirror(blobs: Sequence[Blob]) -> list[Blob]:
    mirrored = {blob: attrs.evolve(blob, repository=MIRROR) for blob in set(blobs)}
    return [mirrored[blob] for blob in blobs]


def _shuffled(corpus: Corpus) -> list[Blob]:
    return random.Random(2017).sample(corpus.blobs, len(corpus.blobs))  # noqa: S311


class Questions:
    """What a peer is asked in one workload, prepared so that nothing but the answering is timed.

    An answer that is the very object that has been compared before, and cannot change, is not compared again: that
    would drive out of the processor's caches what the peer needs for the next.
    """

    def __init__(self, peer: NearPeer | BareDict, blobs: Sequence[Blob]) -> None:
        self.prepared = peer.prepare(blobs)
        self._blobs = blobs
        self._right: list[Answer | None] = [None] * len(blobs)

    def __len__(self) -> int:
        return len(self._blobs)

    def verify(self, start: int, answers: Sequence[Answer | None]) -> None:
        """Compare answers, the first of which is to the question at ``start``; none is neither right nor wrong."""
        for place, answer in enumerate(answers, start):
            if answer is not None and answer is not self._right[place]:
                require(is_right(answer, self._blobs[place]), answer, self._blobs[place])
                self._right[place] = answer


class BareDict:
    """Answers by digest in a dict, and a look at the clock: in the place of a peer with a near cache."""

    def __init__(self) -> None:
        self._answers: dict[str, Answer] = {}
        self._until = boot_time() + 1e6

    def prepare(self, blobs: Sequence[Blob]) -> list[Digest]:
        digests = {blob: Digest(blob.digest) for blob in set(blobs)}
        for blob, digest in digests.items():
            self._answers[digest] = Descriptor(digest, blob.size, blob.media_type)
        return [digests[blob] for blob in blobs]

    async def stat(self, digest: Digest) -> Answer | None:
        answer = self._answers.get(digest)
        return answer if boot_time() < self._until else None

    def peek(self, digest: Digest) -> Answer | None:
        answer = self._answers.get(digest)
        return answer if boot_time() < self._until else None

    async def stat_each(self, prepared: Sequence[Digest]) -> list[Answer | None]:
        return [await self.stat(digest) for digest in prepared]

    def peek_each(self, prepared: Sequence[Digest]) -> list[Answer | None]:
        return [self.peek(digest) for digest in prepared]


async def warm(peer: NearPeer, questions: Questions) -> None:
    """Ask for all blobs once, as far as time permits."""
    ends = time.perf_counter() + _LONGEST_WARM_UP
    to_ask = iter(dict.fromkeys(questions.prepared))

    async def ask() -> None:
        for one in to_ask:
            await peer.stat_each([one])
            if time.perf_counter() > ends:
                return

    async with asyncio.TaskGroup() as callers:
        for _ in range(_CALLERS_OF_WARM_UP):
            callers.create_task(ask())


def is_in_chunks(job: Job) -> bool:
    """Whether :func:`work_in_chunks` does the job."""
    return job.workload in _CHUNKS


async def work_in_chunks(peer: NearPeer | BareDict, questions: Questions, job: Job) -> tuple[array[float], float]:
    """Ask for many blobs between two looks at the clock; returns the seconds for each blob, and in all.

    Answers are compared while no time is taken: one caller's at once, and it lets the event loop go round then; those
    of several at the end.
    """
    await asyncio.sleep(_UNTIL_CONFIRMED)
    each: array[float] = array("d")
    if job.callers == 1:
        return each, await _ask(peer, questions, job, 0, each, questions.verify)
    put_by = _PutBy()
    began = time.perf_counter()
    step = len(questions) // job.callers
    async with asyncio.TaskGroup() as callers:
        for number in range(job.callers):
            callers.create_task(_ask(peer, questions, job, number * step, each, put_by.add))
    seconds = time.perf_counter() - began
    put_by.verify(questions)
    return each, seconds


class _PutBy:
    """Answers to be compared later: in one list, since many small ones are much to be searched for garbage."""

    def __init__(self) -> None:
        self._starts: array[int] = array("Q")
        self._counts: array[int] = array("Q")
        self._answers: list[Answer | None] = []

    def add(self, start: int, answers: Sequence[Answer | None]) -> None:
        self._starts.append(start)
        self._counts.append(len(answers))
        self._answers.extend(answers)

    def verify(self, questions: Questions) -> None:
        begin = 0
        for start, count in zip(self._starts, self._counts, strict=True):
            questions.verify(start, self._answers[begin : begin + count])
            begin += count


async def _ask(
    peer: NearPeer | BareDict,
    questions: Questions,
    job: Job,
    start: int,
    each: array[float],
    verify: Callable[[int, Sequence[Answer | None]], None],
) -> float:
    """Ask for as many seconds as the job says; returns how long it took to get the answers."""
    size = _CHUNKS[job.workload]
    ends = time.perf_counter() + job.seconds
    served = unserved = 0.0
    while time.perf_counter() < ends:
        chunk = questions.prepared[start : start + size]
        began = time.perf_counter()
        if without_bare(job.workload) in (PEEK, PEEK_UNIFORM):
            answers: Sequence[Answer | None] = peer.peek_each(chunk)
        else:
            answers = await peer.stat_each(chunk)
        took = time.perf_counter() - began
        verify(start, answers)
        if None in answers:
            unserved += took
        else:
            served += took
            each.extend([took / len(answers)] * len(answers))
        if unserved > _LONGEST_UNSERVED:
            raise WrongAnswerError("the near cache did not serve")
        start = start + size if start + size < len(questions) else 0
        if job.callers == 1:
            await asyncio.sleep(0)
    return served
