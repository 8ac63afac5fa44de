"""The demonstration: a registry's questions, who answered them, and what that left in Redis."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from pathlib import Path

import attrs
from obstore.store import LocalStore
from redis.asyncio import Redis

from ..descriptor import Descriptor
from ..digest import Digest
from ..errors import BlobUnknownError, CacheUnavailableError
from ..observer import Observer
from ..readthrough import CachedRegistry
from ..redis.keys import descriptor_guard_key, membership_guard_key
from ..redis.provider import RedisBlobDescriptorCache
from ..storage import RegistryStorage
from .sample import build_image, link_blob, store_image

__all__ = ["DemoReport", "Key", "Step", "run_demo"]

REDIS = "Redis"
STORAGE = "storage"
NOBODY = ""

_NAME = "library/demo"
_OTHER = "library/other"

# Short, since the demonstration waits until a clear's tombstone has expired.
_GUARD_TTL = 2.0


@attrs.frozen
class Step:
    """A question and its answer. ``descriptor`` is ``None`` where the answer is *unknown*, or none is due."""

    asked: str
    digest: Digest
    answered_by: str
    outcome: str
    descriptor: Descriptor | None
    seconds: float
    as_expected: bool


@attrs.frozen
class Key:
    """A key that was left, and what it holds."""

    name: str
    kind: str
    value: str | list[str] | dict[str, str]


@attrs.frozen
class DemoReport:
    """Everything that the demonstration has to show."""

    server: str
    steps: tuple[Step, ...]
    keys: tuple[Key, ...]

    @property
    def as_expected(self) -> bool:
        """Whether every answer was the expected one."""
        return all(step.as_expected for step in self.steps)


class _Witness(Observer):
    """Hears who answered the latest question."""

    answered_by = NOBODY

    def cache_hit(self, digest: Digest) -> None:
        self.answered_by = REDIS

    def cache_miss(self, digest: Digest) -> None:
        self.answered_by = STORAGE

    def cache_unavailable(self, digest: Digest, error: CacheUnavailableError) -> None:
        self.answered_by = STORAGE


@attrs.define
class _Recorder:
    witness: _Witness
    steps: list[Step] = attrs.field(factory=list)

    async def ask(
        self, asked: str, digest: Digest, call: Awaitable[Descriptor | None], answered_by: str, outcome: str
    ) -> None:
        """Do a call; ``answered_by`` and ``outcome`` are what is expected of it."""
        self.witness.answered_by = NOBODY
        begun = time.perf_counter()
        try:
            descriptor = await call
        except BlobUnknownError:
            descriptor, met = None, "unknown"
        else:
            met = "known" if descriptor else "done"
        seconds = time.perf_counter() - begun
        by = self.witness.answered_by
        self.steps.append(Step(asked, digest, by, met, descriptor, seconds, (by, met) == (answered_by, outcome)))


async def run_demo(url: str, folder: Path) -> DemoReport:
    """Play it on the Redis at ``url``, with a storage tree made in ``folder``."""
    storage = RegistryStorage(LocalStore(folder, mkdir=True))
    image = build_image([{"etc/motd": "Hello from a layer.\n"}, {"srv/data": "More of it.\n" * 100}])
    foreign = build_image([{"etc/motd": "Of another repository.\n"}])
    await store_image(storage, _NAME, "latest", image)
    await store_image(storage, _OTHER, "latest", foreign)

    witness = _Witness()
    async with (
        Redis.from_url(url, decode_responses=True) as client,
        # The first call of all makes the connection: it has time for that here.
        RedisBlobDescriptorCache.from_url(url, timeout=5.0, guard_ttl=_GUARD_TTL) as cache,
    ):
        recorder = _Recorder(witness)
        registry = CachedRegistry(cache, storage, observer=witness)
        await _play(recorder, registry, storage, client, image.layers[0], image.manifest, foreign.layers[0])
        info = await client.info("server")
        version = f"Valkey {info['valkey_version']}" if "valkey_version" in info else f"Redis {info['redis_version']}"
        address = url.partition("://")[2].partition("/")[0]
        return DemoReport(f"{version} at {address}", tuple(recorder.steps), await _keys(client))


async def _play(
    recorder: _Recorder,
    registry: CachedRegistry,
    storage: RegistryStorage,
    client: Redis,
    layer: Descriptor,
    manifest: Descriptor,
    foreign: Descriptor,
) -> None:
    blobs, manifests, ask = registry.blobs(_NAME), registry.manifests(_NAME), recorder.ask
    await ask("stat of a layer", layer.digest, blobs.stat(layer.digest), STORAGE, "known")
    await ask("the same again", layer.digest, blobs.stat(layer.digest), REDIS, "known")
    await ask("stat of a manifest", manifest.digest, manifests.stat(manifest.digest), STORAGE, "known")
    await ask("the same again", manifest.digest, manifests.stat(manifest.digest), REDIS, "known")
    await ask(f"a blob of {_OTHER} only", foreign.digest, blobs.stat(foreign.digest), STORAGE, "unknown")
    await ask("clear of the layer", layer.digest, blobs.clear(layer.digest), NOBODY, "done")
    await ask("stat after it", layer.digest, blobs.stat(layer.digest), STORAGE, "unknown")
    await link_blob(storage, _NAME, layer.digest)
    await ask("the layer is pushed again", layer.digest, blobs.set_descriptor(layer.digest, layer), NOBODY, "done")
    await ask("stat, the clear's tombstone stands", layer.digest, blobs.stat(layer.digest), STORAGE, "known")
    await _until_unguarded(client, layer.digest)
    await ask("stat, the tombstone has expired", layer.digest, blobs.stat(layer.digest), STORAGE, "known")
    await ask("the same again", layer.digest, blobs.stat(layer.digest), REDIS, "known")


async def _until_unguarded(client: Redis, digest: Digest) -> None:
    for key in (membership_guard_key(_NAME, digest), descriptor_guard_key(digest)):
        await asyncio.sleep(max(0, await client.pttl(key) + 1) / 1000)


async def _keys(client: Redis) -> tuple[Key, ...]:
    names = sorted([str(name) async for name in client.scan_iter()])
    keys = [await _key(client, name) for name in names]
    return tuple(key for key in keys if key.kind != "none")  # a guard may have expired meanwhile


async def _key(client: Redis, name: str) -> Key:
    kind = str(await client.type(name))
    value: str | list[str] | dict[str, str]
    if kind == "hash":
        value = {str(field): str(held) for field, held in (await client.hgetall(name)).items()}
    elif kind == "set":
        value = sorted(str(member) for member in await client.smembers(name))
    else:
        value = str(await client.get(name))
    return Key(name, kind, value)
