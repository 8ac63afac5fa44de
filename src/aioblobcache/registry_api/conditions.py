"""What the headers of a request ask for beyond the thing itself: pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from ..storage import ByteRange

__all__ = ["etag_of", "is_known_to_client", "wanted_range"]

# RFC 9110, 14.1.1; no object has a size of more than 19 digits.
_RANGE: Final = re.compile(r"\s*bytes\s*=\s*(\d{0,19})\s*-\s*(\d{0,19})\s*", re.ASCII | re.IGNORECASE)
_ETAGS: Final = re.compile(r'(?:W/)?("[^"]*")')


def etag_of(digest: str) -> str:
    """The entity tag of what has this digest: it can never change."""
    return f'"{digest}"'


def is_known_to_client(headers: Mapping[str, str], etag: str) -> bool:
    """Whether the client has it already, by ``If-None-Match`` (RFC 9110, 13.1.2): compared weakly.

    A digest without quotes is taken as well, which clients of Distribution send.
    """
    known = headers.get("If-None-Match")
    if known is None:
        return False
    return known.strip() in ("*", etag, etag.strip('"')) or etag in _ETAGS.findall(known)


def wanted_range(headers: Mapping[str, str], etag: str) -> ByteRange | None:
    """The part that ``Range`` asks for; ``None``: all of it.

    As RFC 9110 (14.2) allows, a range is ignored that is malformed, of another unit, one of several, or meant for
    another version (``If-Range``, 13.1.5, which compares strongly).
    """
    text = headers.get("Range")
    if text is None or headers.get("If-Range", etag).strip() != etag:
        return None
    matched = _RANGE.fullmatch(text)
    if matched is None:
        return None
    first, last = (int(digits) if digits else None for digits in matched.groups())
    if first is None and last is None:
        return None
    if first is not None and last is not None and last < first:
        return None
    return ByteRange(first, last)
