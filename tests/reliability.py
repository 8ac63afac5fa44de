"""``python -m tests.reliability``: docs/reliability.md, from the figures that the tests have noted.

``pytest -m '' --figures=docs/reliability.json tests/faults tests/stress`` notes them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final, NamedTuple

__all__ = ["FIGURES", "PAGE", "ROWS", "Row", "page"]

DOCS: Final = Path(__file__).parents[1] / "docs"
FIGURES: Final = DOCS / "reliability.json"
PAGE: Final = DOCS / "reliability.md"


class Row(NamedTuple):
    """A fault, what holds in it, and the tests that show it: in which file, and of which name."""

    fault: str
    holds: str
    file: str
    tests: tuple[str, ...]


ROWS: Final = (
    Row(
        "The master is killed under 64 callers (Sentinel)",
        "Stats and writes are served by the new master within 2 s of the Sentinels' switch. No clear that was confirmed"
        " comes back, but for what asynchronous replication itself has lost: that is counted.",
        "test_sentinel.py",
        ("test_a_killed_master_is_replaced_soon_after_the_switch",),
    ),
    Row(
        "A master is replaced while it lives (Sentinel)",
        "It is left at once, though it goes on answering as a replica.",
        "test_sentinel.py",
        ("test_a_live_master_is_abandoned_after_failover",),
    ),
    Row(
        "A node of a Cluster is killed, its replica promoted",
        "No call about keys of other nodes fails. Those about its own fail at once, until the replica serves.",
        "test_cluster.py",
        ("test_a_killed_node_harms_only_its_own_keys_until_failover",),
    ),
    Row(
        "A demoted primary that still answers and hears of nothing (Cluster), near cache, nothing but hits",
        "No hit contradicts what the new primary has confirmed for longer than `max_staleness`.",
        "test_cluster.py",
        ("test_a_demoted_primary_gives_no_near_hit_past_max_staleness",),
    ),
    Row(
        "Hot slots move, key by key, under 64 callers, or 16 with a near cache",
        "No answer is wrong, and none fails; without and with a near cache.",
        "test_cluster.py",
        ("test_slots_moved_under_load_give_no_wrong_or_failed_answer",),
    ),
    Row(
        "Black hole (either direction, both), 200 ms and 300 ms of latency, one byte at a time",
        "Every call ends within `timeout` (0.25 s) and 50 ms.",
        "test_network.py",
        ("test_every_call_ends_within_the_timeout",),
    ),
    Row(
        "The same, through `CachedBlobStatter`, over a backend that takes 20 ms",
        "Every answer is right and comes from the backend in time.",
        "test_network.py",
        ("test_the_read_through_answers_from_its_backend",),
    ),
    Row(
        "The same, once the connection has been given up",
        "The read-through does not wait for Redis at all.",
        "test_network.py",
        ("test_the_read_through_skips_redis_while_disconnected",),
    ),
    Row(
        "A half-open connection",
        "It is found out within `timeout`, and replaced.",
        "test_network.py",
        ("test_a_half_open_connection_is_detected_and_replaced",),
    ),
    Row(
        "`maxmemory` is reached, `noeviction`",
        "Sets raise `CacheUnavailableError`, fills are swallowed by the read-through; stats and clears go on.",
        "test_server_states.py",
        ("test_a_full_server_refuses_sets_and_serves_stats_and_clears",),
    ),
    Row(
        "A write that timed out is executed later, after a clear",
        "A fill brings nothing back. A raw `set_descriptor` may: its caller vouches for the blob.",
        "test_server_states.py",
        (
            "test_a_fill_executed_after_a_clear_restores_nothing",
            "test_a_raw_set_executed_after_a_clear_restores_the_blob",
        ),
    ),
    Row(
        "Keys are evicted or expire, one by one and in every combination",
        "The blob is unknown, and nothing worse.",
        "test_server_states.py",
        ("test_any_combination_of_missing_keys_makes_a_blob_unknown",),
    ),
    Row(
        "Keys of any other type are planted",
        "A corrupt entry, which is a miss; `set_descriptor` repairs it.",
        "test_server_states.py",
        ("test_a_key_of_a_wrong_type_is_corrupt_until_set",),
    ),
    Row(
        "The server loads its data",
        "A clear error (LOADING), and well again when it has.",
        "test_server_states.py",
        ("test_a_loading_server_is_unavailable_until_it_has_loaded",),
    ),
    Row(
        "A script that does not end",
        "A clear error (BUSY), and well again when it has been killed.",
        "test_server_states.py",
        ("test_a_busy_server_is_unavailable_until_its_script_is_killed",),
    ),
    Row(
        "The server has become a read-only replica",
        "Writes are a clear error (READONLY), stats go on.",
        "test_unavailable.py",
        ("test_a_read_only_replica_refuses_writes_and_answers_stats",),
    ),
    Row(
        "Rights, or the user, are taken away while connected",
        "A clear error, which names what to grant; well again when they are back.",
        "test_server_states.py",
        ("test_revoked_permissions_are_reported_until_they_are_granted_again",),
    ),
    Row(
        "The password is rotated",
        "Who is connected goes on; the next connection asks the client's credential provider.",
        "../security/test_secrets.py",
        ("test_a_password_that_is_rotated_is_used_by_the_next_connection",),
    ),
    Row(
        "Guards are lost at any moment, processes killed and suspended between the steps of a fill, on a real folder",
        "Nothing is readable at the end that storage does not have.",
        "../stress/test_guards.py",
        ("test_lost_guards_and_processes_leave_no_deleted_blob_readable",),
    ),
    Row(
        "Long work with killed connections, flushes, and cancelled callers",
        "Memory and open descriptors do not grow.",
        "test_soak.py",
        ("test_long_work_with_faults_leaks_no_memory_or_descriptors",),
    ),
)

_HEAD: Final = """\
# Reliability

<!-- Made by `python -m tests.reliability` from docs/reliability.json, which `pytest --figures` writes. -->

Each row is a fault that is done to real servers, and the test that does it; in `tests/faults` unless it says otherwise.
The figures are those of one run on a machine of two cores; times are in seconds. A test fails on what must hold, and
on a time only where a busy machine cannot be the reason.

| fault | what holds | figures | test |
| --- | --- | --- | --- |
"""

_TAIL: Final = """
What has to be granted, what is bounded by which option, and what Sentinel and Cluster do to writes is in
[operations](operations.md); what a near cache promises, in [near cache](near-cache.md); why a fill brings nothing back,
in [architecture](architecture.md).

Longer forms: `pytest -m slow tests/faults/test_soak.py --soak-operations 20000000`,
`pytest -m slow tests/stress --stress-seconds 600`, `pytest -m slow tests/coherence --coherence-seconds 600`.
"""


def page(figures: dict[str, dict[str, float]]) -> str:
    """The page with these figures, by the names of tests and what stands in brackets behind them."""
    lines = [f"| {row.fault} | {row.holds} | {_figures(row, figures)} | `{row.file}::{row.tests[0]}` |" for row in ROWS]
    return _HEAD + "\n".join(lines) + "\n" + _TAIL


def _figures(row: Row, figures: dict[str, dict[str, float]]) -> str:
    parts = []
    for name in sorted(figures):
        test, _, variant = name.partition("[")
        if test in row.tests:
            said = ", ".join(f"{what.replace('_', ' ')} {_number(value)}" for what, value in figures[name].items())
            parts.append(f"*{variant.rstrip(']')}*: {said}" if variant else said)
    return "; ".join(parts)


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"


if __name__ == "__main__":
    PAGE.write_text(page(json.loads(FIGURES.read_text())))
