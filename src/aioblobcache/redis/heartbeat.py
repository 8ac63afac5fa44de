"""The heartbeat of a lane with a near cache: tracking is switched on, seen to work, and confirmed again and again."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Final

from redis.exceptions import RedisError

from ..errors import CacheUnavailableError, one_line
from .lane import Lane
from .near import Source
from .resp import Reply, Request, Shape, is_text

__all__ = ["Heartbeat", "boot_time"]

_log = logging.getLogger("aioblobcache.near")

# Seconds that go on while the machine is suspended: those of CLOCK_MONOTONIC stand still on Linux.
boot_time: Final[Callable[[], float]] = partial(
    time.clock_gettime, getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
)

# So many heartbeats in the life of a lease: some may be late without a gap.
_BEATS: Final = 4

# Before a server that refused is asked again, in seconds.
_PAUSE: Final = 1.0

_UNCONFIRMED: Final = "no lane is connected and confirmed"

_ROLE: Final[Request] = (b"ROLE",)


class _RefusedError(Exception):
    """There can be no near cache on this connection now; the text says why."""


class Heartbeat:
    """Keeps the lease of one source, on one connection after the other.

    ``probe_key`` gives a key of nobody's, in a slot of the server if it has slots.
    """

    def __init__(
        self,
        source: Source,
        address: str,
        probe_key: Callable[[], Awaitable[bytes]],
        *,
        max_staleness: float,
        clock: Callable[[], float],
        report: Callable[[], None],
    ) -> None:
        self.source = source
        self._refusal: str | None = None
        self._is_on = False  # as the log has it
        self._address = address
        self._probe_key = probe_key
        self._interval = max_staleness / _BEATS
        self._clock = clock
        self._report = report

    @property
    def why_off(self) -> str | None:
        """Why nothing is kept now, or ``None``."""
        return self._refusal or (None if self.source.lease.is_confirmed else _UNCONFIRMED)

    async def run(self, lane: Lane) -> None:
        """Go on for as long as a connection of the lane stands: until cancelled."""
        proved = False
        while True:
            pause = self._interval
            try:
                await (self._beat(lane) if proved else self._prove(lane))
                proved = True
            except CacheUnavailableError:
                pass  # late: the lease runs out by itself. Or lost: this is about to be cancelled
            except _RefusedError as refusal:
                proved = False
                pause = max(pause, _PAUSE)
                self._switch_off(str(refusal))
            self._report()
            await asyncio.sleep(pause)

    async def _prove(self, lane: Lane) -> None:
        """Switch tracking on, and see that an invalidation really comes: not every proxy lets it through.

        What was asked on this connection before is answered before, finds no confirmed lease, and is not kept.
        """
        key = await self._probe_key()
        self.source.await_invalidation(key)
        # What a connection itself invalidates it is told right behind the reply: before that to the PING.
        await self._ask(
            lane,
            [(b"CLIENT", b"TRACKING", b"ON"), _ROLE, (b"GET", key), (b"SET", key, b"", b"PX", b"1"), (b"PING",)],
            [is_text, _is_role, is_text, is_text, is_text],
        )

    async def _beat(self, lane: Lane) -> None:
        await self._ask(lane, [_ROLE], [_is_role])

    async def _ask(self, lane: Lane, requests: list[Request], shapes: list[Shape]) -> None:
        """Renew the lease by the answer to requests, where it stands in the stream.

        :raises _RefusedError: the answer does not permit it.
        """
        lease, sent = self.source.lease, self._clock()
        refusals: list[str] = []

        def answered(replies: list[Reply]) -> None:
            refusals.extend(_refusals(requests, replies))
            if not self.source.has_been_told:
                refusals.append("the server tells of no changes, or something on the way keeps them back")
            if not refusals:
                self.source.near.renew(lease, sent)

        await lane.call_at_once(requests, shapes, answered)
        if refusals:
            raise _RefusedError(refusals[0])
        self._refusal = None
        if not self._is_on:
            self._is_on = True
            _log.info("the near cache of %s is on", self._address)

    def _switch_off(self, reason: str) -> None:
        self.source.flush()
        self._is_on = False
        if reason != self._refusal:
            self._refusal = reason
            _log.warning("the near cache of %s is off: %s", self._address, reason)


def _refusals(requests: list[Request], replies: list[Reply]) -> Iterator[str]:
    """What of the replies forbids a near cache.

    A primary that was demoted goes on answering, and hears nothing of what others change if it is cut off from them.
    """
    for request, reply in zip(requests, replies, strict=True):
        if isinstance(reply, RedisError):
            yield f"{request[0].decode()} was answered {one_line(str(reply))}"
        elif request is _ROLE and isinstance(reply, list) and reply[0] != b"master":
            yield "the server is no primary"


def _is_role(reply: object) -> bool:
    """ROLE."""
    return isinstance(reply, list) and bool(reply) and isinstance(reply[0], bytes)
