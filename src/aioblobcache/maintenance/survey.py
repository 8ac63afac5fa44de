"""What a Redis holds of the layout, and how it is: for a person who meets it for the first time."""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections import Counter
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any, Final, Literal, TypeAlias

import attrs

from ..digest import Digest
from ..errors import BlobUnknownError
from ..observer import NearCacheStats, Observer
from ..redis.cached import subject_of_key
from ..redis.client import AnyClient
from ..redis.keys import descriptor_key
from ..redis.keyspace import Keyspace
from ..redis.provider import RedisBlobDescriptorCache
from ..redis.resp import is_any

__all__ = ["KINDS", "KeyKind", "KindOfKey", "Survey", "survey"]

KeyKind: TypeAlias = Literal["descriptor", "repository", "override", "guard", "gitlab", "other"]
KINDS: Final[tuple[KeyKind, ...]] = ("descriptor", "repository", "override", "guard", "gitlab", "other")

# Keys of a kind whose memory is asked for.
_SAMPLED: Final = 200

_ROUND_TRIPS: Final = 30

# How long a near cache may take to begin, in seconds.
_PATIENCE: Final = 2.0


@attrs.frozen
class KindOfKey:
    """The keys of one kind."""

    count: int
    sampled_bytes: float | None  # that one takes on average; None: not told

    @property
    def bytes(self) -> float | None:
        """What all of them take, from the sample."""
        return None if self.sampled_bytes is None else self.count * self.sampled_bytes


@attrs.frozen
class Survey:
    """What was found. Times are in seconds."""

    server: str
    topology: str
    address: str
    nodes: list[str]
    road: str
    why_no_lane: str | None
    why_no_near_cache: str | None
    round_trip: float
    eviction_policy: str | None
    max_memory: int | None  # bytes; 0: no limit
    keys: dict[KeyKind, KindOfKey]
    members: int
    legacy: int  # descriptors with `length` in place of `size`
    malformed: int
    without_ttl: int  # descriptors

    def warnings(self) -> list[str]:
        """What an operator may want to change, or to know."""
        said = []
        policy = self.eviction_policy or ""
        if policy.startswith("volatile-") and self.max_memory:
            said.append(
                f"maxmemory-policy is {policy}: when memory is short, guards go first, for they have a TTL."
                " That is safe, and fewer answers are filled"
            )
        if self.keys["gitlab"].count:
            said.append(
                "there are keys of GitLab's metadata database (registry:db:…): they are another layout, and not"
                " looked at here"
            )
        if self.legacy:
            said.append(f"{self.legacy:,} descriptors have the form of 2014: they are misses, and get rewritten")
        if self.malformed:
            said.append(f"{self.malformed:,} descriptors cannot be read: see aioblobcache audit")
        return said


async def survey(
    client: AnyClient, keyspace: Keyspace, *, on_keys: Callable[[int], None] = lambda keys: None
) -> Survey:
    """Look at a Redis: walk over all its keys, and sample what they take. ``on_keys`` is told how many were met.

    :raises CacheUnavailableError: Redis was away for too long, or refused.
    """
    nodes = await keyspace.nodes()
    server, policy, max_memory = await _server(keyspace, nodes[0])
    why_no_near_cache = await _why_no_near_cache(client)
    round_trip = await _round_trip(keyspace)
    counts: Counter[KeyKind] = Counter()
    samples: dict[KeyKind, list[bytes]] = {kind: [] for kind in KINDS}
    members = legacy = malformed = without_ttl = 0
    async for keys, _ in keyspace.walk():
        digests: list[Digest] = []
        sets: list[bytes] = []
        for key in keys:
            kind, digest = _kind_of(key)
            counts[kind] += 1
            _sample(samples[kind], key, counts[kind])
            if digest is not None:
                digests.append(digest)
            if kind == "repository":
                sets.append(key)
        for cached in await keyspace.descriptors(digests):
            legacy += cached.is_legacy
            malformed += cached.malformed is not None
        ttls = await keyspace.ask([([(b"PTTL", descriptor_key(digest))], [is_any]) for digest in digests])
        without_ttl += sum(ttl == -1 for ttl in ttls)
        sizes = await keyspace.ask([([(b"SCARD", key)], [is_any]) for key in sets])
        members += sum(size for size in sizes if isinstance(size, int))
        on_keys(len(keys))
    kinds = {kind: KindOfKey(counts[kind], await _average(keyspace, samples[kind])) for kind in KINDS}
    info = keyspace.cache.info()
    return Survey(
        server,
        str(info["topology"]),
        keyspace.address,
        nodes,
        str(info["road"]),
        info["why_no_lane"],
        why_no_near_cache,
        round_trip,
        policy,
        max_memory,
        kinds,
        members,
        legacy,
        malformed,
        without_ttl,
    )


def _kind_of(key: bytes) -> tuple[KeyKind, Digest | None]:
    """The kind of a key, and of a descriptor its digest."""
    about = subject_of_key(key)
    if about is not None:
        if about.name is None:
            return "descriptor", about.digest
        return ("repository" if about.digest is None else "override"), None
    if key.startswith(b"aioblobcache::"):  # a probe of a near cache that has just begun, too
        return "guard", None
    return ("gitlab" if key.startswith(b"registry:db:") else "other"), None


def _sample(sample: list[bytes], key: bytes, met: int) -> None:
    """Keep each key that was met with the same chance."""
    if len(sample) < _SAMPLED:
        sample.append(key)
    elif (place := random.randrange(met)) < _SAMPLED:  # noqa: S311
        sample[place] = key


async def _average(keyspace: Keyspace, sample: Sequence[bytes]) -> float | None:
    replies = await keyspace.ask([([(b"MEMORY", b"USAGE", key)], [is_any]) for key in sample])
    sizes = [reply for reply in replies if isinstance(reply, int)]
    return sum(sizes) / len(sizes) if sizes else None


async def _server(keyspace: Keyspace, node: str) -> tuple[str, str | None, int | None]:
    """The server's name and version, and what it does when memory is short, if it tells."""
    info: dict[str, Any] = await keyspace.ask_node(node, "INFO")
    is_valkey = "valkey_version" in info
    name = f"Valkey {info['valkey_version']}" if is_valkey else f"Redis {info.get('redis_version', '(unknown)')}"
    policy, most = info.get("maxmemory_policy"), info.get("maxmemory")
    return name, None if policy is None else str(policy), None if most is None else int(most)


async def _round_trip(keyspace: Keyspace) -> float:
    """How long a question of three commands takes: of nobody's blobs, in nobody's repository."""
    cache = keyspace.cache.repository_scoped("aioblobcache/round-trip")
    took = []
    for _ in range(_ROUND_TRIPS):
        digest = Digest.of(secrets.token_bytes(16))
        began = time.perf_counter()
        try:
            await cache.stat(digest)
        except BlobUnknownError:
            took.append(time.perf_counter() - began)
    return median(took)


async def _why_no_near_cache(client: AnyClient) -> str | None:
    """Whether the server tells of changes: a near cache is begun, and nothing put into it."""
    observer = _NearCacheObserver()
    async with RedisBlobDescriptorCache(client, near_cache=1, observer=observer):
        try:
            async with asyncio.timeout(_PATIENCE):
                await observer.serves.wait()
        except TimeoutError:
            return observer.why_off
    return None


class _NearCacheObserver(Observer):
    def __init__(self) -> None:
        self.serves = asyncio.Event()
        self.why_off: str | None = "it did not say why"

    def near_cache(self, stats: NearCacheStats) -> None:
        self.why_off = stats.why_off
        if stats.why_off is None:
            self.serves.set()
