"""Digests: ``algorithm:encoded``, valid by construction.

The grammar is the OCI Image Specification's (descriptor.md, "Digests"); the registered
algorithms there are sha256, sha384, sha512 and blake3. The ``tarsum`` forms are what
Docker registries before 2.1 stored, and may still stand in an old tree.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final, final

from .errors import DigestFormatError, DigestLengthError, DigestUnsupportedError, InvalidDigestError

__all__ = ["Digest", "as_digest"]

# Characters of the encoded part: lower-case hexadecimal, two for each byte of the hash.
_ENCODED_LENGTHS: Final = {"sha256": 64, "sha384": 96, "sha512": 128, "blake3": 64}
_TARSUM: Final = r"(?:tarsum(?:\.(?:v1|dev))?\+)?"

_ANY: Final = "|".join(f"{name}:[a-f0-9]{{{length}}}" for name, length in _ENCODED_LENGTHS.items())
_match_valid: Final = re.compile(f"{_ANY}|{_TARSUM}(?:{_ANY})").fullmatch  # the commonest first, which is quicker
_SUPPORTED_ALGORITHM: Final = re.compile(_TARSUM + "(" + "|".join(_ENCODED_LENGTHS) + ")")
_WELL_FORMED: Final = re.compile(r"[a-z0-9]+(?:[+._-][a-z0-9]+)*:[a-zA-Z0-9=_-]+")

_new: Final = str.__new__

# Twice the longest valid digest: what is longer is refused without being read through.
_LONGEST_EXAMINED: Final = 300


@final
class Digest(str):
    """A content digest, for example ``Digest("sha256:e3b0…")``.

    The grammar is the OCI Image Specification's (descriptor.md, "Digests"). A plain ``str`` in every other respect: it
    compares, hashes and prints as its text.

    :raises DigestFormatError: not a ``str``, or not of the form ``algorithm:encoded``
        (for a supported algorithm: not lower-case hexadecimal).
    :raises DigestUnsupportedError: well-formed, of an algorithm other than sha256, sha384,
        sha512, blake3 and their legacy ``tarsum[.v1|.dev]+`` forms.
    :raises DigestLengthError: the encoded part has the wrong length for its algorithm.
    """

    __slots__ = ()

    def __new__(cls, value: str) -> Digest:
        return value if type(value) is cls else as_digest(value)

    @property
    def algorithm(self) -> str:
        """The part before the colon, for example ``sha256``."""
        return self.partition(":")[0]

    @property
    def encoded(self) -> str:
        """The part after the colon: lower-case hexadecimal."""
        return self.partition(":")[2]

    @classmethod
    def of(cls, data: bytes, algorithm: str = "sha256") -> Digest:
        """Compute the digest of ``data`` by sha256, sha384 or sha512.

        :raises DigestUnsupportedError: any other algorithm (blake3 digests are accepted, but
            Python's standard library cannot compute them).
        """
        if algorithm not in ("sha256", "sha384", "sha512"):
            raise DigestUnsupportedError(algorithm, "can only be computed by sha256, sha384 or sha512")
        return cls(f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}")

    def __repr__(self) -> str:
        return f"Digest({str.__repr__(self)})"


def as_digest(value: str) -> Digest:
    """The same as ``Digest(value)``, for a value that is none yet: in two thirds of the time."""
    if not isinstance(value, str):
        raise DigestFormatError(value, "a digest is a str of the form algorithm:encoded")
    if _match_valid(value) is None:
        raise _diagnosis(value)
    return _new(Digest, value)


def _diagnosis(value: str) -> InvalidDigestError:
    """Say why a string that did not match is not a digest."""
    algorithm, colon, encoded = value[:_LONGEST_EXAMINED].partition(":")
    supported = _SUPPORTED_ALGORITHM.fullmatch(algorithm)
    if colon and supported:
        wanted = _ENCODED_LENGTHS[supported[1]]
        if len(value) > _LONGEST_EXAMINED or (encoded and len(encoded) != wanted):
            return DigestLengthError(value, f"{algorithm} takes exactly {wanted} hexadecimal digits")
        return DigestFormatError(value, f"{algorithm} takes {wanted} lower-case hexadecimal digits")
    if len(value) > _LONGEST_EXAMINED or _WELL_FORMED.fullmatch(value) is None:
        return DigestFormatError(value, "a digest has the form algorithm:encoded, for example sha256:e3b0…")
    return DigestUnsupportedError(value, f"the algorithm is none of {', '.join(_ENCODED_LENGTHS)}")
