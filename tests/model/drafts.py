"""Protocols that look as if they would do: drafts that were given up, and the library's own with one thing changed."""

from __future__ import annotations

from functools import cache
from typing import Final

import attrs

from .guard_model import (
    BOTH,
    CLEAR_GLOBAL,
    CLUSTER,
    DESCRIPTOR_GUARD,
    LAYER,
    LINK,
    MEMBERSHIP_GUARD,
    ONE_NODE,
    REMOVE_OVERRIDE,
    UNLINK,
    WRITE_DESCRIPTOR,
    Effect,
    Guards,
    Program,
    Protocol,
    Step,
    World,
    delete,
    look,
    write_override,
)

# --- Steps that the library does not have -------------------------------------------------------------


@cache
def write_anyhow(kind: str) -> Step:
    """Write all of an entry, without a look at any guard."""
    return Step(
        "writes whatever the guards say",
        lambda world, _: Effect(world._replace(membership=True, descriptor=True, override=kind)),
    )


@cache
def write_unless_marked(kind: str) -> Step:
    """Write all of an entry if no clear has left its mark."""

    def act(world: World, holds: Guards) -> Effect:
        if _is_marked(world):
            return Effect(world)
        return write_anyhow(kind).act(world, holds)

    return Step("writes unless there is a mark", act)


LOOK_FOR_MARK: Final = Step("looks for a mark", lambda world, _: Effect(world, ends=_is_marked(world)), only_asks=True)

DROP_MARK: Final = Step("drops the mark", lambda world, _: Effect(world._replace(buried=world.buried - BOTH)))

LOOK_AFTERWARDS: Final = Step(
    "looks whether the guards still hold",
    lambda world, holds: Effect(world, ends=holds == BOTH),
    sees=BOTH,
    only_asks=True,
)

UNDO: Final = Step(
    "undoes it", lambda world, _: Effect(world._replace(membership=False, descriptor=False, override=None))
)

LOOK_BEFORE: Final = Step("looks whether the guards hold", lambda world, _: Effect(world), shows=BOTH, only_asks=True)

DESCRIBE_ANYHOW: Final = attrs.evolve(WRITE_DESCRIPTOR, name="writes the descriptor anyhow", shows=frozenset())

DESCRIBE_AND_SPEND: Final = attrs.evolve(
    WRITE_DESCRIPTOR,
    name="writes the descriptor and spends its guard",
    act=lambda world, _: Effect(world._replace(descriptor=True), DESCRIPTOR_GUARD),
)

BURY: Final = Step(
    "buries the membership guard", lambda world, _: Effect(world.bury(MEMBERSHIP_GUARD), MEMBERSHIP_GUARD)
)

MERELY_UNLINK: Final = Step("unlinks", lambda world, _: Effect(world._replace(membership=False)), unlinks=True)

UNLINK_LAST: Final = attrs.evolve(UNLINK, act=lambda world, holds: UNLINK.act(world, holds)._replace(skips=0))


def _is_marked(world: World) -> bool:
    return bool(world.buried & MEMBERSHIP_GUARD)


# --- The three drafts ---------------------------------------------------------------------------------

UNDOING: Final = attrs.evolve(ONE_NODE, write=lambda kind: (write_anyhow(kind), LOOK_AFTERWARDS, UNDO))

MARKS: Final = attrs.evolve(ONE_NODE, take=(), write=lambda kind: (write_unless_marked(kind),))

MARKS_DROPPED_BY_PUSHES: Final = attrs.evolve(MARKS, before_push=(DROP_MARK,))

MARKS_SEEN_BY_THE_CLIENT: Final = attrs.evolve(MARKS, write=lambda kind: (LOOK_FOR_MARK, write_anyhow(kind)))

# --- The library's, with one thing changed ------------------------------------------------------------

TOMBSTONES_DROPPED_BY_PUSHES: Final = attrs.evolve(ONE_NODE, before_push=(DROP_MARK,))

GUARDS_SEEN_BY_THE_CLIENT: Final = attrs.evolve(ONE_NODE, write=lambda kind: (LOOK_BEFORE, write_anyhow(kind)))

LINK_GUARD_SEEN_BY_THE_CLIENT: Final = attrs.evolve(
    CLUSTER,
    write=lambda kind: (
        WRITE_DESCRIPTOR,
        write_override(kind),
        attrs.evolve(LOOK_BEFORE, shows=MEMBERSHIP_GUARD),
        attrs.evolve(LINK, shows=frozenset()),
    ),
)

LINKED_FIRST: Final = attrs.evolve(CLUSTER, write=lambda kind: (LINK, WRITE_DESCRIPTOR, write_override(kind)))

UNLINKED_LAST: Final = attrs.evolve(CLUSTER, clear_cache=(CLEAR_GLOBAL, REMOVE_OVERRIDE, UNLINK_LAST))

BURIED_AFTERWARDS: Final = attrs.evolve(CLUSTER, clear_cache=(MERELY_UNLINK, BURY, CLEAR_GLOBAL, REMOVE_OVERRIDE))

BURIED_BEFOREHAND: Final = attrs.evolve(CLUSTER, clear_cache=(BURY, MERELY_UNLINK, CLEAR_GLOBAL, REMOVE_OVERRIDE))

DESCRIBED_ANYHOW: Final = attrs.evolve(CLUSTER, write=lambda kind: (DESCRIBE_ANYHOW, write_override(kind), LINK))

DESCRIPTOR_GUARD_SPENT: Final = attrs.evolve(
    CLUSTER, write=lambda kind: (DESCRIBE_AND_SPEND, write_override(kind), LINK)
)


@attrs.frozen
class LooksFirst(Protocol):
    """A miss that asks storage before it takes its tokens."""

    def fill(self, kind: str = LAYER) -> Program:
        return (look(kind), *self.take, *self.write(kind))


@attrs.frozen
class ClearsOnce(Protocol):
    """A clear that leaves out the second clearing of the cache."""

    def clear(self, kind: str = LAYER) -> Program:
        return (*self.clear_cache, delete(kind))


@attrs.frozen
class DeletesFirst(Protocol):
    """A clear that begins with storage."""

    def clear(self, kind: str = LAYER) -> Program:
        again = tuple(attrs.evolve(step, is_owed=step.unlinks) for step in self.clear_cache)
        return (delete(kind), *again)


@attrs.frozen
class DeletesLate(Protocol):
    """A clear whose storage reports an error, and deletes all the same when the cache has been cleared again."""

    def clear(self, kind: str = LAYER) -> Program:
        return (*self.clear_cache, *self.clear_cache, delete(kind))


LOOKS_FIRST: Final = LooksFirst(ONE_NODE.write, ONE_NODE.clear_cache)
CLEARS_ONCE: Final = ClearsOnce(ONE_NODE.write, ONE_NODE.clear_cache)
DELETES_FIRST: Final = DeletesFirst(ONE_NODE.write, ONE_NODE.clear_cache)
DELETES_LATE: Final = DeletesLate(ONE_NODE.write, ONE_NODE.clear_cache)
