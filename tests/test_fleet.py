"""The simulated fleet: what it does where one can say beforehand what it must do; and beside real processes."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from benchmarks.fleet import BEATS, Fleet, simulate
from benchmarks.fleet_check import CHECKED, Check, _run
from benchmarks.page import Kept
from benchmarks.scaling import SIZES, Forecasts, nodes_for
from benchmarks.scaling_page import scaling_page
from benchmarks.server import running_server

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"

SMALL = Fleet(processes=2, stats=2_000, blobs=500, repositories=20, near_cache=1_000)


def forecast(fleet, **options):
    return simulate(fleet, **{"processes": fleet.processes, "warm_up": 5, "seconds": 10, **options})


def test_without_changes_each_blob_is_read_once_per_age():
    found = forecast(attrs.evolve(SMALL, max_age=1_000.0), warm_up=200)
    assert found.hit_ratio == 1
    assert found.tracked_keys == 2 * SMALL.blobs + SMALL.repositories
    assert found.commands == BEATS * SMALL.processes


def test_a_tiny_near_cache_leaves_the_stats_to_redis():
    found = forecast(attrs.evolve(SMALL, near_cache=1))
    assert found.hit_ratio < 0.1
    assert found.misses == pytest.approx(0.95 * SMALL.stats, rel=0.1)


def test_a_push_drops_the_repository_from_every_near_cache():
    still, pushed = (forecast(attrs.evolve(SMALL, repositories=1, pushes=rate)) for rate in (0, 50))
    assert still.hit_ratio > 0.9
    assert pushed.hit_ratio < still.hit_ratio / 3  # twenty questions between two pushes
    assert pushed.invalidations == pytest.approx(50 * SMALL.processes, rel=0.2)


def test_a_restarted_process_starts_empty_as_another_client():
    found = forecast(attrs.evolve(SMALL, life=1.0))
    assert found.hit_ratio < forecast(SMALL).hit_ratio
    assert found.tracked_pairs > 2 * forecast(SMALL).tracked_pairs


def test_stale_hits_of_a_silent_network_end_within_max_staleness():
    fleet = attrs.evolve(SMALL, deletes=200, silences=1.0, silence=5.0, max_staleness=0.8)
    found = forecast(fleet)
    assert found.served_stale > 0
    assert 0.2 < max(found.staleness) < 0.8
    assert forecast(attrs.evolve(fleet, silences=0.0)).served_stale < found.served_stale / 10


def test_a_sample_of_processes_represents_the_fleet():
    many = Fleet(processes=16, stats=16_000, blobs=5_000, repositories=50, near_cache=1_000, pushes=20, deletes=5)
    whole, sample = forecast(many), forecast(many, processes=4)
    for figure in ("hit_ratio", "misses", "commands", "invalidations", "tracked_keys", "tracked_pairs"):
        assert getattr(sample, figure) == pytest.approx(getattr(whole, figure), rel=0.1), figure


@pytest.mark.slow
def test_fewer_processes_per_repository_hit_more_with_fewer_invalidations():
    fleet = Fleet(processes=16, stats=16_000, blobs=5_000, repositories=160, near_cache=300, pushes=20, deletes=5)
    all_of_them, few = forecast(fleet), forecast(attrs.evolve(fleet, sharers=2))
    assert few.hit_ratio > all_of_them.hit_ratio
    assert few.invalidations < all_of_them.invalidations / 4
    assert few.misses / (1 - few.hit_ratio) == pytest.approx(fleet.stats, rel=0.05)


@pytest.mark.slow
@pytest.mark.whole_machine
def test_real_processes_match_the_forecast(tmp_path):
    """In short; the figures that are kept are within a fifth, which takes minutes."""
    fleet = attrs.evolve(SMALL, blobs=5_000, repositories=50, pushes=10, deletes=5, life=4)
    said = simulate(fleet, processes=2, warm_up=3, seconds=5)
    with running_server(tmp_path) as server:
        seen = _run(fleet, server, 3, 5)
    for figure in ("hit_ratio", "misses", "commands", "tracked_keys", "tracked_pairs"):
        assert getattr(said, figure) == pytest.approx(getattr(seen, figure), rel=0.3), figure


def test_every_node_carries_the_heartbeats_of_every_process():
    fleet = Fleet(processes=3_000, stats=1, blobs=1, repositories=1)
    idle = attrs.evolve(forecast(SMALL), misses=0.0, invalidations=0.0)
    # 12,000 heartbeats of 10 µs on each node take 12 % of it; what is asked shares the rest of the half.
    asked = attrs.evolve(idle, misses=100_000.0)
    assert nodes_for(fleet, idle, stat=30e-6, telling=0.0) == 1
    assert nodes_for(fleet, asked, stat=30e-6, telling=0.0) == 8  # 3 / (0.5 - 0.12)
    told = attrs.evolve(asked, invalidations=1e6)
    assert nodes_for(fleet, told, stat=30e-6, telling=1e-6) == 11  # 4 / (0.5 - 0.12)


# --- what is kept --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def checks():
    return [Check.read(path) for path in sorted((RESULTS / "fleet").glob("*.json"))]


def test_recorded_forecasts_are_within_a_fifth_of_real_fleets(checks):
    assert checks
    for check in checks:
        assert {1, 4} <= {fleet.processes for fleet in check.fleets}
        for number in range(len(check.fleets)):
            assert all(abs(off) <= 0.2 for off in check.deviations(number).values())


def test_recorded_results_are_of_the_described_fleets(checks):
    assert checks[-1].fleets == list(CHECKED)
    [forecasts] = [Forecasts.read(path) for path in (RESULTS / "forecasts").glob("*.json")]
    assert forecasts.sizes.keys() == SIZES.keys()


def test_fleet_results_survive_writing_and_reading(checks, tmp_path):
    checks[-1].write(tmp_path / "check.json")
    assert Check.read(tmp_path / "check.json") == checks[-1]


def test_the_scaling_page_matches_the_recorded_results():
    kept = Kept.read(RESULTS)
    written = (RESULTS.parents[1] / "docs" / "scaling.md").read_text()
    assert written == scaling_page(kept.forecasts, kept.checks, kept.runs)
