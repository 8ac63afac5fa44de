"""Lists that are given page by page: pure (OCI Distribution Specification v1.1, "Listing Tags")."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import quote, urlencode

import attrs

from .problems import PAGINATION_NUMBER_INVALID, Problem

__all__ = ["Page", "link_to_next", "page_asked_for"]

# More digits than any list has entries.
_LONGEST_NUMBER: Final = 9

# Longer than any tag, or any name of a repository.
_LONGEST_LAST: Final = 255


@attrs.frozen
class Page:
    """Which part of a list is wanted: at most ``number`` entries (``None``: all), those after ``last``."""

    number: int | None
    last: str


def page_asked_for(query: Mapping[str, str]) -> Page:
    """The page that ``n`` and ``last`` ask for; whatever else is in a query is ignored.

    :raises Problem: ``n`` is no number.
    """
    number = query.get("n")
    if number is not None and not (number.isascii() and number.isdigit() and len(number) <= _LONGEST_NUMBER):
        raise Problem(PAGINATION_NUMBER_INVALID, {"n": number[:80]})
    return Page(None if number is None else int(number), query.get("last", "")[:_LONGEST_LAST])


def link_to_next(path: str, number: int, last: str) -> dict[str, str]:
    """The header that says where the list goes on (RFC 8288), relative to the host; ``path`` is a decoded one."""
    return {"Link": f'<{quote(path)}?{urlencode({"n": number, "last": last})}>; rel="next"'}
