"""Writes by themselves, without a server: which requests, about which keys, in which order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.exceptions import NoScriptError, ResponseError

from aioblobcache import Descriptor, Digest, FillToken
from aioblobcache.redis import keys, scripts
from aioblobcache.redis.guards import guard_keys
from aioblobcache.redis.keys import slot_of
from aioblobcache.redis.resp import UnexpectedReplyError
from aioblobcache.redis.writes import ClusterWrites, OneNodeWrites, Step, decode_count, is_noscript, load_request
from tests.support.strategies import descriptors, digests, names

DIGEST = Digest.of(b"x")
ONE_NODE = OneNodeWrites()
CLUSTER = ClusterWrites()
TOKEN = FillToken((b"token:1", b"token:2"), permits_fill=True)

SHA512 = Digest.of(b"x", "sha512")
NAME = "foo/bar"
DESCRIPTOR = Descriptor(DIGEST, 7, "text/plain")
VALUES = (DIGEST.encode(), b"7", b"text/plain")

MEMBERSHIP = b"repository::foo/bar::blobs"
HASH = b"blobs::" + DIGEST.encode()
OVERRIDE = b"repository::foo/bar::blobs::" + DIGEST.encode()
GUARD = b"aioblobcache::guard::{" + HASH + b"}"
MEMBERSHIP_GUARD = b"aioblobcache::guard::{" + MEMBERSHIP + b"}::" + DIGEST.encode()
HASH512 = b"blobs::" + SHA512.encode()
OVERRIDE512 = b"repository::foo/bar::blobs::" + SHA512.encode()
GUARD512 = b"aioblobcache::guard::{" + HASH512 + b"}"
MEMBERSHIP_GUARD512 = b"aioblobcache::guard::{" + MEMBERSHIP + b"}::" + SHA512.encode()

GLOBAL_TOKEN = FillToken((b"token:1",), permits_fill=True)
BURY = (b"tombstone:nonce", b"1000")

cacheable = descriptors.filter(lambda descriptor: descriptor.media_type)


def step(script, own_keys, *arguments, decides=True):
    request = (b"EVALSHA", script.sha, b"%d" % len(own_keys), *own_keys, *arguments)
    return Step(request, script, decides=decides)


# --- every request, word by word -----------------------------------------------------------------

ttls = pytest.mark.parametrize(("ttl", "word"), [(None, b""), (1, b"1"), (86_400_000, b"86400000")])


@ttls
@pytest.mark.parametrize("writes", [ONE_NODE, CLUSTER])
def test_a_global_set_is_one_step_without_guards(writes, ttl, word):
    expected = step(scripts.WRITE_GLOBAL, (HASH,), b"0", word, *VALUES)
    assert writes.set(None, DIGEST, DESCRIPTOR, ttl) == (expected,)


@ttls
@pytest.mark.parametrize("writes", [ONE_NODE, CLUSTER])
def test_a_global_set_writes_under_its_key_alone(writes, ttl, word):
    expected = step(scripts.WRITE_GLOBAL, (HASH512,), b"0", word, *VALUES)
    assert writes.set(None, SHA512, DESCRIPTOR, ttl) == (expected,)


@ttls
@pytest.mark.parametrize("writes", [ONE_NODE, CLUSTER])
def test_a_global_fill_is_one_step_under_its_guard(writes, ttl, word):
    expected = step(scripts.WRITE_GLOBAL, (GUARD512, HASH512), b"1", b"token:1", word, *VALUES)
    assert writes.fill(None, SHA512, DESCRIPTOR, ttl, GLOBAL_TOKEN) == (expected,)


@pytest.mark.parametrize("writes", [ONE_NODE, CLUSTER])
def test_a_global_clear_is_one_step(writes):
    assert writes.clear(None, DIGEST, b"nonce", 1000) == (step(scripts.CLEAR_GLOBAL, (GUARD, HASH), *BURY),)


@ttls
def test_a_scoped_set_on_one_node_is_one_step(ttl, word):
    expected = step(scripts.WRITE_SCOPED, (MEMBERSHIP, HASH, OVERRIDE), b"0", word, *VALUES, DIGEST.encode())
    assert ONE_NODE.set(NAME, DIGEST, DESCRIPTOR, ttl) == (expected,)


@ttls
def test_a_set_of_an_alias_links_both_digests(ttl, word):
    own_keys = (MEMBERSHIP, HASH512, OVERRIDE512, HASH, OVERRIDE)
    members = (SHA512.encode(), DIGEST.encode())
    expected = step(scripts.WRITE_SCOPED, own_keys, b"0", word, *VALUES, *members)
    assert ONE_NODE.set(NAME, SHA512, DESCRIPTOR, ttl) == (expected,)


@ttls
def test_a_fill_of_an_alias_links_its_key_alone(ttl, word):
    own_keys = (MEMBERSHIP_GUARD512, GUARD512, MEMBERSHIP, HASH512, OVERRIDE512)
    arguments = (b"2", b"token:1", b"token:2", word, *VALUES, SHA512.encode())
    expected = step(scripts.WRITE_SCOPED, own_keys, *arguments)
    assert ONE_NODE.fill(NAME, SHA512, DESCRIPTOR, ttl, TOKEN) == (expected,)


def test_a_scoped_clear_on_one_node_is_one_step():
    own_keys = (MEMBERSHIP_GUARD, MEMBERSHIP, OVERRIDE, GUARD, HASH)
    expected = step(scripts.CLEAR_SCOPED, own_keys, *BURY, DIGEST.encode())
    assert ONE_NODE.clear(NAME, DIGEST, b"nonce", 1000) == (expected,)


@ttls
def test_a_scoped_set_in_a_cluster_links_last(ttl, word):
    assert CLUSTER.set(NAME, DIGEST, DESCRIPTOR, ttl) == (
        step(scripts.WRITE_DESCRIPTOR, (HASH,), b"0", word, *VALUES),
        step(scripts.WRITE_OVERRIDE, (OVERRIDE,), word, b"text/plain"),
        step(scripts.LINK, (MEMBERSHIP,), b"0", DIGEST.encode()),
    )


@ttls
def test_a_set_of_an_alias_in_a_cluster_links_last(ttl, word):
    assert CLUSTER.set(NAME, SHA512, DESCRIPTOR, ttl) == (
        step(scripts.WRITE_DESCRIPTOR, (HASH512,), b"0", word, *VALUES),
        step(scripts.WRITE_DESCRIPTOR, (HASH,), b"0", word, *VALUES),
        step(scripts.WRITE_OVERRIDE, (OVERRIDE512,), word, b"text/plain"),
        step(scripts.WRITE_OVERRIDE, (OVERRIDE,), word, b"text/plain"),
        step(scripts.LINK, (MEMBERSHIP,), b"0", SHA512.encode()),
        step(scripts.LINK, (MEMBERSHIP,), b"0", DIGEST.encode()),
    )


@ttls
def test_a_fill_in_a_cluster_has_a_guard_for_each_key(ttl, word):
    assert CLUSTER.fill(NAME, SHA512, DESCRIPTOR, ttl, TOKEN) == (
        step(scripts.WRITE_DESCRIPTOR, (GUARD512, HASH512), b"1", b"token:2", word, *VALUES),
        step(scripts.WRITE_OVERRIDE, (OVERRIDE512,), word, b"text/plain"),
        step(scripts.LINK, (MEMBERSHIP_GUARD512, MEMBERSHIP), b"1", b"token:1", SHA512.encode()),
    )


def test_a_scoped_clear_in_a_cluster_unlinks_first():
    assert CLUSTER.clear(NAME, DIGEST, b"nonce", 1000) == (
        step(scripts.UNLINK, (MEMBERSHIP_GUARD, MEMBERSHIP), *BURY, DIGEST.encode()),
        step(scripts.CLEAR_GLOBAL, (GUARD, HASH), *BURY, decides=False),
        Step((b"DEL", OVERRIDE), decides=False),
    )


# --- properties ----------------------------------------------------------------------------------


def keys_and_arguments(step):
    """Those of a step that calls a script."""
    count = int(step.request[2])
    return step.request[3 : 3 + count], step.request[3 + count :]


@given(names, digests(), cacheable, st.none() | st.integers(1, 10**12))
def test_a_set_on_one_node_writes_both_digests_unguarded(name, digest, descriptor, ttl):
    [step] = ONE_NODE.set(name, digest, descriptor, ttl)
    members = [digest] if digest == descriptor.digest else [digest, descriptor.digest]
    own_keys, arguments = keys_and_arguments(step)
    assert arguments[0] == b"0"
    assert arguments[1] == (b"" if ttl is None else str(ttl).encode())
    assert arguments[5:] == tuple(member.encode() for member in members)
    assert len(own_keys) == 1 + 2 * len(members)


@given(names, digests(), cacheable)
def test_a_fill_on_one_node_writes_its_key_under_guards(name, digest, descriptor):
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
def test_every_step_in_a_cluster_has_one_slot(name, digest, descriptor):
    for steps in all_writes(name, digest, descriptor):
        assert steps
        for step in steps:
            own_keys = keys_and_arguments(step)[0] if step.script else step.request[1:]
            assert len({slot_of(key) for key in own_keys}) == 1


@given(names, digests(), cacheable)
def test_membership_in_a_cluster_is_written_last_and_removed_first(name, digest, descriptor):
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
def test_each_guard_in_a_cluster_is_checked_beside_its_key(name, digest, descriptor):
    describe, _, link = CLUSTER.fill(name, digest, descriptor, None, TOKEN)
    membership_guard, descriptor_guard = guard_keys(name, digest)
    assert keys_and_arguments(describe)[0] == (descriptor_guard, keys.descriptor_key(digest))
    assert keys_and_arguments(describe)[1][:2] == (b"1", b"token:2")
    assert keys_and_arguments(link)[0] == (membership_guard, keys.membership_key(name))
    assert keys_and_arguments(link)[1][:2] == (b"1", b"token:1")


def test_a_script_is_called_by_its_hash():
    [step] = ONE_NODE.clear(None, DIGEST, b"n", 1000)
    assert step.request[:3] == (b"EVALSHA", step.script.sha, b"2")
    assert load_request(step.script) == (b"SCRIPT", b"LOAD", step.script.source)
    assert b"include" not in step.script.source


@pytest.mark.parametrize("error", [NoScriptError("No matching script."), ResponseError("NOSCRIPT No matching script.")])
def test_noscript_differs_from_other_errors(error):
    assert is_noscript(error)
    assert not is_noscript(ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value"))
    assert not is_noscript(1)
    assert not is_noscript(b"NOSCRIPT")
    assert not is_noscript(None)


@pytest.mark.parametrize("number", [0, 1, 4, -1])
def test_a_step_is_answered_by_a_number(number):
    assert decode_count(number) == number


def test_an_error_reply_to_a_step_is_raised():
    error = ResponseError("OOM command not allowed")
    with pytest.raises(ResponseError) as caught:
        decode_count(error)
    assert caught.value is error


@pytest.mark.parametrize("value", [b"1", None, [1]])
def test_a_step_answered_without_a_number_is_refused(value):
    with pytest.raises(UnexpectedReplyError):
        decode_count(value)
