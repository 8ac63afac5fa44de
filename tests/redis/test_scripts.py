"""Each write script by itself, on both servers: the whole database before and after a call."""

from __future__ import annotations

import pytest
from redis.exceptions import OutOfMemoryError, ResponseError

from aioblobcache.redis import scripts

pytestmark = pytest.mark.anyio

HASH = b"blobs::a"
SET = b"repository::foo::blobs"
OVERRIDE = b"repository::foo::blobs::a"
OTHER_HASH = b"blobs::b"
OTHER_OVERRIDE = b"repository::foo::blobs::b"
GUARDS = (b"guard:1", b"guard:2")
TOKENS = (b"token:1", b"token:2")
TOMBSTONE = b"tombstone:x"
VALUES = (b"a", b"5", b"text/plain")
FIELDS = {b"digest": b"a", b"size": b"5", b"mediatype": b"text/plain"}

# What a guard may hold instead of the token of a fill.
NOT_THE_TOKEN = [None, TOMBSTONE, b"token:2", b"token:1 ", b"TOKEN:1", b""]


async def call(client, script, keys, arguments):
    return await client.eval(script.source, len(keys), *keys, *arguments)


async def contents(client):
    """Every key and its value."""
    readers = {
        b"string": client.get,
        b"hash": client.hgetall,
        b"set": client.smembers,
        b"list": lambda key: client.lrange(key, 0, -1),
    }
    return {key: await readers[await client.type(key)](key) for key in await client.keys("*")}


def write(guards=0, *, ttl=b"", members=(b"a",)):
    """The arguments of a write under the first guards."""
    return (b"%d" % guards, *TOKENS[:guards], ttl, *VALUES, *members)


async def hold(client, *values):
    """Put values into the guards, in order; ``None`` leaves one free."""
    for guard, value in zip(GUARDS, values, strict=False):
        if value is not None:
            await client.set(guard, value)


# --- guards --------------------------------------------------------------------------------------

GUARDED = {
    "global": (scripts.WRITE_GLOBAL, (HASH,), write(1, members=()), {HASH: FIELDS}),
    "descriptor": (
        scripts.WRITE_DESCRIPTOR,
        (HASH,),
        write(1, members=()),
        {HASH: FIELDS, GUARDS[0]: TOKENS[0]},  # shared with fills of other repositories: not spent
    ),
    "link": (scripts.LINK, (SET,), (b"1", TOKENS[0], b"a"), {SET: {b"a"}}),
}
guarded = pytest.mark.parametrize(("script", "keys", "arguments", "written"), GUARDED.values(), ids=GUARDED)


@guarded
async def test_a_guard_that_holds_the_token_permits_one_write(client, script, keys, arguments, written):
    await hold(client, TOKENS[0])
    assert await call(client, script, (GUARDS[0], *keys), arguments) == 1
    assert await contents(client) == written


@pytest.mark.parametrize("held", NOT_THE_TOKEN)
@guarded
async def test_a_guard_without_the_token_permits_no_write(client, script, keys, arguments, written, held):
    await hold(client, held)
    before = await contents(client)
    assert await call(client, script, (GUARDS[0], *keys), arguments) == 0
    assert await contents(client) == before


@guarded
async def test_a_guard_of_another_type_fails_the_write(client, script, keys, arguments, written):
    await client.rpush(GUARDS[0], TOKENS[0])
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await call(client, script, (GUARDS[0], *keys), arguments)
    assert await contents(client) == {GUARDS[0]: [TOKENS[0]]}


@guarded
async def test_a_write_without_guards_leaves_a_tombstone(client, script, keys, arguments, written):
    await hold(client, TOMBSTONE)
    assert await call(client, script, keys, (b"0", *arguments[2:])) == 1
    written = {key: value for key, value in written.items() if key not in GUARDS}
    assert await contents(client) == {**written, GUARDS[0]: TOMBSTONE}


SCOPED = (SET, HASH, OVERRIDE)
ENTRY = {SET: {b"a"}, HASH: FIELDS, OVERRIDE: {b"mediatype": b"text/plain"}}


async def test_a_scoped_write_spends_its_own_guard_alone(client):
    await hold(client, *TOKENS)
    assert await call(client, scripts.WRITE_SCOPED, (*GUARDS, *SCOPED), write(2)) == 1
    assert await contents(client) == {**ENTRY, GUARDS[1]: TOKENS[1]}


@pytest.mark.parametrize("held", NOT_THE_TOKEN)
@pytest.mark.parametrize("place", [0, 1])
async def test_a_scoped_write_needs_the_token_of_each_guard(client, place, held):
    values = list(TOKENS)
    values[place] = held if held != TOKENS[place] else TOMBSTONE
    await hold(client, *values)
    before = await contents(client)
    assert await call(client, scripts.WRITE_SCOPED, (*GUARDS, *SCOPED), write(2)) == 0
    assert await contents(client) == before


