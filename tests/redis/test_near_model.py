"""The near cache beside a reference, under any order of replies, invalidations, losses, time and evictions."""

from __future__ import annotations

import random

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.support.near_cache_model import DIGESTS, KEYS, MAX_AGE, MAX_STALENESS, NAMES, World

names = st.sampled_from(NAMES)
digests = st.sampled_from(DIGESTS)
connections = st.integers(0, 1)


class NearCacheMachine(RuleBasedStateMachine):
    @initialize(limit=st.integers(1, 6))
    def begin(self, limit):
        self.world = World(2, limit)
        self.limit = limit

    @rule(name=names, digest=digests, first=connections, second=connections)
    def ask(self, name, digest, first, second):
        self.world.ask(name, digest, first, second)

    @rule(name=names, digest=digests, first=connections, second=connections)
    def ask_and_be_answered(self, name, digest, first, second):
        self.world.ask(name, digest, first, second)
        for over in (first, second):
            self.catch_up(over)

    @rule(over=connections)
    def execute(self, over):
        self.world.execute(over)

    @rule(over=connections)
    def parse(self, over):
        self.world.parse(over)

    @rule(over=connections)
    def catch_up(self, over):
        connection = self.world.connections[over]
        while connection.requests:
            self.world.execute(over)
        while connection.stream:
            self.world.parse(over)

    @rule(over=connections)
    def send_heartbeat(self, over):
        self.world.beat(over)

    @rule(over=connections)
    def beat_at_once(self, over):
        self.world.beat(over)
        self.catch_up(over)

    @rule(key=st.sampled_from(KEYS))
    def change(self, key):
        self.world.change(key)

    @rule(key=st.sampled_from(KEYS))
    def expire(self, key):
        self.world.expire(key)

    @rule()
    def flush_all(self):
        self.world.flush_all()

    @rule(over=connections)
    def lose(self, over):
        self.world.lose(over)

    @rule(name=names, digest=digests, over=connections)
    def write(self, name, digest, over):
        self.world.write(name, digest, over)

    @rule(number=st.integers(0, 3))
    def end_write(self, number):
        self.world.end_write(number)

    @rule(steps=st.integers(1, MAX_AGE))
    def let_time_pass(self, steps):
        self.world.now += steps

    @rule()
    def let_little_time_pass(self):
        self.world.now += MAX_STALENESS // 5

    @invariant()
    def nothing_is_served_against_the_promise(self):
        if hasattr(self, "world"):
            for name in NAMES:
                for digest in DIGESTS:
                    self.world.look(name, digest)
            assert self.world.near.entries <= self.limit


# To make an example shorter takes longer than the suite waits for a test; to explain it, longer still.
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)
NearCacheMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=60, deadline=None, phases=PHASES)
test_no_step_serves_a_stale_entry = NearCacheMachine.TestCase


# Each step with how often it is taken: such that most of what is asked for is served from the cache.
STEPS = {
    "ask_and_be_answered": 12,
    "ask": 6,
    "execute": 12,
    "parse": 12,
    "catch_up": 4,
    "beat_at_once": 10,
    "send_heartbeat": 2,
    "let_little_time_pass": 6,
    "let_time_pass": 1,
    "change": 3,
    "expire": 1,
    "flush_all": 1,
    "lose": 1,
    "write": 2,
    "end_write": 3,
}


@pytest.mark.parametrize("seed", range(10))
def test_long_random_walks_serve_no_stale_entry(seed):
    """Hypothesis finds small failures; these walks are long, and mostly hits."""
    draw = random.Random(seed)
    machine = NearCacheMachine()
    machine.begin(draw.choice([2, 4, 9]))
    for step in draw.choices(list(STEPS), STEPS.values(), k=3_000):
        arguments = {
            "ask": (draw.choice(NAMES), draw.choice(DIGESTS), draw.randrange(2), draw.randrange(2)),
            "write": (draw.choice(NAMES), draw.choice(DIGESTS), draw.randrange(2)),
            "change": (draw.choice(KEYS),),
            "expire": (draw.choice(KEYS),),
            "end_write": (draw.randrange(4),),
            "let_time_pass": (draw.randrange(1, MAX_AGE),),
        }
        arguments["ask_and_be_answered"] = arguments["ask"]
        over = (
            (draw.randrange(2),)
            if step in ("execute", "parse", "catch_up", "send_heartbeat", "beat_at_once", "lose")
            else ()
        )
        getattr(machine, step)(*arguments.get(step, over))
        machine.nothing_is_served_against_the_promise()
    assert machine.world.served > 1_000
