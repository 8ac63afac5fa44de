"""How fast questions are answered here: by this machine, that server, and the network between them.

It only reads, and leaves nothing behind: no key, no script, no connection. Nobody has the blobs that it asks about, so
that the server's counts of misses grow by what it asks.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from statistics import median
from typing import Any, Final

import attrs

from ..errors import ConfigurationError, shorten
from ..redis.client import AnyClient, topology_of
from ..redis.engine import Engine
from ..redis.failures import FAILURES, cause_of, unavailable
from ..redis.keeper import Connect
from ..redis.lane import Lane
from ..redis.lanes import LaneMaker
from ..redis.options import RedisOptions
from ..redis.provider import RedisRepositoryCache
from ..redis.scripts import Script
from .callers import NOBODYS, Callers, WrongAnswerError, ask_pipeline, ask_repository, nobodys_digests, redis_py_like

__all__ = ["Measured", "WrongAnswerError", "measure"]

# How often the ways to ask take turns.
_ROUNDS: Final = 5

# How long one question may take, and everything beside the asking, in seconds.
_TIMEOUT: Final = 1.0

# The share of a core from which on a process is itself what limits it.
_BUSY: Final = 0.9


@attrs.frozen(kw_only=True)
class Measured:
    """What was measured: medians of the rounds, of questions that are three commands in one round trip each."""

    callers: int
    questions: int  # asked in all
    p50: float  # seconds that one question alone takes: half of them less,
    p99: float  # and 99 of 100
    alone: float  # questions a second, by one caller who asks one after the other
    together: float  # by all callers
    pipeline: float | None  # by all callers through redis-py's pipeline; None: in a Cluster it is not measured
    busy: float  # the share of a core that this process took while all callers asked

    def in_words(self) -> list[str]:
        """The same for a person, a sentence each."""
        together = f"With {self.callers:,} callers this process asks {_about(self.together)} times a second"
        if self.pipeline is not None:
            ratio = self.together / self.pipeline
            times = f"{ratio:.0f}" if ratio >= 10 else f"{ratio:.1f}"
            together += f": {times} times what redis-py's pipeline does ({_about(self.pipeline)})"
        return [
            f"One question alone takes {_ms(self.p50)} (p99 {_ms(self.p99)}).",
            f"{together}.",
            f"It kept {min(self.busy, 1):.0%} of a processor core busy with that: {self._limit()}.",
        ]

    def _limit(self) -> str:
        if self.busy >= _BUSY:
            return "this process was the limit, and more of them ask more"
        return "else it waited for the server, the network or a free core"


async def measure(client: AnyClient, *, seconds: float = 3.0, callers: int = 128) -> Measured:
    """Ask, for ``seconds`` seconds, and at most one more. ``client`` stays the caller's, and none of its connections
    is used.

    :raises CacheUnavailableError: Redis is unreachable, or refuses.
    :raises ConfigurationError: such a client, or number, cannot be used.
    :raises WrongAnswerError: an answer was not *unknown*.
    """
    if not isinstance(seconds, int | float) or not 0.1 <= seconds <= 3600:
        raise ConfigurationError(f"seconds is a number from 0.1 to 3600, not {shorten(seconds)}")
    if not isinstance(callers, int) or not 2 <= callers <= 4096:
        raise ConfigurationError(f"callers is an int from 2 to 4096, not {shorten(callers)}")
    options = RedisOptions(timeout=_TIMEOUT)
    engine = Engine(topology_of(client, _QuietLanes(options, None)), options, None, "a measurement")
    repository = RedisRepositoryCache(engine, NOBODYS)
    digests = nobodys_digests(callers)
    engine.open()
    try:
        async with asyncio.timeout(seconds + _TIMEOUT), redis_py_like(client, callers) as redis_py:
            by_lane = Callers(ask_repository(repository), digests)
            by_pipeline = None if redis_py is None else Callers(ask_pipeline(redis_py), digests)
            return await _measure(by_lane, by_pipeline, seconds)
    except FAILURES as error:
        raise unavailable(engine.address, error) from cause_of(error)
    finally:
        await engine.aclose()


async def _measure(by_lane: Callers, by_pipeline: Callers | None, seconds: float) -> Measured:
    # First everything is opened, and whoever is down shows it.
    for callers in filter(None, (by_lane, by_pipeline)):
        await callers.together(0)
    turn = seconds / _ROUNDS / (2 if by_pipeline is None else 3)
    alone, together, pipeline, busy = [], [], [], []
    for _ in range(_ROUNDS):
        alone.append(await by_lane.alone(turn))
        cpu, began = time.process_time(), time.perf_counter()
        together.append(await by_lane.together(turn))
        busy.append((time.process_time() - cpu) / (time.perf_counter() - began))
        if by_pipeline is not None:
            pipeline.append(await by_pipeline.together(turn))
    took = sorted(by_lane.took)
    return Measured(
        callers=by_lane.number,
        questions=by_lane.asked + (0 if by_pipeline is None else by_pipeline.asked),
        p50=took[len(took) // 2],
        p99=took[len(took) * 99 // 100],
        alone=median(alone),
        together=median(together),
        pipeline=median(pipeline) if pipeline else None,
        busy=median(busy),
    )


class _QuietLanes(LaneMaker):
    """Lanes that teach the server no scripts: nothing is written."""

    def make(self, connect: Connect, address: str, known: Sequence[Script], **options: Any) -> Lane:
        """See :meth:`LaneMaker.make`."""
        return super().make(connect, address, (), **options)


def _about(rate: float) -> str:
    """Three digits of it."""
    return f"{round(rate, 2 - int(math.log10(max(rate, 1)))):,.0f}"


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.2f} ms"
