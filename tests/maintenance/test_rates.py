from __future__ import annotations

import pytest

from aioblobcache.maintenance.rates import Sample, counters_of, gauges_of, parse_info, rates_between

INFO = """# Stats\r
total_commands_processed:7\r
keyspace_hits:5\r
keyspace_misses:\r
# Clients\r
connected_clients:3\r
# Commandstats\r
cmdstat_sismember:calls=4,usec=11,usec_per_call=2.75,rejected_calls=0,failed_calls=0\r
"""


def sample(life="a", **counters):
    gauges = {name: counters.pop(name) for name in ("clients", "used_memory") if name in counters}
    return Sample(life=(life, 0), counters=counters, gauges=gauges)


def test_info_reply_is_parsed_across_sections():
    info = parse_info(INFO)
    assert counters_of(info) == {"commands": 7, "hits": 5, "scoped_stats": 4, "writes": 0}
    assert gauges_of(info) == {"clients": 3}


def test_missing_counters_give_no_rate_instead_of_zero():
    assert counters_of({}) == {}
    rates = rates_between({"n": sample()}, {"n": sample()}, 1.0)
    assert rates.commands is rates.invalidations is rates.clients is None


def test_node_counters_are_summed_and_divided_by_seconds():
    before = {"a": sample(commands=100), "b": sample(commands=0)}
    now = {"a": sample(commands=120), "b": sample(commands=4)}
    assert rates_between(before, now, 4.0).commands == 6.0


def test_gauges_are_summed_over_reachable_nodes():
    now = {"a": sample(clients=2, used_memory=10), "b": sample(clients=3), "c": "gone"}
    rates = rates_between({}, now, 1.0)
    assert (rates.nodes, rates.clients, rates.used_memory, rates.unreachable) == (2, 5, 10, "gone")


def test_invalidations_are_the_sum_of_all_changes():
    before = {"n": sample(descriptors=0, memberships=1, overrides=0, flushes=0)}
    now = {"n": sample(descriptors=4, memberships=3, overrides=0, flushes=2)}
    rates = rates_between(before, now, 2.0)
    assert (rates.descriptors, rates.memberships, rates.overrides, rates.flushes) == (2.0, 1.0, 0.0, 1.0)
    assert rates.invalidations == 3.0


@pytest.mark.parametrize(("earlier", "later"), [(100, 0), (100, 30)])
def test_reset_counter_gives_no_negative_rate(earlier, later):
    rates = rates_between({"n": sample(commands=earlier)}, {"n": sample(commands=later)}, 1.0)
    assert rates.commands == later


def test_restarted_node_has_no_rate_yet():
    """A replica that has become the master has counted for as long as it has run."""
    rates = rates_between({"n": sample("a", commands=5)}, {"n": sample("b", commands=10**9)}, 1.0)
    assert rates.commands is None
    assert rates.nodes == 1


def test_node_that_returns_has_no_rate_yet():
    assert rates_between({"n": "away"}, {"n": sample(commands=10)}, 1.0).commands is None
