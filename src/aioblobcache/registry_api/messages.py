"""What is asked over HTTP and what is answered, of any framework."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, Mapping
from typing import Any, Final

import attrs

__all__ = ["Request", "Response", "is_header_value", "json_response", "not_to_be_compressed"]

_HEADER_VALUE: Final = re.compile(r"[\x20-\x7e]*")


def is_header_value(text: str) -> bool:
    """Whether ``text`` can stand in a header and cannot begin another one."""
    return _HEADER_VALUE.fullmatch(text) is not None


@attrs.frozen
class Request:
    """A request below the place where the API is mounted."""

    method: str
    path: str  # decoded; what follows "/v2", for example "/library/debian/tags/list"
    base: str  # decoded; what precedes it, for links: "/v2", or "/somewhere/v2"
    query: Mapping[str, str]
    headers: Mapping[str, str]  # asked by ``get``, which pays no heed to case
    native: Any  # the framework's own request, for who decides on access


@attrs.frozen
class Response:
    """An answer. ``Content-Length`` is among the headers, and a body that is sent piece by piece has that length."""

    status: int
    headers: dict[str, str]
    body: bytes | AsyncGenerator[bytes] = b""


def not_to_be_compressed(response: Response, request_headers: Mapping[str, str]) -> dict[str, str]:
    """The answer's headers, such that middleware leaves its body alone.

    What is sent is what was pushed, and its digest is over these bytes. Middleware that compresses for who accepts it
    leaves alone what has an encoding, and one that is not named changes nothing.
    """
    if request_headers.get("accept-encoding") is None:
        return response.headers
    return response.headers | {"Content-Encoding": "identity"}


def json_response(document: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A document; its type is JSON unless ``headers`` say something else."""
    body = json.dumps(document, separators=(",", ":")).encode()
    described = {"Content-Type": "application/json", "Content-Length": str(len(body))}
    return Response(status, described | dict(headers or {}), body)
