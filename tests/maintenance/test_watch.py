"""What happens on a real server is counted, whoever does it; what goes wrong is said, and does not end a watch."""

from __future__ import annotations

import asyncio
import math

import attrs
import pytest

from aioblobcache import ConfigurationError, LifecycleError, RedisBlobDescriptorCache
from aioblobcache.conformance import descriptor_of
from aioblobcache.maintenance import watch as watch_module
from aioblobcache.maintenance.watch import Watch
from aioblobcache.redis.client import client_from_url, close_client
from tests.support.internals import set_limits
from tests.support.one_server import on_both_servers
from tests.support.ports import free_port
from tests.support.servers import REDIS, RedisServer, running, stopped
from tests.support.waiting import until_server_says

pytestmark = pytest.mark.anyio

PASSWORD = "s3cr3t-pa55"
SOON = 0.02
BLOBS = [descriptor_of(f"blob {number}") for number in range(10)]


@pytest.fixture
async def opened():
    """Make a client of a URL; it is closed in the end."""
    clients = []

    def opened(url):
        clients.append(client_from_url(url))
        return clients[-1]

    yield opened
    for client in clients:
        await close_client(client)


class Sums:
    """How often each thing has happened since the first rates were asked for."""

    def __init__(self, watch):
        self._watch = watch
        self.counted = {}

    async def more(self):
        rates = await anext(self._watch)
        for name, rate in attrs.asdict(rates).items():
            if isinstance(rate, float) and name != "seconds":
                assert rate >= 0
                self.counted[name] = self.counted.get(name, 0) + rate * rates.seconds
        return rates

    def __getattr__(self, name):
        return round(self.counted.get(name, 0))

    async def until(self, **expected):
        """Return when it has all been counted; more than that is none of it."""
        while any(getattr(self, name) < count for name, count in expected.items()):
            await self.more()
        assert {name: getattr(self, name) for name in expected} == expected


async def connections(client):
    return len(await client.client_list())


async def use(cache, name="foo/bar"):
    """Ten blobs are linked, asked for, and one is cleared."""
    repository = cache.repository_scoped(name)
    for blob in BLOBS:
        await repository.set_descriptor(blob.digest, blob)
        await repository.stat(blob.digest)
    await repository.clear(BLOBS[0].digest)


@on_both_servers
async def test_watch_counts_what_other_clients_do(client, cache, opened, server):
    async with Watch(opened(server.url), every=SOON) as watch:
        sums = Sums(watch)
        await sums.more()
        await use(cache)
        await sums.until(scoped_stats=10, writes=11, descriptors=11, memberships=11, overrides=11, invalidations=33)
        assert sums.commands >= 10 * 4
        assert sums.hits >= 30
        assert sums.flushes == sums.evicted == 0
        rates = await sums.more()
        assert rates.nodes == 1
        assert rates.clients == len(await client.client_list())
        assert rates.used_memory > 100_000
        assert rates.unreachable is rates.why_no_figures is rates.why_no_changes is None


@on_both_servers
async def test_watch_counts_misses_and_expired_keys(client, opened, server):
    async with Watch(opened(server.url), every=SOON) as watch:
        sums = Sums(watch)
        await client.set("blobs::x", "", px=1)
        await until_server_says(lambda: _is_empty(client))
        await client.get("nothing")
        await sums.until(expired=1)
        assert sums.misses >= 1
        assert sums.descriptors == 2  # it came, and went


async def _is_empty(client):
    await client.exists("blobs::x")
    return await client.dbsize() == 0


@on_both_servers
async def test_watch_counts_a_flush_without_invalidations(client, opened, server):
    async with Watch(opened(server.url), every=SOON) as watch:
        sums = Sums(watch)
        await client.flushall()
        await sums.until(flushes=1)
        assert sums.invalidations == 0


@on_both_servers
async def test_watch_ignores_keys_outside_the_layout(client, opened, server):
    async with Watch(opened(server.url), every=SOON) as watch:
        sums = Sums(watch)
        for key in ("other", "aioblobcache::guard::x", "repository::"):
            await client.set(key, "")
        await client.set("blobs::x", "")
        await sums.until(descriptors=1)
        assert sums.invalidations == 1


