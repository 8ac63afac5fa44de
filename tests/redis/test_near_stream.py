"""Answers and invalidations in one stream: what is kept follows from their order, however the stream is cut."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from aioblobcache import BlobUnknownError, CacheUnavailableError, Descriptor
from aioblobcache.redis.near import NearCache, Source
from tests.support.numbered_blobs import digest_of
from tests.support.played_connection import REPOSITORY, bulk, playing, until_written
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

DIGEST = digest_of(1)
KNOWN = Descriptor(DIGEST, 5, "text/plain")

MEMBER = b":1\r\n"
FIELDS = b"*3\r\n" + bulk(DIGEST.encode()) + bulk(b"5") + bulk(b"text/plain")
OVERRIDE = bulk(b"text/plain")


def invalidation(*keys):
    return b">2\r\n" + bulk(b"invalidate") + b"*%d\r\n" % len(keys) + b"".join(map(bulk, keys))


CHANGED = {
    "descriptor": invalidation(b"blobs::" + DIGEST.encode()),
    "membership": invalidation(b"repository::foo/bar::blobs"),
    "override": invalidation(b"repository::foo/bar::blobs::" + DIGEST.encode()),
    "everything": b">2\r\n" + bulk(b"invalidate") + b"_\r\n",
}


class Companion:
    """Of a lane whose server has confirmed its lease for good."""

    def __init__(self):
        self.near = NearCache(100, max_staleness=10.0, max_age=60.0)
        self.source = Source(self.near)
        self.runs = 0
        self.table = self.near.table("foo/bar")
        self.near.renew(self.source.lease, 0.0)

    async def run(self, lane):
        self.runs += 1
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self.runs -= 1

    @property
    def kept(self):
        return self.table.look(DIGEST, 1.0)


@contextlib.asynccontextmanager
async def asking():
    """A lane that has been asked and has written."""
    companion = Companion()
    async with playing(30.0, max_in_flight=100, companion=companion) as (lane, player):
        asked = lane.stat(REPOSITORY, DIGEST, companion.table)
        await until_written()
        assert player.writes
        yield companion, player, asked


def play(player, stream, step):
    for start in range(0, len(stream), step):
        player.play(stream[start : start + step])


steps = pytest.mark.parametrize("step", [1, 7, 10_000])
changed = pytest.mark.parametrize("change", CHANGED.values(), ids=list(CHANGED))


@steps
async def test_an_answer_is_kept_before_its_caller_runs(step):
    async with asking() as (companion, player, asked):
        play(player, MEMBER + FIELDS + OVERRIDE, step)
        assert companion.kept == KNOWN
        assert await asked == KNOWN


@steps
@changed
async def test_an_invalidation_after_the_answer_drops_it_immediately(change, step):
    async with asking() as (companion, player, asked):
        play(player, MEMBER + FIELDS + OVERRIDE + change, step)
        assert companion.kept is None
        assert await asked == KNOWN


@steps
@changed
@pytest.mark.parametrize("place", [0, 1, 2])
async def test_an_invalidation_within_the_answer_prevents_keeping_it(change, place, step):
    replies = [MEMBER, FIELDS, OVERRIDE]
    replies.insert(place, change)
    async with asking() as (companion, player, asked):
        play(player, b"".join(replies), step)
        assert await asked == KNOWN
        assert companion.kept is None


@steps
async def test_an_unrelated_invalidation_does_not_affect_an_answer(step):
    other = invalidation(b"blobs::" + digest_of(2).encode(), b"repository::foo::blobs", b"unknown", b"")
    async with asking() as (companion, player, asked):
        play(player, MEMBER + other + FIELDS + other + OVERRIDE + other, step)
        assert await asked == companion.kept == KNOWN


@pytest.mark.parametrize(
    "replies",
    [
        b":0\r\n" + FIELDS + OVERRIDE,
        MEMBER + b"*3\r\n_\r\n_\r\n_\r\n" + OVERRIDE,
        MEMBER + FIELDS + b"_\r\n",
        MEMBER + FIELDS.replace(b"$1\r\n5", b"$1\r\nx") + OVERRIDE,
    ],
)
async def test_a_miss_is_not_kept(replies):
    async with asking() as (companion, player, asked):
        player.play(replies)
        with pytest.raises(BlobUnknownError):
            await asked
        assert companion.near.entries == 0


async def test_an_answer_of_a_cancelled_caller_is_kept():
    async with asking() as (companion, player, asked):
        asked.cancel()
        player.play(MEMBER + FIELDS + OVERRIDE)
        assert companion.kept == KNOWN


async def test_answers_of_stat_many_are_kept_one_by_one():
    companion = Companion()
    digests = [digest_of(number) for number in range(1, 4)]
    async with playing(30.0, max_in_flight=100, companion=companion) as (lane, player):
        asked = lane.stat_many(REPOSITORY, digests, companion.table)
        await until_written()
        fields = [FIELDS.replace(DIGEST.encode(), digest.encode()) for digest in digests]
        player.play(b"*3\r\n:1\r\n:0\r\n:1\r\n" + fields[0] + OVERRIDE + fields[1] + OVERRIDE)
        player.play(CHANGED["descriptor"] + fields[2] + OVERRIDE)
        answers = await asked
        assert isinstance(answers[1], BlobUnknownError)
        kept = [companion.table.look(digest, 1.0) for digest in digests]
        assert kept == [None, None, answers[2]]


@pytest.mark.parametrize(
    "push",
    [
        b">2\r\n$10\r\ninvalidate\r\n$1\r\nx\r\n",
        b">2\r\n$10\r\ninvalidate\r\n*1\r\n:1\r\n",
        b">1\r\n$10\r\ninvalidate\r\n",
    ],
)
async def test_a_malformed_invalidation_ends_the_connection_and_drops_entries(push):
    async with asking() as (companion, player, asked):
        player.play(MEMBER + FIELDS + OVERRIDE)
        assert await asked == KNOWN
        player.play(push)
        assert companion.kept is None
        assert player.ended


async def test_the_end_of_the_connection_drops_its_entries():
    async with asking() as (companion, player, asked):
        player.play(MEMBER + FIELDS + OVERRIDE)
        assert companion.kept == KNOWN
        assert companion.runs == 1
        player.end()
        assert companion.kept is None
        assert companion.near.flushes == 1
        await until(lambda: companion.runs == 0)
        assert await asked == KNOWN


async def test_a_truncated_answer_is_not_kept():
    async with asking() as (companion, player, asked):
        player.play(MEMBER + FIELDS)
        player.end()
        with pytest.raises(CacheUnavailableError):
            await asked
        assert companion.near.entries == 0


async def test_closing_a_connection_ends_its_task():
    companion = Companion()
    async with playing(30.0, companion=companion):
        await until(lambda: companion.runs == 1)
    assert companion.runs == 0
