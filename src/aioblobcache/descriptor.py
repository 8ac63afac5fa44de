"""Descriptors, and the two rules that tie a descriptor to the digest it is kept under."""

from __future__ import annotations

import re
from typing import Final

import attrs

from .digest import Digest
from .errors import InvalidDescriptorError, InvalidDigestError

__all__ = ["Descriptor", "is_media_type", "require_cacheable", "trusted_descriptor", "written_digests"]

_LARGEST_SIZE: Final = 2**63 - 1

# Printable ASCII only, so that a media type can stand in an HTTP header as it is. The bound is
# ours: RFC 6838 allows 255 for type and subtype, and parameters may follow.
# scripts/entry.lua applies the same rule to the media type that it finds in a hash.
_MEDIA_TYPE: Final = re.compile(r"[\x20-\x7e]{0,1024}")


def is_media_type(text: str) -> bool:
    """Whether ``text`` may be a descriptor's media type; an empty one may."""
    return _MEDIA_TYPE.fullmatch(text) is not None


def _as_digest(value: str) -> Digest:
    try:
        return Digest(value)
    except InvalidDigestError as error:
        raise InvalidDescriptorError(value, f"its digest is invalid: {error.reason}") from error


def _check_size(_: object, __: object, size: int) -> None:
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= _LARGEST_SIZE:
        raise InvalidDescriptorError(size, "size is an int of bytes from 0 to 2**63-1")


def _check_media_type(_: object, __: object, media_type: str) -> None:
    if not isinstance(media_type, str) or not is_media_type(media_type):
        raise InvalidDescriptorError(media_type, "media_type is a str of at most 1,024 printable ASCII characters")


@attrs.frozen(order=True)
class Descriptor:
    """What a registry answers about a blob (OCI Image Specification, descriptor.md).

    ``digest`` is the blob's own (canonical) digest, ``size`` its length in bytes (0 to 2**63-1),
    ``media_type`` its type: at most 1,024 printable ASCII characters (RFC 6838 and parameters), fit for a header. It
    may be empty in what a cache returns, never in what is set.

    :raises InvalidDescriptorError: a part is of the wrong type or out of range.
    """

    digest: Digest = attrs.field(converter=_as_digest)
    size: int = attrs.field(validator=_check_size)
    media_type: str = attrs.field(validator=_check_media_type)


_new = object.__new__
_set_digest = Descriptor.digest.__set__  # type: ignore[attr-defined]
_set_size = Descriptor.size.__set__  # type: ignore[attr-defined]
_set_media_type = Descriptor.media_type.__set__  # type: ignore[attr-defined]


def trusted_descriptor(digest: Digest, size: int, media_type: str) -> Descriptor:
    """A descriptor of parts that have been validated already: in a fifth of the time."""
    descriptor = _new(Descriptor)
    _set_digest(descriptor, digest)
    _set_size(descriptor, size)
    _set_media_type(descriptor, media_type)
    return descriptor


def require_cacheable(digest: Digest, descriptor: Descriptor) -> None:
    """Refuse a descriptor that may not be kept under ``digest``, in either scope.

    :raises InvalidDescriptorError: not a :class:`Descriptor`, its media type is empty, or its own
        digest is of the same algorithm as ``digest`` with another value.
    """
    if not isinstance(descriptor, Descriptor):
        raise InvalidDescriptorError(descriptor, "expected a Descriptor")
    if not descriptor.media_type:
        raise InvalidDescriptorError("", "a descriptor without media type cannot be set")
    own = descriptor.digest
    if own != digest and own.algorithm == digest.algorithm:
        raise InvalidDescriptorError(own, f"kept under {digest}, of the same algorithm, it would be another blob")


def written_digests(digest: Digest, descriptor: Descriptor) -> tuple[Digest, ...]:
    """The digests that a set in a repository writes: its key, and the blob's own of another algorithm."""
    return (digest,) if descriptor.digest == digest else (digest, descriptor.digest)
