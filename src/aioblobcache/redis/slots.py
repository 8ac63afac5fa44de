"""Places in a lane's order: what was asked, by whom, until when, and how they are told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeAlias

from redis.exceptions import RedisError

from ..descriptor import Descriptor
from ..digest import Digest
from ..errors import BlobUnknownError
from .wire import Reply, Scope, Shape, UnexpectedReplyError, require_shapes

__all__ = ["CallSlot", "RefusedError", "Slot", "StatSlot"]


class RefusedError(Exception):
    """A stat that was answered by an error reply, which came with ``deadline`` still to go."""

    def __init__(self, reply: RedisError, deadline: float) -> None:
        super().__init__(reply)
        self.reply = reply
        self.deadline = deadline  # event loop time


class StatSlot:
    """A stat, for everyone who asked for the same before it was sent."""

    __slots__ = ("deadline", "digest", "due", "futures", "scope", "sent")

    def __init__(self, scope: Scope, digest: Digest, future: asyncio.Future[Descriptor], deadline: float) -> None:
        self.scope = scope
        self.digest = digest
        self.due = len(scope.stat_shapes)
        self.futures = [future]
        self.deadline = deadline  # event loop time, as the next
        self.sent = 0.0

    def encode(self) -> bytes:
        return self.scope.encode_stat(self.digest)

    def settle(self, replies: list[Reply]) -> None:
        try:
            descriptor = self.scope.decode_stat(self.digest, replies)
        except BlobUnknownError as error:
            for future in self.futures:
                if not future.done():
                    future.set_exception(type(error)(*error.args))  # each caller raises one of its own
        except UnexpectedReplyError:
            raise
        except RedisError as error:
            for future in self.futures:
                if not future.done():
                    future.set_exception(RefusedError(error, self.deadline))
        else:
            for future in self.futures:
                if not future.done():
                    future.set_result(descriptor)

    def fail(self, error: Callable[[], Exception]) -> None:
        for future in self.futures:
            if not future.done():
                future.set_exception(error())

    def abandoned(self) -> bool:
        futures = self.futures
        return futures[0].done() and all(future.done() for future in futures)


class CallSlot:
    """Any other group of requests; its caller gets the replies, once they are of the shapes they can have."""

    __slots__ = ("deadline", "due", "future", "requests", "sent", "shapes")

    def __init__(
        self, requests: bytes, shapes: Sequence[Shape], future: asyncio.Future[list[Reply]], deadline: float
    ) -> None:
        self.requests = requests
        self.shapes = shapes
        self.due = len(shapes)
        self.future = future
        self.deadline = deadline
        self.sent = 0.0

    def encode(self) -> bytes:
        return self.requests

    def settle(self, replies: list[Reply]) -> None:
        require_shapes(replies, self.shapes)
        if not self.future.done():
            self.future.set_result(replies)

    def fail(self, error: Callable[[], Exception]) -> None:
        if not self.future.done():
            self.future.set_exception(error())

    def abandoned(self) -> bool:
        return self.future.done()


Slot: TypeAlias = StatSlot | CallSlot
