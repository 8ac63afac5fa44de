"""The master that Sentinels know of, as a topology: one node, which is another one after a failover.

Each lane asks the Sentinels whenever it connects, and believes nobody who is no master. It leaves a master that a
Sentinel says is none any more, or that refuses a write.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.exceptions import ConnectionError as RedisConnectionError

from .cancellation import keep_cancellation
from .keeper import end
from .lanes import LaneMaker
from .resp import Group, Reply, error_code
from .topology import OneNode

__all__ = ["MasterByName"]

_log = logging.getLogger("aioblobcache.sentinel")

_CHANNEL: Final = "+switch-master"

# Seconds without a word from a Sentinel after which it is asked, and found dead if it says nothing for as long again.
_LONGEST_SILENCE: Final = 5.0

# Before a Sentinel that was lost is tried again, in seconds.
_PAUSE: Final = 1.0


class MasterByName(OneNode):
    """The master of a service."""

    kind = "sentinel"

    def __init__(self, client: Redis, maker: LaneMaker) -> None:
        super().__init__(client, maker, prepare=_require_master)
        pool = client.connection_pool
        assert isinstance(pool, SentinelConnectionPool)  # noqa: S101
        self._service: str = pool.service_name
        self._sentinels: Sentinel = pool.sentinel_manager
        self.address = f"{self._service} by Sentinel"
        self._watchers: list[asyncio.Task[None]] = []

    def open(self) -> None:
        super().open()
        loop = asyncio.get_running_loop()
        self._watchers = [loop.create_task(self._keep_watching(sentinel)) for sentinel in self._sentinels.sentinels]

    async def aclose(self) -> None:
        for watcher in self._watchers:
            watcher.cancel()
        await super().aclose()
        await end(self._watchers)

    async def call(self, group: Group) -> list[Reply]:
        replies = await super().call(group)
        if any(error_code(reply) == "READONLY" for reply in replies):
            self._leave(None, "it refuses writes")
        return replies

    def _leave(self, old: tuple[str, int] | None, why: str) -> None:
        """Give up the connections to a master, or to any, that is none any more."""
        for lane in self.lanes:
            if lane.is_open and (old is None or lane.peer == old):
                lane.lost(RedisConnectionError(f"the master of {self._service} has been replaced: {why}"))

    # --- watching --------------------------------------------------------------------------------

    async def _keep_watching(self, sentinel: Redis) -> None:
        while True:
            try:
                await self._watch(sentinel)
            except Exception as error:  # redis-py's connecting fails in more ways than it declares
                _log.debug("lost a Sentinel of %s: %r", self._service, error)
            await asyncio.sleep(_PAUSE)

    async def _watch(self, sentinel: Redis) -> None:
        async with sentinel.pubsub() as pubsub:
            await keep_cancellation(pubsub.subscribe(_CHANNEL))
            is_silent = False
            while True:
                message = await keep_cancellation(pubsub.get_message(timeout=_LONGEST_SILENCE))
                if message is not None:
                    is_silent = False
                    self._heard(sentinel, message)
                elif is_silent:
                    raise TimeoutError
                else:
                    is_silent = True
                    await keep_cancellation(pubsub.ping())

    def _heard(self, sentinel: Redis, message: dict[str, Any]) -> None:
        if message["type"] != "message":
            return
        data = message["data"]
        words = (data.decode() if isinstance(data, bytes) else data).split()
        if len(words) != 5 or words[0] != self._service or not words[2].isdecimal():
            return
        # The others hear of it from this one, up to two seconds later: it is to be asked first.
        known = self._sentinels.sentinels
        known.sort(key=lambda other: other is not sentinel)
        self._leave((words[1], int(words[2])), "a Sentinel says so")


async def _require_master(connection: AbstractConnection) -> None:
    """Sentinels that have been cut off name a master of old."""
    await connection.send_command("ROLE")
    role = await connection.read_response()
    if role[0] not in (b"master", "master"):
        raise RedisConnectionError("the Sentinels named a node that is no master")
