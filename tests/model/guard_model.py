"""The guard protocol of the read-through, as a system of processes of which every interleaving can be looked at.

One blob, in one repository and in the global scope. A process is a list of steps, each one moment for all who
look: a request to storage, or a script on one node. A stat is one, a clear, a push. What the steps are and in
which order is a :class:`Protocol`; the library's own are ``ONE_NODE`` and ``CLUSTER``, and ``drafts.py`` has
those that fail.

The theory, by which a state is small:

1. *Stopping needs no state.* Who crashes, gives up or waits for ever is a process that takes no more steps; a
   request that its server executes long after the sender has gone is a process that takes one more step, and
   then no more. Both are interleavings. So everybody may have stopped in every state that can be reached, and
   what must never be for good must never be at all. One exception can be asked for: that clears end. A state in
   which one of them *owes* its second clearing of the cache is then nobody's last, and proves nothing.
2. *Of a token matters who can still show it.* No nonce comes twice, so one that stands in its guard no more will
   never do so again, and its holder may as well hold nothing. A token that nobody holds is as good as none: who
   takes the guard finds it free in the one case, and in the other shares what is no one else's. Hence a guard is
   buried or it is not, and each process holds what stands in it or nothing. SET NX and the GET behind it are one
   step for the same reason: if a token is replaced between them, nobody holds it.
3. *A process that can change nothing any more has ended.* A fill whose token was replaced is refused whenever it
   comes to show it; unless it writes something before that, it is done.
4. *Processes at the same point are alike*, so a state says how many there are, not which. A push that has stored
   its blob is a fill.

Rules 2 to 4 are what ``plain.py`` does without; the tests compare.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import Enum
from functools import cache
from itertools import product, starmap, takewhile
from typing import Final, NamedTuple, TypeAlias

import attrs

__all__ = [
    "CLUSTER",
    "ENDED",
    "GLOBAL",
    "LAYER",
    "MANIFEST",
    "NEIGHBOUR_CLEAR",
    "NEIGHBOUR_FILL",
    "ONE_NODE",
    "Effect",
    "Guard",
    "Guards",
    "Process",
    "Program",
    "Protocol",
    "Step",
    "System",
    "World",
    "is_quiet",
    "is_wrong",
    "losses",
    "moves",
    "processes",
    "quiet_worlds",
    "settled",
]

# The kinds of link a repository has, and the scope in which the data alone counts.
LAYER: Final = "layer"
MANIFEST: Final = "manifest"
GLOBAL: Final = "global"


class Guard(Enum):
    """The two keys that a repository's fill has to hold; each lies beside what it guards."""

    MEMBERSHIP = "membership"
    DESCRIPTOR = "descriptor"

    def __repr__(self) -> str:
        return self.value


Guards: TypeAlias = frozenset[Guard]

NONE: Final[Guards] = frozenset()
MEMBERSHIP_GUARD: Final[Guards] = frozenset({Guard.MEMBERSHIP})
DESCRIPTOR_GUARD: Final[Guards] = frozenset({Guard.DESCRIPTOR})
BOTH: Final = MEMBERSHIP_GUARD | DESCRIPTOR_GUARD


class World(NamedTuple):
    """What storage and the cache have of the blob."""

    links: frozenset[str]  # of the repository, by kind
    data: bool
    membership: bool
    descriptor: bool
    override: str | None  # the kind that the media type is of
    buried: Guards = NONE  # those in which a tombstone stands

    def stored(self, kind: str) -> bool:
        """Whether storage has it: in the repository as a layer or manifest, or at all."""
        return self.data and (kind == GLOBAL or kind in self.links)

    def readable(self) -> Iterator[str]:
        """As what the cache says that it is there."""
        if self.descriptor:
            yield GLOBAL
            if self.membership and self.override is not None:
                yield self.override

    def bury(self, guards: Guards) -> World:
        """The same with a tombstone there."""
        return self._replace(buried=self.buried | guards)


def is_wrong(world: World) -> bool:
    """Whether something can be read that storage does not have."""
    return not all(world.stored(kind) for kind in world.readable())


def is_quiet(world: World) -> bool:
    """Whether nothing is wrong, nor will be when somebody writes a descriptor: a member is linked, as what it seems."""
    is_linked = bool(world.links) if world.override is None else world.override in world.links
    return not is_wrong(world) and (is_linked or not world.membership)


class Effect(NamedTuple):
    """What a step does."""

    world: World
    replaced: Guards = NONE  # whatever token stood there stands no more
    ends: bool = False  # whether the process has no reason to go on
    skips: int = 0  # steps behind it that it leaves out


@attrs.frozen
class Step:
    """One moment of a process."""

    name: str
    act: Callable[[World, Guards], Effect]  # the guards are those whose token the process holds
    takes: Guards = NONE  # whose token it holds from then on
    shows: Guards = NONE  # whose token it shows: if one is not held the step is refused, and the process ends
    sees: Guards = NONE  # whose token it shows without being refused
    only_asks: bool = False  # whether it changes nothing that others could see
    unlinks: bool = False  # whether the repository's blob is visible no more
    deletes: bool = False  # from storage
    is_owed: bool = False  # by a process that has deleted


