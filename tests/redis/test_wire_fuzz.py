"""Whatever a server says, in pieces of any size: an answer, a miss or an unusable cache, each to the caller it is for.

A lane plays streams that hypothesis draws: replies that a request can have, replies of every other type, pushes, damage
and ends at any byte. What each caller is to get is worked out from the whole stream, reply by reply.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import re

import hiredis
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from redis.exceptions import RedisError, ResponseError

from aioblobcache import BlobUnknownError, CacheUnavailableError, Descriptor, Digest, InvalidDigestError
from aioblobcache.redis import resp
from aioblobcache.redis.guards import decode_token
from aioblobcache.redis.pending import RefusedError
from aioblobcache.redis.resp import UnexpectedReplyError
from aioblobcache.redis.writes import decode_count
from tests.support.numbered_blobs import assert_same, digest_of
from tests.support.played_connection import GLOBAL, REPOSITORY, bulk, playing

SHAPES = (resp.is_count, resp.is_text)

MOST_CALLERS = 6


# --- what a reply means --------------------------------------------------------------------------

NOT_KNOWN, REFUSED, IMPOSSIBLE = "not known", "refused", "impossible"


def is_text(reply):
    return reply is None or type(reply) is bytes


def is_right(shape, reply):
    if isinstance(reply, ResponseError):
        return True
    if shape == "flag":
        return type(reply) is int and reply in (0, 1)
    if shape == "count":
        return type(reply) is int
    if shape == "fields":
        return isinstance(reply, list) and len(reply) == 3 and all(map(is_text, reply))
    return is_text(reply)


REPLIES = {"global": ["fields"], "scoped": ["flag", "fields", "text"], "call": ["count", "text"]}


def meaning(kind, digest, replies):
    """The descriptor, or why there is none: worked out again, without the library's own decoding."""
    if not all(map(is_right, REPLIES[kind], replies)):
        return IMPOSSIBLE
    if kind == "call":
        return replies
    member, fields, override = replies if kind == "scoped" else (1, *replies, b"")
    if member == 0:
        return NOT_KNOWN
    if any(isinstance(reply, ResponseError) for reply in (member, fields, override)):
        return REFUSED
    own, size, media_type = fields
    if own is None or size is None or override is None:
        return NOT_KNOWN
    media_types = [media_type or b"", override]
    if not re.fullmatch(rb"[0-9]{1,19}", size) or int(size) >= 2**63:
        return NOT_KNOWN
    if not all(re.fullmatch(rb"[ -~]{0,1024}", one) for one in media_types):
        return NOT_KNOWN
    try:
        named = Digest(own.decode("latin-1"))
    except InvalidDigestError:
        return NOT_KNOWN
    if named != digest and named.algorithm == digest.algorithm:
        return NOT_KNOWN
    return Descriptor(named, int(size), (override or media_types[0]).decode())


def assert_is(outcome, meant):
    if meant is NOT_KNOWN:
        assert isinstance(outcome, BlobUnknownError)
    elif meant is REFUSED:  # what is corrupt may be seen before it
        assert isinstance(outcome, BlobUnknownError | RefusedError)
    elif meant is IMPOSSIBLE:
        assert isinstance(outcome, CacheUnavailableError)
    elif isinstance(meant, list):
        # Errors compare by identity, and a NaN is not equal to itself.
        assert repr(outcome) == repr(meant)
    else:
        assert outcome == meant


# --- what is drawn -------------------------------------------------------------------------------