async def test_a_scoped_write_without_guards_leaves_tombstones(client):
    await hold(client, TOMBSTONE, TOMBSTONE)
    assert await call(client, scripts.WRITE_SCOPED, SCOPED, write()) == 1
    assert await contents(client) == {**ENTRY, GUARDS[0]: TOMBSTONE, GUARDS[1]: TOMBSTONE}


@pytest.mark.parametrize("guards", [0, 2])
async def test_a_scoped_write_writes_every_digest_of_the_content(client, guards):
    await hold(client, *TOKENS[:guards])
    keys = (*GUARDS[:guards], *SCOPED, OTHER_HASH, OTHER_OVERRIDE)
    assert await call(client, scripts.WRITE_SCOPED, keys, write(guards, members=(b"a", b"b"))) == 1
    assert await contents(client) == {
        SET: {b"a", b"b"},
        HASH: FIELDS,
        OTHER_HASH: FIELDS,  # the content's own digest stands in both
        OVERRIDE: {b"mediatype": b"text/plain"},
        OTHER_OVERRIDE: {b"mediatype": b"text/plain"},
        **({GUARDS[1]: TOKENS[1]} if guards else {}),
    }


# --- what a write leaves -------------------------------------------------------------------------

DESCRIBING = {
    "global": (scripts.WRITE_GLOBAL, (HASH,), write(members=())),
    "scoped": (scripts.WRITE_SCOPED, SCOPED, write()),
    "descriptor": (scripts.WRITE_DESCRIPTOR, (HASH,), write(members=())),
}
describing = pytest.mark.parametrize(("script", "keys", "arguments"), DESCRIBING.values(), ids=DESCRIBING)


@describing
async def test_a_write_keeps_the_media_type_and_foreign_fields(client, script, keys, arguments):
    foreign = {b"length": b"9", b"public": b"yes"}
    await client.hset(HASH, mapping={b"digest": b"old", b"size": b"1", b"mediatype": b"a/b", **foreign})
    assert await call(client, script, keys, arguments) == 1
    assert await client.hgetall(HASH) == {**FIELDS, b"mediatype": b"a/b", **foreign}


@pytest.mark.parametrize("kept", [b"", b" ", b"~", b" ~", b"x" * 1024, b"-", b"a-b", b"%a"])
async def test_a_media_type_that_readers_accept_is_kept(client, kept):
    await client.hset(HASH, b"mediatype", kept)
    await call(client, scripts.WRITE_GLOBAL, (HASH,), write(members=()))
    assert await client.hget(HASH, "mediatype") == kept


@pytest.mark.parametrize("replaced", [b"\x1f", b"\x7f", b"\x00", b"\x80", b"\xff", b"a\n", b"\na", b"x" * 1025])
async def test_a_media_type_that_no_reader_accepts_is_replaced(client, replaced):
    await client.hset(HASH, b"mediatype", replaced)
    await call(client, scripts.WRITE_GLOBAL, (HASH,), write(members=()))
    assert await client.hget(HASH, "mediatype") == b"text/plain"


@describing
async def test_a_write_replaces_a_descriptor_of_another_type(client, script, keys, arguments):
    await client.rpush(HASH, "planted")
    assert await call(client, script, keys, arguments) == 1
    assert await client.hgetall(HASH) == FIELDS


async def test_a_write_replaces_override_and_set_of_other_types(client):
    await client.set(OVERRIDE, "planted")
    await client.hset(SET, "planted", 1)
    assert await call(client, scripts.WRITE_SCOPED, SCOPED, write()) == 1
    assert await contents(client) == ENTRY


async def test_an_override_is_overwritten(client):
    await client.hset(OVERRIDE, mapping={"mediatype": "old", "foreign": "yes"})
    assert await call(client, scripts.WRITE_OVERRIDE, (OVERRIDE,), (b"", b"text/plain")) == 1
    assert await contents(client) == {OVERRIDE: {b"mediatype": b"text/plain", b"foreign": b"yes"}}


async def test_an_override_of_another_type_is_replaced(client):
    await client.set(OVERRIDE, "planted")
    assert await call(client, scripts.WRITE_OVERRIDE, (OVERRIDE,), (b"", b"text/plain")) == 1
    assert await contents(client) == {OVERRIDE: {b"mediatype": b"text/plain"}}


async def test_a_link_keeps_the_other_members(client):
    await client.sadd(SET, "b")
    assert await call(client, scripts.LINK, (SET,), (b"0", b"a")) == 1
    assert await contents(client) == {SET: {b"a", b"b"}}


async def test_a_link_replaces_a_set_of_another_type(client):
    await client.set(SET, "planted")
    assert await call(client, scripts.LINK, (SET,), (b"0", b"a")) == 1
    assert await contents(client) == {SET: {b"a"}}


