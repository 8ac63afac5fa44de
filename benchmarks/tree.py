"""A registry of any size that nobody needs to remember: the digest of a blob says where it is, and how large.

So storage can be asked in memory without holding anything, and its files and its cache be made from numbers alone.
A tenth of all blobs is in one repository, the rest in 499 others; one blob in sixteen is a manifest.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Final, TypeAlias

import attrs
from redis import Redis

from aioblobcache import BlobUnknownError, Descriptor, Digest
from aioblobcache.maintenance import Fault, InRepository, Note
from aioblobcache.media_types import OCI_MANIFEST, OCTET_STREAM
from aioblobcache.redis.keys import descriptor_key, membership_key, override_key
from aioblobcache.redis.resp import Request
from aioblobcache.storage import StorageLayout

from .server import entry

__all__ = [
    "NAMES",
    "MemoryStorage",
    "MemoryTruth",
    "Planted",
    "blob",
    "cache_of",
    "described",
    "planted",
    "repository_of",
    "require_cached",
    "write_tree",
]

NAMES: Final = ("library/monolith", *(f"team-{number % 20}/service-{number}" for number in range(499)))

# What some hexadecimal digits of a digest say. A layer's file is as long as its size, so sizes are small.
_NAME_BY_DIGITS: Final = {f"{at:03x}": NAMES[0 if at < 410 else 1 + at % 499] for at in range(4096)}
_SIZE_BY_DIGITS: Final = {f"{at:02x}": 128 + at for at in range(256)}
_LINKED: Final = {digits: InRepository(True, size) for digits, size in _SIZE_BY_DIGITS.items()}
_UNLINKED: Final = {digits: InRepository(False, size) for digits, size in _SIZE_BY_DIGITS.items()}
_NOT_THERE: Final = InRepository(False, None)

_MANIFEST: Final = b'{"schemaVersion":2,"mediaType":"%b"}' % OCI_MANIFEST.encode()

# What a finding says: its kind, the repository or none, the blob.
Found: TypeAlias = tuple[Fault | Note, str | None, Digest | None]

_EACH: Final = 3  # faults that are planted of each kind
_SAMPLE: Final = 1_000


def blob(number: int) -> Digest:
    """The blob of a number."""
    return Digest(f"sha256:{hashlib.sha256(b'blob %d' % number).hexdigest()}")


def repository_of(digest: Digest) -> str:
    """The one that links it."""
    return _NAME_BY_DIGITS[digest[11:14]]


def described(digest: Digest) -> Descriptor:
    """What storage says of a blob in its repository."""
    return Descriptor(digest, _SIZE_BY_DIGITS[digest[9:11]], OCI_MANIFEST if _is_manifest(digest) else OCTET_STREAM)


def _is_manifest(digest: Digest) -> bool:
    return digest[14] == "0"


# --- in memory -----------------------------------------------------------------------------------


@attrs.frozen
class MemoryTruth:
    """What an audit asks of storage, answered at once: all blobs that could be are there, except the ``absent``."""

    absent: frozenset[Digest] = frozenset()

    async def sizes(self, digests: Sequence[Digest]) -> Sequence[int | None]:
        absent = self.absent
        return [None if digest in absent else _SIZE_BY_DIGITS[digest[9:11]] for digest in digests]

    async def in_repository(self, name: str, digests: Sequence[Digest]) -> Sequence[InRepository]:
        return [self._in_repository(name, digest) for digest in digests]

    def _in_repository(self, name: str, digest: Digest) -> InRepository:
        if digest in self.absent:
            return _NOT_THERE
        return (_LINKED if _NAME_BY_DIGITS[digest[11:14]] == name else _UNLINKED)[digest[9:11]]

    def manifests(self) -> AsyncIterator[Digest]:
        raise NotImplementedError("only notes need it")

    async def manifest_types(self, digests: Sequence[Digest]) -> Sequence[str | None]:
        raise NotImplementedError("only notes need it")


@attrs.frozen
class _Links:
    descriptors: dict[Digest, Descriptor]

    async def links(self) -> AsyncIterator[Digest]:
        for digest in self.descriptors:
            yield digest

    async def stat(self, digest: Digest) -> Descriptor:
        try:
            return self.descriptors[digest]
        except KeyError:
            raise BlobUnknownError(digest) from None


class MemoryStorage:
    """What a warm-up asks of storage, of the first so many blobs: made beforehand, and answered at once."""

    def __init__(self, blobs: int) -> None:
        self._blobs: dict[str, _Links] = {name: _Links({}) for name in NAMES}
        self._manifests: dict[str, _Links] = {name: _Links({}) for name in NAMES}
        for digest in map(blob, range(blobs)):
            links = self._manifests if _is_manifest(digest) else self._blobs
            links[repository_of(digest)].descriptors[digest] = described(digest)

    async def repositories(self, *, after: str = "") -> AsyncIterator[str]:
        """Those that come after one."""
        for name in sorted(NAMES):
            if name > after:
                yield name

    def blobs(self, name: str) -> _Links:
        """The layers and configs of a repository."""
        return self._blobs[name]

    def manifests(self, name: str) -> _Links:
        """Its manifests."""
        return self._manifests[name]


# --- as files ------------------------------------------------------------------------------------


def write_tree(root: Path, numbers: Iterable[int]) -> None:
    """Add the data and the links of some blobs: two files for each, in two folders."""
    layout = StorageLayout()
    for digest in map(blob, numbers):
        name, size = repository_of(digest), described(digest).size
        links = layout.revision_links(name) if _is_manifest(digest) else layout.layer_links(name)
        _write(f"{root}/{layout.data(digest)}", (_MANIFEST if _is_manifest(digest) else b"").ljust(size))
        _write(f"{root}/{layout.link(links, digest)}", digest.encode())


def _write(path: str, content: bytes) -> None:
    folder = os.path.dirname(path)
    try:
        os.mkdir(folder)
    except FileNotFoundError:
        os.makedirs(folder)
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    os.write(file, content)
    os.close(file)


# --- as a cache ----------------------------------------------------------------------------------


def cache_of(digest: Digest, *, name: str | None = None) -> Iterator[Request]:
    """The requests by which a Go registry keeps a blob: in its repository, or in another."""
    descriptor = described(digest)
    return entry(name or repository_of(digest), digest, descriptor.size, descriptor.media_type)


def require_cached(client: Redis, blobs: int) -> None:
    """Raise unless these blobs and no others are kept as a Go registry would; of some, each field is looked at."""
    members = sum(int(client.scard(membership_key(name))) for name in NAMES)
    if members != blobs:
        raise AssertionError(f"{members:,} memberships, and not {blobs:,}")
    for digest in map(blob, range(0, blobs, max(1, blobs // _SAMPLE))):
        name, wanted = repository_of(digest), described(digest)
        fields = {b"digest": digest.encode(), b"size": b"%d" % wanted.size, b"mediatype": wanted.media_type.encode()}
        kept = (client.hgetall(descriptor_key(digest)), client.hgetall(override_key(name, digest)))
        if kept != (fields, {b"mediatype": fields[b"mediatype"]}) or not client.sismember(membership_key(name), digest):
            raise AssertionError(f"{kept} is kept of {digest} in {name}")


@attrs.frozen
class Planted:
    """What is done to a cache, and which faults an audit must find then; by default nothing, and none."""

    requests: Sequence[Request] = ()
    faults: frozenset[Found] = frozenset()
    entries: int = 0  # that are cached besides
    absent: frozenset[Digest] = frozenset()  # what is cached, and not stored


def planted(blobs: int) -> Planted:
    """Some faults of each kind in the cache of the first so many blobs."""
    size, text, own_type, linked = (list(map(blob, range(at, 4 * _EACH, 4))) for at in range(4))
    absent = list(map(blob, range(blobs, blobs + _EACH)))
    elsewhere = [(NAMES[repository_of(digest) == NAMES[0]], digest) for digest in linked]
    requests = [
        *((b"HSET", descriptor_key(digest), b"size", b"%d" % (described(digest).size + 1)) for digest in size),
        *((b"HSET", descriptor_key(digest), b"size", b"many") for digest in text),
        *((b"HSET", override_key(repository_of(digest), digest), b"mediatype", b"\n") for digest in own_type),
        *chain.from_iterable(cache_of(digest, name=name) for name, digest in elsewhere),
        *chain.from_iterable(map(cache_of, absent)),
    ]
    faults: list[Found] = [
        *((Fault.WRONG_SIZE, None, digest) for digest in size),
        *((Fault.MALFORMED, None, digest) for digest in text),
        *((Fault.MALFORMED, repository_of(digest), digest) for digest in own_type),
        *((Fault.NOT_LINKED, name, digest) for name, digest in elsewhere),
        *((Fault.MISSING_DATA, name, digest) for digest in absent for name in (None, repository_of(digest))),
    ]
    return Planted(requests, frozenset(faults), len(elsewhere) + 2 * len(absent), frozenset(absent))
