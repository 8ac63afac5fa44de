"""Filling a cache from storage."""

from __future__ import annotations

import asyncio

import pytest
from redis.asyncio import Redis

from aioblobcache import BlobUnknownError, ConfigurationError, Descriptor, StorageError
from aioblobcache.cli.sample import build_image, store_image
from aioblobcache.maintenance import Audit, AuditOptions, Keyspace, StorageTruth, Warm, WarmOptions
from aioblobcache.maintenance import warm as warm_module
from aioblobcache.media_types import OCTET_STREAM
from aioblobcache.redis.keys import descriptor_guard_key, descriptor_key, membership_guard_key
from aioblobcache.storage import LinkedBlobs, LinkedManifests, RegistryStorage
from tests.support.cached_image import CONFIG, IMAGE, LAYER, MANIFEST, NAME, OTHER, lose
from tests.support.internals import set_limits
from tests.support.one_server import on_both_servers
from tests.support.servers import RedisServer, running
from tests.support.stores import S3Server
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

AT_ONCE = WarmOptions(look_again_after=0)


@on_both_servers
async def test_warm_up_fills_every_linked_blob(keyspace, storage):
    report = await Warm(keyspace, storage, AT_ONCE).run()
    assert report.is_complete
    assert (report.repositories, report.seen, report.filled, report.known) == (2, 8, 8, 0)
    for name in (NAME, OTHER):
        cache = keyspace.cache.repository_scoped(name)
        assert await cache.stat(MANIFEST) == IMAGE.manifest
        for blob in IMAGE.blobs:
            assert await cache.stat(blob.digest) == Descriptor(blob.digest, blob.size, OCTET_STREAM)
    assert (await Audit(keyspace, StorageTruth(storage), AuditOptions(confirm_after=0)).run()).faults == []


async def test_warm_up_keeps_known_entries(client, filled, storage):
    await client.hset(descriptor_key(LAYER), "mediatype", "a/b")
    report = await Warm(filled, storage, AT_ONCE).run()
    assert (report.filled, report.known) == (0, 8)
    assert (await filled.cache.stat(LAYER)).media_type == "a/b"


async def test_warm_up_does_not_fill_recently_cleared_blobs(keyspace, filled, storage):
    for name in (NAME, OTHER):
        await filled.clear(name, LAYER)
    report = await Warm(filled, storage, AT_ONCE).run()
    assert (report.filled, report.refused) == (0, 2)


async def test_clear_after_the_storage_read_refuses_the_fill(client, keyspace, storage, monkeypatch):
    """The tombstone expires before the fill: only a token taken before the storage read tells that it was there."""

    def clear_after(read):
        async def stat(self, digest):
            found = await read(self, digest)
            await keyspace.clear(NAME, digest)
            await client.delete(descriptor_guard_key(digest), membership_guard_key(NAME, digest))
            return found

        return stat

    for links in (LinkedBlobs, LinkedManifests):
        monkeypatch.setattr(links, "stat", clear_after(links.stat))
    report = await Warm(keyspace, storage, WarmOptions(repositories=NAME, look_again_after=0)).run()
    assert (report.seen, report.filled, report.refused) == (4, 0, 4)
    assert await keyspace.cache.repository_scoped(NAME).stat_many([*IMAGE.content]) == {}


async def test_links_without_data_are_counted_as_absent(keyspace, storage):
    lose(storage, LAYER)
    report = await Warm(keyspace, storage, AT_ONCE).run()
    assert (report.filled, report.absent) == (6, 2)


async def test_repository_pattern_limits_the_warm_up(keyspace, storage):
    report = await Warm(keyspace, storage, WarmOptions(repositories="*/other", look_again_after=0)).run()
    assert (report.repositories, report.filled) == (1, 4)
    with pytest.raises(BlobUnknownError):
        await keyspace.cache.repository_scoped(NAME).stat(LAYER)