# --- time to live --------------------------------------------------------------------------------


async def lives(client, *keys):
    """Whether each key expires within 100 to 500 seconds; ``None``: it never expires."""
    found = [await client.pttl(key) for key in keys]
    return [None if ttl == -1 else 100_000 < ttl <= 500_000 for ttl in found]


EXPIRING = {
    **{name: (script, keys) for name, (script, keys, _) in DESCRIBING.items()},
    "override": (scripts.WRITE_OVERRIDE, (OVERRIDE,)),
}


@pytest.mark.parametrize(("script", "keys"), EXPIRING.values(), ids=EXPIRING)
async def test_a_ttl_is_set_on_hashes_and_renewed(client, script, keys):
    arguments = (b"500000", b"text/plain") if script is scripts.WRITE_OVERRIDE else write(ttl=b"500000")[:5]
    arguments = (*arguments, b"a") if script is scripts.WRITE_SCOPED else arguments
    for _ in range(2):
        assert await call(client, script, keys, arguments) == 1
        assert await lives(client, *keys) == [None if key == SET else True for key in keys]
        for key in keys:
            if key != SET:
                await client.pexpire(key, 5_000)


@pytest.mark.parametrize(("script", "keys"), EXPIRING.values(), ids=EXPIRING)
async def test_without_a_ttl_nothing_expires(client, script, keys):
    arguments = (b"", b"text/plain") if script is scripts.WRITE_OVERRIDE else write()[:5]
    arguments = (*arguments, b"a") if script is scripts.WRITE_SCOPED else arguments
    assert await call(client, script, keys, arguments) == 1
    assert await lives(client, *keys) == [None] * len(keys)


# --- clears --------------------------------------------------------------------------------------

BURY = (TOMBSTONE, b"500000")


@pytest.mark.parametrize(
    ("fields", "removed", "left"),
    [
        ({}, 0, {}),
        (FIELDS, 3, {}),
        ({**FIELDS, b"length": b"5"}, 4, {}),
        ({b"length": b"5"}, 1, {}),
        ({b"digest": b"a"}, 1, {}),
        ({b"size": b"5"}, 1, {}),
        ({b"mediatype": b"x"}, 1, {}),
        ({**FIELDS, b"public": b"yes"}, 3, {HASH: {b"public": b"yes"}}),
        ({b"public": b"yes"}, 0, {HASH: {b"public": b"yes"}}),
    ],
)
async def test_a_global_clear_removes_the_fields_of_a_descriptor(client, fields, removed, left):
    if fields:
        await client.hset(HASH, mapping=fields)
    assert await call(client, scripts.CLEAR_GLOBAL, (GUARDS[0], HASH), BURY) == removed
    assert await contents(client) == {**left, GUARDS[0]: TOMBSTONE}
    assert await lives(client, GUARDS[0]) == [True]


async def test_a_global_clear_removes_a_descriptor_of_another_type(client):
    await client.set(HASH, "planted")
    assert await call(client, scripts.CLEAR_GLOBAL, (GUARDS[0], HASH), BURY) == 1
    assert await contents(client) == {GUARDS[0]: TOMBSTONE}


CLEAR_KEYS = (GUARDS[0], SET, OVERRIDE, GUARDS[1], HASH)
BURIED = {GUARDS[0]: TOMBSTONE, GUARDS[1]: TOMBSTONE}


async def put_entry(client, *members):
    await client.sadd(SET, *members)
    await client.hset(HASH, mapping=FIELDS)
    await client.hset(OVERRIDE, "mediatype", "text/plain")


async def test_a_scoped_clear_of_a_member_leaves_two_tombstones(client):
    await put_entry(client, "a")
    await hold(client, *TOKENS)
    assert await call(client, scripts.CLEAR_SCOPED, CLEAR_KEYS, (*BURY, b"a")) == 1
    assert await contents(client) == BURIED
    assert await lives(client, *GUARDS) == [True, True]


async def test_a_scoped_clear_keeps_other_members_and_fields(client):
    await put_entry(client, "a", "b")
    await client.hset(HASH, mapping={"length": "5", "public": "yes"})
    assert await call(client, scripts.CLEAR_SCOPED, CLEAR_KEYS, (*BURY, b"a")) == 1
    assert await contents(client) == {SET: {b"b"}, HASH: {b"public": b"yes"}, **BURIED}


async def test_a_scoped_clear_without_membership_touches_its_guard_alone(client):
    await put_entry(client, "b")
    await hold(client, *TOKENS)
    before = await contents(client)
    assert await call(client, scripts.CLEAR_SCOPED, CLEAR_KEYS, (*BURY, b"a")) == 0
    assert await contents(client) == {**before, GUARDS[0]: TOMBSTONE}
    assert await lives(client, *GUARDS) == [True, None]


