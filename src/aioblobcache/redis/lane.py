"""A lane: one connection that all callers share, and in each tick of the event loop one write (or two).

* Requests stand in the *backlog* until they are handed to the transport, in order; from then on they
  are *in flight* until their last reply has been read. Replies are matched first in, first out.
* A caller that is cancelled leaves its request's place in the order: the reply is read and dropped.
* Whatever makes the order doubtful (a reply of an impossible shape, one too many, a protocol error,
  none in time) poisons the lane: the transport is aborted, everyone waiting is told, and a new
  connection is opened. While there is none, calls fail at once.

Only this module touches the two queues; only the event loop calls into it. It is longer than others since all of it
changes one state: sending, matching, deadlines and the loss of a connection are right only together.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, Protocol

import hiredis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from ..descriptor import Descriptor
from ..digest import Digest
from ..errors import CacheUnavailableError
from .failures import cause_of, unavailable
from .keeper import Connect, end, keep_open
from .near import NearTable, Source
from .pending import Pending, PendingCall, PendingPart, PendingStat, PendingStatMany, tell
from .resp import Reply, Request, Shape, UnexpectedReplyError, encode, is_text
from .stream import Stream
from .takeover import Taken, TakeoverError
from .wire import Answer, Scope

__all__ = ["Lane"]

_log = logging.getLogger("aioblobcache.lane")

_NOTHING: Final = object()
_Push: Final = hiredis.PushNotification

# The largest reply we ask for is far smaller; a server that sends this much without ending one is broken.
_LARGEST_REPLY: Final = 16 * 1024 * 1024

# So many questions of a tick are written at once if the server has nothing to do: it then works on them while
# the rest is asked, and from then on client and server work side by side instead of by turns. Behind a tick with
# one question it is one: who asks alone need not wait for the end of the tick.
_HEAD_START: Final = 16

# Deadlines closer together than this, in seconds, are noticed together.
_COARSEST: Final = 0.005

# What it takes to tell a caller and until it runs, in seconds; and how much of the timeout all may take.
_TELLING: Final = 15e-6
_LONGEST_LEAD: Final = 1 / 8


class Companion(Protocol):
    """What stands between a lane and a near cache."""

    @property
    def source(self) -> Source:
        """What keeps the lane's answers, and drops them."""
        ...

    async def run(self, lane: Lane, /) -> None:
        """Run until cancelled, which is when the connection has been lost."""
        ...