def aggregate(kind, parts):
    if kind in b"%|":
        parts = parts[: len(parts) // 2 * 2]
        return b"%c%d\r\n%b" % (kind, len(parts) // 2, b"".join(parts))
    return b"%c%d\r\n%b" % (kind, len(parts), b"".join(parts))


null = st.sampled_from([b"$-1\r\n", b"*-1\r\n", b"_\r\n"])
error = st.sampled_from(
    [
        b"-ERR no\r\n",
        b"-WRONGTYPE of another type\r\n",
        b"-NOPERM no\r\n",
        b"-MOVED 1 127.0.0.1:1\r\n",
        b"-\r\n",
        b"-\xff\r\n",
    ]
)
odd = st.sampled_from(
    [
        *[b"+OK\r\n", b"#t\r\n", b"#f\r\n", b",1\r\n", b",0\r\n", b",nan\r\n", b"(1\r\n", b"(" + b"9" * 40 + b"\r\n"],
        *[b"=7\r\ntxt:abc\r\n", b"!5\r\nERR x\r\n", b":01\r\n", b":-0\r\n", b":99999999999999999999\r\n"],
        *[b"$?\r\n", b"\r\n"],
    ]
)
scalar = (
    st.integers(-2, 2).map(lambda number: b":%d\r\n" % number) | st.binary(max_size=8).map(bulk) | null | error | odd
)
any_reply = st.recursive(
    scalar,
    lambda inner: st.builds(aggregate, st.sampled_from(b"*~>%|"), st.lists(inner, max_size=4)),
    max_leaves=8,
)
push = st.lists(scalar, min_size=1, max_size=3).map(lambda parts: aggregate(ord(">"), [b"+invalidate\r\n", *parts]))


def rarely(draw):
    """A tenth of the time: nine replies of ten are such that the stream goes on behind them."""
    return draw(st.integers(0, 9)) == 9


@st.composite
def fields(draw, number):
    """An entry of the blob of this number, which may be an entry of another, damaged or missing."""
    own, size, media_type = str(digest_of(number)).encode(), b"%d" % (1_000 + number), b"text/x-%d" % number
    if rarely(draw):
        other = st.sampled_from(
            [str(Digest.of(b"%d" % number, "sha512")).encode(), str(digest_of(number + 1)).encode()]
        )
        own = draw(other | st.none() | st.binary(max_size=8))
    if rarely(draw):
        size = draw(
            st.none() | st.binary(max_size=3) | st.sampled_from([b"0", b"9" * 19, b"9223372036854775807", b"1" * 20])
        )
    if rarely(draw):
        media_type = draw(st.none() | st.binary(max_size=8) | st.just(b"x" * 1025))
    return aggregate(ord("*"), [b"_\r\n" if part is None else bulk(part) for part in (own, size, media_type)])


@st.composite
def replies_to(draw, kind, number):
    usual = {
        "flag": st.just(b":1\r\n"),
        "fields": fields(number),
        "text": st.just(bulk(b"application/x-%d" % number)),
        "count": st.just(b":%d\r\n" % number),
    }
    other = {
        "flag": st.just(b":0\r\n") | error,
        "fields": error | null,
        "text": st.binary(max_size=8).map(bulk) | error | null,
        "count": st.integers().map(lambda value: b":%d\r\n" % value) | error,
    }
    raw = []
    for shape in REPLIES[kind]:
        if rarely(draw):
            raw.append(draw(push))
        if rarely(draw):
            raw.append(draw(any_reply))
        else:
            raw.append(draw(other[shape] if rarely(draw) else usual[shape]))
    return raw


@st.composite
def conversations(draw):
    """Who asks what, and the stream that is played to them, in pieces."""
    kinds = draw(st.lists(st.sampled_from(["global", "scoped", "call"]), min_size=1, max_size=MOST_CALLERS))
    raw = [reply for number, kind in enumerate(kinds) for reply in draw(replies_to(kind, number))]
    stream = bytearray(b"".join(raw))
    if rarely(draw):
        stream += draw(any_reply | st.binary(max_size=20))
    if draw(st.integers(0, 3)) == 3:
        for _ in range(draw(st.integers(1, 3))):
            at = draw(st.integers(0, len(stream)))
            # Of digits no more than these: of what an array says that it holds, the parser makes room for at once.
            piece = draw(
                st.sampled_from([b"", b"\r\n", b"\r", b"*", b"$", b":", b"-", b"_", b">", b"%", b"\0", b"\xff", b"1"])
            )
            stream[at : at + draw(st.integers(0, 2))] = piece
    if draw(st.integers(0, 3)) == 3:
        del stream[draw(st.integers(0, len(stream))) :]
    cuts = sorted(draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    pieces = [bytes(stream[start:stop]) for start, stop in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    left = draw(st.sets(st.integers(0, MOST_CALLERS - 1), max_size=2))
    return kinds, pieces, left


def meant_for_each(kinds, stream):
    """What each caller is to get of this stream, by his place in it."""
    reader = hiredis.Reader(replyError=ResponseError, notEnoughData=NotImplemented)
    reader.feed(stream)
    meant = []
    with contextlib.suppress(Exception):  # what the parser cannot read ends the stream
        for number, kind in enumerate(kinds):
            replies = []
            while len(replies) < len(REPLIES[kind]):
                reply = reader.gets()
                if reply is NotImplemented:
                    break
                if not isinstance(reply, hiredis.PushNotification):
                    replies.append(reply)
            if len(replies) < len(REPLIES[kind]):
                break
            meant.append(meaning(kind, digest_of(number), replies))
            if meant[-1] is IMPOSSIBLE:
                break
    return meant + [IMPOSSIBLE] * (len(kinds) - len(meant))


async def played(conversation, timeout, *, to_the_end):
    """What each caller got, and what the event loop was told that nobody else was."""
    kinds, pieces, left = conversation
    lost = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, context: lost.append(context))
    try:
        async with playing(timeout) as (lane, player):
            calls = {
                "global": lambda number: lane.stat(GLOBAL, digest_of(number)),
                "scoped": lambda number: lane.stat(REPOSITORY, digest_of(number)),
                "call": lambda number: lane.call([(b"INCR", b"%d" % number), (b"GET", b"%d" % number)], SHAPES),
            }
            asked = [calls[kind](number) for number, kind in enumerate(kinds)]
            await player.written.wait()
            for number in left:
                if number < len(asked):
                    asked[number].cancel()
            for piece in pieces:
                player.play(piece)
                await asyncio.sleep(0)
            if to_the_end:
                player.end()
            async with asyncio.timeout(20):
                outcomes = await asyncio.gather(*asked, return_exceptions=True)
    finally:
        loop.set_exception_handler(None)
    assert lost == []
    for number, outcome in enumerate(outcomes):
        assert isinstance(outcome, asyncio.CancelledError) is (number in left)
    return [None if number in left else outcome for number, outcome in enumerate(outcomes)]


fuzzed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.anyio
@settings(fuzzed, max_examples=600)
@given(conversations())
@example((["scoped"], [b"#t\r\n*3\r\n" + bulk(digest_of(0).encode()) + bulk(b"1") + bulk(b"a") + bulk(b"a")], set()))
async def test_each_caller_receives_the_reply_in_its_place(conversation):
    kinds, pieces, _ = conversation
    outcomes = await played(conversation, 60.0, to_the_end=True)
    for outcome, meant in zip(outcomes, meant_for_each(kinds, b"".join(pieces)), strict=True):
        if outcome is not None:
            assert_is(outcome, meant)


@pytest.mark.anyio
@settings(fuzzed, max_examples=200)
@given(conversations())
async def test_a_stalled_stream_holds_no_caller_beyond_the_timeout(conversation):
    kinds, pieces, _ = conversation
    outcomes = await played(conversation, 0.02, to_the_end=False)
    for outcome, meant in zip(outcomes, meant_for_each(kinds, b"".join(pieces)), strict=True):
        # On a busy machine the time may be over before the answer has been played.
        if outcome is not None and not isinstance(outcome, CacheUnavailableError):
            assert_is(outcome, meant)


@pytest.mark.anyio
async def test_replies_received_before_the_end_reach_their_callers():
    """However many they are: not all of them are told in one callback of the event loop."""
    async with playing(60.0, max_in_flight=1_000) as (lane, player):
        asked = [lane.call([(b"INCR", b"%d" % number)], [resp.is_count]) for number in range(1_000)]
        await player.written.wait()
        player.play(b"".join(b":%d\r\n" % number for number in range(900)) + b":9")
        player.end()
        outcomes = await asyncio.gather(*asked, return_exceptions=True)
    assert_same(outcomes[:900], [[number] for number in range(900)])
    assert {type(outcome) for outcome in outcomes[900:]} == {CacheUnavailableError}


@pytest.mark.anyio
async def test_an_unanswered_setup_request_is_not_reported():
    lost = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, context: lost.append(context))
    try:
        async with playing(60.0, greeting=[(b"PING",)]) as (lane, player):
            assert lane.load == (1, 0)
            player.end()
            assert lane.load == (0, 0)
        gc.collect()
    finally:
        loop.set_exception_handler(None)
    assert lost == []


# --- the decoders by themselves ------------------------------------------------------------------

value = st.recursive(
    st.none()
    | st.integers()
    | st.booleans()
    | st.floats()
    | st.binary(max_size=8)
    | st.sampled_from(
        [0, 1, True, False, 1.0, 0.0, b"1", "1", b"", ResponseError("WRONGTYPE of"), ResponseError("NOPERM")]
    ),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.binary(max_size=3) | st.integers(), inner, max_size=2)
        | st.sets(st.integers() | st.binary(max_size=3), max_size=2)
        | st.lists(inner, max_size=3).map(hiredis.PushNotification)
    ),
    max_leaves=8,
)


