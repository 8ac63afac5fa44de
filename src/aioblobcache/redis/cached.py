"""What is kept of a blob, seen by who looks after it: also what a stat would pass over in silence. No I/O."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import attrs
from redis.exceptions import RedisError

from ..descriptor import Descriptor, is_media_type
from ..digest import Digest, as_digest
from ..errors import BlobUnknownError, CorruptEntryError, InvalidDigestError, RepositoryNameError, shorten
from ..names import validate_repository_name
from .keys import descriptor_key, subject_of
from .resp import Reply, Request, error_code, is_text
from .stored import decode_descriptor, usual_descriptor

__all__ = [
    "Cached",
    "CachedInRepository",
    "Subject",
    "decode_cached",
    "decode_in_repository",
    "descriptor_request",
    "digests_among",
    "is_four_fields",
    "subject_of_key",
]


@attrs.frozen
class Subject:
    """What a key of the layout is about: a blob, a repository's set (no digest), or a repository's media type."""

    name: str | None
    digest: Digest | None


def subject_of_key(key: bytes) -> Subject | None:
    """What a key is about; ``None``: it is none of the three, or names no repository or digest that can be."""
    name, digest = subject_of(key)
    if not (name or digest):
        return None
    try:
        return Subject(validate_repository_name(name) if name else None, as_digest(digest) if digest else None)
    except (InvalidDigestError, RepositoryNameError):
        return None


@attrs.frozen
class Cached:
    """What is kept of a blob globally; all empty: nothing that a stat would see."""

    descriptor: Descriptor | None = None
    malformed: str | None = None  # why it cannot be a descriptor
    is_legacy: bool = False  # `length` in place of `size`, as releases of 2014 wrote it


@attrs.frozen
class CachedInRepository:
    """What is kept of a member of a repository."""

    blob: Cached
    media_type: str | None = None  # the repository's own; None: there is none
    malformed: str | None = None  # why it cannot be one

    @property
    def is_known(self) -> bool:
        """Whether a stat in the repository finds it."""
        return self.blob.descriptor is not None and self.media_type is not None


def descriptor_request(digest: Digest) -> Request:
    """Ask for the fields of a global entry, and for the one of 2014."""
    return (b"HMGET", descriptor_key(digest), b"digest", b"size", b"mediatype", b"length")


def is_four_fields(reply: object) -> bool:
    """What the reply to that can be."""
    return isinstance(reply, list) and len(reply) == 4 and all(map(is_text, reply))


def decode_cached(digest: Digest, reply: Reply) -> Cached:
    """Decode the reply to :func:`descriptor_request`. An error reply of another kind than WRONGTYPE is raised."""
    if isinstance(reply, RedisError) and error_code(reply) != "WRONGTYPE":
        raise reply
    fields = reply[:3] if isinstance(reply, list) else reply
    if usual := usual_descriptor(digest, fields, b""):
        return Cached(usual)
    try:
        return Cached(decode_descriptor(digest, None, fields))
    except CorruptEntryError as error:
        return Cached(malformed=error.reason)
    except BlobUnknownError:
        length = reply[3] if isinstance(reply, list) else None
        return Cached(is_legacy=length is not None)


def decode_in_repository(blob: Cached, reply: Reply) -> CachedInRepository:
    """Add the reply to ``HGET mediatype``, the repository's own. An error reply is raised as above."""
    if error_code(reply) == "WRONGTYPE":
        return CachedInRepository(blob, malformed="its media type in the repository is of another type")
    if isinstance(reply, RedisError):
        raise reply
    stored = cast("bytes | None", reply)
    if stored is None:
        return CachedInRepository(blob)
    media_type = stored.decode("latin-1")
    if not is_media_type(media_type):
        return CachedInRepository(blob, malformed=f"its media type in the repository is {shorten(stored)}")
    return CachedInRepository(blob, media_type)


def digests_among(members: Iterable[bytes]) -> Iterable[Digest]:
    """Those members of a set that are digests."""
    for member in members:
        try:
            yield as_digest(member.decode("latin-1"))
        except InvalidDigestError:
            continue
