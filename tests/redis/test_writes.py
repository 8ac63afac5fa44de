"""Writes by themselves, without a server: which requests, about which keys, in which order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.exceptions import NoScriptError, ResponseError

from aioblobcache import Digest, FillToken
from aioblobcache.redis import keys
from aioblobcache.redis.guards import guard_keys
from aioblobcache.redis.keys import slot_of
from aioblobcache.redis.resp import UnexpectedReplyError
from aioblobcache.redis.writes import ClusterWrites, OneNodeWrites, decode_count, is_noscript, load_request
from tests.support.strategies import descriptors, digests, names

DIGEST = Digest.of(b"x")
ONE_NODE = OneNodeWrites()
CLUSTER = ClusterWrites()
TOKEN = FillToken((b"token:1", b"token:2"), permits_fill=True)

cacheable = descriptors.filter(lambda descriptor: descriptor.media_type)


def keys_and_arguments(step):
    """Those of a step that calls a script."""
    count = int(step.request[2])
    return step.request[3 : 3 + count], step.request[3 + count :]


@given(names, digests(), cacheable, st.none() | st.integers(1, 10**12))
def test_a_set_on_one_node_carries_no_guard_and_writes_under_both_digests(name, digest, descriptor, ttl):
    [step] = ONE_NODE.set(name, digest, descriptor, ttl)
    members = [digest] if digest == descriptor.digest else [digest, descriptor.digest]
    own_keys, arguments = keys_and_arguments(step)
    assert arguments[0] == b"0"
    assert arguments[1] == (b"" if ttl is None else str(ttl).encode())
    assert arguments[5:] == tuple(member.encode() for member in members)
    assert len(own_keys) == 1 + 2 * len(members)


@given(names, digests(), cacheable)
def test_a_fill_on_one_node_carries_its_guards_and_writes_under_its_key_alone(name, digest, descriptor):
    [step] = ONE_NODE.fill(name, digest, descriptor, None, TOKEN)
    own_keys, arguments = keys_and_arguments(step)
    assert arguments[:3] == (b"2", b"token:1", b"token:2")
    assert arguments[-1] == digest.encode()
    assert own_keys[:2] == guard_keys(name, digest)
    assert len(own_keys) == 5


def all_writes(name, digest, descriptor):
    yield CLUSTER.set(name, digest, descriptor, None)
    yield CLUSTER.clear(name, digest, b"nonce", 1000)
    yield CLUSTER.fill(name, digest, descriptor, 5, TOKEN if name else FillToken((b"token:1",), permits_fill=True))


@given(st.none() | names, digests(), cacheable)
def test_in_a_cluster_every_step_is_about_one_slot(name, digest, descriptor):
    for steps in all_writes(name, digest, descriptor):
        for step in steps:
            own_keys = keys_and_arguments(step)[0] if step.script else step.request[1:]
            assert len({slot_of(key) for key in own_keys}) == 1


@given(names, digests(), cacheable)
def test_in_a_cluster_membership_is_written_last_and_removed_first(name, digest, descriptor):
    membership = keys.membership_key(name)
    *before, last = CLUSTER.fill(name, digest, descriptor, None, TOKEN)
    assert membership in last.request
    assert not any(membership in step.request for step in before)
    first, *after = CLUSTER.clear(name, digest, b"nonce", 1000)
    assert membership in first.request
    assert not any(membership in step.request for step in after)
    set_steps = CLUSTER.set(name, digest, descriptor, None)
    links = [membership in step.request for step in set_steps]
    assert links == sorted(links)


@given(names, digests(), cacheable)
def test_in_a_cluster_each_guard_is_looked_at_with_what_it_guards(name, digest, descriptor):
    describe, _, link = CLUSTER.fill(name, digest, descriptor, None, TOKEN)
    membership_guard, descriptor_guard = guard_keys(name, digest)
    assert keys_and_arguments(describe)[0] == (descriptor_guard, keys.descriptor_key(digest))
    assert keys_and_arguments(describe)[1][:2] == (b"1", b"token:2")
    assert keys_and_arguments(link)[0] == (membership_guard, keys.membership_key(name))
    assert keys_and_arguments(link)[1][:2] == (b"1", b"token:1")


def test_a_clear_goes_on_when_a_later_step_finds_nothing():
    decides = [step.decides for step in CLUSTER.clear("foo/bar", DIGEST, b"nonce", 1000)]
    assert decides == [True, False, False]


def test_a_script_is_called_by_the_hash_of_what_is_loaded():
    [step] = ONE_NODE.clear(None, DIGEST, b"n", 1000)
    assert step.request[:3] == (b"EVALSHA", step.script.sha, b"2")
    assert load_request(step.script) == (b"SCRIPT", b"LOAD", step.script.source)
    assert b"include" not in step.script.source


@pytest.mark.parametrize("error", [NoScriptError("No matching script."), ResponseError("NOSCRIPT No matching script.")])
def test_noscript_is_told_from_other_errors(error):
    assert is_noscript(error)
    assert not is_noscript(ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value"))
    assert not is_noscript(1)


@pytest.mark.parametrize("value", [b"1", None, [1]])
def test_a_step_that_is_answered_by_no_number_is_no_answer(value):
    with pytest.raises(UnexpectedReplyError):
        decode_count(value)
