"""A system of processes whose states are integers, so that millions of them can be looked at.

The lowest bits say which world it is; above them every condition a process can be in, which is what it has to do
yet and what it holds, has three bits in which the processes in it are counted. A move is then one addition, and
another if tokens are replaced that others hold.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import Final, Generic, TypeAlias, TypeVar

from .explore import Exploration, explore
from .guard_model import ENDED, Guards, Move, Process, System, World, is_wrong, losses, moves, settled

__all__ = ["Packed", "check"]

_WORLD_BITS: Final = 10
_WORLD: Final = (1 << _WORLD_BITS) - 1
_COUNT_BITS: Final = 3
_COUNT: Final = (1 << _COUNT_BITS) - 1

T = TypeVar("T")

# What moves add to a state: those by which nobody else loses anything, and those that replace tokens.
_Changes: TypeAlias = tuple[tuple[int, ...], tuple[tuple[int, Guards], ...]]


class _Numbers(Generic[T]):
    """Numbers for things, as they come."""

    def __init__(self) -> None:
        self.things: list[T] = []
        self._numbers: dict[T, int] = {}

    def __call__(self, thing: T) -> int:
        number = self._numbers.setdefault(thing, len(self.things))
        if number == len(self.things):
            self.things.append(thing)
        return number


class Packed:
    """A system, as :func:`explore` wants it."""

    def __init__(self, system: System) -> None:
        if len(system.programs) > _COUNT:
            raise ValueError(f"at most {_COUNT} processes can be counted")
        self.system = system
        self._world = _Numbers[World]()
        self._condition = _Numbers[Process]()
        # What a state's processes (its integer, without the world) or its world alone decide is worked out once.
        self._present = cache(self._find_present)
        self._moves = cache(self._find_moves)
        self._losses = cache(self._find_losses)
        self._loss = cache(self._find_loss)
        self._bereavement = cache(self._find_bereavement)
        self._is_wrong = cache(lambda world: is_wrong(self._world.things[world]))
        self._owes = cache(lambda processes: any(process.owes for process in self._processes(processes)))

    def explore(self) -> Exploration[int]:
        """Reach every state, or the nearest that must not be."""
        return explore(self.initial(), self.successors, self.is_wrong)

    def initial(self) -> list[int]:
        """The states in which nobody has begun."""
        processes = [settled(Process(program)) for _, program in self.system.programs]
        return [self.pack(world, processes) for world in self.system.worlds]

    def pack(self, world: World, processes: Iterable[Process]) -> int:
        """The state in which these processes are in this world."""
        return self._world(world) + sum(map(self._unit, processes))

    def unpack(self, state: int) -> tuple[World, Counter[Process]]:
        """The world, and how many processes are in which condition."""
        return self._world.things[state & _WORLD], self._processes(state >> _WORLD_BITS)

    def is_wrong(self, state: int) -> bool:
        """Whether something can be read that is not stored, and nobody is bound to go on."""
        return self._is_wrong(state & _WORLD) and not (self.system.clears_end and self._owes(state >> _WORLD_BITS))

    def successors(self, state: int) -> list[int]:
        """The states that can be next."""
        world, processes = state & _WORLD, state >> _WORLD_BITS
        changes = [self._losses(world)]
        changes += [self._moves(condition << _WORLD_BITS | world) for condition in self._present(processes)]
        after: list[int] = []
        for additions, replacing in changes:
            after += map(state.__add__, additions)
            for addition, replaced in replacing:
                changed = state + addition
                after.append(changed + self._bereavement(changed >> _WORLD_BITS, replaced))
        return after

    def story(self, states: Sequence[int]) -> list[str]:
        """A way through the states in words, with a name for each process."""
        if not states:
            return []
        world = self.unpack(states[0])[0]
        people = {name: settled(Process(program)) for name, program in self.system.programs}
        told = []
        for state in states[1:]:
            name, move = self._find_step(world, people, state)
            world, people = move.world, _after(people, name, move)
            told.append(f"{name} {move.name}" if name else move.name)
        return told

    def _find_step(self, world: World, people: dict[str, Process], state: int) -> tuple[str, Move]:
        steps = [("", move) for move in losses(self.system, world)]
        steps += [(name, move) for name, process in people.items() for move in moves(world, process)]
        return next(
            (name, move) for name, move in steps if self.pack(move.world, _after(people, name, move).values()) == state
        )

    def _unit(self, process: Process) -> int:
        """What one process in this condition adds to a state."""
        return 0 if process == ENDED else 1 << _WORLD_BITS + _COUNT_BITS * self._condition(process)

    def _counts(self, processes: int) -> Iterator[tuple[int, int]]:
        condition = 0
        while processes:
            if count := processes & _COUNT:
                yield condition, count
            processes >>= _COUNT_BITS
            condition += 1

    def _processes(self, processes: int) -> Counter[Process]:
        return Counter({self._condition.things[condition]: count for condition, count in self._counts(processes)})

    def _find_present(self, processes: int) -> tuple[int, ...]:
        return tuple(condition for condition, _ in self._counts(processes))

    def _find_moves(self, condition_and_world: int) -> _Changes:
        world = condition_and_world & _WORLD
        process = self._condition.things[condition_and_world >> _WORLD_BITS]
        return self._changes(world, process, moves(self._world.things[world], process))

    def _find_losses(self, world: int) -> _Changes:
        return self._changes(world, ENDED, losses(self.system, self._world.things[world]))

    def _changes(self, world: int, process: Process, ways: Iterable[Move]) -> _Changes:
        additions = [
            (self._world(move.world) - world + self._unit(move.process) - self._unit(process), move.replaced)
            for move in ways
        ]
        return (
            tuple(addition for addition, replaced in additions if not replaced),
            tuple((addition, replaced) for addition, replaced in additions if replaced),
        )

    def _find_bereavement(self, processes: int, replaced: Guards) -> int:
        return sum(count * self._loss(condition, replaced) for condition, count in self._counts(processes))

    def _find_loss(self, condition: int, replaced: Guards) -> int:
        process = self._condition.things[condition]
        return self._unit(process.without(replaced)) - self._unit(process)


def check(system: System) -> list[str]:
    """A shortest story that ends in what must not be; empty if there is none."""
    packed = Packed(system)
    return packed.story(packed.explore().trace)


def _after(people: dict[str, Process], name: str, move: Move) -> dict[str, Process]:
    """The processes when one of them, or nobody, has made a move."""
    return {
        other: move.process if other == name else process.without(move.replaced) for other, process in people.items()
    }
