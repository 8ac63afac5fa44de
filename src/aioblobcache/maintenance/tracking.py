"""Lanes whose servers tell of every change to a key of the layout, and what they have told, counted by kind.

RESP3 and CLIENT TRACKING in its broadcasting mode: it needs the rights of a near cache, and no second connection.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

from ..errors import CacheUnavailableError
from ..redis.failures import unavailable
from ..redis.keeper import Connect
from ..redis.keys import subject_of
from ..redis.lane import Lane
from ..redis.lanes import LaneMaker
from ..redis.near import NearCache, Source, invalidated_keys
from ..redis.resp import Reply, Request, is_text
from ..redis.scripts import Script

__all__ = ["Changes", "TrackedLanes", "Tracking"]

_TRACKING: Final[Request] = (
    *(b"CLIENT", b"TRACKING", b"ON", b"BCAST"),
    *(b"PREFIX", b"blobs::", b"PREFIX", b"repository::"),
)


class Changes(Source):
    """Counts what the server says has changed, by the names of :class:`Rates`."""

    def __init__(self) -> None:
        super().__init__(NearCache(0, max_staleness=0, max_age=0))
        self.counts: Counter[str] = Counter()
        self.losses = 0  # of a connection: what changed meanwhile is not known

    def pushed(self, push: list[Reply]) -> None:
        """What the server sent without being asked.

        :raises UnexpectedReplyError: an invalidation of no known form.
        """
        keys = invalidated_keys(push)
        if keys is None:
            self.counts["flushes"] += 1
            return
        for key in keys:
            name, digest = subject_of(key)
            if name:
                self.counts["overrides" if digest else "memberships"] += 1
            elif digest:
                self.counts["descriptors"] += 1

    def flush(self) -> None:
        """The connection was lost, or there is none to be had."""
        self.losses += 1


class Tracking:
    """Switches tracking on, on each connection of a lane."""

    def __init__(self) -> None:
        self.source = Changes()
        self.refusal: str | None = None

    async def run(self, lane: Lane) -> None:
        """Once is enough."""
        self.refusal = None

        def answered(replies: list[Reply]) -> None:
            [reply] = replies
            self.refusal = unavailable(lane.address, reply).reason if isinstance(reply, Exception) else None

        with suppress(CacheUnavailableError):  # the connection is about to be given up
            await lane.call_at_once([_TRACKING], [is_text], answered)


class TrackedLanes(LaneMaker):
    """Lanes that teach the server nothing, and count what changes."""

    def make(self, connect: Connect, address: str, known: Sequence[Script], **options: Any) -> Lane:
        """See :meth:`LaneMaker.make`."""
        lane = super().make(connect, address, (), **options)
        lane.companion = tracking = Tracking()
        lane.source = tracking.source
        return lane
