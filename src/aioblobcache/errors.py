"""Every exception that leaves caches, read-through and storage, apart from ``asyncio.CancelledError``.

Each carries the values a handler needs as attributes, and survives pickling.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "BlobCacheError",
    "BlobUnknownError",
    "CacheUnavailableError",
    "ConfigurationError",
    "CorruptEntryError",
    "DigestFormatError",
    "DigestLengthError",
    "DigestUnsupportedError",
    "InvalidDescriptorError",
    "InvalidDigestError",
    "LifecycleError",
    "RepositoryNameError",
    "StorageError",
    "UnsupportedError",
    "one_line",
    "shorten",
]

_SHOWN_CHARACTERS = 80
_SHOWN_OF_A_REASON = 300


def shorten(value: object) -> str:
    """Name a rejected value in a message: escaped, and short however large the value is."""
    if isinstance(value, str | bytes):
        shown = repr(value[:_SHOWN_CHARACTERS])
        return shown if len(value) <= _SHOWN_CHARACTERS else f"{shown}… ({len(value)} long)"
    if isinstance(value, int | float) and not (isinstance(value, int) and value.bit_length() > 128):
        return repr(value)
    return f"a value of type {type(value).__name__}"


def one_line(reason: str) -> str:
    """Another program's words, fit for a message: one line, printable, of a bounded length."""
    line = " ".join(reason[: 2 * _SHOWN_OF_A_REASON].split())[:_SHOWN_OF_A_REASON]
    return "".join(character if character.isprintable() else "?" for character in line)


class BlobCacheError(Exception):
    """The root of this library's exceptions."""


class BlobUnknownError(BlobCacheError):
    """The blob is not known here: a miss in a cache, absence in storage.

    The specification's ``BLOB_UNKNOWN`` (OCI Distribution Specification v1.1, error codes).
    """

    def __init__(self, digest: str, repository: str | None = None) -> None:
        super().__init__(digest, repository)
        self.digest = digest
        self.repository = repository  # None: asked for globally

    def __str__(self) -> str:
        scope = "" if self.repository is None else f" in repository {self.repository}"
        return f"blob {self.digest} is unknown{scope}"


class CorruptEntryError(BlobUnknownError):
    """The cache holds something that cannot be a descriptor; the next set overwrites it."""

    def __init__(self, digest: str, repository: str | None, reason: str) -> None:
        super().__init__(digest, repository)
        self.args = (digest, repository, reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"{super().__str__()}: its cache entry is malformed: {self.reason}"


class _RejectedValueError(BlobCacheError, ValueError):
    """A value was refused before anything was sent; ``value`` is what was passed."""

    _what = "value"

    def __init__(self, value: Any, reason: str) -> None:
        super().__init__(value, reason)
        self.value = value
        self.reason = reason

    def __str__(self) -> str:
        return f"invalid {self._what} {shorten(self.value)}: {self.reason}"


class InvalidDigestError(_RejectedValueError):
    """Not a digest that this library accepts; always one of the three subclasses."""

    _what = "digest"


class DigestFormatError(InvalidDigestError):
    """Not of the form ``algorithm:encoded``."""


class DigestUnsupportedError(InvalidDigestError):
    """Well-formed, but of an algorithm that is not supported."""


class DigestLengthError(InvalidDigestError):
    """The encoded part has not the length that its algorithm gives."""


class InvalidDescriptorError(_RejectedValueError):
    """A descriptor, or a part of one, that cannot be cached."""

    _what = "descriptor"


class RepositoryNameError(_RejectedValueError):
    """Not a repository name by the OCI Distribution Specification ("Pulling manifests"), or longer than 255 characters:
    its ``NAME_INVALID``."""

    _what = "repository name"


class ConfigurationError(BlobCacheError, ValueError):
    """An option or URL that cannot be used. The message never repeats a URL's credentials."""


class LifecycleError(BlobCacheError, RuntimeError):
    """A provider was used outside its ``async with`` block, or from another event loop."""


class UnsupportedError(BlobCacheError):
    """The object behind cannot do what was asked (the specification's ``UNSUPPORTED``)."""


class CacheUnavailableError(BlobCacheError):
    """Redis did not answer, or not usefully: unreachable, timed out, read-only, overloaded, no permission.

    ``address`` says where; ``__cause__`` is redis-py's exception where there is one.
    """

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(address, reason)
        self.address = address
        self.reason = reason

    def __str__(self) -> str:
        return f"cache at {self.address} is unavailable: {self.reason}"


class StorageError(BlobCacheError):
    """Storage could not answer (permission, transport); never means that a blob is absent.

    ``path`` is the object asked for, ``reason`` what the store said, without URLs.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"storage could not answer for {self.path}: {self.reason}"
