"""What the stored strings say: an entry of the wire contract to a :class:`Descriptor`, or why there is none."""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NoReturn, cast

from ..descriptor import Descriptor, is_media_type, trusted_descriptor
from ..digest import Digest
from ..errors import BlobUnknownError, CorruptEntryError, InvalidDescriptorError, InvalidDigestError, shorten
from .resp import Reply, error_code, raise_reply

__all__ = ["decode_descriptor", "decode_override", "reject", "usual_descriptor"]

_LONGEST_SIZE: Final = len(str(2**63 - 1))


def usual_descriptor(digest: Digest, fields: Reply, override: bytes) -> Descriptor | None:
    """The descriptor, if all is there and as it nearly always is; else ``None``, and a closer look is due."""
    if type(fields) is not list or len(fields) != 3:
        return None
    own, size, stored = fields
    if own != digest.encode() or type(size) is not bytes or not size.isdigit() or len(size) >= _LONGEST_SIZE:
        return None
    if type(stored) is not bytes or not (media_type := _media_type(stored)):
        return None
    if override and override != stored and not (media_type := _media_type(override)):
        return None
    return trusted_descriptor(digest, int(size), media_type)


@lru_cache(maxsize=512)
def _media_type(stored: bytes) -> str:
    """A media type, or nothing if it cannot be one. There are few, and each is made once."""
    text = stored.decode("latin-1")
    return text if is_media_type(text) else ""


def decode_descriptor(digest: Digest, repository: str | None, reply: Reply) -> Descriptor:
    """Decode ``HMGET digest size mediatype``.

    Entries of 2014 have ``length`` in place of ``size``: they are misses, and get rewritten.
    """
    if not isinstance(reply, list):
        reject(digest, repository, reply, "its descriptor is of another type")
    own, size, media_type = cast("list[bytes | None]", reply)
    if own is None or size is None:
        raise BlobUnknownError(digest, repository)
    if not size.isdigit() or len(size) > _LONGEST_SIZE:
        raise CorruptEntryError(digest, repository, f"size is {shorten(size)}")
    return _descriptor(digest, repository, _own_digest(digest, repository, own), int(size), media_type or b"")


def decode_override(descriptor: Descriptor, digest: Digest, repository: str, reply: Reply) -> Descriptor:
    """Decode ``HGET mediatype``, the repository's own: it replaces the media type unless it is empty."""
    if reply is None:
        raise BlobUnknownError(digest, repository)
    if not isinstance(reply, bytes):
        reject(digest, repository, reply, "its media type in the repository is of another type")
    if not reply:
        return descriptor
    return _descriptor(digest, repository, descriptor.digest, descriptor.size, reply)


def reject(digest: Digest, repository: str | None, reply: Reply, reason: str) -> NoReturn:
    """Say why a reply is no part of an entry: its key is of another type, or the server did not answer at all."""
    if error_code(reply) == "WRONGTYPE":
        raise CorruptEntryError(digest, repository, reason)
    raise_reply(reply)


def _own_digest(digest: Digest, repository: str | None, stored: bytes) -> Digest:
    """The blob's own digest: the one asked for, or one of another algorithm."""
    if stored == digest.encode():
        return digest
    try:
        own = Digest(stored.decode("latin-1"))
    except InvalidDigestError as error:
        raise CorruptEntryError(digest, repository, f"digest is {shorten(stored)}") from error
    if own.algorithm == digest.algorithm:
        raise CorruptEntryError(digest, repository, f"digest is {own}, another blob's")
    return own


def _descriptor(digest: Digest, repository: str | None, own: Digest, size: int, media_type: bytes) -> Descriptor:
    try:
        return Descriptor(own, size, media_type.decode("latin-1"))
    except InvalidDescriptorError as error:
        raise CorruptEntryError(digest, repository, str(error)) from error
