"""Keeping one connection open: what is lost is opened again, with pauses that grow."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Collection
from typing import Final, Protocol

from .stream import Stream
from .takeover import Taken, TakeoverError

__all__ = ["Connect", "Kept", "end", "keep_open"]

# Gives a protocol a transport; raises what redis-py raises, or ``TakeoverError``.
Connect = Callable[[asyncio.BaseProtocol], Awaitable[Taken]]

# Between the first attempts to connect, in seconds; each pause is drawn from half of it to the whole.
_FIRST_PAUSE: Final = 0.02

# After which a cancellation is taken to be lost, in seconds.
_SWALLOWED: Final = 0.05


class Kept(Protocol):
    """What a connection is kept open for."""

    async def while_open(self, stream: Stream, taken: Taken) -> None:
        """Use the connection until it is lost. Called without anything awaited since it was taken over."""
        ...

    def lost(self, failure: Exception) -> None:
        """There is no connection to be had now."""
        ...

    def unsupported_by(self, error: TakeoverError) -> None:
        """There is none to be had ever."""
        ...


async def keep_open(kept: Kept, connect: Connect, *, timeout: float, longest_pause: float) -> None:
    """Connect again and again, each time within ``timeout`` seconds, until cancelled or told that it is of no use."""
    loop = asyncio.get_running_loop()
    pause = 0.0
    while True:
        try:
            async with asyncio.timeout(timeout):
                stream = Stream()
                taken = await connect(stream)
        except TakeoverError as error:
            kept.unsupported_by(error)
            return
        except Exception as error:  # redis-py's connecting fails in more ways than it declares
            kept.lost(error)
        else:
            opened = loop.time()
            await kept.while_open(stream, taken)
            if loop.time() - opened > longest_pause:
                pause = 0.0
        await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311
        pause = min(max(2 * pause, _FIRST_PAUSE), longest_pause)


async def end(tasks: Collection[asyncio.Task[None]]) -> None:
    """Cancel tasks until they have ended: redis-py 8.1 swallows a cancellation that comes while it connects."""
    while running := [task for task in tasks if not task.done()]:
        for task in running:
            task.cancel()
        await asyncio.wait(running, timeout=_SWALLOWED)
