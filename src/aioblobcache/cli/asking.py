"""The commands by which one asks a cache by hand: info, stat, set, clear."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import attrs
from cyclopts import Parameter

from ..descriptor import Descriptor
from ..digest import Digest
from ..errors import BlobUnknownError, ConfigurationError
from ..maintenance import Explanation, Keyspace, Survey, explain, survey
from ..redis.provider import RedisBlobDescriptorCache, RedisRepositoryCache
from .screen import Screen, in_bytes
from .target import FINDINGS, FINE, NOTHING_SAID, Target, run

__all__ = ["clear", "info", "set_", "stat"]

_KINDS = {
    "descriptor": "global descriptors",
    "repository": "repositories",
    "override": "media types of repositories",
    "guard": "guards and probes of aioblobcache",
    "gitlab": "GitLab's metadata database",
    "other": "others, not of this layout",
}


def info(*, target: Target = NOTHING_SAID) -> int:
    """Say what a Redis holds of a registry's cache, and how it is.

    All its keys are walked over, by SCAN; what they take is asked of a sample.

    Examples: `aioblobcache info --cache redis://localhost`,
    `aioblobcache info --registry-config /etc/docker/registry/config.yml --json`
    """
    screen = Screen(target.as_json)

    async def work() -> Survey:
        async with target.opened() as (client, keyspace):
            met: list[int] = []
            async with screen.counting(lambda: "keys", lambda: sum(met), keyspace.size):
                return await survey(client, keyspace, on_keys=met.append)

    found = run(work())
    _show_survey(found, screen)
    screen.document({**attrs.asdict(found), "warnings": found.warnings()})
    return FINE


def _show_survey(found: Survey, screen: Screen) -> None:
    limit = {None: "not told", 0: "none"}.get(found.max_memory) or in_bytes(found.max_memory or 0)
    rows = [
        ("server", f"{found.server}, {found.topology} at {', '.join(found.nodes)}"),
        ("road", found.road if found.why_no_lane is None else f"{found.road}: {found.why_no_lane}"),
        ("round trip", f"{found.round_trip * 1000:.2f} ms for a stat"),
        ("near cache", "possible" if found.why_no_near_cache is None else f"not possible: {found.why_no_near_cache}"),
        ("memory limit", f"{limit}, {found.eviction_policy or 'policy not told'}"),
        ("memberships", f"{found.members:,}"),
        ("without TTL", f"{found.without_ttl:,} descriptors"),
        ("form of 2014", f"{found.legacy:,} descriptors"),
        ("unreadable", f"{found.malformed:,} descriptors"),
    ]
    screen.table(("", ""), rows)
    screen.say("")
    keys = [
        (_KINDS[kind], f"{one.count:,}", "" if one.bytes is None else f"about {in_bytes(one.bytes)}")
        for kind, one in found.keys.items()
    ]
    screen.table(("keys", "number", "memory"), keys)
    for warning in found.warnings():
        screen.say(f"\n{warning}.")


def stat(
    *subjects: str,
    explain_: Annotated[bool, Parameter(name="--explain", negative="")] = False,
    target: Target = NOTHING_SAID,
) -> int:
    """Ask what the cache says of blobs in a repository, or globally. Exit status 1: one of them is unknown.

    Examples: `aioblobcache stat library/demo sha256:…`, `aioblobcache stat sha256:… --explain`

    Parameters
    ----------
    subjects
        A repository and digests; digests alone for the global descriptors.
    explain_
        Show the keys behind each answer, and why it is what it is.
    """
    screen = Screen(target.as_json)

    async def work() -> list[Explanation]:
        name, digests = _subjects(subjects)
        async with target.opened() as (_, keyspace):
            return [await explain(keyspace, name, digest) for digest in digests]

    found = run(work())
    for one in found:
        _show_answer(one, screen)
        if explain_:
            screen.say(f"  {one.why}")
            screen.table(("", "key", "says", "stays"), [("", key.key, key.says, _stays(key.ttl)) for key in one.keys])
    screen.document([attrs.asdict(one) if explain_ else _as_data(one) for one in found])
    return FINE if all(one.descriptor is not None for one in found) else FINDINGS


def _show_answer(one: Explanation, screen: Screen) -> None:
    descriptor = one.descriptor
    if descriptor is None:
        screen.line(one.digest, "unknown", style="yellow")
        return
    own = () if descriptor.digest == one.digest else (descriptor.digest,)
    screen.line(one.digest, str(descriptor.size), descriptor.media_type or "(no media type)", *own, style="green")


def _as_data(one: Explanation) -> dict[str, Any]:
    return {"digest": one.digest, "descriptor": None if one.descriptor is None else attrs.asdict(one.descriptor)}


def _stays(ttl: float | None) -> str:
    return "" if ttl is None else f"{ttl:,.0f} s"


def set_(
    *subjects: str,
    size: int,
    media_type: str = "application/octet-stream",
    target: Target = NOTHING_SAID,
) -> int:
    """Write an entry by hand: you vouch that the blob is there.

    Example: `aioblobcache set library/demo sha256:… --size 1234`

    Parameters
    ----------
    subjects
        A repository and a digest; a digest alone for the global descriptor alone.
    size
        In bytes.
    media_type
        What a registry sends as Content-Type.
    """
    screen = Screen(target.as_json)

    async def work() -> Descriptor:
        name, digests = _subjects(subjects)
        if len(digests) != 1:
            raise ConfigurationError("set one blob at a time: blobs differ in size")
        descriptor = Descriptor(digests[0], size, media_type)
        async with target.opened() as (_, keyspace):
            await _service(keyspace, name).set_descriptor(descriptor.digest, descriptor)
        return descriptor

    written = run(work())
    screen.line(written.digest, "set", style="green")
    screen.document(attrs.asdict(written))
    return FINE


def clear(*subjects: str, target: Target = NOTHING_SAID) -> int:
    """Make the cache forget blobs, as a delete does. Exit status 1: one of them was not known.

    In a repository that holds the blob, the global descriptor goes too. Storage is not touched.

    Example: `aioblobcache clear library/demo sha256:…`

    Parameters
    ----------
    subjects
        A repository and digests; digests alone for the global descriptors alone.
    """
    screen = Screen(target.as_json)

    async def work() -> dict[str, bool]:
        name, digests = _subjects(subjects)
        async with target.opened() as (_, keyspace):
            return {digest: await _cleared(_service(keyspace, name), digest) for digest in digests}

    cleared = run(work())
    for digest, was_known in cleared.items():
        screen.line(digest, "cleared" if was_known else "was not known", style="green" if was_known else "yellow")
    screen.document([{"digest": digest, "cleared": was_known} for digest, was_known in cleared.items()])
    return FINE if all(cleared.values()) else FINDINGS


async def _cleared(service: RedisBlobDescriptorCache | RedisRepositoryCache, digest: Digest) -> bool:
    try:
        await service.clear(digest)
    except BlobUnknownError:
        return False
    return True


def _subjects(words: Sequence[str]) -> tuple[str | None, list[Digest]]:
    """A repository, if there is one, and digests: only these have a colon."""
    name = words[0] if words and ":" not in words[0] else None
    digests = [Digest(word) for word in (words if name is None else words[1:])]
    if not digests:
        raise ConfigurationError("of which blob? a digest, such as sha256:…, is needed")
    return name, digests


def _service(keyspace: Keyspace, name: str | None) -> RedisBlobDescriptorCache | RedisRepositoryCache:
    return keyspace.cache if name is None else keyspace.cache.repository_scoped(name)
