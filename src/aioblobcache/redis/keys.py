"""The key layout that CNCF Distribution registries read and write, and the guards beside it.

====================================== ====== ============================================
``blobs::<digest>``                    hash   ``digest``, ``size`` (decimal), ``mediatype``
``repository::<name>::blobs``          set    the digests linked into the repository
``repository::<name>::blobs::<digest>``  hash   ``mediatype``: the repository's own
====================================== ====== ============================================

The first three are shared with other programs and fixed. A guard carries the key that makes a
blob visible as its hash tag, so that a Cluster keeps both in one slot.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from redis.crc import key_slot

from .resp import Group, Request

__all__ = [
    "descriptor_guard_key",
    "descriptor_key",
    "key_of",
    "keys_of",
    "membership_guard_key",
    "membership_key",
    "override_key",
    "probe_key",
    "slot_of",
    "subject_of",
]


def descriptor_key(digest: str) -> bytes:
    """The global descriptor of a blob."""
    return f"blobs::{digest}".encode()


def membership_key(name: str) -> bytes:
    """The set of the digests that are linked into a repository."""
    return f"repository::{name}::blobs".encode()


def override_key(name: str, digest: str) -> bytes:
    """A repository's own media type for a blob."""
    return f"repository::{name}::blobs::{digest}".encode()


def descriptor_guard_key(digest: str) -> bytes:
    """The guard of the global descriptor."""
    return f"aioblobcache::guard::{{blobs::{digest}}}".encode()


def membership_guard_key(name: str, digest: str) -> bytes:
    """The guard of a blob's membership in a repository."""
    return f"aioblobcache::guard::{{repository::{name}::blobs}}::{digest}".encode()


def probe_key() -> bytes:
    """A key that nobody has used before, by which a near cache sees whether it is told of changes."""
    return f"aioblobcache::probe::{secrets.token_hex(16)}".encode()


def subject_of(key: bytes) -> tuple[str, str]:
    """The repository and the digest that one of the three shared keys is about; empty where it is about none.

    Of a key that only looks like one of them the result is no name, or no digest, that anyone holds.
    """
    text = key.decode("latin-1")
    if text.startswith("blobs::"):
        return "", text[7:]
    if text.startswith("repository::"):
        name, separator, rest = text[12:].partition("::blobs")
        if separator and name and (not rest or (rest.startswith("::") and len(rest) > 2)):
            return name, rest[2:]
    return "", ""


def slot_of(key: bytes) -> int:
    """The slot of a Cluster that a key lies in, by its hash tag if it has one."""
    return key_slot(key)


def keys_of(request: Request) -> Sequence[bytes]:
    """The keys that a request is about; of a command that is about none the result means nothing."""
    if request[0] == b"EVALSHA":
        return request[3 : 3 + int(request[2])]
    return request[2:3] if request[0] == b"MEMORY" else request[1:2]


def key_of(group: Group) -> bytes:
    """A key that the last of some requests is about."""
    requests, _ = group
    return keys_of(requests[-1])[0]