@st.composite
def values_of(draw, shapes):
    """Replies of these shapes, each of which may be anything."""
    usual = {
        "flag": st.sampled_from([1, 1, 1, 0]),
        "fields": st.lists(st.none() | st.binary(max_size=8), min_size=3, max_size=3)
        | st.just([str(digest_of(1)).encode(), b"1", b"text/plain"]),
        "text": st.none() | st.binary(max_size=8),
        "count": st.integers(),
    }
    return [draw(value if draw(st.integers(0, 3)) == 3 else usual[shape]) for shape in shapes]


def decoded(scope, digest, replies):
    try:
        return scope.decode_stat(digest, replies)
    except BlobUnknownError:
        return NOT_KNOWN
    except UnexpectedReplyError:
        return IMPOSSIBLE
    except RedisError:
        return REFUSED


@settings(fuzzed, max_examples=500)
@given(values_of(REPLIES["scoped"]))
@example([True, [str(digest_of(1)).encode(), b"1", b"text/plain"], b"text/plain"])
@example([1.0, [str(digest_of(1)).encode(), b"1", b"text/plain"], b"text/plain"])
def test_replies_of_any_type_match_an_independent_decoder(replies):
    digest = digest_of(1)
    for kind, scope, received in (("scoped", REPOSITORY, replies), ("global", GLOBAL, replies[1:2])):
        meant = meaning(kind, digest, received)
        if meant is REFUSED:  # what is corrupt may be seen before it
            assert decoded(scope, digest, received) in (REFUSED, NOT_KNOWN)
        else:
            assert decoded(scope, digest, received) == meant


guard = st.sampled_from([b"token:a", b"token:b", b"tombstone:c", b"planted", b"", None]) | value


@settings(fuzzed, max_examples=300)
@given(st.lists(st.tuples(value, guard), min_size=1, max_size=2))
def test_only_guards_with_tokens_permit_a_fill(pairs):
    replies = [reply for pair in pairs for reply in pair]
    try:
        token = decode_token(replies, b"nonce")
    except RedisError:
        return
    assert token.permits_fill is all(type(held) is bytes and held.startswith(b"token:") for _, held in pairs)
    assert token.guards == tuple(held if type(held) is bytes else b"nonce" for _, held in pairs)


@settings(fuzzed, max_examples=300)
@given(value)
def test_a_count_is_a_number_or_an_error(reply):
    try:
        count = decode_count(reply)
    except RedisError:
        assert not isinstance(reply, int)
    else:
        assert count is reply
