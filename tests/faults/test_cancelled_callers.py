"""A reply left over from a cancelled call, given to the next: CVE-2023-28858 and CVE-2023-28859."""

from __future__ import annotations

import asyncio
import random
from collections import Counter, deque

import pytest

from aioblobcache import BlobUnknownError
from tests.support.numbered_blobs import NAME, digest_of, globally, put, scoped
from tests.support.providers import provider
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

CALLERS = 500
FEW, MANY = 40, 400  # calls of each caller
STABLE = range(400)  # never touched
TURNED = range(400, 470)  # cleared and set in turns, so that it is known what a stat may answer
CONTESTED = range(470, 500)  # cleared and set by callers who are cancelled: nobody knows
ALL = range(500)

HELD, CHANGING, GONE = "held", "changing", "gone"


class Blobs:
    """What is in the cache now, as far as those who write it know."""

    def __init__(self):
        # Each state is an object of its own: the same one before and after means that nothing happened.
        self.states = {number: [HELD] for number in ALL} | {number: [CHANGING] for number in CONTESTED}

    def turn(self, number, state):
        self.states[number] = [state]

    def throughout(self, number, before):
        """The state that the blob has had since ``before``, if it was one."""
        return before[0] if self.states[number] is before else CHANGING


class LeftError(Exception):
    """The caller was gone before it was answered."""


class Leaving:
    """The ways in which a caller goes before it is answered; each returns the answer if it came first."""

    def __init__(self, seed):
        self.chance = random.Random(seed)
        self.loop = asyncio.get_running_loop()
        self.doomed = deque()
        self.gone = Counter()
        self.ways = [self.before_the_write, self.at_any_tick, self.with_no_time, self.with_little_time, self.by_another]

    async def one_in_three(self, call):
        if self.chance.random() >= 1 / 3:
            answer = await call
            if self.doomed:
                self.doomed.popleft().cancel()
            return answer
        way = self.chance.choice(self.ways)
        try:
            return await way(call)
        except (asyncio.CancelledError, TimeoutError):
            if asyncio.current_task().cancelling():
                raise  # the test has failed
            self.gone[way.__name__] += 1
            raise LeftError from None

    async def before_the_write(self, call):
        """Once it has asked, and in the same tick: the lane writes in the next."""
        task = asyncio.create_task(call)
        self.loop.call_soon(task.cancel)
        return await task

    async def at_any_tick(self, call):
        task = asyncio.create_task(call)
        self._cancel_after(self.chance.randrange(1, 12), task)
        return await task

    async def with_no_time(self, call):
        async with asyncio.timeout(0):
            return await call

    async def with_little_time(self, call):
        async with asyncio.timeout(self.chance.random() * 0.01):
            return await call

    async def by_another(self, call):
        """By one who was answered, and so while replies are being read."""
        task = asyncio.create_task(call)
        self.doomed.append(task)
        return await task

    def _cancel_after(self, ticks, task):
        if ticks:
            self.loop.call_soon(self._cancel_after, ticks - 1, task)
        else:
            task.cancel()


@pytest.mark.parametrize("calls", [FEW, pytest.param(MANY, marks=pytest.mark.slow)], ids=["few calls", "many calls"])
async def test_no_caller_gets_the_answer_of_a_cancelled_caller(own_server, calls):
    await put(own_server.url, ALL)
    blobs, leaving, counts = Blobs(), Leaving(1), Counter()
    async with provider(own_server.url, timeout=60.0) as cache:
        repository = cache.repository_scoped(NAME)
        scopes = [(cache, None, globally), (repository, NAME, scoped)]
        answers = {(of, number): of(number) for _, _, of in scopes for number in ALL}
        # A set in a repository makes the registry's descriptor where there is none, and leaves it where there is.
        contested = {number: (globally(number), scoped(number)) for number in CONTESTED}
        asked_all = False

        async def ask(chance):
            number = chance.randrange(len(ALL))
            service, name, of = chance.choice(scopes)
            before = blobs.states[number]
            counts["asked"] += 1
            try:
                answer = await leaving.one_in_three(service.stat(digest_of(number)))
            except LeftError:
                counts["gone"] += 1
                return
            except BlobUnknownError as error:
                answer, named = None, (error.digest, error.repository)
            state = blobs.throughout(number, before)
            if answer is None:
                assert named == (digest_of(number), name)
                assert state != HELD
                counts["known to be gone"] += state == GONE
            else:
                assert answer == answers[of, number] or answer in contested.get(number, ())
                assert state != GONE
                counts["answered"] += 1

        async def ask_many(chance):
            numbers = chance.sample(STABLE, 10)
            service, _, of = chance.choice(scopes)
            try:
                found = await leaving.one_in_three(service.stat_many([digest_of(number) for number in numbers]))
            except LeftError:
                return
            assert found == {digest_of(number): answers[of, number] for number in numbers}
            counts["answered in groups"] += 1

        async def caller(seed):
            chance = random.Random(seed)
            for call in range(calls):
                await ask(chance)
                if call % 20 == 19:
                    await ask_many(chance)

        async def turn(numbers):
            chance = random.Random(numbers.start)
            while not asked_all:
                number = chance.choice(numbers)
                blobs.turn(number, CHANGING)
                await repository.clear(digest_of(number))
                blobs.turn(number, GONE)
                for _ in range(chance.randrange(20)):
                    await asyncio.sleep(0)
                blobs.turn(number, CHANGING)
                await cache.set_descriptor(digest_of(number), globally(number))
                await repository.set_descriptor(digest_of(number), scoped(number))
                blobs.turn(number, HELD)

        async def contest(seed):
            chance = random.Random(seed)
            while not asked_all:
                number = chance.choice(CONTESTED)
                write = chance.choice(
                    [
                        lambda number: cache.set_descriptor(digest_of(number), globally(number)),
                        lambda number: repository.set_descriptor(digest_of(number), scoped(number)),
                        lambda number: repository.clear(digest_of(number)),
                    ]
                )
                try:
                    await leaving.one_in_three(write(number))
                    counts["contested"] += 1
                except (LeftError, BlobUnknownError):
                    continue

        async def ask_all():
            async with asyncio.TaskGroup() as callers:
                for seed in range(CALLERS):
                    callers.create_task(caller(seed))

        async with asyncio.TaskGroup() as everyone:
            for start in range(TURNED.start, TURNED.stop, 7):
                everyone.create_task(turn(range(start, start + 7)))
            for seed in range(5):
                everyone.create_task(contest(seed))
            await ask_all()
            asked_all = True
            while leaving.doomed:  # a writer may wait to be cancelled by callers who are no more
                leaving.doomed.popleft().cancel()

        await until(lambda: cache.info()["in_flight"] == 0)
        for service, _, of in scopes:
            held = [*STABLE, *TURNED]
            found = await service.stat_many([digest_of(number) for number in held])
            assert found == {digest_of(number): answers[of, number] for number in held}
        assert cache.info()["in_flight"] == cache.info()["waiting"] == cache.info()["reconnects"] == 0
    # Were one of these few, the test would not have met what it is for.
    assert counts["asked"] == CALLERS * calls
    assert counts["answered"] > counts["asked"] / 2
    assert counts["gone"] > counts["asked"] / 5
    assert min(leaving.gone[way.__name__] for way in leaving.ways) > counts["asked"] / 200, leaving.gone
    rarer = min(counts["known to be gone"], counts["contested"], counts["answered in groups"])
    assert rarer > counts["asked"] / 1_000, counts
