"""How the cost of a refusal grows with the size of what is refused."""

from __future__ import annotations

import time
from collections.abc import Callable


def growth(refuse: Callable[[str], None], small: str, large: str) -> float:
    """How many times the processor time of ``small`` a ``large`` takes, each at its best of many.

    For sizes a factor of 10,000 apart, reading it all gives about that factor, and constant time
    about 1, so that a bound between the two is far from what noise can do.
    """
    return _best(refuse, large) / _best(refuse, small)


def _best(call: Callable[[str], None], value: str) -> float:
    times = []
    for _ in range(30):
        begun = time.thread_time()
        call(value)
        times.append(time.thread_time() - begun)
    return min(times)
