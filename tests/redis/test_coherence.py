"""The heartbeats of a provider's connections, and what they come to together."""

from __future__ import annotations

import pytest

from aioblobcache.redis.coherence import Coherence
from aioblobcache.redis.heartbeat import boot_time
from aioblobcache.redis.options import RedisOptions

MAX_STALENESS = 1.0


async def probe_key():
    return b"aioblobcache::probe::1"


@pytest.fixture
def coherence():
    return Coherence(RedisOptions(near_cache=10, max_staleness=MAX_STALENESS))


def confirm(heartbeat, age):
    """Let the lease be as old as this now, in seconds; return its beginning."""
    began = boot_time() - age
    heartbeat.source.lease.renew(began + MAX_STALENESS, began + 60.0)
    return began


def assert_reported_age(coherence, began):
    earliest = boot_time() - began
    age = coherence.stats().lease_age
    assert earliest <= age + 1e-6
    assert age <= boot_time() - began + 1e-6


def test_the_oldest_lease_is_reported(coherence):
    first, second = (coherence.companion(address, probe_key) for address in ("one", "two"))
    assert coherence.stats().lease_age is None
    assert coherence.stats().why_off is not None
    confirm(first, 0.1)
    assert coherence.stats().why_off is not None  # of the second
    began = confirm(second, 0.5)
    assert coherence.stats().why_off is None
    assert_reported_age(coherence, began)


def test_a_dismissed_connection_is_reported_no_more(coherence):
    stays, leaves = (coherence.companion(address, probe_key) for address in ("one", "two"))
    began = confirm(stays, 0.1)
    confirm(leaves, 0.6)
    coherence.dismiss(leaves)
    assert_reported_age(coherence, began)
    leaves.source.lease.end()
    assert coherence.stats().why_off is None
    stays.source.lease.end()
    assert coherence.stats().why_off is not None


def test_dismissing_no_connection_keeps_all(coherence):
    heartbeat = coherence.companion("one", probe_key)
    coherence.dismiss(None)
    assert coherence.stats().why_off == heartbeat.why_off is not None
