"""Every state that a system can reach, nearest first."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Generic, TypeVar

import attrs

__all__ = ["Exploration", "explore"]

S = TypeVar("S", bound=Hashable)


@attrs.frozen
class Exploration(Generic[S]):
    """What was found."""

    parents: dict[S, S | None]  # of each state that was reached, the one by which it was reached first
    wrong: S | None  # the nearest state that must not be, at which the search ended

    @property
    def states(self) -> int:
        """How many were reached."""
        return len(self.parents)

    @property
    def trace(self) -> list[S]:
        """A shortest way to what must not be; empty if there is none."""
        states: list[S] = []
        state = self.wrong
        while state is not None:
            states.append(state)
            state = self.parents[state]
        return states[::-1]


def explore(
    initial: Iterable[S], successors: Callable[[S], Iterable[S]], is_wrong: Callable[[S], bool]
) -> Exploration[S]:
    """Reach every state once, breadth first, until one is wrong."""
    parents: dict[S, S | None] = dict.fromkeys(initial)
    wrong = next(filter(is_wrong, parents), None)
    level = list(parents)
    while level and wrong is None:
        following: list[S] = []
        for state in level:
            for successor in successors(state):
                if successor not in parents:
                    parents[successor] = state
                    following.append(successor)
        wrong = next(filter(is_wrong, following), None)
        level = following
    return Exploration(parents, wrong)
