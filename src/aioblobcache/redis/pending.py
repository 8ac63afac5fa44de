"""What a lane has been asked and not answered: by whom, until when, and how they are told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Final, TypeAlias

from redis.exceptions import RedisError

from ..descriptor import Descriptor
from ..digest import Digest
from ..errors import BlobUnknownError
from .near import Reading
from .resp import Group, Reply, Request, Shape, UnexpectedReplyError, require_shapes
from .wire import Answer, Scope

__all__ = [
    "Pending",
    "PendingCall",
    "PendingJointStat",
    "PendingPart",
    "PendingStat",
    "PendingStatMany",
    "RefusedError",
    "tell",
]

# Requests that are failed in one callback of the event loop: who came first need not wait until the last has
# been told, and nobody else is held up.
_TOLD_AT_ONCE: Final = 256


class RefusedError(Exception):
    """A question that was answered by an error reply, to ``request``, which came with ``deadline`` still to go."""

    def __init__(self, reply: RedisError, request: Request | None, deadline: float) -> None:
        super().__init__(reply)
        self.reply = reply
        self.request = request
        self.deadline = deadline  # event loop time


def _refused(reply: RedisError, group: Group, replies: Sequence[Reply], deadline: float) -> Callable[[], RefusedError]:
    """What tells of an error reply, which is one of the replies to a group."""
    requests, _ = group
    request = next((request for request, own in zip(requests, replies, strict=False) if own is reply), None)
    return partial(RefusedError, reply, request, deadline)


class PendingStat:
    """A stat, for everyone who asked for the same before it was sent."""

    __slots__ = ("deadline", "digest", "due", "futures", "reading", "scope", "sent")

    sent: float  # event loop time, set by the lane

    def __init__(
        self,
        scope: Scope,
        digest: Digest,
        reading: Reading | None,  # if the answer may be kept
        future: asyncio.Future[Descriptor],
        deadline: float,
    ) -> None:
        self.scope = scope
        self.digest = digest
        self.reading = reading
        self.due = scope.replies_to_stat
        self.futures = [future]
        self.deadline = deadline  # event loop time

    def encode(self) -> bytes:
        return self.scope.encode_stat(self.digest)

    def settle(self, replies: list[Reply]) -> None:
        try:
            descriptor = self.scope.decode_stat(self.digest, replies)
        except BlobUnknownError as miss:
            self.fail(partial(type(miss), *miss.args))
        except UnexpectedReplyError:
            raise
        except RedisError as reply:
            group = (self.scope.stat_requests(self.digest), self.scope.stat_shapes)
            self.fail(_refused(reply, group, replies, self.deadline))
        else:
            if self.reading is not None:
                self.reading.keep(descriptor)
            for future in self.futures:
                if not future.done():
                    future.set_result(descriptor)

    def fail(self, error: Callable[[], Exception]) -> None:
        """Tell everyone, each by an exception of their own."""
        for future in self.futures:
            if not future.done():
                future.set_exception(error())

    def abandoned(self) -> bool:
        futures = self.futures
        return futures[0].done() and all(future.done() for future in futures)


class PendingJointStat(PendingStat):
    """A stat whose requests go by several lanes, as parts; it is settled when the last reply is there."""

    __slots__ = ("_replies", "_unanswered", "is_sent")

    def __init__(
        self, scope: Scope, digest: Digest, reading: Reading | None, future: asyncio.Future[Descriptor], deadline: float
    ) -> None:
        super().__init__(scope, digest, reading, future, deadline)
        self.is_sent = False  # any part of it
        self._replies: list[Reply] = [None] * self.due
        self._unanswered = self.due

    def part(self, places: Sequence[int], requests: Sequence[bytes]) -> PendingPart:
        """The part that the requests in these places are."""
        return PendingPart(self, places, requests)

    def answered(self, place: int, reply: Reply) -> None:
        """One of the replies has come."""
        self._replies[place] = reply
        self._unanswered -= 1
        if not self._unanswered:
            self.settle(self._replies)


class PendingPart:
    """What of a stat goes by one lane."""

    __slots__ = ("_places", "_requests", "_whole", "deadline", "due", "sent")

    deadline: float
    sent: float

    def __init__(self, whole: PendingJointStat, places: Sequence[int], requests: Sequence[bytes]) -> None:
        self._whole = whole
        self._places = places
        self._requests = requests
        self.due = len(places)

    def encode(self) -> bytes:
        self._whole.is_sent = True
        return b"".join(self._requests)

    def settle(self, replies: list[Reply]) -> None:
        whole, places = self._whole, self._places
        # Before they are joined with those of others: it is this lane that is not to be trusted.
        require_shapes(replies, [whole.scope.stat_shapes[place] for place in places])
        for place, reply in zip(places, replies, strict=True):
            whole.answered(place, reply)

    def fail(self, error: Callable[[], Exception]) -> None:
        self._whole.fail(error)

    def abandoned(self) -> bool:
        return self._whole.abandoned()


class _OfOneCaller:
    """A place that nobody shares."""

    __slots__ = ("deadline", "due", "future", "sent")

    sent: float

    def __init__(self, due: int, future: asyncio.Future[Any], deadline: float) -> None:
        self.due = due
        self.future = future
        self.deadline = deadline

    def fail(self, error: Callable[[], Exception]) -> None:
        if not self.future.done():
            self.future.set_exception(error())

    def abandoned(self) -> bool:
        return bool(self.future.done())


class PendingStatMany(_OfOneCaller):
    """A stat of several blobs of one scope."""

    __slots__ = ("digests", "readings", "scope")

    def __init__(
        self,
        scope: Scope,
        digests: Sequence[Digest],
        readings: Sequence[Reading],  # one for each digest, or none
        future: asyncio.Future[list[Answer]],
        deadline: float,
    ) -> None:
        super().__init__(scope.replies_to_stat_many(len(digests)), future, deadline)
        self.scope = scope
        self.digests = digests
        self.readings = readings

    def encode(self) -> bytes:
        return self.scope.encode_stat_many(self.digests)

    def settle(self, replies: list[Reply]) -> None:
        try:
            answers = self.scope.decode_stat_many(self.digests, replies)
        except UnexpectedReplyError:
            raise
        except RedisError as reply:
            self.fail(_refused(reply, self.scope.stat_many_group(self.digests), replies, self.deadline))
        else:
            for reading, answer in zip(self.readings, answers, strict=False):
                if type(answer) is Descriptor:
                    reading.keep(answer)
            if not self.future.done():
                self.future.set_result(answers)


class PendingCall(_OfOneCaller):
    """Any other group of requests; its caller gets the replies, once they are of the shapes they can have.

    ``answered`` is told of them before anything behind them is looked at; it must not raise.
    """

    __slots__ = ("answered", "requests", "shapes")

    def __init__(
        self,
        requests: bytes,
        shapes: Sequence[Shape],
        future: asyncio.Future[list[Reply]],
        deadline: float,
        answered: Callable[[list[Reply]], None] | None = None,
    ) -> None:
        super().__init__(len(shapes), future, deadline)
        self.requests = requests
        self.shapes = shapes
        self.answered = answered

    def encode(self) -> bytes:
        return self.requests

    def settle(self, replies: list[Reply]) -> None:
        require_shapes(replies, self.shapes)
        if self.answered is not None:
            self.answered(replies)
        if not self.future.done():
            self.future.set_result(replies)


Pending: TypeAlias = PendingStat | PendingPart | PendingStatMany | PendingCall


def tell(loop: asyncio.AbstractEventLoop, pending: Iterator[Pending], error: Callable[[], Exception]) -> None:
    """Fail requests: some now, the others behind the callers who have been told."""
    told = 0
    for one in pending:
        if one.abandoned():
            continue
        one.fail(error)
        told += 1
        if told == _TOLD_AT_ONCE:
            loop.call_soon(tell, loop, pending, error)
            return
