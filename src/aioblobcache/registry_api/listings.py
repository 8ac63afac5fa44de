"""Which tags a repository has, and which repositories there are."""

from __future__ import annotations

from bisect import bisect_right

from ..storage import RegistryStorage
from .messages import Request, Response, json_response
from .paging import link_to_next, page_asked_for
from .problems import NAME_UNKNOWN, Problem

__all__ = ["Listings"]

# As many repositories as Distribution gives at once.
_MOST_REPOSITORIES = 1_000
_REPOSITORIES = 100


class Listings:
    """The lists (OCI Distribution Specification v1.1, "Listing Tags"; the catalog is Distribution's)."""

    def __init__(self, storage: RegistryStorage) -> None:
        self._storage = storage

    async def tags(self, request: Request, name: str) -> Response:
        """The tags of a repository, in the order of their bytes; all, unless ``n`` says how many."""
        page = page_asked_for(request.query)
        tags = await self._storage.tags(name).names()
        if tags is None:
            raise Problem(NAME_UNKNOWN, {"name": name})
        begin = bisect_right(tags, page.last) if page.last else 0
        end = len(tags) if page.number is None else begin + page.number
        headers = {}
        if page.number and end < len(tags):
            headers = link_to_next(f"{request.base}/{name}/tags/list", page.number, tags[end - 1])
        return json_response({"name": name, "tags": tags[begin:end]}, headers=headers)

    async def catalog(self, request: Request) -> Response:
        """The names of the repositories: a hundred at once, or ``n``, and never more than a thousand."""
        page = page_asked_for(request.query)
        number = _REPOSITORIES if page.number is None else min(page.number, _MOST_REPOSITORIES)
        names: list[str] = []
        headers = {}
        if number:
            async for name in self._storage.repositories(after=page.last):
                if len(names) == number:
                    headers = link_to_next(f"{request.base}/_catalog", number, names[-1])
                    break
                names.append(name)
        return json_response({"repositories": names}, headers=headers)
