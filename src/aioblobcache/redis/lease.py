"""Leases: until when what was read by a connection may be served without asking again. No I/O, no clock.

A lease is renewed by each answered heartbeat. Whatever makes its connection doubtful ends it, for
good: then the connection, or the next one, gets another, and all that rests on the old one is dropped.

Times are those of one clock that goes on while the machine is suspended, in seconds.
"""

from __future__ import annotations

import math

__all__ = ["JointLease", "Lease"]


class Lease:
    """What one connection vouches for."""

    __slots__ = ("_joint", "expires", "is_confirmed", "is_over", "until")

    def __init__(self) -> None:
        self.until = -math.inf  # what rests on it may be served before
        self.expires = -math.inf  # what is read now may be served before, whatever happens to the lease
        self.is_confirmed = False  # whether it has been renewed ever, and not ended
        self.is_over = False
        self._joint: dict[tuple[Lease, ...], JointLease] = {}

    def renew(self, until: float, expires: float) -> None:
        """Take it for good until ``until``, unless it has ended."""
        if self.is_over:
            return
        self.until, self.expires = until, expires
        self.is_confirmed = expires != -math.inf  # a joint one may still lack a part

    def reckoned(self) -> float:
        """Until when it is good, by all that is known now: ``until`` may say less."""
        return self.until

    def end(self) -> None:
        """Drop all that rests on it."""
        self.is_over = True
        self.is_confirmed = False
        self.until = self.expires = -math.inf
        for joint in [*self._joint.values()]:
            joint.end()

    @staticmethod
    def joint(leases: set[Lease]) -> Lease:
        """The lease of an answer that comes by several connections: it holds while all of theirs do."""
        parts = tuple(sorted(leases, key=id))
        if len(parts) == 1:
            return parts[0]
        joint = parts[0]._joint.get(parts) or JointLease(parts)
        joint.reckoned()
        return joint


class JointLease(Lease):
    """The weakest of several leases; one for each set of them.

    It follows the renewals of its parts when it is asked. Of three nodes among sixty there are 34,000 sets: to tell
    them all of each heartbeat took a third of a processor. That a part has ended it is told at once.
    """

    __slots__ = ("_parts",)

    def __init__(self, parts: tuple[Lease, ...]) -> None:
        super().__init__()
        self._parts = parts
        for part in parts:
            part._joint[parts] = self

    def reckoned(self) -> float:
        """Follow the parts."""
        self.renew(min(part.until for part in self._parts), min(part.expires for part in self._parts))
        return self.until

    def end(self) -> None:
        """The same, and let the parts forget it."""
        super().end()
        for part in self._parts:
            part._joint.pop(self._parts, None)