class Lane:
    """One multiplexed connection to one node, opened again whenever it is lost.

    ``greeting`` are requests that begin each connection.
    The ``companion`` runs beside each connection for as long as it stands, and its source is told of
    pushes, and of the loss of a connection, where they stand in the stream.
    ``on_lost`` is called when a connection was lost, and when there was none to be had.
    """

    def __init__(
        self,
        connect: Connect,
        address: str,
        *,
        timeout: float,
        max_in_flight: int,
        connect_timeout: float = 1.0,
        longest_pause: float = 1.0,
        greeting: Sequence[Request] = (),
        companion: Companion | None = None,
        on_lost: Callable[[], None] | None = None,
    ) -> None:
        self.address = address
        self.unsupported: TakeoverError | None = None
        self.reconnects = 0
        self._timeout = timeout
        self._max_in_flight = max_in_flight
        self._greeting = greeting
        self.companion = companion
        self._on_lost = on_lost
        self.source = None if companion is None else companion.source
        self._loop = asyncio.get_running_loop()
        self._taken: Taken | None = None
        self._transport: asyncio.Transport | None = None
        self._stream: Stream | None = None
        # Until the first attempt to connect has ended, callers wait for it.
        self._opening = True
        self._closed = False
        self._failure: Exception = RedisConnectionError("not connected yet")
        self._lost = asyncio.Event()
        self._paused = False
        self._backlog: deque[Pending] = deque()
        self._in_flight: deque[Pending] = deque()
        self._unsent_stats: dict[tuple[Scope, Digest], PendingStat] = {}
        self._scheduled = False
        self._tick_deadline = 0.0
        self._head_start = _HEAD_START
        self._written_early = 0
        self._sweep_timer: asyncio.TimerHandle | None = None
        self._bytes_received = 0
        self._reader = _new_reader()
        self._replies: list[Reply] = []  # of the request whose turn it is
        self._incomplete = 0  # bytes since a request was last settled, or a push came
        # What loop.create_future() does, without its frame of Python.
        self._new_future: Callable[[], asyncio.Future[Any]] = partial(asyncio.Future, loop=self._loop)
        self._keeper = self._loop.create_task(
            keep_open(self, connect, timeout=connect_timeout, longest_pause=longest_pause)
        )

    # --- what callers do -------------------------------------------------------------------------

    def stat(self, scope: Scope, digest: Digest, table: NearTable | None = None) -> asyncio.Future[Descriptor]:
        """Ask for a descriptor, to be kept in ``table`` as well, if there is one and a source.

        Fails with ``BlobUnknownError``, ``CacheUnavailableError`` or ``RefusedError``.
        """
        if not self._scheduled:
            self._schedule()
        future: asyncio.Future[Descriptor] = self._new_future()
        key = (scope, digest)
        # An answer may be shared only while the question has not been sent: one on its way may be older
        # than a clear that was acknowledged before this caller asked. Nor with one that has little time left.
        waiting = self._unsent_stats.get(key)
        if waiting is not None and waiting.deadline >= self._tick_deadline - self._timeout / 2:
            waiting.futures.append(future)
            return future
        reading = None if table is None or self.source is None else self.source.reading(table, digest)
        self._unsent_stats[key] = pending = PendingStat(scope, digest, reading, future, self._tick_deadline)
        self._backlog.append(pending)
        if len(self._backlog) == self._head_start and not self._in_flight:
            self._written_early = self._flush()
        return future

    def enqueue(self, part: PendingPart) -> None:
        """Send a part of a question, of which others go by other lanes."""
        if not self._scheduled:
            self._schedule()
        part.deadline = self._tick_deadline
        self._backlog.append(part)

    def stat_many(
        self, scope: Scope, digests: Sequence[Digest], table: NearTable | None = None
    ) -> asyncio.Future[list[Answer]]:
        """The same of several; misses are in their places. Fails with the other two."""
        if not self._scheduled:
            self._schedule()
        future: asyncio.Future[list[Answer]] = self._new_future()
        source = self.source
        readings = [] if table is None or source is None else [source.reading(table, digest) for digest in digests]
        self._backlog.append(PendingStatMany(scope, digests, readings, future, self._tick_deadline))
        return future

    def call(self, requests: Sequence[Request], shapes: Sequence[Shape]) -> asyncio.Future[list[Reply]]:
        """Send requests, and get their replies in order, error replies in their places.

        ``shapes``: what each reply can be; anything else poisons the lane.
        """
        if not self._scheduled:
            self._schedule()
        future: asyncio.Future[list[Reply]] = self._new_future()
        self._backlog.append(PendingCall(encode(requests), shapes, future, self._tick_deadline))
        return future

    def call_at_once(
        self, requests: Sequence[Request], shapes: Sequence[Shape], answered: Callable[[list[Reply]], None]
    ) -> asyncio.Future[list[Reply]]:
        """The same, ahead of all who wait, and one more than may be in flight; fails at once without a connection.

        ``answered`` is called with the replies before anything behind them is looked at; it must not raise.
        """
        future: asyncio.Future[list[Reply]] = self._new_future()
        if self._transport is None:
            future.set_exception(self._unavailable())
            return future
        now = self._loop.time()
        pending = PendingCall(encode(requests), shapes, future, now + self._timeout, answered)
        pending.sent = now
        self._in_flight.append(pending)
        self._transport.write(pending.encode())
        if self._sweep_timer is None:
            self._arm_sweep()
        return future

    @property
    def is_open(self) -> bool:
        """Whether there is a connection now."""
        return self._transport is not None

    @property
    def peer(self) -> tuple[str, int] | None:
        """Host and port of the connection there is now."""
        return None if self._taken is None else self._taken.peer

    @property
    def load(self) -> tuple[int, int]:
        """How many requests are in flight, and how many wait to be sent."""
        return len(self._in_flight), len(self._backlog)

    async def aclose(self) -> None:
        """Close the connection; whoever still waits is told that the cache is unavailable."""
        stream = self._stream
        self.close()
        await end([self._keeper])
        if stream is not None:
            await stream.ended.wait()  # an aborted transport closes its socket in a later tick

    def close(self) -> None:
        """The part of it that needs no waiting."""
        self._closed = True
        self._keeper.cancel()
        self.lost(RedisConnectionError("the provider was closed"))

    # --- sending ---------------------------------------------------------------------------------

    def _schedule(self) -> None:
        """Arrange for one write at the end of this tick, or raise if there is nothing to write to."""
        if self._transport is None and not self._opening:
            raise self._unavailable()
        self._scheduled = True
        self._tick_deadline = self._loop.time() + self._timeout
        self._written_early = 0
        self._loop.call_soon(self._end_tick)

    def _end_tick(self) -> None:
        """Write what has been asked in this tick, and see from it how the next one should begin."""
        self._scheduled = False
        written = self._written_early + self._flush()
        self._head_start = 1 if written == 1 else _HEAD_START

    def _flush(self) -> int:
        """Write as many requests as may be written now, and say how many."""
        taken: list[Pending] = []
        if self._transport is not None and not self._paused:
            taken = self._take_from_backlog(self._max_in_flight - len(self._in_flight))
            if taken:
                now = self._loop.time()
                for pending in taken:
                    pending.sent = now
                self._in_flight.extend(taken)
                self._transport.write(b"".join([pending.encode() for pending in taken]))
        if self._sweep_timer is None and (self._in_flight or self._backlog):
            self._arm_sweep()
        return len(taken)

    def _take_from_backlog(self, most: int) -> list[Pending]:
        """Up to ``most`` of those whose turn it is, without those that nobody waits for any more."""
        backlog, unsent = self._backlog, self._unsent_stats
        if len(backlog) <= most:
            taken = [pending for pending in backlog if not pending.abandoned()]
            backlog.clear()
            unsent.clear()
            return taken
        taken = []
        while backlog and len(taken) < most:
            pending = self._pop_backlog()
            if not pending.abandoned():
                taken.append(pending)
        return taken

    def _pop_backlog(self) -> Pending:
        pending = self._backlog.popleft()
        if type(pending) is PendingStat:
            key = (pending.scope, pending.digest)
            if self._unsent_stats.get(key) is pending:
                del self._unsent_stats[key]
        return pending

    # --- receiving -------------------------------------------------------------------------------

    def received(self, buffer: bytearray, count: int) -> None:
        """Parse replies, and give each to the request whose turn it is."""
        self._bytes_received += count
        self._incomplete += count
        self._reader.feed(buffer, 0, count)  # type: ignore[arg-type]  # it takes any buffer
        in_flight, gets, replies = self._in_flight, self._reader.gets, self._replies
        missing = in_flight[0].due - len(replies) if in_flight else 1
        try:
            while (reply := gets()) is not _NOTHING:
                if type(reply) is _Push:
                    self._incomplete = 0
                    if self.source is not None:
                        self.source.pushed(reply)
                    continue
                replies.append(reply)
                missing -= 1
                if missing:
                    continue
                if not in_flight:
                    raise UnexpectedReplyError("a reply that nobody asked for")  # noqa: TRY301
                self._replies = []
                in_flight[0].settle(replies)
                in_flight.popleft()
                replies = self._replies
                missing = in_flight[0].due if in_flight else 1
                self._incomplete = 0
        except Exception as error:  # the parser's own are of many kinds; after any the order is in doubt
            self.lost(error)
            return
        if self._incomplete > _LARGEST_REPLY:
            self.lost(UnexpectedReplyError("a reply without end"))
        elif self._backlog and not self._scheduled:
            self._flush()

    def pause(self) -> None:
        """Write nothing until :meth:`resume`."""
        self._paused = True

    def resume(self) -> None:
        """Go on, with what has been waiting."""
        self._paused = False
        self._flush()

    # --- deadlines -------------------------------------------------------------------------------

    def _arm_sweep(self) -> None:
        """See to it that the next deadline is noticed: that of a caller, or of the server."""
        now = self._loop.time()
        times = [pending.deadline for pending in self._in_flight if pending.deadline > now]
        if self._in_flight:
            times.append(self._in_flight[0].sent + self._timeout)
        if self._backlog:  # in the order of its deadlines, unlike what is in flight behind a greeting
            times.append(self._backlog[0].deadline)
        if times:
            # How many will wait by then is not known yet.
            earliest = min(times) - self._timeout * _LONGEST_LEAD
            self._sweep_timer = self._loop.call_at(max(earliest, now + _COARSEST), self._sweep)

    def _sweep(self) -> None:
        """Tell the callers whose time is over, and if the server had all of its own look once more."""
        self._sweep_timer = None
        now = self._loop.time()
        due = now + self._lead()
        # Of those in flight the places stay: the replies will be read and dropped.
        late = [pending for pending in self._in_flight if pending.deadline <= due]
        while self._backlog and self._backlog[0].deadline <= due:
            late.append(self._pop_backlog())
        tell(self._loop, iter(late), self._too_late)
        if self._in_flight and self._in_flight[0].sent + self._timeout <= now:
            # In a process that was suspended or busy the answer may be waiting in the socket. What is
            # scheduled from here runs before the socket is looked at, what that schedules runs after.
            self._loop.call_soon(self._loop.call_soon, self._look_again, self._in_flight[0], self._bytes_received)
        else:
            self._arm_sweep()

    def _look_again(self, overdue: Pending, received: int) -> None:
        if self._in_flight and self._in_flight[0] is overdue:
            silent = self._bytes_received == received
            if silent or overdue.sent + 2 * self._timeout <= self._loop.time():
                self.lost(TimeoutError())
                return
        if self._sweep_timer is None:
            self._arm_sweep()

    def _lead(self) -> float:
        """How much before a deadline to begin, so that the last of many is told in time as well; in seconds."""
        waiting = len(self._in_flight) + len(self._backlog)
        return min(waiting * _TELLING, self._timeout * _LONGEST_LEAD)

    def _too_late(self) -> Exception:
        return self._caused_by(TimeoutError())

    # --- losing and opening ----------------------------------------------------------------------

    def _unavailable(self) -> Exception:
        if self.unsupported is not None:
            return TakeoverError(*self.unsupported.args)
        return self._caused_by(self._failure)

    def _caused_by(self, failure: Exception) -> CacheUnavailableError:
        error = unavailable(self.address, failure)
        error.__cause__ = cause_of(failure)
        return error

    def lost(self, failure: Exception) -> None:
        """Give up the connection, if there is one, and everyone who waits for it."""
        if self._taken is not None:
            # Not closed but aborted: what is buffered must not be sent to a server that may yet act on it.
            self._taken.abort()
            if not self._closed:
                _log.warning("lost the connection to %s: %s", self.address, unavailable(self.address, failure).reason)
        if self._stream is not None:
            self._stream.receiver = None
        if self.source is not None:
            self.source.flush()
        self._transport = self._taken = self._stream = None
        self._opening = False
        self._failure = failure
        self._fail_all(partial(self._caused_by, failure))
        self._lost.set()
        if self._on_lost is not None:
            self._on_lost()

    def _fail_all(self, error: Callable[[], Exception]) -> None:
        waiting = [*self._in_flight, *self._backlog]
        self._in_flight.clear()
        self._backlog.clear()
        self._unsent_stats.clear()
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()
            self._sweep_timer = None
        tell(self._loop, iter(waiting), error)

    def unsupported_by(self, error: TakeoverError) -> None:
        """Do without a connection for good: redis-py's own are the way."""
        _log.warning("using the client's own connections to %s: %s", self.address, error)
        self.unsupported = error
        self._opening = False
        self._fail_all(self._unavailable)

    async def while_open(self, stream: Stream, taken: Taken) -> None:
        """Adopt a connection, with its companion beside it, until it is lost."""
        if self._closed:  # and the cancellation was swallowed, see `end`
            taken.abort()
            raise asyncio.CancelledError
        self._adopt(stream, taken)
        companion = None if self.companion is None else self._loop.create_task(self.companion.run(self))
        try:
            await self._lost.wait()
        finally:
            if companion is not None:
                companion.cancel()
                await asyncio.wait([companion])
        self.reconnects += 1

    def _adopt(self, stream: Stream, taken: Taken) -> None:
        self._lost.clear()
        self._reader, self._replies, self._incomplete = _new_reader(), [], 0
        self._taken, self._transport, self._stream = taken, taken.transport, stream
        stream.receiver = self
        self._opening = self._paused = False
        _log.info("connected to %s", self.address)
        if self._greeting:
            self._backlog.appendleft(self._greet())
        self._flush()

    def _greet(self) -> PendingCall:
        """What begins a connection; a refusal shows itself when what it was for is used."""
        future = self._new_future()
        future.add_done_callback(lambda done: done.cancelled() or done.exception())
        return PendingCall(
            encode(self._greeting), [is_text] * len(self._greeting), future, self._loop.time() + self._timeout
        )


def _new_reader() -> hiredis.Reader:
    return hiredis.Reader(replyError=ResponseError, notEnoughData=_NOTHING)