async def test_blob_deleted_before_the_second_look_is_cleared(keyspace, storage):
    """A garbage collection leaves no tombstone that would have kept it out."""
    warm = Warm(keyspace, storage, WarmOptions(look_again_after=0.3))
    warming = asyncio.create_task(warm.run())
    await until(lambda: warm.report.filled == 8)
    lose(storage, LAYER)
    report = await warming
    assert report.vanished == 2
    for name in (NAME, OTHER):
        cache = keyspace.cache.repository_scoped(name)
        assert LAYER not in await cache.stat_many([LAYER])
        assert CONFIG in await cache.stat_many([CONFIG])


async def test_warm_up_does_not_exceed_the_rate(keyspace, storage):
    """Of eight entries a hundred a second: in each of the two repositories all at once, and a pause behind."""
    began = asyncio.get_running_loop().time()
    await Warm(keyspace, storage, WarmOptions(rate=20, look_again_after=0)).run()
    assert asyncio.get_running_loop().time() - began >= 8 / 20


async def test_warm_up_resumes_after_the_last_finished_repository(keyspace, storage):
    more = build_image([{"a": "b"}])
    for number in range(30):
        await store_image(storage, f"z{number:02}", "v", more)
    warm = Warm(keyspace, storage, WarmOptions(rate=60, look_again_after=0))
    warming = asyncio.create_task(warm.run())
    await until(lambda: bool(warm.report.last))
    warming.cancel()
    with pytest.raises(asyncio.CancelledError):
        await warming
    assert warm.report.last
    assert not warm.report.is_complete
    again = await Warm(keyspace, storage, AT_ONCE).run(warm.report.last)
    names = [NAME, OTHER, *(f"z{number:02}" for number in range(30))]
    assert again.repositories == len(names) - names.index(warm.report.last) - 1
    assert (await Warm(keyspace, storage, AT_ONCE).run()).known == 8 + 30 * 3


async def test_storage_errors_are_counted_and_the_rest_is_filled(keyspace):
    with S3Server() as s3:
        storage = RegistryStorage(s3.open(s3.make_bucket()))
        for name in (NAME, OTHER):
            await store_image(storage, name, "latest", IMAGE)
        s3.refuse(lambda request: LAYER.encoded in request.path)
        report = await Warm(keyspace, storage, AT_ONCE).run()
        assert (report.filled, report.not_told, report.is_complete) == (6, 2, True)
        s3.refuse(lambda request: "_layers" in request.args.get("prefix", "") and NAME in request.args["prefix"])
        await keyspace.forget([LAYER, CONFIG])
        report = await Warm(keyspace, storage, AT_ONCE).run()
        assert (report.not_told, report.repositories) == (1, 2)
        assert report.last == ""  # a run that resumes has to see the one that could not be listed
        assert NAME in report.troubles[0]
        s3.refuse(lambda request: True)
        with pytest.raises(StorageError):
            await Warm(keyspace, storage, AT_ONCE).run()


async def test_report_counts_all_troubles_and_remembers_some(keyspace, storage, monkeypatch):
    async def refuses(self, digest):
        raise StorageError(f"blob {digest}", "refused")

    set_limits(monkeypatch, warm_module, TROUBLES=2)
    monkeypatch.setattr(LinkedBlobs, "stat", refuses)
    report = await Warm(keyspace, storage, AT_ONCE).run()
    assert (report.filled, report.not_told, len(report.troubles)) == (2, 6, 2)


@on_both_servers
async def test_warm_up_continues_after_a_server_restart(server, storage, tmp_path):
    own = RedisServer(server.kind, tmp_path / "own")
    own.folder.mkdir()
    with running(own):
        async with Redis.from_url(own.url) as client, Keyspace(client) as keyspace:
            assert await keyspace.size() == 0
            own.stop()
            warming = asyncio.create_task(Warm(keyspace, storage, AT_ONCE).run())
            await until(lambda: keyspace.interruptions > 0)
            await asyncio.to_thread(own.start)
            report = await warming
            assert report.filled == 8
            assert (await keyspace.cache.stat_many([LAYER]))[LAYER].size == IMAGE.layers[0].size


async def test_small_repositories_do_not_wait_for_second_looks(keyspace, storage):
    one = build_image([])
    for number in range(100):
        await store_image(storage, f"small/{number}", "v", one)
    warm = Warm(keyspace, storage, WarmOptions(look_again_after=600))
    warming = asyncio.create_task(warm.run())
    await until(lambda: warm.report.repositories == 102)
    warming.cancel()
    with pytest.raises(asyncio.CancelledError):
        await warming


