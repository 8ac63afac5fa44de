"""A Cluster as a topology: requests go by the slots of their keys.

The three requests of a scoped stat go to up to three nodes, in one tick and one write each, and are joined when
the last reply has come. MOVED and ASK are followed by the lanes, not by redis-py: that closes all its connections
after some of them, under everyone who waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import chain
from typing import Final

from redis.asyncio.cluster import RedisCluster

from ..descriptor import Descriptor
from ..digest import Digest
from ..errors import BlobUnknownError
from .failures import FAILURES, cause_of, unavailable
from .keys import key_of, slot_of
from .lane import Lane
from .lanes import LaneMaker
from .lease import Lease
from .near import NearTable, Reading
from .nodes import Node, Nodes, Serving, ask
from .pending import PendingJointStat, RefusedError
from .resp import Group, Reply, error_code, is_text
from .slotmap import Endpoint, parse_redirect
from .wire import Answer, Scope
from .writes import ClusterWrites, Writes

__all__ = ["Cluster"]

# A slot that is being moved is found after one redirection, or two; more of them go in a circle.
_MOST_REDIRECTIONS: Final = 8

# Before a request is repeated whose keys are on two nodes just now, in seconds.
_TRY_AGAIN: Final = 0.01


class Cluster:
    """The nodes of a Cluster, whoever they are just now."""

    kind = "cluster"
    writes: Writes = ClusterWrites()
    elsewhere = frozenset({"MOVED", "ASK", "TRYAGAIN"})

    def __init__(self, client: RedisCluster, maker: LaneMaker) -> None:
        self._nodes = Nodes(client, maker)
        self._timeout = maker.options.timeout
        self._unsent: dict[tuple[Scope, Digest], PendingJointStat] = {}

    @property
    def address(self) -> str:
        return self._nodes.address

    @property
    def lanes(self) -> Sequence[Lane]:
        return self._nodes.lanes

    def open(self) -> None:
        self._nodes.open()

    async def aclose(self) -> None:
        await self._nodes.aclose()

    # --- stats -----------------------------------------------------------------------------------

    def stat(self, scope: Scope, digest: Digest, table: NearTable | None) -> asyncio.Future[Descriptor]:
        if not self._nodes.is_known:
            return asyncio.get_running_loop().create_task(self._stat_later(scope, digest, table))
        readers = self._nodes.readers
        serving = [readers[slot] for slot in scope.stat_slots(digest)]
        if serving.count(serving[0]) == len(serving):
            return serving[0].lane().stat(scope, digest, table)
        return self._joint_stat(scope, digest, table, serving)

    async def _stat_later(self, scope: Scope, digest: Digest, table: NearTable | None) -> Descriptor:
        async with self._knowing():
            return await self.stat(scope, digest, table)

    @asynccontextmanager
    async def _knowing(self) -> AsyncIterator[None]:
        """The first calls wait until it is known who serves what, and have no more time than others."""
        if self._nodes.is_known:
            yield
            return
        try:
            async with asyncio.timeout(self._timeout):
                await self._nodes.known()
                yield
        except TimeoutError as error:
            raise unavailable(self.address, error) from error

    def _joint_stat(
        self, scope: Scope, digest: Digest, table: NearTable | None, serving: Sequence[Serving]
    ) -> asyncio.Future[Descriptor]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Descriptor] = loop.create_future()
        key = (scope, digest)
        # As in a lane: an answer may be shared only while no part of the question has been sent. Nor if nobody waits
        # for it any more, be it that a lane has failed it: then parts of it may have been dropped.
        waiting = self._unsent.get(key)
        if waiting is not None and not waiting.is_sent and not waiting.abandoned():
            waiting.futures.append(future)
            return future
        if not self._unsent:
            loop.call_soon(self._unsent.clear)
        places: dict[Serving, list[int]] = {}
        for place, node in enumerate(serving):
            places.setdefault(node, []).append(place)
        lanes = [node.lane() for node in places]
        reading = None if table is None else _reading(table, digest, lanes)
        whole = PendingJointStat(scope, digest, reading, future, loop.time() + self._timeout)
        requests = scope.encode_stat_parts(digest)
        try:
            for lane, own in zip(lanes, places.values(), strict=True):
                lane.enqueue(whole.part(own, [requests[place] for place in own]))
        except BaseException:
            future.cancel()  # nobody waits for the parts that are under way
            raise
        self._unsent[key] = whole
        return future

    async def stat_many(self, scope: Scope, digests: Sequence[Digest], table: NearTable | None) -> list[Answer]:
        async with self._knowing():
            return await asyncio.gather(*(self._answer(scope, digest, table) for digest in digests))

    async def _answer(self, scope: Scope, digest: Digest, table: NearTable | None) -> Answer:
        try:
            return await self._stat_wherever(scope, digest, table)
        except BlobUnknownError as miss:
            return miss
        except FAILURES as error:
            raise unavailable(self.address, error) from cause_of(error)

    async def _stat_wherever(self, scope: Scope, digest: Digest, table: NearTable | None) -> Descriptor:
        try:
            return await self.stat(scope, digest, table)
        except RefusedError as refusal:
            if error_code(refusal.reply) not in self.elsewhere:
                raise
            deadline = refusal.deadline
        async with asyncio.timeout_at(deadline):
            return scope.decode_stat(digest, await self.resend(scope.stat_groups(digest)))

    # --- the rest --------------------------------------------------------------------------------

    def grouped(self, groups: Sequence[Group]) -> Sequence[Group]:
        return groups

    async def call(self, group: Group) -> list[Reply]:
        slot = slot_of(key_of(group))
        async with self._knowing():
            node = self._nodes.primaries[slot]
            replies = await ask(node, group)
        self._redirected(slot, node.endpoint, replies)  # who may not be sent on learns of it for the next
        return replies

    async def resend(self, groups: Sequence[Group]) -> list[Reply]:
        async with self._knowing():
            return [*chain.from_iterable(await asyncio.gather(*map(self._follow, groups)))]

    async def _follow(self, group: Group) -> list[Reply]:
        """Send requests to where their slot is, wherever that turns out to be."""
        slot = slot_of(key_of(group))
        node, asking = self._nodes.primaries[slot], False
        replies: list[Reply] = []
        redirections = 0
        while redirections < _MOST_REDIRECTIONS:
            replies = await (_ask_with_permission if asking else ask)(node, group)
            if not any(error_code(reply) in self.elsewhere for reply in replies):
                break
            redirected = self._redirected(slot, node.endpoint, replies)
            if redirected is None:  # its keys are on two nodes, until the rest of them has been moved as well
                await asyncio.sleep(_TRY_AGAIN)
                continue
            redirections += 1
            node, asking = redirected
        return replies

    def _redirected(self, slot: int, asked: Endpoint, replies: Sequence[Reply]) -> tuple[Node, bool] | None:
        """Whom a node says to ask instead, and whether by ASKING; that a slot has moved for good is remembered."""
        redirect = next(filter(None, (parse_redirect(reply, asked) for reply in replies)), None)
        if redirect is None:
            return None
        node = self._nodes.named(redirect.endpoint)
        if redirect.is_for_good:
            self._nodes.moved(slot, node)
        return node, not redirect.is_for_good


async def _ask_with_permission(serving: Serving, group: Group) -> list[Reply]:
    """Ask a node that takes the slot over; ASKING is for one request, so each needs its own."""
    requests, shapes = group
    asking = [word for request in requests for word in ((b"ASKING",), request)]
    replies = await ask(serving, (asking, [shape for own in shapes for shape in (is_text, own)]))
    return replies[1::2]


def _reading(table: NearTable, digest: Digest, lanes: Sequence[Lane]) -> Reading | None:
    """An answer that may be kept while all the lanes that it comes by are known to tell of changes.

    That must be known when the question is put: a part may be answered by a lane that tells of nothing yet, and the
    last of them come when it does.
    """
    lease = Lease.joint({lane.source.lease for lane in lanes if lane.source is not None})
    return Reading(table.near, digest, table.membership, lease) if lease.is_confirmed else None