@on_both_servers
async def test_reset_counters_give_no_negative_rates(client, opened, server):
    await client.config_resetstat()
    for _ in range(3):  # more than after the reset: as many would look as if nothing had happened
        await client.get("x")
    async with Watch(opened(server.url), every=SOON) as watch:
        sums = Sums(watch)
        await client.config_resetstat()
        await client.get("x")
        while not sums.misses:
            await sums.more()


async def test_skipped_interval_is_part_of_the_next(opened, client, server):
    async with Watch(opened(server.url), every=0.05) as watch:
        await asyncio.sleep(0.17)
        assert (await anext(watch)).seconds >= 0.17
        assert (await anext(watch)).seconds > 0


@pytest.fixture(params=["valkey", REDIS])
def own_server(request, tmp_path):
    server = RedisServer(request.param, tmp_path)
    with running(server):
        yield server


async def test_watch_reports_an_unreachable_server_and_continues_after_it(own_server, opened):
    async with Watch(opened(own_server.url), every=SOON) as watch:
        sums = Sums(watch)
        await sums.more()
        own_server.stop()
        while (rates := await sums.more()).unreachable is None:
            pass
        assert rates.nodes == 0
        assert rates.commands is rates.invalidations is rates.clients is None
        own_server.start()
        while (rates := await sums.more()).commands is None:
            pass
        assert rates.unreachable is None
        async with RedisBlobDescriptorCache.from_url(own_server.url, timeout=10.0) as cache:
            await use(cache)
        await sums.until(descriptors=11, memberships=11, overrides=11)


async def test_restart_between_samples_gives_no_wrong_rates(own_server, opened):
    async with RedisBlobDescriptorCache.from_url(own_server.url, timeout=10.0) as cache:
        await use(cache)
    async with Watch(opened(own_server.url), every=0.2) as watch:
        own_server.stop()
        own_server.start()
        rates = await anext(watch)
        assert rates.commands is rates.invalidations is None
        while (rates := await anext(watch)).commands is None:
            pass
        assert 0 <= rates.commands * rates.seconds < 20


@on_both_servers
async def test_hanging_server_is_unreachable_until_it_answers(client, opened, server, monkeypatch):
    set_limits(monkeypatch, watch_module, TIMEOUT=0.3)
    async with Watch(opened(server.url), every=SOON) as watch:
        while (await anext(watch)).unreachable is not None:
            pass
        with stopped(server):
            assert (await anext(watch)).unreachable == "no answer in time"
        while (await anext(watch)).commands is None:
            pass


async def test_unreachable_server_is_reported_without_secrets(opened):
    url = f"redis://registry:{PASSWORD}@127.0.0.1:{free_port()}"
    async with Watch(opened(url), every=SOON) as watch:
        rates = await anext(watch)
        assert "Connection" in rates.unreachable
        assert PASSWORD not in str(rates)
        assert rates.nodes == 0


@pytest.fixture
async def set_user(client, server):
    """Create the user ``registry`` with these rules, until the test ends; returns the URL."""

    async def set_user(*rules):
        await client.execute_command("ACL", "SETUSER", "registry", "reset", "on", f">{PASSWORD}", *rules)
        return f"redis://registry:{PASSWORD}@127.0.0.1:{server.port}"

    yield set_user
    await client.acl_deluser("registry")


@on_both_servers
async def test_watch_without_tracking_rights_still_reports_figures(opened, server, set_user):
    url = await set_user("-@all", "+info", "+select")
    async with Watch(opened(url), every=SOON) as watch:
        await anext(watch)
        rates = await anext(watch)
        assert rates.invalidations is rates.descriptors is rates.flushes is None
        assert "'client|tracking'" in rates.why_no_changes
        assert rates.commands > 0
        assert rates.unreachable is rates.why_no_figures is None
        assert PASSWORD not in str(rates)


@on_both_servers
async def test_watch_without_info_rights_still_reports_changes(cache, opened, server, set_user):
    url = await set_user("-@all", "+client|tracking")
    async with Watch(opened(url), every=SOON) as watch:
        sums = Sums(watch)
        await use(cache)
        await sums.until(invalidations=33)
        rates = await sums.more()
        assert rates.commands is rates.clients is None
        assert "'info'" in rates.why_no_figures
        assert rates.unreachable is rates.why_no_changes is None


