"""What the jobs with a near cache ask for, and how those are timed that ask nobody but it."""

from __future__ import annotations

import asyncio
import random
import time
from array import array
from collections.abc import Sequence
from itertools import chain
from typing import Final

import attrs

from .answers import WrongAnswerError, is_right, require
from .corpus import MIRROR, Blob, Corpus
from .jobs import (
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
)
from .peers.interface import Answer, NearPeer

__all__ = ["Questions", "blobs_of", "is_in_chunks", "warm", "work_in_chunks"]

# Two readings of the clock take as long as a hit does, so these are asked for so many blobs between two.
_CHUNKS: Final = {
    NEAR: 1_000,
    NEAR_UNIFORM: 1_000,
    NEAR_SPREAD: 1_000,
    PEEK: 1_000,
    PEEK_UNIFORM: 1_000,
    NINE_IN_TEN: 20,
    WITHOUT: 20,
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

    def __init__(self, peer: NearPeer, blobs: Sequence[Blob]) -> None:
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


async def work_in_chunks(peer: NearPeer, questions: Questions, job: Job) -> tuple[array[float], float]:
    """Ask for many blobs between two looks at the clock; returns the seconds for each blob, and in all.

    One caller compares answers, and lets the event loop go round, while no time is taken; several do so in it.
    """
    await asyncio.sleep(_UNTIL_CONFIRMED)
    each: array[float] = array("d")
    if job.callers == 1:
        return each, await _ask(peer, questions, job, 0, each)
    began = time.perf_counter()
    step = len(questions) // job.callers
    async with asyncio.TaskGroup() as callers:
        for number in range(job.callers):
            callers.create_task(_ask(peer, questions, job, number * step, each))
    return each, time.perf_counter() - began


async def _ask(peer: NearPeer, questions: Questions, job: Job, start: int, each: array[float]) -> float:
    """Ask for as many seconds as the job says; returns how long it took to get the answers."""
    size = _CHUNKS[job.workload]
    ends = time.perf_counter() + job.seconds
    served = unserved = 0.0
    while time.perf_counter() < ends:
        chunk = questions.prepared[start : start + size]
        began = time.perf_counter()
        if job.workload in (PEEK, PEEK_UNIFORM):
            answers: Sequence[Answer | None] = peer.peek_each(chunk)
        else:
            answers = await peer.stat_each(chunk)
        took = time.perf_counter() - began
        questions.verify(start, answers)
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
