from __future__ import annotations

import gc
import math
from itertools import combinations

import pytest

from aioblobcache import Descriptor, Digest
from aioblobcache.redis.lease import Lease
from aioblobcache.redis.near import NearCache, Reading, Source
from aioblobcache.redis.resp import UnexpectedReplyError
from tests.support.internals import digests_indexed, entries_indexed, joint_leases, tables_of
from tests.support.near_cache_model import DIGESTS, MAX_AGE, MAX_STALENESS, World

ONE, TWO, THREE = DIGESTS
FOO = b"repository::foo::blobs"


def described(digest, size=1):
    return Descriptor(digest, size, "a/b")


class Near:
    """A near cache behind one connection, its lease confirmed at time 0."""

    def __init__(self, limit=100):
        self.cache = NearCache(limit, max_staleness=MAX_STALENESS, max_age=MAX_AGE)
        self.source = Source(self.cache)
        self.foo = self.cache.table("foo")
        self.confirm(0)

    def confirm(self, sent):
        self.cache.renew(self.source.lease, sent)

    def keep(self, digest, table=None, size=1):
        self.source.reading(table or self.foo, digest).keep(described(digest, size))

    def invalidate(self, *keys):
        self.source.pushed([b"invalidate", list(keys)])


@pytest.fixture
def near():
    return Near()


def test_an_entry_is_served_until_its_lease_ends(near):
    near.keep(ONE)
    assert near.foo.look(ONE, MAX_STALENESS - 0.001) == described(ONE)
    assert near.foo.look(ONE, MAX_STALENESS) is None
    near.confirm(5)
    assert near.foo.look(ONE, MAX_STALENESS) == described(ONE)


def test_a_scope_serves_no_entry_of_another_scope(near):
    near.keep(ONE)
    assert near.cache.table("bar").look(ONE, 1) is None
    assert near.cache.table(None).look(ONE, 1) is None


def test_a_heartbeat_does_not_prolong_the_maximum_age(near):
    near.keep(ONE)
    for sent in range(MAX_AGE):
        near.confirm(sent)
        assert near.foo.look(ONE, sent + 0.5) is not None
    near.confirm(MAX_AGE)
    assert near.foo.look(ONE, MAX_AGE) is None


def test_the_age_of_an_entry_begins_at_the_latest_heartbeat(near):
    near.confirm(7)
    near.keep(ONE)
    near.confirm(7 + MAX_AGE)
    assert near.foo.look(ONE, 7 + MAX_AGE - 0.001) is not None
    assert near.foo.look(ONE, 7 + MAX_AGE) is None


@pytest.mark.parametrize(
    ("key", "dropped"),
    [
        (b"blobs::" + ONE.encode(), {("foo", ONE), ("bar", ONE), (None, ONE)}),
        (FOO, {("foo", ONE), ("foo", TWO)}),
        # It could be kept in the others, but no program changes an override without the descriptor.
        (FOO + b"::" + ONE.encode(), {("foo", ONE), ("bar", ONE), (None, ONE)}),
        (b"repository::foo/bar::blobs", set()),
        (b"repository::fo::blobs", set()),
        (b"blobs::", set()),
        (b"repository::", set()),
        (b"repository::foo", set()),
        (b"\xff\xfe", set()),
        (b"blobs::\xff", set()),
        (b"aioblobcache::guard::{repository::foo::blobs}::" + ONE.encode(), set()),
        (b"", set()),
    ],
)
def test_an_invalidation_drops_only_entries_of_its_key(near, key, dropped):
    tables = {name: near.cache.table(name) for name in ("foo", "bar", None)}
    kept = {(name, digest) for name in tables for digest in (ONE, TWO)}
    for name, digest in kept:
        near.keep(digest, tables[name])
    near.invalidate(key)
    assert {(name, digest) for name, digest in kept if tables[name].look(digest, 1) is None} == dropped
    assert near.cache.invalidations == 1


def test_an_invalidation_may_carry_several_keys(near):
    near.keep(ONE)
    near.keep(TWO)
    near.keep(THREE)
    near.invalidate(b"blobs::" + ONE.encode(), b"blobs::" + TWO.encode())
    assert [near.foo.look(digest, 1) is None for digest in DIGESTS] == [True, True, False]
    assert near.cache.invalidations == 2


def test_a_flush_drops_all_entries_until_the_next_heartbeat(near):
    near.keep(ONE)
    near.source.pushed([b"invalidate", None])
    assert near.foo.look(ONE, 1) is None
    near.keep(ONE)  # nothing is known of the new lease yet
    assert near.foo.look(ONE, 1) is None
    near.confirm(1)
    near.keep(ONE)
    assert near.foo.look(ONE, 2) == described(ONE)
    assert near.cache.flushes == 1


def test_a_heartbeat_sent_before_a_flush_confirms_nothing(near):
    before = near.source.lease
    near.source.flush()
    near.cache.renew(before, 5)
    assert before.until == -math.inf
    assert not near.source.lease.is_confirmed


