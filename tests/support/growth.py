"""Whether the cost of a refusal is independent of the size of what is refused."""

from __future__ import annotations

import time
from collections.abc import Callable

_ROUNDS = 1_000


def costs_less_than(factor: float, refuse: Callable[[str], None], small: str, large: str) -> bool:
    """Whether ``large`` takes less than ``factor`` times the processor time of ``small``.

    Each is taken at its best, and tried until the bound holds: a busy machine can only make one try slow. Where the
    cost grows faster, no try is fast enough, and the answer is ``False`` after many.
    """
    best_small = best_large = float("inf")
    for number in range(_ROUNDS):
        best_small = min(best_small, _seconds(refuse, small))
        best_large = min(best_large, _seconds(refuse, large))
        if number >= 10 and best_large < factor * best_small:
            return True
    return False


def _seconds(call: Callable[[str], None], value: str) -> float:
    begun = time.thread_time()
    call(value)
    return time.thread_time() - begun
