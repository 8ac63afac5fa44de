"""No interleaving of fills, clears and pushes leaves a deleted blob readable; and what would.

Each test looks at every state of its systems, none at a sample.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import attrs
import pytest

from tests.model import drafts
from tests.model.explore import explore
from tests.model.guard_model import (
    CLUSTER,
    GLOBAL_CLEAR,
    GLOBAL_FILL,
    LAYER,
    MANIFEST,
    NEIGHBOUR_CLEAR,
    NEIGHBOUR_FILL,
    ONE_NODE,
    Guard,
    Process,
    Program,
    Protocol,
    System,
    World,
    processes,
    quiet_worlds,
    take,
)
from tests.model.packed import Packed, check
from tests.model.plain import Plain, PlainState

CACHED = World(frozenset({LAYER}), data=True, membership=True, descriptor=True, override=LAYER)
UNCACHED = World(frozenset({LAYER}), data=True, membership=False, descriptor=False, override=None)
OF_BOTH_KINDS = UNCACHED._replace(links=frozenset({LAYER, MANIFEST}))

one_node_and_cluster = pytest.mark.parametrize("protocol", [ONE_NODE, CLUSTER], ids=["one node", "cluster"])

Programs = tuple[tuple[str, Program], ...]


def crashing(programs: Programs, worlds: tuple[World, ...] = quiet_worlds()) -> System:
    """Everybody crashes as they like. No guard is lost, so that a tombstone stands for ever."""
    return System(programs, entries_are_lost=True, worlds=worlds)


def forgetting(programs: Programs, worlds: tuple[World, ...] = quiet_worlds()) -> System:
    """Guards are lost at any moment, by expiry too. Clears do not crash between a delete and hiding the blob again."""
    return System(programs, guards_are_lost=True, entries_are_lost=True, clears_end=True, worlds=worlds)


def many(protocol: Protocol) -> Programs:
    return processes(protocol, fills=3, clears=2, pushes=2)


def few(protocol: Protocol) -> Programs:
    return processes(protocol, fills=2, clears=1, pushes=1)


all_sizes = pytest.mark.parametrize(
    "programs",
    [
        pytest.param(few(ONE_NODE), id="one node, few"),
        pytest.param(few(CLUSTER), id="cluster, few"),
        pytest.param(many(ONE_NODE), id="one node", marks=pytest.mark.slow),
        pytest.param(many(CLUSTER), id="cluster", marks=pytest.mark.slow),
    ],
)


def a_fill_and_a_clear(protocol: Protocol) -> Programs:
    return processes(protocol, fills=1, clears=1)


def story(system: System) -> list[str]:
    """A shortest way to what must not be, from a blob that is stored and not cached, with nothing lost but guards."""
    return check(attrs.evolve(system, worlds=(UNCACHED,), entries_are_lost=False))


def assert_in_order(told: list[str], *steps: str) -> None:
    places = list(map(told.index, steps))
    assert places == sorted(places)


# --- The protocol -------------------------------------------------------------------------------------


@all_sizes
def test_crashes_leave_no_deleted_blob_readable(programs):
    assert check(crashing(programs)) == []


@all_sizes
def test_lost_guards_leave_no_deleted_blob_readable(programs):
    assert check(forgetting(programs)) == []


@one_node_and_cluster
def test_a_renewed_tombstone_does_no_harm(protocol):
    programs = (*few(protocol), ("renewal", protocol.clear_cache))
    assert check(crashing(programs)) == []
    assert check(forgetting(programs)) == []


@one_node_and_cluster
def test_a_stored_blob_can_be_filled_and_filled_again(protocol):
    """Nothing would be wrong either if nothing were ever cached."""
    programs = processes(protocol, fills=1, clears=1, pushes=1)
    packed = Packed(forgetting(programs, (UNCACHED,)))
    ends = {world for world, processes in map(packed.unpack, packed.explore().parents) if not processes}
    assert CACHED in ends
    assert UNCACHED._replace(links=frozenset(), buried=frozenset({Guard.MEMBERSHIP})) in ends


def test_a_lost_guard_and_crashed_clear_leave_a_blob_readable():
    assert story(attrs.evolve(forgetting(a_fill_and_a_clear(ONE_NODE)), clears_end=False)) == [
        "fill 1 takes the descriptor guard",
        "clear 1 clears the cache",
        "the membership guard is lost",
        "fill 1 takes the membership guard",
        "fill 1 looks for the layer",
        "clear 1 deletes the layer",
        "fill 1 writes the entry",
    ]


def test_a_lost_guard_and_crashed_clear_fail_in_a_cluster():
    assert story(attrs.evolve(forgetting(a_fill_and_a_clear(CLUSTER)), clears_end=False)) == [
        "fill 1 takes the descriptor guard",
        "clear 1 buries the membership guard and unlinks",
        "the membership guard is lost",
        "fill 1 takes the membership guard",
        "fill 1 looks for the layer",
        "clear 1 deletes the layer",
        "fill 1 writes the descriptor",
        "fill 1 writes the override",
        "fill 1 links",
    ]


def test_a_lost_guard_and_late_delete_leave_a_blob_readable():
    assert check(crashing(few(drafts.DELETES_LATE))) == []
    assert story(forgetting(a_fill_and_a_clear(drafts.DELETES_LATE))) == [
        "fill 1 takes the descriptor guard",
        "clear 1 clears the cache",
        "clear 1 clears the cache",
        "the membership guard is lost",
        "fill 1 takes the membership guard",
        "fill 1 looks for the layer",
        "clear 1 deletes the layer",
        "fill 1 writes the entry",
    ]


# --- Around one repository's layers -------------------------------------------------------------------


def in_all_scopes(protocol: Protocol, pushes: int = 1) -> Programs:
    own = processes(protocol, fills=1, clears=1, pushes=pushes)
    neighbours = (("neighbour's fill", NEIGHBOUR_FILL), ("neighbour's clear", NEIGHBOUR_CLEAR))
    return (*own, ("global fill", GLOBAL_FILL), ("global clear", GLOBAL_CLEAR), *neighbours)


@one_node_and_cluster
def test_crashes_in_all_scopes_leave_no_deleted_blob_readable(protocol):
    assert check(crashing(in_all_scopes(protocol), quiet_worlds(deletes_data=True))) == []


@pytest.mark.parametrize(
    ("protocol", "pushes"),
    [
        pytest.param(ONE_NODE, 1, id="one node"),
        pytest.param(CLUSTER, 0, id="cluster, no push"),
        pytest.param(CLUSTER, 1, id="cluster", marks=pytest.mark.slow),
    ],
)
def test_guards_lost_in_all_scopes_leave_no_deleted_blob_readable(protocol, pushes):
    assert check(forgetting(in_all_scopes(protocol, pushes), quiet_worlds(deletes_data=True))) == []


def of_both_kinds(protocol: Protocol) -> Programs:
    return (
        ("layer's fill", protocol.fill(LAYER)),
        ("layer's clear", protocol.clear(LAYER)),
        ("manifest's fill", protocol.fill(MANIFEST)),
        ("manifest's clear", protocol.clear(MANIFEST)),
    )


@one_node_and_cluster
def test_crashes_leave_no_deleted_layer_readable_beside_its_manifest(protocol):
    assert check(crashing(of_both_kinds(protocol), quiet_worlds(kinds=(LAYER, MANIFEST)))) == []


def test_lost_guards_leave_no_deleted_layer_readable_on_one_node():
    assert check(forgetting(of_both_kinds(ONE_NODE), quiet_worlds(kinds=(LAYER, MANIFEST)))) == []


def test_a_late_override_in_a_cluster_restores_a_deleted_layer():
    """No guard lies in the override's slot: a layer's, late, makes the linked manifest seem to be a layer still."""
    programs = of_both_kinds(CLUSTER)[:3]
    packed = Packed(System(programs, guards_are_lost=True, clears_end=True, worlds=(OF_BOTH_KINDS,)))
    trace = packed.explore().trace
    told = packed.story(trace)
    assert_in_order(told, "layer's fill looks for the layer", "layer's clear deletes the layer")
    assert_in_order(told, "the membership guard is lost", "manifest's fill looks for the manifest")
    assert_in_order(told, "manifest's fill writes the override", "layer's fill writes the override")
    world, processes = packed.unpack(trace[-1])
    assert list(world.links) == [MANIFEST]
    assert LAYER in world.readable()
    assert not processes


# --- Drafts -------------------------------------------------------------------------------------------


def test_a_fill_that_checks_afterwards_may_crash_before_undoing():
    assert story(crashing(a_fill_and_a_clear(drafts.UNDOING))) == [
        "fill 1 takes the membership guard",
        "clear 1 clears the cache",
        "fill 1 takes the descriptor guard",
        "fill 1 looks for the layer",
        "clear 1 deletes the layer",
        "fill 1 writes whatever the guards say",
    ]


def test_a_push_that_drops_the_mark_admits_an_old_fill():
    programs = processes(drafts.MARKS_DROPPED_BY_PUSHES, fills=1, clears=1, pushes=1)
    assert story(attrs.evolve(crashing(programs), clears_end=True)) == [
        "fill 1 looks for the layer",
        "clear 1 clears the cache",
        "push 1 stores the layer",
        "clear 1 deletes the layer",
        "clear 1 clears the cache",
        "push 1 drops the mark",
        "fill 1 writes unless there is a mark",
    ]


def test_a_push_that_drops_a_tombstone_admits_a_stale_fill():
    programs = processes(drafts.TOMBSTONES_DROPPED_BY_PUSHES, fills=1, clears=1, pushes=1)
    assert story(crashing(programs)) == [
        "fill 1 takes the descriptor guard",
        "clear 1 clears the cache",
        "push 1 stores the layer",
        "push 1 drops the mark",
        "fill 1 takes the membership guard",
        "fill 1 looks for the layer",
        "clear 1 deletes the layer",
        "fill 1 writes the entry",
    ]


def test_a_lost_mark_that_meant_refusal_admits_an_old_fill():
    assert check(crashing(few(drafts.MARKS))) == []
    assert story(forgetting(a_fill_and_a_clear(drafts.MARKS))) == [
        "fill 1 looks for the layer",
        "clear 1 clears the cache",
        "clear 1 deletes the layer",
        "clear 1 clears the cache",
        "the membership guard is lost",
        "fill 1 writes unless there is a mark",
    ]


def test_a_mark_checked_by_the_client_admits_a_late_write():
    assert story(attrs.evolve(crashing(a_fill_and_a_clear(drafts.MARKS_SEEN_BY_THE_CLIENT)), clears_end=True)) == [
        "fill 1 looks for the layer",
        "fill 1 looks for a mark",
        "clear 1 clears the cache",
        "clear 1 deletes the layer",
        "clear 1 clears the cache",
        "fill 1 writes whatever the guards say",
    ]


# --- One thing changed --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("protocol", "last_step"),
    [
        (drafts.GUARDS_SEEN_BY_THE_CLIENT, "fill 1 writes whatever the guards say"),
        (drafts.LINK_GUARD_SEEN_BY_THE_CLIENT, "fill 1 links"),
        (drafts.DELETES_FIRST, "clear 1 deletes the layer"),
    ],
    ids=["the client compares the tokens", "the client compares the last token", "storage is cleared before the cache"],
)
def test_crashes_alone_break_a_weaker_protocol(protocol, last_step):
    system = crashing(few(protocol), (CACHED, UNCACHED))
    assert check(system)[-1] == last_step


@pytest.mark.parametrize(
    ("protocol", "last_step"),
    [
        (drafts.CLEARS_ONCE, "fill 1 writes the entry"),
        (drafts.LOOKS_FIRST, "fill 1 writes the entry"),
        (drafts.BURIED_AFTERWARDS, "fill 1 links"),
    ],
    ids=[
        "the cache is cleared once",
        "storage is asked before the tokens are taken",
        "the membership is removed before its guard is buried",
    ],
)
def test_a_lost_guard_alone_breaks_a_weaker_protocol(protocol, last_step):
    assert check(crashing(few(protocol))) == []
    assert story(forgetting(few(protocol)))[-1] == last_step


def test_a_link_before_the_override_shows_an_old_override():
    """As the membership comes last, nobody sees what was left by who crashed before."""
    system = crashing(of_both_kinds(drafts.LINKED_FIRST), quiet_worlds(kinds=(LAYER, MANIFEST)))
    assert check(system)[-1].endswith("fill links")


def test_an_unguarded_descriptor_comes_back_in_the_global_scope():
    system = crashing(in_all_scopes(drafts.DESCRIBED_ANYHOW), quiet_worlds(deletes_data=True))
    told = check(system)
    assert told[-1] == "fill 1 writes the descriptor anyhow"
    assert "global clear deletes the global" in told


@pytest.mark.parametrize(
    "protocol",
    [
        drafts.LINKED_FIRST,
        drafts.UNLINKED_LAST,
        drafts.BURIED_BEFOREHAND,
        drafts.DESCRIBED_ANYHOW,
        drafts.DESCRIPTOR_GUARD_SPENT,
    ],
    ids=[
        "the membership is written first",
        "the membership is removed last",
        "the guard is buried a step before",
        "the descriptor is written without a look at its guard",
        "the guard of the descriptor is spent",
    ],
)
def test_one_repository_without_manifests_needs_only_the_membership_guard(protocol):
    """There the guard of the membership is enough, if it lies beside it and is buried no later than that is removed."""
    assert check(crashing(few(protocol))) == []
    assert check(forgetting(few(protocol))) == []


# --- The theory ---------------------------------------------------------------------------------------

DRAFTS = {
    name: draft
    for name, draft in vars(drafts).items()
    if isinstance(draft, Protocol) and draft not in (ONE_NODE, CLUSTER)
}

every_protocol = pytest.mark.parametrize(
    "protocol",
    [ONE_NODE, CLUSTER, *DRAFTS.values()],
    ids=["one node", "cluster", *DRAFTS],
)
whatever_is_lost = pytest.mark.parametrize("mode", [crashing, forgetting])


def never(_: object) -> bool:
    return False


def reached(system: System) -> list[tuple[World, Counter[Process]]]:
    """Every state of a system, by the theory."""
    packed = Packed(system)
    return [packed.unpack(state) for state in explore(packed.initial(), packed.successors, never).parents]


def reached_plainly(plain: Plain) -> list[PlainState]:
    """Every state of a system, without it."""
    return list(explore(plain.initial(), plain.successors, never).parents)


def distinct(states: Iterable[tuple[World, Counter[Process]]]) -> set[tuple[World, frozenset[tuple[Process, int]]]]:
    return {(world, frozenset(processes.items())) for world, processes in states}


@every_protocol
@whatever_is_lost
def test_the_theory_reaches_exactly_the_plain_states(protocol, mode):
    system = mode(processes(protocol, clears=1, pushes=1), (CACHED, UNCACHED))
    by_theory = reached(system)
    assert len(distinct(by_theory)) == len(by_theory)
    assert distinct(by_theory) == distinct(state.project() for state in reached_plainly(Plain(system)))


@pytest.mark.parametrize(
    "protocol", [ONE_NODE, pytest.param(CLUSTER, marks=pytest.mark.slow)], ids=["one node", "cluster"]
)
def test_the_theory_reaches_exactly_the_states_of_three_processes(protocol):
    system = attrs.evolve(forgetting(processes(protocol, fills=2, clears=1), (CACHED,)), entries_are_lost=False)
    by_theory = reached(system)
    plain = reached_plainly(Plain(system))
    assert distinct(by_theory) == distinct(state.project() for state in plain)
    assert len(plain) > 30 * len(by_theory)


@every_protocol
@whatever_is_lost
@pytest.mark.parametrize("numbers", [{"fills": 1, "clears": 1}, {"clears": 1, "pushes": 1}], ids=" and ".join)
def test_the_theory_ends_in_the_worlds_of_explicit_crashes(protocol, mode, numbers):
    """A request may be under way then when its sender crashes, and SET NX and GET are two moments."""
    system = attrs.evolve(mode(processes(protocol, **numbers), (CACHED,)), entries_are_lost=False)
    plain = Plain(system, crashes=True)
    assert {state.project()[0] for state in reached_plainly(plain) if plain.is_last(state)} == {
        world
        for world, processes in reached(system)
        if not (system.clears_end and any(process.owes for process in processes))
    }


@one_node_and_cluster
def test_a_clear_owes_from_its_delete_until_it_unlinks(protocol):
    program = protocol.clear()
    owing = [step for place, step in enumerate(program) if Process(program[place:]).owes]
    assert [step.name for step in owing] == [protocol.clear_cache[0].name]
    assert program.index(owing[0]) == len(protocol.clear_cache) + 1


def test_a_repeated_token_request_admits_an_old_fill():
    """The theory has it that no nonce comes twice: a request that takes a guard must never be sent twice."""
    programs = (*a_fill_and_a_clear(ONE_NODE), ("the fill's SET NX, again", (take(Guard.MEMBERSHIP),)))
    system = forgetting(programs, (UNCACHED,))
    assert Plain(system).explore().wrong is None
    repeated = Plain(system, nonces=(1, 2, 1)).explore()
    assert repeated.wrong is not None
    _, clear, _ = repeated.wrong.processes
    assert not clear.todo, "nobody has crashed"
