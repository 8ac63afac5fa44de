"""The same systems without the theory: every token has its nonce, every process is itself, and crashing is a step.

Slow and large, but nothing in it has to be argued for: the reference for what ``packed.py`` reaches.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import takewhile
from typing import Final, NamedTuple

from .explore import Exploration, explore
from .guard_model import ENDED, NONE, Guard, Guards, Process, Program, Step, System, World, is_wrong, losses, settled

__all__ = ["Plain", "PlainProcess", "PlainState"]

NOTHING: Final = 0
TOMBSTONE: Final = -1
_SET: Final = -2  # instead of what a process read in a guard, when it has sent SET NX and not GET

_PLACES: Final = {Guard.MEMBERSHIP: 0, Guard.DESCRIPTOR: 1}


class PlainProcess(NamedTuple):
    """What it has to do yet, and what it read in the guards."""

    todo: Program
    nonce: int
    read: tuple[int, ...] = (NOTHING, NOTHING)
    may_fill: bool = True  # whether it found a token wherever it has looked
    has_crashed: bool = False  # and its next request is under way, or is not

    @property
    def is_over(self) -> bool:
        """Whether nothing more need come of it."""
        return self.has_crashed or not self.todo

    def ended(self) -> PlainProcess:
        """The same with nothing to do."""
        return self._replace(todo=())


class PlainState(NamedTuple):
    """Everything there is."""

    world: World  # but for its guards
    guards: tuple[int, ...]  # nothing, a tombstone, or the nonce of a token
    processes: tuple[PlainProcess, ...]

    def buried(self) -> Guards:
        """The guards in which a tombstone stands."""
        return frozenset(guard for guard, place in _PLACES.items() if self.guards[place] == TOMBSTONE)

    def holds(self, process: PlainProcess) -> Guards:
        """The guards in which there stands what the process read there, and it is a token."""
        return frozenset(
            guard for guard, place in _PLACES.items() if NOTHING < process.read[place] == self.guards[place]
        )

    def project(self) -> tuple[World, Counter[Process]]:
        """What the theory leaves of it."""
        processes = Counter(
            settled(Process(process.todo, self.holds(process))) if process.may_fill else ENDED
            for process in self.processes
        )
        del processes[ENDED]
        return self.world._replace(buried=self.buried()), processes


class Plain:
    """A system, as :func:`explore` wants it.

    ``crashes``: whether a process can crash, with its next request under way; its server executes that whenever it
    likes, or never. SET NX and GET are then two moments, too. ``nonces``: what the processes take guards with, if
    not each with one of its own.
    """

    def __init__(self, system: System, *, crashes: bool = False, nonces: Sequence[int] = ()) -> None:
        self.system = system
        self.crashes = crashes
        self.nonces = nonces or range(1, len(system.programs) + 1)

    def explore(self) -> Exploration[PlainState]:
        """Reach every state, or the nearest last one that must not be."""
        return explore(self.initial(), self.successors, self.is_wrong)

    def initial(self) -> Iterator[PlainState]:
        """The states in which nobody has begun."""
        processes = tuple(
            PlainProcess(program, nonce) for (_, program), nonce in zip(self.system.programs, self.nonces, strict=True)
        )
        for world in self.system.worlds:
            guards = tuple(TOMBSTONE if guard in world.buried else NOTHING for guard in _PLACES)
            yield PlainState(world._replace(buried=NONE), guards, processes)

    def is_wrong(self, state: PlainState) -> bool:
        """Whether something can be read that is not stored, and nothing need change that."""
        return is_wrong(state.world) and self.is_last(state)

    def is_last(self, state: PlainState) -> bool:
        """Whether all may end here: by crashing, and without that by being through."""
        if self.crashes:
            return all(process.is_over for process in state.processes)
        return not (self.system.clears_end and any(Process(process.todo).owes for process in state.processes))

    def successors(self, state: PlainState) -> Iterator[PlainState]:
        """The states that can be next."""
        for loss in losses(self.system, state.world):
            guards = tuple(
                NOTHING if guard in loss.replaced else state.guards[place] for guard, place in _PLACES.items()
            )
            yield PlainState(loss.world, guards, state.processes)
        for number, process in enumerate(state.processes):
            for world, guards, moved in self._moves(state, process):
                after = moved.ended() if process.has_crashed else moved
                yield PlainState(world, guards, _replaced(state.processes, number, after))
            if self._can_crash(process):
                yield state._replace(processes=_replaced(state.processes, number, self._crashed(process)))

    def _can_crash(self, process: PlainProcess) -> bool:
        must_go_on = self.system.clears_end and Process(process.todo).owes
        return self.crashes and not process.is_over and not must_go_on

    def _crashed(self, process: PlainProcess) -> PlainProcess:
        if self.system.clears_end and process.todo[0].deletes:
            return process.ended()  # it is not under way: nobody would clear the cache behind it
        return process._replace(has_crashed=True)

    def _moves(self, state: PlainState, process: PlainProcess) -> Iterator[tuple[World, tuple[int, ...], PlainProcess]]:
        takings = len(list(takewhile(lambda step: step.takes, process.todo)))
        for place in range(takings):
            rest = process._replace(todo=process.todo[:place] + process.todo[place + 1 :])
            [guard] = process.todo[place].takes
            yield state.world, *self._taking(state.guards, process, rest, _PLACES[guard])
        if process.todo and not takings:
            yield self._acting(state, process, process.todo[0])

    def _taking(
        self, guards: tuple[int, ...], process: PlainProcess, rest: PlainProcess, place: int
    ) -> tuple[tuple[int, ...], PlainProcess]:
        if process.read[place] != _SET and guards[place] == NOTHING:
            guards = _replaced(guards, place, process.nonce)
        if process.read[place] != _SET and self.crashes:
            return guards, process._replace(read=_replaced(process.read, place, _SET))
        found = guards[place]
        read = _replaced(process.read, place, found)
        return guards, rest._replace(read=read, may_fill=process.may_fill and found > NOTHING)

    def _acting(
        self, state: PlainState, process: PlainProcess, step: Step
    ) -> tuple[World, tuple[int, ...], PlainProcess]:
        holds = state.holds(process)
        is_refused = not step.shows <= holds or not (process.may_fill or step.only_asks)
        if is_refused:
            return state.world, state.guards, process.ended()
        effect = step.act(state.world._replace(buried=state.buried()), holds)
        guards = tuple(
            TOMBSTONE if guard in effect.world.buried
            # Spent, or a tombstone that was taken away.
            else NOTHING if guard in effect.replaced or state.guards[place] == TOMBSTONE
            else state.guards[place]
            for guard, place in _PLACES.items()
        )  # fmt: skip
        todo = () if effect.ends else process.todo[1 + effect.skips :]
        return effect.world._replace(buried=NONE), guards, process._replace(todo=todo)


def _replaced(things: tuple, place: int, thing: object) -> tuple:  # type: ignore[type-arg]
    return (*things[:place], thing, *things[place + 1 :])
