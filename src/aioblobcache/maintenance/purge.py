"""Making a cache forget: a repository, a blob, or all of it. Only keys of this layout, in bounded pieces.

Nothing in storage changes, and no tombstone is left: the next stat reads storage and fills. Guards stay, they expire
by themselves.
"""

from __future__ import annotations

import attrs

from ..digest import Digest
from ..names import validate_repository_name
from ..redis.keys import membership_key, override_key
from ..redis.keyspace import Keyspace
from ..redis.resp import Request

__all__ = ["PurgeReport", "purge_all", "purge_digest", "purge_repository"]


@attrs.define
class PurgeReport:
    """What was removed so far."""

    descriptors: int = 0  # their fields are counted as one
    members: int = 0
    overrides: int = 0
    met: int = 0  # keys and members that were looked at


async def purge_repository(keyspace: Keyspace, name: str, report: PurgeReport | None = None) -> PurgeReport:
    """Forget what a repository holds: memberships, media types, and its members' global descriptors.

    :raises RepositoryNameError: not a repository name.
    :raises CacheUnavailableError: the cache was away for too long, or refused.
    """
    report = report or PurgeReport()
    key = membership_key(validate_repository_name(name))
    async for digests in keyspace.members(name):
        report.met += len(digests)
        report.overrides += await keyspace.remove((b"UNLINK", override_key(name, digest)) for digest in digests)
        report.descriptors += await keyspace.forget(digests)
        report.members += await keyspace.remove([(b"SREM", key, *map(str.encode, digests))])
    await keyspace.remove([(b"UNLINK", key)])  # with members that are no digests, or of another type
    return report


async def purge_digest(keyspace: Keyspace, digest: str, report: PurgeReport | None = None) -> PurgeReport:
    """Forget a blob: its global descriptor, and what every repository has of it. All repositories are walked over.

    :raises InvalidDigestError: ``digest`` is not one.
    :raises CacheUnavailableError: the cache was away for too long, or refused.
    """
    report, digest = report or PurgeReport(), Digest(digest)
    report.descriptors += await keyspace.forget([digest])
    async for page in keyspace.pages():
        report.met += len(page.subjects)
        names = [one.name for one in page.subjects if one.name is not None and one.digest is None]
        report.members += await keyspace.remove((b"SREM", membership_key(name), digest.encode()) for name in names)
        overridden = [one.name for one in page.subjects if one.name is not None and one.digest == digest]
        report.overrides += await keyspace.remove((b"UNLINK", override_key(name, digest)) for name in overridden)
    return report


async def purge_all(keyspace: Keyspace, report: PurgeReport | None = None) -> PurgeReport:
    """Forget everything.

    :raises CacheUnavailableError: the cache was away for too long, or refused.
    """
    report = report or PurgeReport()
    async for page in keyspace.pages():
        report.met += len(page.subjects)
        blobs, sets, overrides = [], list[Request](), list[Request]()
        for one in page.subjects:
            if one.name is None and one.digest is not None:
                blobs.append(one.digest)
            elif one.name is not None and one.digest is None:
                sets.append((b"UNLINK", membership_key(one.name)))
            elif one.name is not None and one.digest is not None:
                overrides.append((b"UNLINK", override_key(one.name, one.digest)))
        report.descriptors += await keyspace.forget(blobs)
        report.members += await keyspace.remove(sets)
        report.overrides += await keyspace.remove(overrides)
    return report
