"""The model's steps are the library's: the same ones in the same order, and each does what its script does."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import pytest
from redis.asyncio import Redis

from aioblobcache import BlobUnknownError, CachedBlobStatter, Descriptor, Digest, FillToken
from aioblobcache.redis import keys
from aioblobcache.redis.guards import decode_token, guard_keys, token_requests, tombstone
from aioblobcache.redis.writes import ClusterWrites, OneNodeWrites, Step, Writes, load_request
from tests.model import guard_model as model
from tests.model.guard_model import (
    CLEAR_GLOBAL,
    CLUSTER,
    LAYER,
    ONE_NODE,
    WRITE_GLOBAL,
    Guard,
    Guards,
    World,
    delete,
    look,
)

pytestmark = pytest.mark.anyio

NAME = "foo/bar"
DIGEST = Digest.of(b"a layer")
DESCRIPTOR = Descriptor(DIGEST, 7, LAYER + "/x")  # the model's kind is told from the media type

KEYS = {Guard.MEMBERSHIP: keys.membership_guard_key(NAME, DIGEST), Guard.DESCRIPTOR: keys.descriptor_guard_key(DIGEST)}
MEMBERSHIP, HASH, OVERRIDE = (
    keys.membership_key(NAME),
    keys.descriptor_key(DIGEST),
    keys.override_key(NAME, DIGEST),
)

NONCE = b"own"
OWN = b"token:own"
# What can stand in a guard: nothing, somebody's token, the one that the process shows, a tombstone.
VALUES = (None, b"token:another", OWN, tombstone(b"x"))

Pair = tuple[model.Step, Step, int]  # and how many steps of the write are behind it


def fill_steps(writes: Writes, name: str | None) -> tuple[Step, ...]:
    return writes.fill(name, DIGEST, DESCRIPTOR, None, FillToken((OWN,) * len(guard_keys(name, DIGEST)), True))


def clear_steps(writes: Writes, name: str | None) -> tuple[Step, ...]:
    return writes.clear(name, DIGEST, b"y", 60_000)


def paired(program: model.Program, steps: tuple[Step, ...]) -> list[Pair]:
    return list(zip(program, steps, range(len(steps))[::-1], strict=True))


PAIRS = [
    *paired(ONE_NODE.write(LAYER), fill_steps(OneNodeWrites(), NAME)),
    *paired(ONE_NODE.clear_cache, clear_steps(OneNodeWrites(), NAME)),
    *paired(CLUSTER.write(LAYER), fill_steps(ClusterWrites(), NAME)),
    *paired(CLUSTER.clear_cache, clear_steps(ClusterWrites(), NAME)),
    *paired((WRITE_GLOBAL,), fill_steps(OneNodeWrites(), None)),
    *paired((CLEAR_GLOBAL,), clear_steps(OneNodeWrites(), None)),
    *paired((WRITE_GLOBAL,), fill_steps(ClusterWrites(), None)),
    *paired((CLEAR_GLOBAL,), clear_steps(ClusterWrites(), None)),
]


async def put(client: Redis, world: World, guards: dict[Guard, bytes | None]) -> None:
    await client.flushdb()
    async with client.pipeline() as pipeline:
        if world.membership:
            pipeline.sadd(MEMBERSHIP, DIGEST)
        if world.descriptor:
            pipeline.hset(HASH, mapping={"digest": DIGEST, "size": 7, "mediatype": DESCRIPTOR.media_type})
        if world.override is not None:
            pipeline.hset(OVERRIDE, "mediatype", world.override + "/x")
        for guard, value in guards.items():
            if value is not None:
                pipeline.set(KEYS[guard], value)
        await pipeline.execute()


async def found(client: Redis, world: World) -> tuple[World, Guards]:
    """What lies there now, and the guards in which the process's own token stands."""
    async with client.pipeline(transaction=False) as pipeline:
        pipeline.sismember(MEMBERSHIP, DIGEST)
        pipeline.exists(HASH)
        pipeline.hget(OVERRIDE, "mediatype")
        for key in KEYS.values():
            pipeline.get(key)
        member, described, override, *held = await pipeline.execute()
    guards = dict(zip(KEYS, held, strict=True))
    buried = frozenset(guard for guard, value in guards.items() if value and value.startswith(b"tombstone:"))
    kind = None if override is None else override.decode().partition("/")[0]
    there = world._replace(membership=bool(member), descriptor=bool(described), override=kind, buried=buried)
    return there, frozenset(guard for guard, value in guards.items() if value == OWN)