Program: TypeAlias = tuple[Step, ...]


class Process(NamedTuple):
    """What it has to do yet, and the guards in which the token that it took still stands."""

    todo: Program
    holds: Guards = NONE

    def without(self, replaced: Guards) -> Process:
        """The same when the tokens in these guards have been replaced."""
        return settled(Process(self.todo, self.holds - replaced)) if self.holds & replaced else self

    @property
    def owes(self) -> bool:
        """Whether it has deleted the blob from storage, and not yet cleared the cache again."""
        return any(step.is_owed for step in self.todo) and not any(step.deletes for step in self.todo)


ENDED: Final = Process(())


class Move(NamedTuple):
    """A step that a process can take now."""

    name: str
    world: World
    process: Process
    replaced: Guards  # in which nobody holds a token any more


def moves(world: World, process: Process) -> Iterator[Move]:
    """The steps that a process can take. Takings that follow each other are sent at once, and come in any order."""
    takings = len(list(takewhile(lambda step: step.takes, process.todo)))
    for place in range(takings or min(1, len(process.todo))):
        step, rest = process.todo[place], process.todo[:place] + process.todo[place + 1 :]
        world_after, replaced, ends, skips = step.act(world, process.holds)
        holds = (process.holds | step.takes) - replaced
        yield Move(step.name, world_after, ENDED if ends else settled(Process(rest[skips:], holds)), replaced)


def settled(process: Process) -> Process:
    """The same process, without what it holds for nothing; ended, if it can change nothing any more."""
    holds = process.holds
    for step in process.todo:
        holds |= step.takes
        if not step.shows <= holds:
            return ENDED
        if not step.only_asks:
            useful = frozenset(guard for later in process.todo for guard in later.shows | later.sees)
            return Process(process.todo, process.holds & useful)
    return ENDED


def quiet_worlds(*, kinds: tuple[str, ...] = (LAYER,), deletes_data: bool = False) -> tuple[World, ...]:
    """Every quiet world there is, whatever keys are there and guards buried: what came before does not matter.

    ``kinds``: what the repository may have the blob as. ``deletes_data``: whether it can be gone altogether.
    """
    some = (False, True)
    linked = [
        frozenset(kind for kind, is_linked in zip(kinds, are_linked, strict=True) if is_linked)
        for are_linked in product(some, repeat=len(kinds))
    ]
    buried = (NONE, MEMBERSHIP_GUARD, DESCRIPTOR_GUARD, BOTH)
    worlds = starmap(World, product(linked, some if deletes_data else (True,), some, some, (None, *kinds), buried))
    return tuple(filter(is_quiet, worlds))


@attrs.frozen
class System:
    """Processes in a world that loses keys: by expiry or eviction, or because somebody flushes them."""

    programs: tuple[tuple[str, Program], ...]  # of each process, with its name
    guards_are_lost: bool = False
    entries_are_lost: bool = False
    clears_end: bool = False  # whether those that have deleted clear the cache again, sooner or later
    worlds: tuple[World, ...] = attrs.field(factory=quiet_worlds)


def processes(
    protocol: Protocol, *, fills: int = 0, clears: int = 0, pushes: int = 0
) -> tuple[tuple[str, Program], ...]:
    """So many of each, of the repository's layer."""
    wanted = (("fill", protocol.fill(), fills), ("clear", protocol.clear(), clears), ("push", protocol.push(), pushes))
    return tuple((f"{name} {number}", program) for name, program, n in wanted for number in range(1, n + 1))


def losses(system: System, world: World) -> Iterator[Move]:
    """What can get lost; nobody has to do anything for it."""
    if system.guards_are_lost:
        for guard in Guard:
            lost = frozenset({guard})
            yield Move(f"the {guard.value} guard is lost", world._replace(buried=world.buried - lost), ENDED, lost)
    if system.entries_are_lost:
        without = {
            "membership": world._replace(membership=False),
            "descriptor": world._replace(descriptor=False),
            "override": world._replace(override=None),
        }
        for key, left in without.items():
            if left != world:
                yield Move(f"the {key} is lost", left, ENDED, NONE)


# --- Storage ------------------------------------------------------------------------------------------


@cache
def look(kind: str) -> Step:
    """Ask storage; a blob that is not there is not cached."""
    return Step(f"looks for the {kind}", lambda world, _: Effect(world, ends=not world.stored(kind)), only_asks=True)


@cache
def store(kind: str) -> Step:
    """Put the data there, and the link to it."""
    linked = frozenset({kind} - {GLOBAL})
    return Step(f"stores the {kind}", lambda world, _: Effect(world._replace(data=True, links=world.links | linked)))


@cache
def delete(kind: str) -> Step:
    """Remove the link; in the global scope the data."""

    def act(world: World, _: Guards) -> Effect:
        if kind == GLOBAL:
            return Effect(world._replace(data=False))
        return Effect(world._replace(links=world.links - {kind}))

    return Step(f"deletes the {kind}", act, deletes=True)


