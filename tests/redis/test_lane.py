"""How a lane writes, seen from its transport."""

from __future__ import annotations

import asyncio

import pytest

from aioblobcache import CacheUnavailableError
from aioblobcache.redis.resp import is_text
from tests.support.numbered_blobs import digest_of
from tests.support.played_connection import GLOBAL, playing, until_written
from tests.support.waiting import until

pytestmark = pytest.mark.anyio


def ask(lane, numbers):
    return [lane.stat(GLOBAL, digest_of(number)) for number in numbers]


async def test_callers_of_one_tick_share_one_write():
    async with playing(5.0, max_in_flight=100) as (lane, player):
        asked = ask(lane, range(15))
        assert player.writes == []
        await until_written()
        assert [write.count(b"HMGET") for write in player.writes] == [15]
    await asyncio.gather(*asked, return_exceptions=True)


async def test_an_idle_server_receives_sixteen_requests_immediately():
    async with playing(5.0, max_in_flight=1000) as (lane, player):
        asked = ask(lane, range(100))
        assert [write.count(b"HMGET") for write in player.writes] == [16]
        await until_written()
        assert [write.count(b"HMGET") for write in player.writes] == [16, 84]
        asked += ask(lane, range(100, 200))  # it has something to do now
        await until_written()
        assert [write.count(b"HMGET") for write in player.writes] == [16, 84, 100]
    await asyncio.gather(*asked, return_exceptions=True)


async def test_a_single_sequential_caller_is_written_immediately():
    async with playing(5.0, max_in_flight=100) as (lane, player):
        for number in range(3):
            asked = ask(lane, [number])
            if number:
                assert len(player.writes) == number + 1  # at once
            await until_written()
            assert len(player.writes) == number + 1
            player.play(b"*3\r\n_\r\n_\r\n_\r\n")
            await asyncio.gather(*asked, return_exceptions=True)
        asked = ask(lane, [1, 2, 3])  # the first as before, and then they are known to be several
        await until_written()
        assert [write.count(b"HMGET") for write in player.writes[3:]] == [1, 2]
        player.play(b"*3\r\n_\r\n_\r\n_\r\n" * 3)
        await asyncio.gather(*asked, return_exceptions=True)
        asked = ask(lane, [1, 2, 3])
        await until_written()
        assert [write.count(b"HMGET") for write in player.writes[5:]] == [3]
    await asyncio.gather(*asked, return_exceptions=True)


async def test_equal_requests_of_a_tick_are_sent_once():
    async with playing(5.0, max_in_flight=100) as (lane, player):
        asked = ask(lane, [1, 2, 1, 1, 2])
        await until_written()
        assert [write.count(b"HMGET") for write in player.writes] == [2]
        player.play(b"*3\r\n_\r\n_\r\n_\r\n" * 2)
        outcomes = await asyncio.gather(*asked, return_exceptions=True)
    assert [outcome.digest for outcome in outcomes] == [digest_of(number) for number in (1, 2, 1, 1, 2)]
    assert len({id(outcome) for outcome in outcomes}) == 5  # each raises one of its own


async def test_an_urgent_call_is_written_ahead_of_the_backlog():
    async with playing(5.0, max_in_flight=1) as (lane, player):
        asked = ask(lane, [1, 2, 3])
        await until_written()
        answered = []
        ping = lane.call_at_once([(b"PING",)], [is_text], answered.append)
        assert player.writes[-1] == b"*1\r\n$4\r\nPING\r\n"
        assert lane.load == (2, 2)
        player.play(b"*3\r\n_\r\n_\r\n_\r\n" + b"+PONG\r\n")
        assert answered == [[b"PONG"]]  # before anybody runs
        assert await ping == [b"PONG"]
    await asyncio.gather(*asked, return_exceptions=True)


async def test_an_urgent_call_fails_immediately_without_a_connection():
    async with playing(5.0) as (lane, player):
        player.end()
        with pytest.raises(CacheUnavailableError):
            await lane.call_at_once([(b"PING",)], [is_text], list)


async def test_an_unanswered_urgent_call_drops_the_connection():
    async with playing(0.1) as (lane, player):
        with pytest.raises(CacheUnavailableError):
            await lane.call_at_once([(b"PING",)], [is_text], list)
        await until(lambda: player.ended)
