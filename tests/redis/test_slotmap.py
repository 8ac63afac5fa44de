from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.exceptions import ResponseError

from aioblobcache.redis.keys import (
    descriptor_guard_key,
    descriptor_key,
    membership_guard_key,
    membership_key,
    slot_of,
)
from aioblobcache.redis.resp import UnexpectedReplyError
from aioblobcache.redis.slotmap import Endpoint, Redirect, SlotRange, parse_redirect, parse_slots
from tests.support.strategies import digests, names

ASKED = Endpoint("asked.example", 7000)


def test_slot_ranges_are_parsed_with_their_replicas():
    reply = [
        [0, 5460, [b"10.0.0.1", 7000, b"id1", []], [b"10.0.0.4", 7003, b"id4", []]],
        [5461, 16383, [b"10.0.0.2", 7001, b"id2"]],
    ]
    assert parse_slots(reply, ASKED) == [
        SlotRange(0, 5460, Endpoint("10.0.0.1", 7000), (Endpoint("10.0.0.4", 7003),)),
        SlotRange(5461, 16383, Endpoint("10.0.0.2", 7001), ()),
    ]


def test_a_range_may_be_one_slot_and_ends_at_the_last():
    for first, last in ((0, 0), (16_383, 16_383), (0, 16_383)):
        assert parse_slots([[first, last, [b"h", 7000]]], ASKED) == [SlotRange(first, last, Endpoint("h", 7000), ())]


@pytest.mark.parametrize("host", [b"", None, b"?"])
def test_a_node_without_address_has_the_address_in_use(host):
    [span] = parse_slots([[0, 1, [host, 7009, b"id"]]], ASKED)
    assert span.primary == Endpoint("asked.example", 7009)


@pytest.mark.parametrize(
    "reply",
    [
        None,
        5,
        {},
        [5],
        [[0, 1]],
        [[0, 1, 5]],
        [[0, 1, [b"h"]]],
        [[0, 1, [b"h", b"7000"]]],
        [[0, 1, [5, 7000]]],
        [[0, 1, [b"h", None]]],
        [[0, 1, {b"h": 0, 7000: 0}]],
        [[0, 1, [b"\xff", 7000]]],
        [[1, 0, [b"h", 7000]]],
        [[-1, 0, [b"h", 7000]]],
        [[0, 16384, [b"h", 7000]]],
        [[0, 16385, [b"h", 7000]]],
        [[b"0", 1, [b"h", 7000]]],
        [[0, b"1", [b"h", 7000]]],
        [[0.5, 1, [b"h", 7000]]],
        [[0, 1.5, [b"h", 7000]]],
    ],
)
def test_a_malformed_reply_to_cluster_slots_is_refused(reply):
    with pytest.raises(UnexpectedReplyError):
        parse_slots(reply, ASKED)


@pytest.mark.parametrize(
    ("text", "redirect"),
    [
        ("MOVED 3999 127.0.0.1:6381", Redirect(True, Endpoint("127.0.0.1", 6381))),
        ("ASK 3999 node.example:6381", Redirect(False, Endpoint("node.example", 6381))),
        ("MOVED 3999 ::1:6381", Redirect(True, Endpoint("::1", 6381))),
        ("MOVED 3999 :6381", Redirect(True, Endpoint("asked.example", 6381))),
        ("MOVED 3999 somewhere", None),
        ("MOVED", None),
        ("ASK me later", None),
        ("TRYAGAIN Multiple keys request during rehashing of slot", None),
        ("ERR MOVED 1 h:1", None),
    ],
)
def test_redirections_are_parsed(text, redirect):
    assert parse_redirect(ResponseError(text), ASKED) == redirect


@given(names, digests())
def test_guards_have_the_slots_of_their_keys(name, digest):
    assert slot_of(membership_guard_key(name, digest)) == slot_of(membership_key(name))
    assert slot_of(descriptor_guard_key(digest)) == slot_of(descriptor_key(digest))


@given(st.binary(max_size=40))
def test_every_key_has_a_slot(key):
    assert 0 <= slot_of(key) < 16_384