async def test_repository_end_does_not_replace_a_batch_not_due(keyspace, storage, monkeypatch):
    """The rate makes the manifests due later than the blobs; the end of the repository behind them is due at once."""
    read, last = LinkedManifests.stat, []

    async def stat(self, digest):
        last.append(warm.report.last)
        found = await read(self, digest)
        lose(storage, digest)
        return found

    monkeypatch.setattr(LinkedManifests, "stat", stat)
    warm = Warm(keyspace, storage, WarmOptions(repositories=NAME, rate=20, look_again_after=0.3))
    report = await warm.run()
    assert last == ["", ""]  # the fill and the second look
    assert (report.filled, report.vanished, report.last) == (4, 1, NAME)


async def test_finished_second_looks_do_not_hold_up_the_walk(keyspace, storage, monkeypatch):
    """One repository is looked at again, the next one waits for that, and the third is filled meanwhile."""
    await store_image(storage, "z", "latest", IMAGE)
    set_limits(monkeypatch, warm_module, WAITING=8)
    listed, read, read_before = LinkedBlobs.links, LinkedBlobs.stat, set()
    looking, gate = asyncio.Event(), asyncio.Event()

    async def links(self):
        if self.name == OTHER:
            await until(lambda: warm.report.last == NAME)
        if self.name == "z":
            await looking.wait()
        async for digest in listed(self):
            yield digest

    async def stat(self, digest):
        if self.name == OTHER and digest in read_before:
            looking.set()
            await gate.wait()
        if self.name == OTHER:
            read_before.add(digest)
        return await read(self, digest)

    monkeypatch.setattr(LinkedBlobs, "links", links)
    monkeypatch.setattr(LinkedBlobs, "stat", stat)
    warm = Warm(keyspace, storage, AT_ONCE)
    warming = asyncio.create_task(warm.run())
    try:
        # All but the manifest of the second. A minute is for a walk that is held up.
        await asyncio.wait_for(until(lambda: warm.report.filled == 4 + 3 + 4), 60)
        assert (warm.report.repositories, warm.report.last) == (1, NAME)
    finally:
        gate.set()
    report = await warming
    assert (report.filled, report.repositories, report.is_complete) == (12, 3, True)


@pytest.mark.parametrize(
    "options", [{"rate": 0}, {"rate": float("nan")}, {"look_again_after": -1}, {"objects_at_once": 0}, {"rate": "x"}]
)
def test_error_names_the_invalid_warm_option(options):
    [name] = options
    with pytest.raises(ConfigurationError, match=name):
        WarmOptions(**options)


async def test_repositories_are_filled_concurrently_and_finished_in_order(keyspace, storage, monkeypatch):
    """The first is slow to be listed: those behind it are filled, and none of them is passed when it is resumed."""
    one = build_image([])
    for number in range(4):
        await store_image(storage, f"a/{number}", "v", one)
    listed, gate = LinkedBlobs.links, asyncio.Event()

    async def links(self):
        if self.name == "a/0":
            await gate.wait()
        async for digest in listed(self):
            yield digest

    monkeypatch.setattr(LinkedBlobs, "links", links)
    warm = Warm(keyspace, storage, AT_ONCE)
    warming = asyncio.create_task(warm.run())
    await until(lambda: warm.report.filled >= 3)
    assert (warm.report.repositories, warm.report.last) == (0, "")
    gate.set()
    report = await warming
    assert (report.repositories, report.is_complete) == (6, True)
    assert report.last == OTHER


async def test_cancelled_warm_up_leaves_no_tasks(keyspace, storage, monkeypatch):
    async def never_ends(self):
        await asyncio.Event().wait()
        yield

    monkeypatch.setattr(LinkedBlobs, "links", never_ends)
    before = asyncio.all_tasks()
    warming = asyncio.create_task(Warm(keyspace, storage, AT_ONCE).run())
    await until(lambda: len(asyncio.all_tasks() - before) >= 3)
    warming.cancel()
    with pytest.raises(asyncio.CancelledError):
        await warming
    assert asyncio.all_tasks() - before == set()
