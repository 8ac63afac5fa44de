"""What a path of the API names: pure.

A path is read from its end, since a repository may be called ``a/blobs/b`` or ``tags/list``.
"""

from __future__ import annotations

from enum import Enum, auto

import attrs

__all__ = ["Endpoint", "Route", "find_route"]


class Endpoint(Enum):
    """The endpoints of the OCI Distribution Specification v1.1 ("Endpoints"), and Distribution's catalog."""

    BASE = auto()
    CATALOG = auto()
    BLOB = auto()
    MANIFEST = auto()
    TAGS = auto()
    REFERRERS = auto()
    UPLOADS = auto()


@attrs.frozen
class Route:
    """An endpoint; the repository's name as it is written, and what is asked for in it."""

    endpoint: Endpoint
    name: str = ""
    reference: str = ""


_BY_REFERENCE = {"blobs": Endpoint.BLOB, "manifests": Endpoint.MANIFEST, "referrers": Endpoint.REFERRERS}


def find_route(path: str) -> Route | None:
    """What ``path``, the part behind ``/v2``, names; ``None``: nothing."""
    if path in ("", "/"):
        return Route(Endpoint.BASE)
    if path == "/_catalog":
        return Route(Endpoint.CATALOG)
    parts = path.removeprefix("/").split("/")
    if parts[-2:] == ["tags", "list"] and len(parts) > 2:
        return Route(Endpoint.TAGS, "/".join(parts[:-2]))
    if len(parts) > 3 and parts[-3:-1] == ["blobs", "uploads"]:
        return Route(Endpoint.UPLOADS, "/".join(parts[:-3]), parts[-1])
    if len(parts) > 2 and parts[-1] and parts[-2] in _BY_REFERENCE:
        return Route(_BY_REFERENCE[parts[-2]], "/".join(parts[:-2]), parts[-1])
    return None
