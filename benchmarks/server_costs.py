"""What the stats of a fleet take of a server: memory for what is kept and for what is tracked, and processor time."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack
from itertools import chain
from typing import Final

import attrs
from redis import Redis

from aioblobcache import RedisBlobDescriptorCache
from aioblobcache.redis.keys import descriptor_key, membership_key, override_key
from aioblobcache.redis.resp import Request, encode

from .fleet import Fleet, blob_of, name_of
from .server import Server, entry

__all__ = ["MEDIA_TYPE", "ServerCosts", "kept", "measure_costs"]

MEDIA_TYPE: Final = "application/octet-stream"

_FLEET: Final = Fleet(processes=1, stats=1, blobs=20_000, repositories=100)

# Clients that read the same keys, and blobs that each reads.
_READERS: Final = 300
_READ: Final = 1_000

# Connections that each bring one stat at a time; so often.
_CONNECTIONS: Final = 100
_TIMES: Final = 200

_END: Final = b"no more"


@attrs.frozen(kw_only=True)
class ServerCosts:
    """Bytes and seconds of a server's processor."""

    blob: float  # bytes for a blob in one repository: its descriptor, its membership, its media type there
    guards: float  # bytes for the two guards of a miss
    tracked_key: float  # bytes for a key that one client has read
    reader: float  # bytes for each other client that has read it
    request: float  # bytes of a stat on the wire
    reply: float  # bytes of what comes back
    stat_cpu: float  # seconds for a stat that comes alone by its connection, its keys not tracked
    tracked_cpu: float  # seconds for one whose keys are
    telling_cpu: float  # seconds to tell one client of a change


def kept(fleet: Fleet, number: int) -> Iterator[Request]:
    """How a blob of a fleet gets into a cache."""
    return entry(name_of(fleet, number), blob_of(number), number, MEDIA_TYPE)


async def measure_costs(server: Server) -> ServerCosts:
    """Memory by MEMORY USAGE, and by how much the server grows while clients read; time by what it says it took."""
    [client] = server.nodes
    server.send(chain.from_iterable(kept(_FLEET, number) for number in range(_FLEET.blobs)))
    blob = _memory(client, "*") / _FLEET.blobs
    plain, _ = await _stats_alone(server, near_cache=0)
    tracked, telling = await _stats_alone(server, near_cache=1)
    before = client.info("all")
    first = await asyncio.to_thread(_reader, server, range(_FLEET.blobs))
    after = client.info("all")
    keys = after["tracking_total_keys"]
    grown = after["used_memory_dataset"] - before["used_memory_dataset"]
    with ExitStack() as stack:
        stack.enter_context(first)
        for _ in range(_READERS):
            stack.enter_context(await asyncio.to_thread(_reader, server, range(_READ)))
        full = client.info("all")
        pairs = full["tracking_total_items"] - after["tracking_total_items"]
        reader = (full["used_memory_dataset"] - after["used_memory_dataset"]) / pairs
    async with RedisBlobDescriptorCache.from_url(server.url) as cache:
        await cache.repository_scoped(name_of(_FLEET, 0)).take_token(blob_of(_FLEET.blobs))
    wire = [after[f"total_net_{way}_bytes"] - before[f"total_net_{way}_bytes"] for way in ("input", "output")]
    return ServerCosts(
        blob=blob,
        guards=_memory(client, "aioblobcache::guard::*"),
        tracked_key=grown / (keys - before["tracking_total_keys"]),
        reader=reader,
        request=wire[0] / _FLEET.blobs,
        reply=wire[1] / _FLEET.blobs,
        stat_cpu=plain,
        tracked_cpu=tracked,
        telling_cpu=telling,
    )


def _memory(client: Redis, pattern: str) -> float:
    return float(sum(client.memory_usage(key) or 0 for key in client.scan_iter(pattern, count=1_000)))


def _reader(server: Server, numbers: Sequence[int]) -> socket.socket:
    """A client that has read blobs, and is told of their changes for as long as it is open."""
    stats = chain.from_iterable(_stat(number) for number in numbers)
    connection = socket.create_connection((server.host, server.port))
    connection.sendall(encode([(b"HELLO", b"3"), (b"CLIENT", b"TRACKING", b"ON"), *stats, (b"ECHO", _END)]))
    received = b""
    while not received.endswith(_END + b"\r\n"):
        received = received[-32:] + connection.recv(1 << 20)
    return connection


def _stat(number: int) -> Iterator[Request]:
    digest, name = blob_of(number), name_of(_FLEET, number)
    yield (b"SISMEMBER", membership_key(name), digest.encode())
    yield (b"HMGET", descriptor_key(digest), b"digest", b"size", b"mediatype")
    yield (b"HGET", override_key(name, digest), b"mediatype")


async def _stats_alone(server: Server, *, near_cache: int) -> tuple[float, float]:
    """Seconds of the server's for a stat, and for telling somebody, where no connection brings two at a time."""
    [client] = server.nodes
    async with AsyncExitStack() as stack:
        caches = [
            await stack.enter_async_context(
                RedisBlobDescriptorCache.from_url(server.url, timeout=10.0, near_cache=near_cache)
            )
            for _ in range(_CONNECTIONS)
        ]

        async def all_ask(number: int) -> None:
            name, digest = name_of(_FLEET, number), blob_of(number)
            await asyncio.gather(*(cache.repository_scoped(name).stat(digest) for cache in caches))

        await all_ask(0)
        began = _cpu(client)
        for number in range(1, _TIMES + 1):
            await all_ask(number)
        each = (_cpu(client) - began) / (_TIMES * _CONNECTIONS)
        if not near_cache:
            return each, 0.0
        # The set is read by all, changed, read by all again.
        began = _cpu(client)
        for number in range(_TIMES):
            client.sadd(membership_key(name_of(_FLEET, 0)), f"sha256:{number:064x}")
            await all_ask(0)
        both = (_cpu(client) - began) / (_TIMES * _CONNECTIONS)
        return each, both - each


def _cpu(client: Redis) -> float:
    said = client.info("cpu")
    return float(said["used_cpu_user"] + said["used_cpu_sys"])
