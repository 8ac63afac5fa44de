"""Errors as the specification words them, and the one table of what this library's exceptions become.

OCI Distribution Specification v1.1, "Error Codes"; those after ``UNSUPPORTED`` are Distribution's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import attrs

from ..errors import (
    BlobCacheError,
    BlobUnknownError,
    CacheUnavailableError,
    InvalidDigestError,
    RepositoryNameError,
    StorageError,
    UnsupportedError,
)
from .access import AccessError, UnauthorizedError
from .messages import Response, json_response

__all__ = ["Code", "Problem", "problem_of"]


@attrs.frozen
class Code:
    """An error code, the status it goes with, and what it means."""

    name: str
    status: int
    message: str


BLOB_UNKNOWN: Final = Code("BLOB_UNKNOWN", 404, "blob unknown to registry")
DENIED: Final = Code("DENIED", 403, "requested access to the resource is denied")
DIGEST_INVALID: Final = Code("DIGEST_INVALID", 400, "provided digest is not one that this registry knows")
MANIFEST_INVALID: Final = Code("MANIFEST_INVALID", 400, "manifest invalid")
MANIFEST_UNKNOWN: Final = Code("MANIFEST_UNKNOWN", 404, "manifest unknown to registry")
NAME_INVALID: Final = Code("NAME_INVALID", 400, "invalid repository name")
NAME_UNKNOWN: Final = Code("NAME_UNKNOWN", 404, "repository name not known to registry")
UNAUTHORIZED: Final = Code("UNAUTHORIZED", 401, "authentication required")
UNSUPPORTED: Final = Code("UNSUPPORTED", 405, "the operation is unsupported")
NOT_HERE: Final = Code("UNSUPPORTED", 404, "there is nothing of this name in the API")
PAGINATION_NUMBER_INVALID: Final = Code("PAGINATION_NUMBER_INVALID", 400, "invalid number of results requested")
RANGE_INVALID: Final = Code("RANGE_INVALID", 416, "there is nothing in the range")
UNAVAILABLE: Final = Code("UNAVAILABLE", 503, "service unavailable")


class Problem(Exception):  # noqa: N818 - the word of RFC 9457
    """A request that ends in an error: the code, what else is to be said of it, and headers."""

    def __init__(self, code: Code, detail: object = None, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(code, detail)
        self.code = code
        self.detail = detail
        self.headers = headers or {}

    def response(self) -> Response:
        """The answer to the client."""
        error = {"code": self.code.name, "message": self.code.message, "detail": self.detail}
        return json_response({"errors": [error]}, status=self.code.status, headers=self.headers)


# The first that fits. What storage or Redis say of themselves is for logs, and not for who asks.
_CODES: Final[tuple[tuple[type[Exception], Code], ...]] = (
    (InvalidDigestError, DIGEST_INVALID),
    (RepositoryNameError, NAME_INVALID),
    (BlobUnknownError, BLOB_UNKNOWN),
    (UnsupportedError, UNSUPPORTED),
    (StorageError, UNAVAILABLE),
    (CacheUnavailableError, UNAVAILABLE),  # of deletes alone: nothing else needs the cache
)


def problem_of(error: BlobCacheError | AccessError) -> Problem | None:
    """What an exception becomes for the client; ``None``: it is a fault of the program."""
    if isinstance(error, UnauthorizedError):
        return Problem(UNAUTHORIZED, headers={"WWW-Authenticate": error.challenge})
    if isinstance(error, AccessError):
        return Problem(DENIED)
    code = next((code for kind, code in _CODES if isinstance(error, kind)), None)
    if code is None:
        return None
    if code is UNAVAILABLE:
        return Problem(code, headers={"Retry-After": "1"})
    return Problem(code, str(error))