# --- Guards, and a fill -------------------------------------------------------------------------------


@cache
def take(guard: Guard) -> Step:
    """Take the guard's token. Who meets a tombstone fills nothing."""
    own = frozenset({guard})
    return Step(
        f"takes the {guard.value} guard",
        lambda world, _: Effect(world, ends=guard in world.buried),
        takes=own,
        only_asks=True,
    )


@cache
def write_scoped(kind: str) -> Step:
    """``write_scoped.lua``: all of an entry, if both guards hold; the first is spent."""
    return Step(
        "writes the entry",
        lambda world, _: Effect(world._replace(membership=True, descriptor=True, override=kind), MEMBERSHIP_GUARD),
        shows=BOTH,
    )


WRITE_GLOBAL: Final = Step(
    "writes the global descriptor",
    lambda world, _: Effect(world._replace(descriptor=True), DESCRIPTOR_GUARD),
    shows=DESCRIPTOR_GUARD,
)

WRITE_DESCRIPTOR: Final = Step(
    "writes the descriptor", lambda world, _: Effect(world._replace(descriptor=True)), shows=DESCRIPTOR_GUARD
)


@cache
def write_override(kind: str) -> Step:
    """``write_override.lua``: no guard lies in its slot."""
    return Step("writes the override", lambda world, _: Effect(world._replace(override=kind)))


LINK: Final = Step(
    "links", lambda world, _: Effect(world._replace(membership=True), MEMBERSHIP_GUARD), shows=MEMBERSHIP_GUARD
)


# --- A clear of the cache -----------------------------------------------------------------------------


def _clear_scoped(world: World, _: Guards) -> Effect:
    if not world.membership:
        return Effect(world.bury(MEMBERSHIP_GUARD), MEMBERSHIP_GUARD)
    return Effect(world._replace(membership=False, descriptor=False, override=None).bury(BOTH), BOTH)


CLEAR_SCOPED: Final = Step("clears the cache", _clear_scoped, unlinks=True)

UNLINK: Final = Step(
    "buries the membership guard and unlinks",
    lambda world, _: Effect(
        world._replace(membership=False).bury(MEMBERSHIP_GUARD), MEMBERSHIP_GUARD, skips=0 if world.membership else 2
    ),
    unlinks=True,
)

CLEAR_GLOBAL: Final = Step(
    "buries the descriptor guard and removes the descriptor",
    lambda world, _: Effect(world._replace(descriptor=False).bury(DESCRIPTOR_GUARD), DESCRIPTOR_GUARD),
)

REMOVE_OVERRIDE: Final = Step("removes the override", lambda world, _: Effect(world._replace(override=None)))


# --- The protocols ------------------------------------------------------------------------------------

TAKE_BOTH: Final = (take(Guard.MEMBERSHIP), take(Guard.DESCRIPTOR))


@attrs.frozen
class Protocol:
    """How a fill goes about its writing, and a clear of the cache; the steps for each kind of link."""

    write: Callable[[str], Program]
    clear_cache: Program
    take: Program = TAKE_BOTH
    before_push: Program = ()  # what a push does between its storage write and what is a miss and a fill

    def fill(self, kind: str = LAYER) -> Program:
        """A miss: token, storage, fill."""
        return (*self.take, look(kind), *self.write(kind))

    def push(self, kind: str = LAYER) -> Program:
        """A storage write, and the announcement of it."""
        return (store(kind), *self.before_push, *self.fill(kind))

    def clear(self, kind: str = LAYER) -> Program:
        """The cache, storage, the cache again; what is owed then is that nothing is visible."""
        again = tuple(attrs.evolve(step, is_owed=step.unlinks) for step in self.clear_cache)
        return (*self.clear_cache, delete(kind), *again)


ONE_NODE: Final = Protocol(lambda kind: (write_scoped(kind),), (CLEAR_SCOPED,))

CLUSTER: Final = Protocol(
    lambda kind: (WRITE_DESCRIPTOR, write_override(kind), LINK), (UNLINK, CLEAR_GLOBAL, REMOVE_OVERRIDE)
)

# The global scope, on whatever topology: one key and its guard.
TAKE_GLOBAL: Final = (take(Guard.DESCRIPTOR), look(GLOBAL))
GLOBAL_FILL: Final = (*TAKE_GLOBAL, WRITE_GLOBAL)
GLOBAL_PUSH: Final = (store(GLOBAL), *GLOBAL_FILL)
GLOBAL_CLEAR: Final = (CLEAR_GLOBAL, delete(GLOBAL), attrs.evolve(CLEAR_GLOBAL, is_owed=True))

# What another repository does to the keys that it shares with this one.
NEIGHBOUR_FILL: Final = (*TAKE_GLOBAL, WRITE_DESCRIPTOR)
NEIGHBOUR_CLEAR: Final = (CLEAR_GLOBAL,)
