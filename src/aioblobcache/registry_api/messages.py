"""What is asked over HTTP and what is answered, of any framework."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

import attrs

__all__ = ["Request", "Response", "is_header_value", "json_response"]

_HEADER_VALUE: Final = re.compile(r"[\x20-\x7e]*")


def is_header_value(text: str) -> bool:
    """Whether ``text`` can stand in a header and cannot begin another one."""
    return _HEADER_VALUE.fullmatch(text) is not None


@attrs.frozen
class Request:
    """A request below the place where the API is mounted."""

    method: str
    path: str  # decoded; what follows "/v2", for example "/library/debian/tags/list"
    base: str  # what precedes it, as a client wrote it, for links: "/v2", or "/somewhere/v2"
    query: Mapping[str, str]
    headers: Mapping[str, str]  # asked by ``get``, which pays no heed to case
    native: Any  # the framework's own request, for who decides on access


@attrs.frozen
class Response:
    """An answer. ``Content-Length`` is among the headers, and a body that is sent piece by piece has that length."""

    status: int
    headers: dict[str, str]
    body: bytes | AsyncIterator[bytes] = b""


def json_response(document: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A document; its type is JSON unless ``headers`` say something else."""
    body = json.dumps(document, separators=(",", ":")).encode()
    described = {"Content-Type": "application/json", "Content-Length": str(len(body))}
    return Response(status, described | dict(headers or {}), body)