@pytest.mark.parametrize("push", [[], [b"message", b"a", b"b"], [b"tracking-redir-broken", 1]])
def test_pushes_of_other_kinds_are_ignored(near, push):
    near.keep(ONE)
    near.source.pushed(push)
    assert near.foo.look(ONE, 1) == described(ONE)


@pytest.mark.parametrize("rest", [[], [b"blobs::x"], [1], [[1]], [[None]], [[[b"blobs::x"]]], [[], []]])
def test_a_malformed_invalidation_is_an_error(near, rest):
    with pytest.raises(UnexpectedReplyError):
        near.source.pushed([b"invalidate", *rest])


@pytest.mark.parametrize("key", [b"blobs::" + ONE.encode(), FOO, FOO + b"::" + ONE.encode()])
def test_an_answer_is_not_kept_if_its_key_changed_meanwhile(near, key):
    reading = near.source.reading(near.foo, ONE)
    near.invalidate(key)
    reading.keep(described(ONE))
    assert near.foo.look(ONE, 1) is None
    assert near.cache.entries == 0


def test_an_answer_is_kept_if_other_keys_changed_meanwhile(near):
    reading = near.source.reading(near.foo, ONE)
    near.invalidate(b"blobs::" + TWO.encode(), b"repository::bar::blobs")
    reading.keep(described(ONE))
    assert near.foo.look(ONE, 1) == described(ONE)


def test_answers_are_kept_again_after_a_change(near):
    for key in (b"blobs::" + ONE.encode(), FOO):
        near.invalidate(key)
        near.keep(ONE)
        assert near.foo.look(ONE, 1) == described(ONE)


def test_an_answer_is_not_kept_if_its_connection_was_lost(near):
    reading = near.source.reading(near.foo, ONE)
    near.source.flush()
    near.confirm(1)
    reading.keep(described(ONE))
    assert near.cache.entries == 0


def test_a_newer_answer_replaces_the_older_one(near):
    near.keep(ONE, size=1)
    near.keep(ONE, size=2)
    assert near.foo.look(ONE, 1) == described(ONE, 2)
    assert near.cache.entries == 1


def test_an_own_write_drops_the_blob_in_every_scope(near):
    bar = near.cache.table("bar")
    near.keep(ONE)
    near.keep(ONE, bar)
    near.keep(TWO)
    with near.cache.writing([ONE]):
        assert near.foo.look(ONE, 1) is None
        assert bar.look(ONE, 1) is None
        assert near.foo.look(TWO, 1) is not None


def test_entries_kept_during_an_own_write_are_dropped_afterwards(near):
    def fail():
        with near.cache.writing([ONE]):
            near.keep(ONE)
            assert near.foo.look(ONE, 1) is not None
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert near.foo.look(ONE, 1) is None


@pytest.mark.parametrize("asked", ["before the write", "during the write"])
def test_a_late_answer_is_not_kept_after_an_own_write(asked):
    """The reader's lane has not delivered its replies when the writer's lane has confirmed the write."""
    world = World(connections=2, limit=10)
    for over in (0, 1):
        world.beat(over)
        world.execute(over)
        world.parse(over)
    if asked == "before the write":
        world.ask("foo", ONE, 0, 0)
    world.write("foo", ONE, over=1)
    if asked == "during the write":
        world.ask("foo", ONE, 0, 0)
    for _ in range(3):
        world.execute(0)
    world.execute(1)
    world.parse(1)
    world.end_write(0)
    for _ in range(3):
        world.parse(0)
    world.look("foo", ONE)
    assert world.served == 0


def test_an_answer_of_two_connections_depends_on_both_leases(near):
    other = Source(near.cache)
    near.cache.renew(other.lease, 0)
    both = {near.source.lease, other.lease}
    near.cache.keep(ONE, described(ONE), near.foo.membership, Lease.joint(both))
    assert near.foo.look(ONE, 1) == described(ONE)
    near.confirm(5)
    assert near.foo.look(ONE, MAX_STALENESS) is None
    near.cache.renew(other.lease, 3)
    assert near.foo.look(ONE, MAX_STALENESS) is not None
    assert near.foo.look(ONE, MAX_STALENESS + 3) is None
    near.cache.renew(other.lease, 5)
    other.flush()
    assert near.foo.look(ONE, 6) is None


def test_an_answer_of_two_connections_has_the_older_age(near):
    other = Source(near.cache)
    near.cache.renew(other.lease, 20)
    near.cache.keep(ONE, described(ONE), near.foo.membership, Lease.joint({near.source.lease, other.lease}))
    near.confirm(MAX_AGE)
    near.cache.renew(other.lease, MAX_AGE)
    assert near.foo.look(ONE, MAX_AGE - 1) is not None
    assert near.foo.look(ONE, MAX_AGE) is None


def test_an_answer_is_not_kept_if_either_connection_was_lost(near):
    """As in a Cluster, where the keys of one answer are read from several nodes."""
    other = Source(near.cache)
    near.cache.renew(other.lease, 0)
    reading = Reading(near.cache, ONE, near.foo.membership, Lease.joint({near.source.lease, other.lease}))
    other.flush()
    near.cache.renew(other.lease, 1)
    reading.keep(described(ONE))
    assert near.foo.look(ONE, 1) is None