@pytest.mark.parametrize("planted", ["string", "hash"])
async def test_a_scoped_clear_leaves_a_set_of_another_type(client, planted):
    await put_entry(client, "a")
    await client.delete(SET)
    await (client.set(SET, "planted") if planted == "string" else client.hset(SET, "a", "1"))
    before = await contents(client)
    assert await call(client, scripts.CLEAR_SCOPED, CLEAR_KEYS, (*BURY, b"a")) == 0
    assert await contents(client) == {**before, GUARDS[0]: TOMBSTONE}


async def test_a_scoped_clear_removes_hashes_of_other_types(client):
    await client.sadd(SET, "a")
    await client.set(HASH, "planted")
    await client.rpush(OVERRIDE, "planted")
    assert await call(client, scripts.CLEAR_SCOPED, CLEAR_KEYS, (*BURY, b"a")) == 1
    assert await contents(client) == BURIED


async def test_an_unlink_removes_the_membership_alone(client):
    await put_entry(client, "a", "b")
    await hold(client, *TOKENS)
    before = await contents(client)
    assert await call(client, scripts.UNLINK, (GUARDS[0], SET), (*BURY, b"a")) == 1
    assert await contents(client) == {**before, SET: {b"b"}, GUARDS[0]: TOMBSTONE}
    assert await lives(client, *GUARDS) == [True, None]


@pytest.mark.parametrize("planted", [None, "member", "string"])
async def test_an_unlink_of_a_non_member_leaves_a_tombstone(client, planted):
    if planted == "member":
        await client.sadd(SET, "b")
    elif planted == "string":
        await client.set(SET, "a")
    before = await contents(client)
    assert await call(client, scripts.UNLINK, (GUARDS[0], SET), (*BURY, b"a")) == 0
    assert await contents(client) == {**before, GUARDS[0]: TOMBSTONE}


@pytest.mark.parametrize("script", [scripts.CLEAR_GLOBAL, scripts.CLEAR_SCOPED, scripts.UNLINK])
async def test_a_clear_buries_a_guard_of_another_type(client, script):
    await client.rpush(GUARDS[0], "planted")
    keys = {scripts.CLEAR_GLOBAL: (GUARDS[0], HASH), scripts.CLEAR_SCOPED: CLEAR_KEYS}.get(script, (GUARDS[0], SET))
    assert await call(client, script, keys, (*BURY, b"a")[: 2 if script is scripts.CLEAR_GLOBAL else 3]) == 0
    assert await contents(client) == {GUARDS[0]: TOMBSTONE}


# --- memory --------------------------------------------------------------------------------------


async def test_at_maxmemory_clears_run_and_writes_are_refused_whole(client):
    await put_entry(client, "a", "b")
    before = await contents(client)
    await client.config_set("maxmemory", 1)
    try:
        for script, keys, arguments in (
            *DESCRIBING.values(),
            (scripts.WRITE_OVERRIDE, (OVERRIDE,), (b"", b"a/b")),
            (scripts.LINK, (SET,), (b"0", b"c")),
        ):
            with pytest.raises(OutOfMemoryError):
                await call(client, script, keys, arguments)
        assert await contents(client) == before
        assert await call(client, scripts.UNLINK, (GUARDS[0], SET), (*BURY, b"b")) == 1
        assert await call(client, scripts.CLEAR_SCOPED, CLEAR_KEYS, (*BURY, b"a")) == 1
        assert await call(client, scripts.CLEAR_GLOBAL, (GUARDS[1], HASH), BURY) == 0
    finally:
        await client.config_set("maxmemory", 0)
    assert await contents(client) == BURIED


# --- the collections -----------------------------------------------------------------------------


def test_every_command_that_scripts_call_is_listed():
    assert scripts.COMMANDS == ("del", "get", "hdel", "hget", "hset", "pexpire", "sadd", "set", "srem", "type")


def test_scripts_are_sorted_by_topology():
    one_node = (scripts.WRITE_GLOBAL, scripts.WRITE_SCOPED, scripts.CLEAR_GLOBAL, scripts.CLEAR_SCOPED)
    shared = (scripts.WRITE_GLOBAL, scripts.CLEAR_GLOBAL)
    assert one_node == scripts.FOR_ONE_NODE
    steps = (scripts.WRITE_DESCRIPTOR, scripts.WRITE_OVERRIDE, scripts.LINK, scripts.UNLINK)
    assert (*shared, *steps) == scripts.FOR_CLUSTER


@pytest.mark.parametrize("script", dict.fromkeys((*scripts.FOR_ONE_NODE, *scripts.FOR_CLUSTER)))
async def test_a_server_knows_a_script_by_its_hash(client, script):
    assert await client.script_load(script.source) == script.sha.decode()
    assert b"-- include" not in script.source