def situations() -> Iterator[tuple[World, dict[Guard, bytes | None]]]:
    for member, described, override, *values in product((False, True), (False, True), (None, LAYER), VALUES, VALUES):
        guards = dict(zip(KEYS, values, strict=True))
        buried = frozenset(guard for guard, value in guards.items() if value == VALUES[-1])
        yield World(frozenset({LAYER}), True, member, described, override, buried), guards


@pytest.mark.parametrize(("modelled", "step", "behind"), PAIRS, ids=[modelled.name for modelled, *_ in PAIRS])
async def test_a_step_of_the_model_matches_its_script(client, modelled, step, behind):
    if step.script is not None:
        await client.execute_command(*load_request(step.script))
    for world, guards in situations():
        await put(client, world, guards)
        reply = await client.execute_command(*step.request)
        ends_here = step.decides and not reply
        holds = frozenset(guard for guard, value in guards.items() if value == OWN)
        if modelled.shows <= holds:
            effect = modelled.act(world, holds)
            assert await found(client, world) == (effect.world, holds - effect.replaced)
            assert effect.skips == (behind if ends_here else 0)
        else:
            assert await found(client, world) == (world, holds)
            assert ends_here


@pytest.mark.parametrize("guard", Guard)
async def test_a_token_request_of_the_model_matches_the_server(client, guard):
    taking = model.take(guard)
    for world, guards in situations():
        await put(client, world, guards)
        replies = [await client.execute_command(*request) for request in token_requests(KEYS[guard], NONCE, 60_000)]
        token = decode_token(replies, NONCE)
        effect = taking.act(world, frozenset())
        assert token.permits_fill is not effect.ends
        there, holds = await found(client, world)
        assert there == effect.world
        assert await client.get(KEYS[guard]) == token.guards[0]
        assert (guard in holds) == (guards[guard] in (None, OWN))


class NotingCache:
    """A cache that knows nothing and accepts everything."""

    guard_ttl = 60.0

    def __init__(self, noted: list[str]) -> None:
        self._noted = noted

    async def stat(self, digest: Digest) -> Descriptor:
        raise BlobUnknownError(digest)

    async def take_token(self, digest: Digest) -> FillToken:
        self._noted += [step.name for step in ONE_NODE.take]
        return FillToken((OWN, OWN), True)

    async def fill(self, digest: Digest, descriptor: Descriptor, token: FillToken) -> bool:
        self._noted += [step.name for step in ONE_NODE.write(LAYER)]
        return True

    async def clear(self, digest: Digest) -> None:
        self._noted += [step.name for step in ONE_NODE.clear_cache]


class NotingBackend:
    """A backend that has the blob."""

    def __init__(self, noted: list[str]) -> None:
        self._noted = noted

    async def stat(self, digest: Digest) -> Descriptor:
        self._noted.append(look(LAYER).name)
        return DESCRIPTOR

    async def clear(self, digest: Digest) -> None:
        self._noted.append(delete(LAYER).name)


async def test_the_read_through_follows_the_steps_of_the_model():
    noted: list[str] = []
    statter = CachedBlobStatter(NotingCache(noted), NotingBackend(noted))
    for call, program in (
        (statter.stat(DIGEST), ONE_NODE.fill()),
        (statter.set_descriptor(DIGEST, DESCRIPTOR), ONE_NODE.push()[1:]),  # the caller has stored it
        (statter.clear(DIGEST), ONE_NODE.clear()),
    ):
        noted.clear()
        await call
        assert noted == [step.name for step in program]