def test_equal_sets_of_leases_share_one_joint_lease():
    first, second, third = Lease(), Lease(), Lease()
    joint = Lease.joint({first, second})
    assert Lease.joint({second, first}) is joint
    assert Lease.joint({first, second, third}) is not joint
    assert Lease.joint({first}) is first
    assert not joint.is_confirmed
    for lease in (first, second):
        lease.renew(1.0, 60.0)
    assert Lease.joint({first, second}).is_confirmed
    second.end()
    assert joint.is_over
    assert not joint_leases(first)
    assert not joint_leases(third)


def test_unused_entries_are_evicted_beyond_the_limit():
    near = Near(limit=3)
    digests = [Digest.of(b"cold %d" % number) for number in range(50)]
    near.keep(ONE)
    for digest in digests:
        assert near.foo.look(ONE, 1) is not None
        near.keep(digest)
        assert near.cache.entries <= 3
    assert near.foo.look(ONE, 1) is not None
    assert near.cache.evictions == 48
    assert len(near.foo.entries) == 3


@pytest.mark.parametrize("dropped_by", ["membership", "blob", "lease"])
def test_dropped_entries_are_evicted_first_even_if_used(dropped_by):
    near = Near(limit=4)
    other = Source(near.cache)
    near.cache.renew(other.lease, 0)
    bar = near.cache.table("bar")
    for digest in (ONE, TWO):
        other.reading(near.foo, digest).keep(described(digest))
        assert near.foo.look(digest, 1) is not None
    kept = [THREE, *(Digest.of(b"%d" % number) for number in (4, 5, 6))]
    for digest in kept[:2]:
        near.keep(digest, bar)
    if dropped_by == "membership":
        near.invalidate(FOO)
    elif dropped_by == "blob":
        near.invalidate(*(b"blobs::" + digest.encode() for digest in (ONE, TWO)))
    else:
        other.flush()
    for digest in kept[2:]:
        near.keep(digest, bar)
    assert list(near.foo.entries) == []
    assert [bar.look(digest, 1) for digest in kept] == [described(digest) for digest in kept]


def test_scopes_share_one_digest_object(near):
    bar = near.cache.table("bar")
    near.keep(Digest(str(ONE)))
    near.keep(Digest(str(ONE)), bar)
    [one], [other] = near.foo.entries, bar.entries
    assert one is other


@pytest.mark.parametrize("stay", [set(some) for count in range(5) for some in combinations(range(4), count)])
def test_a_change_drops_the_entries_left_by_evictions(stay):
    near = Near(limit=4)
    tables = [near.cache.table(f"repository-{number}") for number in range(4)]
    for table in tables:
        near.keep(ONE, table)

    def known():
        return {number for number, table in enumerate(tables) if table.look(ONE, 1)}

    for number in stay:
        tables[number].look(ONE, 1)  # what has been asked for stays
    for number in range(4 - len(stay)):
        near.keep(Digest.of(b"another %d" % number))
    assert known() == stay
    indexed = entries_indexed(near.cache, ONE)
    assert [tables.index(entry.membership.table) for entry in indexed] == sorted(stay, reverse=True)
    near.invalidate(b"blobs::" + ONE.encode())
    assert known() == set()
    near.keep(ONE, tables[2])
    assert known() == {2}
    near.invalidate(b"blobs::" + ONE.encode())
    assert known() == set()


def test_evicted_entries_and_unused_tables_are_forgotten():
    near = Near(limit=1)
    for number in range(100):
        near.keep(Digest.of(b"%d" % number), near.cache.table(f"repository-{number}"))
    gc.collect()
    assert len(digests_indexed(near.cache)) == 1
    assert tables_of(near.cache) == ["foo", "repository-99"]


def test_the_global_table_lives_while_nothing_refers_to_it(near):
    near.keep(ONE, near.cache.table(None))
    gc.collect()
    assert near.cache.table(None).look(ONE, 1) == described(ONE)


def test_a_repository_has_one_table_while_it_is_used(near):
    assert near.cache.table("foo") is near.foo
    assert near.cache.table("bar") is not near.foo


def test_an_awaited_invalidation_is_noticed_once_it_comes(near):
    assert near.source.has_been_told
    near.source.await_invalidation(b"probe")
    assert not near.source.has_been_told
    near.invalidate(b"another", b"blobs::" + ONE.encode(), FOO)
    assert not near.source.has_been_told
    near.invalidate(b"another", b"probe")
    assert near.source.has_been_told
    assert near.cache.invalidations == 5


def test_hits_and_misses_are_counted(near):
    near.keep(ONE)
    near.foo.look(ONE, 1)
    near.foo.look(ONE, 1)
    near.foo.look(TWO, 1)
    assert (near.cache.hits, near.cache.misses) == (2, 0)  # who only looks has asked nobody
    near.foo.missed(1)
    assert (near.cache.hits, near.cache.misses) == (2, 1)
