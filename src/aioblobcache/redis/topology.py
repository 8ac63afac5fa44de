"""Where requests go: which nodes there are, by what lanes, and what to do with those that came to the wrong one.

One node that has an address is here, one that Sentinels know of in ``sentinel.py``, and Clusters in ``cluster.py``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain, cycle
from typing import Final, Protocol

from redis.asyncio import Redis

from ..descriptor import Descriptor
from ..digest import Digest
from . import scripts
from .failures import address_of
from .lane import Lane
from .lanes import LaneMaker, close_all
from .near import NearTable
from .pipeline import PipelineRoad
from .resp import Group, Reply
from .takeover import Prepare, take_over
from .wire import Answer, Scope
from .writes import OneNodeWrites, Writes

__all__ = ["OneNode", "Topology"]

# So many blobs of one stat are decoded at a time: the event loop has others to serve.
_PIECE: Final = 256


class Topology(Protocol):
    """The nodes that serve a provider. What one asks of it fails as a lane's own methods do."""

    kind: str  # "node", "sentinel" or "cluster"
    writes: Writes  # how entries are written
    elsewhere: frozenset[str]  # the codes of error replies that :meth:`resend` knows a way around

    @property
    def address(self) -> str:
        """For messages."""
        ...

    @property
    def lanes(self) -> Sequence[Lane]:
        """All there are."""
        ...

    def open(self) -> None:
        """Begin to connect, on the running event loop."""
        ...

    async def aclose(self) -> None:
        """End it all; what needs no waiting is done even if the caller is cancelled."""
        ...

    def stat(self, scope: Scope, digest: Digest, table: NearTable | None) -> asyncio.Future[Descriptor]:
        """Ask for one descriptor."""
        ...

    async def stat_many(self, scope: Scope, digests: Sequence[Digest], table: NearTable | None) -> list[Answer]:
        """Ask for several at once; misses are in their places."""
        ...

    def grouped(self, groups: Sequence[Group]) -> Sequence[Group]:
        """The same requests in the same order, in as few groups as can be."""
        ...

    async def call(self, group: Group) -> list[Reply]:
        """Send a group of requests; error replies are in their places."""
        ...

    async def resend(self, groups: Sequence[Group]) -> list[Reply]:
        """Send again what was answered by one of :attr:`elsewhere`, or could not be sent by a lane.

        Raises what redis-py raises, too. The caller bounds the time.
        """
        ...


class OneNode:
    """One node. Requests that a lane is no way for go by redis-py's own connections."""

    kind = "node"
    writes: Writes = OneNodeWrites()
    # "Elsewhere" or "not now": redis-py knows what to do with each.
    elsewhere = frozenset({"MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN", "LOADING", "READONLY", "MASTERDOWN"})

    def __init__(self, client: Redis, maker: LaneMaker, *, prepare: Prepare | None = None) -> None:
        self.address = address_of(client.connection_pool.connection_kwargs)
        self.lanes: Sequence[Lane] = ()
        self._client = client
        self._maker = maker
        self._prepare = prepare
        self._pipeline = PipelineRoad(client)
        self._next_lane: Iterator[Lane] = cycle(self.lanes)

    def open(self) -> None:
        pool = self._client.connection_pool
        connect = partial(take_over, pool.connection_class, pool.connection_kwargs, prepare=self._prepare)
        self.lanes = [
            self._maker.make(connect, self.address, scripts.FOR_ONE_NODE) for _ in range(self._maker.options.lanes)
        ]
        self._next_lane = cycle(self.lanes)

    async def aclose(self) -> None:
        await close_all(self.lanes)

    def stat(self, scope: Scope, digest: Digest, table: NearTable | None) -> asyncio.Future[Descriptor]:
        return next(self._next_lane).stat(scope, digest, table)

    async def stat_many(self, scope: Scope, digests: Sequence[Digest], table: NearTable | None) -> list[Answer]:
        lane = next(self._next_lane)
        pieces = (digests[start : start + _PIECE] for start in range(0, len(digests), _PIECE))
        answers = await asyncio.gather(*(lane.stat_many(scope, piece, table) for piece in pieces))
        return list(chain.from_iterable(answers))

    def grouped(self, groups: Sequence[Group]) -> Sequence[Group]:
        requests = [request for own, _ in groups for request in own]
        return [(requests, [shape for _, own in groups for shape in own])]

    async def call(self, group: Group) -> list[Reply]:
        return await next(self._next_lane).call(*group)

    async def resend(self, groups: Sequence[Group]) -> list[Reply]:
        [(requests, _)] = self.grouped(groups)
        return await self._pipeline.send(requests)
