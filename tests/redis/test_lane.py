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


async def test_the_callers_of_a_tick_share_one_write():
    async with playing(5.0, max_in_flight=100) as (lane, player):
        asked = ask(lane, range(15))
        assert player.writes == []
        await until_written()
        assert [write.count(b"HMGET") for write in player.writes] == [15]
    await asyncio.gather(*asked, return_exceptions=True)


async def test_a_server_with_nothing_to_do_gets_the_first_sixteen_at_once():
    async with playing(5.0, max_in_flight=1000) as (lane, player):
        asked = ask(lane, range(100))
        assert [write.count(b"HMGET") for write in player.writes] == [16]
        await until_written()
        assert [write.count(b"HMGET") for write in player.writes] == [16, 84]
        asked += ask(lane, range(100, 200))  # it has something to do now
        await until_written()
        assert [write.count(b"HMGET") for write in player.writes] == [16, 84, 100]
    await asyncio.gather(*asked, return_exceptions=True)


async def test_who_asks_alone_again_and_again_is_not_kept_waiting():
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


async def test_equal_questions_of_a_tick_are_one():
    async with playing(5.0, max_in_flight=100) as (lane, player):
        asked = ask(lane, [1, 2, 1, 1, 2])
        await until_written()
        assert [write.count(b"HMGET") for write in player.writes] == [2]
        player.play(b"*3\r\n_\r\n_\r\n_\r\n" * 2)
        outcomes = await asyncio.gather(*asked, return_exceptions=True)
    assert [outcome.digest for outcome in outcomes] == [digest_of(number) for number in (1, 2, 1, 1, 2)]
    assert len({id(outcome) for outcome in outcomes}) == 5  # each raises one of its own


async def test_what_is_called_at_once_is_written_ahead_of_all_who_wait_for_their_turn():
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


async def test_what_is_called_at_once_fails_at_once_without_a_connection():
    async with playing(5.0) as (lane, player):
        player.end()
        with pytest.raises(CacheUnavailableError):
            await lane.call_at_once([(b"PING",)], [is_text], list)


async def test_a_server_that_leaves_a_call_at_once_unanswered_is_given_up():
    async with playing(0.1) as (lane, player):
        with pytest.raises(CacheUnavailableError):
            await lane.call_at_once([(b"PING",)], [is_text], list)
        await until(lambda: player.ended)
