"""The nodes of a Cluster: lanes to each of them, and who serves which slot, learned again when that changes."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import cycle
from typing import Any, Final, Protocol

from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ClusterDownError, RedisError

from ..errors import CacheUnavailableError
from . import scripts
from .failures import FAILURES, cause_of, unavailable
from .keeper import end
from .keys import probe_key, slot_of
from .lane import Lane
from .lanes import LaneMaker, close_all
from .resp import Group, Reply
from .slotmap import SLOTS, Endpoint, SlotRange, is_slots, parse_slots
from .takeover import TakeoverError, take_over

__all__ = ["Node", "Nodes", "Serving", "ask"]

_log = logging.getLogger("aioblobcache.cluster")

# Between two questions about who serves what, in seconds, each drawn from half of it to the whole: it doubles while a
# node stays away, so that a thousand processes do not ask all the time.
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 1.0

# So many keys are looked at for one in a slot of a node: enough for one that has a hundredth of the slots.
_TRIES: Final = 1_000


class Serving(Protocol):
    """Who serves a slot, or some of the requests about it."""

    def lane(self) -> Lane:
        """The lane for the next request, or ``CacheUnavailableError``."""
        ...


class Node:
    """The lanes to one node."""

    def __init__(self, endpoint: Endpoint, lanes: Sequence[Lane]) -> None:
        self.endpoint = endpoint
        self.lanes = lanes
        self._next_lane = cycle(lanes)

    def lane(self) -> Lane:  # noqa: D102
        return next(self._next_lane)

    @property
    def is_open(self) -> bool:
        """Whether all its lanes are."""
        return all(lane.is_open for lane in self.lanes)


class _Replicas:
    """The replicas of a primary: those that are connected are asked in turn, and without any the primary is."""

    def __init__(self, primary: Node, replicas: Sequence[Node]) -> None:
        self._primary = primary
        self._replicas = replicas
        self._next_replica = cycle(replicas)

    def lane(self) -> Lane:
        for _ in self._replicas:
            replica = next(self._next_replica)
            if replica.is_open:
                return replica.lane()
        return self._primary.lane()


class _Nobody:
    """Who serves a slot that no node is known to serve."""

    endpoint: Final = Endpoint("", 0)

    def lane(self) -> Lane:
        raise CacheUnavailableError("the cluster", "no node serves the slot of this key")


_NOBODY: Final = _Nobody()


class Nodes:
    """All nodes that are known, from those that ``client`` was told of on."""

    def __init__(self, client: RedisCluster, maker: LaneMaker) -> None:
        self._client = client
        self._maker = maker
        self._reads_replicas = maker.options.read_from == "replica"
        self._seeds = [Endpoint(node.host, int(node.port)) for node in client.nodes_manager.startup_nodes.values()]
        self.address = f"the cluster of {self._seeds[0]}"
        # By slot: whom to write to, and whom to read from.
        self.primaries: list[Node | _Nobody] = [_NOBODY] * SLOTS
        self.readers: Sequence[Serving] = self.primaries
        self.is_known = False  # who serves what
        self._known: dict[Endpoint, Node] = {}
        self._is_settled = asyncio.Event()  # it has been asked at least
        self._is_outdated = asyncio.Event()
        self._failure: Exception = ClusterDownError("nobody was asked yet")
        self._learner: asyncio.Task[None] | None = None
        self._leaving: set[asyncio.Task[None]] = set()

    @property
    def lanes(self) -> list[Lane]:
        """Those to all nodes."""
        return [lane for node in self._known.values() for lane in node.lanes]

    def open(self) -> None:
        """Begin to connect and to learn, on the running event loop."""
        for seed in self._seeds:
            self._at(seed)
        self._is_outdated.set()
        self._learner = asyncio.get_running_loop().create_task(self._keep_learning())

    async def aclose(self) -> None:
        """End all lanes."""
        tasks = [task for task in (self._learner, *self._leaving) if task is not None]
        for task in tasks:
            task.cancel()
        await close_all(self.lanes)
        await end(tasks)

    async def known(self) -> None:
        """Return when it is known who serves what.

        :raises CacheUnavailableError: nobody tells.
        """
        await self._is_settled.wait()
        if not self.is_known:
            raise unavailable(self.address, self._failure) from cause_of(self._failure)

    def named(self, endpoint: Endpoint) -> Node:
        """The node that others call so; the client may know that it is reached elsewhere."""
        return self._at(Endpoint(*self._client.nodes_manager.remap_host_port(*endpoint)))

    def _at(self, endpoint: Endpoint) -> Node:
        """The node there; lanes to it are begun when it is first heard of."""
        node = self._known.get(endpoint)
        if node is None:
            kwargs: dict[str, Any] = self._client.get_connection_kwargs()
            like = ClusterNode(*endpoint, **kwargs)
            connect = partial(
                take_over,
                like.connection_class,
                like.connection_kwargs,
                prepare=_permit_reading if self._reads_replicas else None,
            )
            lanes = [
                self._maker.make(
                    connect,
                    str(endpoint),
                    scripts.FOR_CLUSTER,
                    on_lost=self._is_outdated.set,
                    probe=partial(self._probe_key, endpoint),
                )
                for _ in range(self._maker.options.lanes)
            ]
            node = self._known[endpoint] = Node(endpoint, lanes)
        return node

    async def _probe_key(self, endpoint: Endpoint) -> bytes:
        await self.known()
        for _ in range(_TRIES):
            key = probe_key()
            if self.primaries[slot_of(key)] is self._known.get(endpoint):
                return key
        raise CacheUnavailableError(str(endpoint), "it serves no slots")

    def moved(self, slot: int, node: Node) -> None:
        """A node says that another one serves the slot."""
        self.primaries[slot] = node
        self._is_outdated.set()

    # --- learning --------------------------------------------------------------------------------

    async def _keep_learning(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            await self._is_outdated.wait()
            self._is_outdated.clear()
            try:
                self._use(await self._learn())
            except Exception as failure:  # whatever it is, the next question may be answered
                if str(failure) != str(self._failure):
                    _log.warning("nobody says who serves what in %s: %s", self.address, failure)
                self._failure = failure
                self._is_outdated.set()
            self._is_settled.set()
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311
            pause = min(2 * pause, _LONGEST_PAUSE)
            if all(node.is_open for node in self._known.values()):
                pause = _FIRST_PAUSE
            else:
                self._is_outdated.set()  # it may have been replaced

    async def _learn(self) -> list[SlotRange]:
        failure: Exception = self._failure
        for node in self._who_may_know():
            try:
                ranges = await self._ask(node)
            except (*FAILURES, CacheUnavailableError) as error:
                failure = error
            else:
                if ranges:
                    return ranges
                failure = ClusterDownError("no slots are served")
        raise failure

    async def _ask(self, node: Node) -> list[SlotRange]:
        [reply] = await ask(node, ([(b"CLUSTER", b"SLOTS")], [is_slots]))
        if isinstance(reply, RedisError):
            raise reply
        return parse_slots(reply, node.endpoint)

    def _who_may_know(self) -> Iterator[Node]:
        """Those that are connected, and if none of them knows those that were there at first."""
        connected = [node for node in self._known.values() if node.is_open]
        random.shuffle(connected)
        yield from connected
        for seed in self._seeds:
            yield self._at(seed)

    def _use(self, ranges: Sequence[SlotRange]) -> None:
        """Serve by what was learned: begin with new nodes, and leave those that have nothing to do any more."""
        primaries: list[Node | _Nobody] = [_NOBODY] * SLOTS
        readers: list[Serving] = [_NOBODY] * SLOTS
        used: set[Node] = set()
        for span in ranges:
            slots, count = slice(span.first, span.last + 1), span.last + 1 - span.first
            primary = self.named(span.primary)
            primaries[slots] = [primary] * count
            used.add(primary)
            if self._reads_replicas:
                replicas = [self.named(endpoint) for endpoint in span.replicas]
                readers[slots] = [_Replicas(primary, replicas)] * count
                used.update(replicas)
        self.primaries = primaries
        self.readers = readers if self._reads_replicas else primaries
        if not self.is_known:
            _log.info("%s has %d nodes that serve", self.address, len(used))
        self.is_known = True
        for node in [*self._known.values()]:
            if node not in used:
                self._leave(node)

    def _leave(self, node: Node) -> None:
        del self._known[node.endpoint]
        task = asyncio.get_running_loop().create_task(self._drain(node))
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    async def _drain(self, node: Node) -> None:
        """End the lanes to a node when whoever has asked it has been answered, or told that it was too late."""
        try:
            await asyncio.sleep(self._maker.options.timeout)
        finally:
            await self._maker.unmake(node.lanes)


async def ask(serving: Serving, group: Group) -> list[Reply]:
    """Send a group of requests by a lane: there is no other road in a Cluster.

    :raises CacheUnavailableError: no answer in time, or no lane.
    """
    lane = serving.lane()
    try:
        return await lane.call(*group)
    except TakeoverError as error:
        raise unavailable(lane.address, error) from error


async def _permit_reading(connection: AbstractConnection) -> None:
    """Tell a replica that its answers may be old: otherwise it sends everyone to its primary."""
    await connection.send_command("READONLY")
    await connection.read_response()