@on_both_servers
async def test_watch_reports_a_wrong_password(opened, server, set_user):
    await set_user()
    url = f"redis://registry:wrong@127.0.0.1:{server.port}"
    async with Watch(opened(url), every=SOON) as watch:
        assert "AuthenticationError" in (await anext(watch)).unreachable


async def test_watch_without_resp3_explains_the_missing_changes(opened, tmp_path):
    server = RedisServer(REDIS, tmp_path, "--rename-command", "HELLO", "")
    with running(server):
        async with Watch(opened(server.url), every=SOON) as watch:
            rates = await anext(watch)
            assert rates.commands > 0
            assert rates.invalidations is None
            assert rates.why_no_changes == "the server does not speak RESP3"
            server.stop()
            assert "Connection" in (await anext(watch)).unreachable


async def test_watch_covers_all_primaries_of_a_cluster(cluster, opened):
    async with (
        RedisBlobDescriptorCache.from_url(cluster.url, timeout=10.0) as cache,
        Watch(opened(cluster.url), every=SOON) as watch,
    ):
        sums = Sums(watch)
        assert (await sums.more()).nodes == 3
        await use(cache)
        await sums.until(scoped_stats=10, descriptors=11, memberships=11, overrides=11, invalidations=33)


async def test_watch_finds_a_cluster_from_one_node(cluster, opened):
    async with Watch(opened(f"redis+cluster://127.0.0.1:{cluster.nodes[0].port}"), every=SOON) as watch:
        rates = await anext(watch)
        assert rates.nodes == 3
        assert rates.commands > 0


async def test_watch_follows_the_sentinel_master(sentinels, opened):
    async with (
        RedisBlobDescriptorCache.from_url(sentinels.url, timeout=10.0) as cache,
        Watch(opened(sentinels.url), every=SOON) as watch,
    ):
        sums = Sums(watch)
        assert (await sums.more()).nodes == 1
        await use(cache)
        await sums.until(descriptors=11, memberships=11, overrides=11)


@on_both_servers
async def test_leaving_a_watch_closes_its_connections(client, opened, server):
    before = await connections(client)
    async with Watch(opened(server.url), every=SOON) as watch:
        await anext(watch)
        assert await connections(client) == before + 1
    await until_server_says(lambda: _are(client, before))


async def _are(client, count):
    return await connections(client) == count


@pytest.mark.parametrize("intervals", [0, 1])
async def test_cancelled_watch_closes_its_connections(client, opened, server, intervals):
    before = await connections(client)
    begun = asyncio.Event()

    async def work():
        async with Watch(opened(server.url), every=60.0 if not intervals else SOON) as watch:
            for _ in range(intervals):
                await anext(watch)
            begun.set()
            async for _ in watch:
                pass

    task = asyncio.create_task(work())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until_server_says(lambda: _are(client, before))


@pytest.mark.parametrize("ticks", [0, 1, 2, 3, 5, 8, 13])
async def test_cancelled_entry_leaves_no_connections(client, opened, server, ticks):
    before = await connections(client)
    entering = asyncio.create_task(Watch(opened(server.url)).__aenter__())
    for _ in range(ticks):
        await asyncio.sleep(0)
    entering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await entering
    await until_server_says(lambda: _are(client, before))


@pytest.mark.parametrize("every", [0, -1.0, math.nan, math.inf, "1"])
async def test_invalid_watch_interval_is_refused(opened, every):
    with pytest.raises(ConfigurationError, match="every is a number of seconds"):
        Watch(opened("redis://127.0.0.1"), every=every)


async def test_watch_must_be_entered_once_before_use(opened, client, server):
    watch = Watch(opened(server.url), every=SOON)
    with pytest.raises(LifecycleError, match="a Watch was used before it was entered"):
        await anext(watch)
    async with watch:
        await anext(watch)
    with pytest.raises(LifecycleError, match="once only"):
        await watch.__aenter__()
