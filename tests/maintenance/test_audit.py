"""What an audit calls a fault, what a note, and that it calls nothing else either."""

from __future__ import annotations

import asyncio
import shutil

import obstore
import pytest
from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError

from aioblobcache import CacheUnavailableError, ConfigurationError, Descriptor, Digest, StorageError
from aioblobcache.cli.sample import store_image
from aioblobcache.maintenance import (
    Audit,
    AuditOptions,
    AuditReport,
    Fault,
    Finding,
    InRepository,
    Keyspace,
    Note,
    Position,
    StorageTruth,
)
from aioblobcache.maintenance import audit as audit_module
from aioblobcache.media_types import OCTET_STREAM
from aioblobcache.redis.client import client_from_url, close_client
from aioblobcache.redis.keys import descriptor_key, membership_key, override_key
from aioblobcache.storage import RegistryStorage
from tests.support.cached_image import CONFIG, IMAGE, LAYER, MANIFEST, NAME, OTHER, fill, lose, many, unlink
from tests.support.internals import set_limits, suspects_of
from tests.support.one_server import on_both_servers
from tests.support.ports import free_port
from tests.support.servers import RedisServer, running
from tests.support.stores import S3Server
from tests.support.waiting import until, until_server_says

pytestmark = pytest.mark.anyio

NOBODY = Digest.of(b"stored nowhere")
AT_ONCE = AuditOptions(confirm_after=0)


async def audited(keyspace, storage, **options):
    return await Audit(keyspace, StorageTruth(storage), AuditOptions(**{"confirm_after": 0, **options})).run()


async def faults(keyspace, storage, **options):
    report = await audited(keyspace, storage, **options)
    assert report.is_complete
    return {(finding.kind, finding.name, finding.digest) for finding in report.faults}


async def notes(keyspace, storage):
    report = await audited(keyspace, storage, with_notes=True)
    assert report.faults == []
    return {(finding.kind, finding.name, finding.digest) for finding in report.notes}


async def test_audit_of_a_correct_cache_finds_no_faults(filled, storage):
    report = await audited(filled, storage)
    assert (report.faults, report.not_told, report.is_complete) == ([], 0, True)
    assert report.checked == len(IMAGE.content) * 3  # globally, and in each of two repositories


async def test_uncached_blobs_are_not_faults(keyspace, storage):
    assert await faults(keyspace, storage) == set()


async def test_cached_layer_without_data_is_missing_data(filled, storage):
    lose(storage, LAYER)
    assert await faults(filled, storage) == {(Fault.MISSING_DATA, name, LAYER) for name in (None, NAME, OTHER)}


async def test_cached_manifest_without_data_is_missing_data(filled, storage):
    lose(storage, MANIFEST)
    assert await faults(filled, storage) == {(Fault.MISSING_DATA, name, MANIFEST) for name in (None, NAME, OTHER)}


async def test_readable_member_without_a_link_is_not_linked(filled, storage):
    unlink(storage, NAME, LAYER)
    assert await faults(filled, storage) == {(Fault.NOT_LINKED, NAME, LAYER)}


async def test_unreadable_member_without_a_link_is_only_a_note(client, filled, storage):
    unlink(storage, NAME, LAYER)
    await client.delete(descriptor_key(LAYER))
    assert await notes(filled, storage) == {
        (Note.UNLINKED_MEMBER, NAME, LAYER),
        (Note.NO_DESCRIPTOR, OTHER, LAYER),
    }


async def test_unreadable_member_without_data_is_missing_data(client, keyspace, storage):
    await client.sadd(membership_key(NAME), NOBODY)
    assert await faults(keyspace, storage) == {(Fault.MISSING_DATA, NAME, NOBODY)}


async def test_wrong_cached_size_is_a_fault(client, filled, storage):
    await client.hset(descriptor_key(LAYER), "size", 1)
    assert await faults(filled, storage) == {(Fault.WRONG_SIZE, None, LAYER)}


@pytest.mark.parametrize(
    ("field", "value"), [("size", "abc"), ("digest", CONFIG), ("digest", "nonsense"), ("mediatype", "a\nb")]
)
async def test_malformed_descriptor_field_is_a_fault(client, filled, storage, field, value):
    await client.hset(descriptor_key(LAYER), field, value)
    assert await faults(filled, storage) == {(Fault.MALFORMED, None, LAYER)}


@on_both_servers
async def test_descriptor_key_of_wrong_type_is_a_fault(client, filled, storage):
    await client.delete(descriptor_key(LAYER))
    await client.set(descriptor_key(LAYER), "of another type")
    assert await faults(filled, storage) == {(Fault.MALFORMED, None, LAYER)}


@on_both_servers
async def test_malformed_repository_media_type_is_a_fault(client, filled, storage):
    await client.delete(override_key(NAME, LAYER))
    await client.set(override_key(NAME, LAYER), "of another type")
    await client.hset(override_key(OTHER, LAYER), "mediatype", "a\r\nb")
    assert await faults(filled, storage) == {(Fault.MALFORMED, NAME, LAYER), (Fault.MALFORMED, OTHER, LAYER)}


@on_both_servers
async def test_membership_key_of_wrong_type_is_a_fault(client, keyspace, storage):
    await client.set(membership_key(NAME), "of another type")
    report = await audited(keyspace, storage)
    [fault] = report.faults
    assert (fault.kind, fault.name, fault.digest) == (Fault.MALFORMED, NAME, None)
    assert fault.key == f"repository::{NAME}::blobs"


async def test_alias_is_compared_with_its_target_data(keyspace, storage):
    alias = Digest.of(IMAGE.content[LAYER], "sha512")
    path = storage.layout.link(storage.layout.layer_links(NAME), alias)
    await obstore.put_async(storage.store, path, LAYER.encode())
    await fill(keyspace, storage, NAME)
    layer = Descriptor(LAYER, IMAGE.layers[0].size, OCTET_STREAM)
    await keyspace.cache.repository_scoped(NAME).set_descriptor(alias, layer)
    assert await faults(keyspace, storage) == set()
    lose(storage, LAYER)
    lost = {(Fault.MISSING_DATA, name, digest) for name in (None, NAME) for digest in (alias, LAYER)}
    assert await faults(keyspace, storage) == lost


async def test_audit_ignores_keys_outside_the_layout(client, keyspace, storage):
    await client.hset("blobs::no-digest", "size", 1)
    await client.sadd("repository::UPPER::blobs", NOBODY)
    await client.sadd("repository::a::blobsabc", NOBODY)
    await client.set("blobs", "x")
    await client.sadd(membership_key(NAME), "no digest")
    await client.hset("registry:db:{repository:x}", "blobs", 1)
    report = await audited(keyspace, storage, with_notes=True)
    assert (report.checked, report.faults, report.notes) == (0, [], [])


# --- notes -----------------------------------------------------------------------------------------


async def test_notes_are_reported_only_on_request(client, keyspace, storage):
    """As a push to docker-registry 2.8.2 and a read of its manifest leave it."""
    await keyspace.cache.set_descriptor(MANIFEST, Descriptor(MANIFEST, IMAGE.manifest.size, OCTET_STREAM))
    await client.sadd(membership_key(NAME), LAYER)
    await client.hset(override_key(OTHER, LAYER), "mediatype", OCTET_STREAM)
    await client.hset(descriptor_key(CONFIG), mapping={"digest": CONFIG, "length": 3})
    alias = Digest.of(IMAGE.content[LAYER], "sha512")
    await client.hset(descriptor_key(alias), mapping={"digest": LAYER, "size": IMAGE.layers[0].size})
    found = {
        (Note.GLOBAL_ONLY, None, MANIFEST),
        (Note.OCTET_STREAM, None, MANIFEST),
        (Note.NO_DESCRIPTOR, NAME, LAYER),
        (Note.ORPHAN_OVERRIDE, OTHER, LAYER),
        (Note.LEGACY_LENGTH, None, CONFIG),
        (Note.GLOBAL_ONLY, None, alias),
        (Note.NO_CANONICAL, None, alias),
    }
    assert await notes(keyspace, storage) == found
    assert (await audited(keyspace, storage)).notes == []


async def test_notes_cannot_be_combined_with_a_resume_position(filled, storage):
    audit = Audit(filled, StorageTruth(storage), AuditOptions(with_notes=True))
    with pytest.raises(ConfigurationError, match="from the beginning"):
        await audit.run(Position("127.0.0.1:1", "run", 0))


# --- the second look -------------------------------------------------------------------------------


async def test_push_before_the_second_look_is_not_a_fault(filled, storage):
    """A push is under way: first it is cached, then stored."""
    lose(storage, LAYER)
    path = storage.store.prefix / storage.layout.data(LAYER)

    class Pushing(StorageTruth):
        async def sizes(self, digests):
            found = await super().sizes(digests)
            if None in found:
                path.write_bytes(IMAGE.content[LAYER])
            return found

    audit = Audit(filled, Pushing(storage), AuditOptions(confirm_after=0.3))
    assert (await audit.run()).faults == []


async def test_clear_before_the_second_look_is_not_a_fault(filled, storage):
    lose(storage, LAYER)

    class Deleting(StorageTruth):
        async def sizes(self, digests):
            found = await super().sizes(digests)
            if None in found:
                for name in (NAME, OTHER):
                    await filled.clear(name, LAYER)
            return found

    assert (await Audit(filled, Deleting(storage), AuditOptions(confirm_after=0.1)).run()).faults == []


async def test_second_look_waits_for_confirm_after(client, keyspace):
    [blob] = await many(client, 1)
    looked_at = []

    class Timed(Recording):
        async def sizes(self, digests):
            looked_at.append(asyncio.get_running_loop().time())
            return await super().sizes(digests)

    report = await Audit(keyspace, Timed(blob), AuditOptions(confirm_after=0.3)).run()
    assert [(fault.kind, fault.digest) for fault in report.faults] == [(Fault.MISSING_DATA, blob)]
    first, second = looked_at
    assert second - first >= 0.3


async def test_walk_continues_while_suspects_are_not_due(client, keyspace):
    """And the audit can be cancelled while it waits for their second looks."""
    digests = await many(client, 1_000)
    audit = Audit(keyspace, Recording(*digests), AuditOptions(confirm_after=3_600))
    running_audit = asyncio.create_task(audit.run())
    await until(lambda: running_audit.done() or audit.report.checked >= len(digests))
    running_audit.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running_audit
    assert (audit.report.faults, audit.report.is_complete) == ([], False)


async def test_walk_waits_while_too_many_suspects_wait(client, keyspace, monkeypatch):
    digests = await many(client, 1_000)
    set_limits(monkeypatch, audit_module, SUSPECTS=150)
    waiting = []

    class Watched(Recording):
        async def sizes(self, digests):
            if len(digests) > 1:  # a page, not a second look
                waiting.append(suspects_of(audit))
            return await super().sizes(digests)

    audit = Audit(keyspace, Watched(*digests), AuditOptions(confirm_after=0.1))
    report = await audit.run()
    assert {fault.digest for fault in report.faults} == set(digests)
    assert max(waiting) < 150


# --- what a report remembers -----------------------------------------------------------------------


async def test_entry_met_twice_is_one_finding(client, filled, storage):
    class Repeating(Keyspace):
        async def pages(self, start=None):
            async for page in super().pages(start):
                yield page
                yield page

    lose(storage, LAYER)
    told = []
    async with Repeating(client) as keyspace:
        report = await Audit(keyspace, StorageTruth(storage), AT_ONCE, on_finding=told.append).run()
    assert report.checked == 2 * len(IMAGE.content) * 3
    assert sorted(finding.name or "" for finding in report.faults) == ["", NAME, OTHER]
    assert report.faults == told
    assert (report.fault_count, report.counts) == (3, {Fault.MISSING_DATA: 3})


def test_report_counts_all_faults_and_remembers_some(monkeypatch):
    set_limits(monkeypatch, audit_module, REMEMBERED=2)
    report = AuditReport()
    for number in range(5):
        assert report.add(Finding(Fault.MISSING_DATA, None, Digest.of(f"{number}".encode()), ""))
        assert report.add(Finding(Note.GLOBAL_ONLY, None, Digest.of(f"{number}".encode()), ""))
    assert [fault.digest for fault in report.faults] == [Digest.of(b"0"), Digest.of(b"1")]
    assert [note.digest for note in report.notes] == [Digest.of(b"0"), Digest.of(b"1")]
    assert (report.fault_count, report.counts[Note.GLOBAL_ONLY]) == (5, 5)


def test_report_counts_all_troubles_and_remembers_some(monkeypatch):
    set_limits(monkeypatch, audit_module, TROUBLES=2)
    report = AuditReport()
    for number in range(5):
        report.add_trouble(None, Digest.of(f"{number}".encode()), StorageError("path", "refused"))
    assert [trouble.digest for trouble in report.troubles] == [Digest.of(b"0"), Digest.of(b"1")]
    assert report.not_told == 5


async def test_second_look_decides_which_fault_is_reported(client, filled, storage):
    await client.hset(descriptor_key(LAYER), "size", 1)

    class Changing(StorageTruth):
        async def sizes(self, digests):
            found = await super().sizes(digests)
            await client.hset(descriptor_key(LAYER), "size", "abc")
            return found

    report = await Audit(filled, Changing(storage), AT_ONCE).run()
    assert [(fault.kind, fault.digest) for fault in report.faults] == [(Fault.MALFORMED, LAYER)]


# --- some repositories -----------------------------------------------------------------------------


async def test_repository_pattern_limits_the_audit(client, filled, storage):
    lose(storage, LAYER)
    await client.hset(descriptor_key(NOBODY), mapping={"digest": NOBODY, "size": 1})
    assert await faults(filled, storage, repositories="*/demo") == {
        (Fault.MISSING_DATA, NAME, LAYER),
        (Fault.MISSING_DATA, None, LAYER),
    }
    assert await faults(filled, storage, repositories="nothing/*") == set()


# --- what storage cannot tell ----------------------------------------------------------------------


async def test_storage_error_is_counted_and_is_not_a_fault(filled, tmp_path):
    with S3Server() as s3:
        bucket = s3.make_bucket()
        storage = RegistryStorage(s3.open(bucket))
        for name in (NAME, OTHER):
            await store_image(storage, name, "latest", IMAGE)
        s3.refuse(lambda request: LAYER.encoded in request.path)
        report = await audited(filled, storage)
    assert (report.faults, report.not_told) == ([], 3)
    assert {(trouble.name, trouble.digest) for trouble in report.troubles} == {
        (name, LAYER) for name in (None, NAME, OTHER)
    }


async def test_truncated_link_is_counted_and_is_not_a_fault(filled, storage):
    path = storage.store.prefix / storage.layout.link(storage.layout.layer_links(NAME), LAYER)
    path.write_text("sha256:0123")
    report = await audited(filled, storage)
    assert (report.faults, report.not_told) == ([], 1)
    assert "link is broken" in report.troubles[0].reason


async def test_storage_error_at_the_second_look_is_not_a_fault(filled, storage):
    lose(storage, LAYER)

    class Failing(StorageTruth):
        looks = 0

        async def sizes(self, digests):
            Failing.looks += 1
            if Failing.looks == 1:
                return await super().sizes(digests)
            return [StorageError("path", "gone away")] * len(digests)

    report = await Audit(filled, Failing(storage), AuditOptions(confirm_after=0.2)).run()
    assert {fault.name for fault in report.faults} == {NAME, OTHER}
    assert report.not_told == 1


async def test_removed_data_folder_makes_every_entry_a_fault(filled, storage):
    """Without its data a blob is gone: that much of it is what the brakes are for."""
    shutil.rmtree(storage.store.prefix / "docker/registry/v2/blobs")
    report = await audited(filled, storage)
    assert report.fault_share == 1.0


# --- a server that goes away -----------------------------------------------------------------------


async def test_position_round_trips_through_its_text():
    place = Position("[::1]:6379", "0123456789ab", 42)
    assert Position.parse(str(place)) == place
    for text in ("", "a", "a/b", "a/b/c", "/b/1", "a//1", "a/b/-1", "a/b/١"):
        with pytest.raises(ConfigurationError, match="resume"):
            Position.parse(text)


@on_both_servers
async def test_walk_resumes_at_a_position(client, keyspace):
    digests = await many(client)
    pages = keyspace.pages()
    first = [await anext(pages) for _ in range(3)]
    rest = [page async for page in keyspace.pages(first[-1].after)]
    met = {one.digest for page in (*first, *rest) for one in page.subjects}
    assert met == set(digests)
    assert len(rest) < len([page async for page in keyspace.pages()])


@on_both_servers
async def test_position_of_another_process_begins_again(client, keyspace):
    digests = await many(client)
    pages = keyspace.pages()
    before = []
    while len(digests_in(before)) < len(digests) / 2:
        before.append(await anext(pages))
    place = before[-1].after
    elsewhere = Position(place.node, "anotherrunid", place.cursor)
    assert set(digests_in([page async for page in keyspace.pages(elsewhere)])) == set(digests)


async def test_position_does_not_pass_over_waiting_suspects(client, keyspace):
    await many(client, 2_000)
    pages = [page async for page in keyspace.pages()]
    suspect = pages[4].subjects[0].digest
    truth = Recording(suspect, answers=10)
    audit = Audit(keyspace, truth, AuditOptions(confirm_after=3_600))
    running_audit = asyncio.create_task(audit.run())
    await truth.asked.wait()
    assert suspect in truth.digests
    running_audit.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running_audit
    met = digests_in([page async for page in keyspace.pages(audit.report.position)])
    assert suspect in met
    assert pages[0].subjects[0].digest not in met


async def test_resume_at_an_unknown_node_is_refused(keyspace):
    with pytest.raises(ConfigurationError, match="no node"):
        [page async for page in keyspace.pages(Position("nowhere:1", "run", 0))]


class Recording:
    """A storage that holds every blob but those in ``missing``, and records what it is asked.

    After ``answers`` questions about sizes it sets ``asked``, and waits for ``goes_on``.
    """

    def __init__(self, *missing, answers=None):
        self.missing = set(missing)
        self.answers = answers
        self.questions = []
        self.asked = asyncio.Event()
        self.goes_on = asyncio.Event()

    @property
    def digests(self):
        """The digests of all questions, in order."""
        return [digest for question in self.questions for digest in question]

    async def sizes(self, digests):
        self.questions.append(list(digests))
        if self.answers is not None and len(self.questions) > self.answers:
            self.asked.set()
            await self.goes_on.wait()
        return [None if digest in self.missing else 1 for digest in digests]

    async def in_repository(self, name, digests):
        self.questions.append(list(digests))
        return [InRepository(True, None if digest in self.missing else 1) for digest in digests]


@pytest.fixture
def own_server(server, tmp_path):
    """A server that may be killed, and keeps what it holds."""
    own = RedisServer(server.kind, tmp_path, "--appendonly", "yes", "--appendfsync", "always")
    with running(own):
        yield own


@pytest.fixture
async def commands_client(own_server):
    """The client that the command line makes: redis-py replaces its lost connections silently."""
    client = client_from_url(own_server.url)
    yield client
    await close_client(client)


async def restart(server, client):
    """Restart a server; the client has a new connection before it is used again."""
    server.stop()
    await asyncio.to_thread(server.start)

    async def is_connected():
        try:
            return await client.ping()
        except RedisConnectionError:
            return False

    await until_server_says(is_connected)


def digests_in(pages):
    return [one.digest for page in pages for one in page.subjects]


@on_both_servers
async def test_restart_between_pages_begins_the_scan_again(own_server, commands_client):
    digests = await many(commands_client)
    async with Keyspace(commands_client) as keyspace:
        pages = keyspace.pages()
        before = []
        while len(digests_in(before)) < len(digests) / 2:
            before.append(await anext(pages))
        await restart(own_server, commands_client)
        after = [page async for page in pages]
        assert set(digests_in(after)) == set(digests)
        assert {page.after.run for page in before}.isdisjoint({page.after.run for page in after})


@on_both_servers
async def test_restart_between_pages_begins_the_members_again(own_server, commands_client):
    digests = {Digest.of(f"{number}".encode()) for number in range(4_000)}
    await commands_client.sadd(membership_key(NAME), *digests)
    async with Keyspace(commands_client) as keyspace:
        pages = keyspace.members(NAME)
        before = []
        while len(before) < len(digests) / 2:
            before += await anext(pages)
        await restart(own_server, commands_client)
        after = [digest async for page in pages for digest in page]
    assert set(after) == digests


@on_both_servers
async def test_audit_begins_again_after_a_server_restart(own_server, commands_client):
    digests = await many(commands_client)
    async with Keyspace(commands_client) as keyspace:
        truth = Recording(answers=0)
        running_audit = asyncio.create_task(Audit(keyspace, truth, AT_ONCE).run())
        await truth.asked.wait()
        [first] = truth.questions
        await restart(own_server, commands_client)
        truth.goes_on.set()
        report = await running_audit
    assert report.is_complete
    assert report.faults == []
    assert report.checked == report.keys == len(truth.digests)
    assert set(truth.digests[len(first) :]) == set(digests)


@on_both_servers
async def test_unreachable_server_is_waited_for_and_scanned_again(own_server, commands_client):
    digests = await many(commands_client)
    async with Keyspace(commands_client) as keyspace:
        truth = Recording(answers=0)
        running_audit = asyncio.create_task(Audit(keyspace, truth, AT_ONCE).run())
        await truth.asked.wait()
        [first] = truth.questions
        own_server.stop()
        truth.goes_on.set()
        await until(lambda: keyspace.interruptions == 1)
        await asyncio.to_thread(own_server.start)
        report = await running_audit
    assert report.is_complete
    assert report.interruptions == keyspace.interruptions >= 1
    assert set(truth.digests[len(first) :]) == set(digests)


@on_both_servers
async def test_unreachable_server_ends_the_audit_with_a_position(own_server):
    async with Redis.from_url(own_server.url, retry=Retry(NoBackoff(), 0)) as client:
        await many(client)
        async with Keyspace(client, patience=0.5) as keyspace:
            truth = Recording(answers=0)
            audit = Audit(keyspace, truth, AT_ONCE)
            running_audit = asyncio.create_task(audit.run())
            await truth.asked.wait()
            own_server.stop()
            truth.goes_on.set()
            with pytest.raises(CacheUnavailableError):
                await running_audit
    position = audit.report.position
    assert not audit.report.is_complete
    assert position.node == keyspace.address
    assert position.cursor > 0


async def test_server_that_never_answered_is_not_waited_for():
    async with (
        Redis(port=free_port(), retry=Retry(NoBackoff(), 0)) as client,
        Keyspace(client, patience=60.0) as keyspace,
    ):
        with pytest.raises(CacheUnavailableError):
            [page async for page in keyspace.pages()]


@pytest.mark.parametrize("missing", ["evalsha", "set"])  # to the client, and to a script
@on_both_servers
async def test_missing_right_is_raised_at_once(client, server, missing):
    rights = ["+@all", f"-{missing}"]
    await client.acl_setuser("weak", enabled=True, passwords=["+weak"], keys=["*"], commands=rights)
    try:
        async with (
            Redis(port=server.port, username="weak", password="weak") as weak,
            Keyspace(weak, patience=0.5) as keyspace,
        ):
            assert await keyspace.is_set(NAME)
            with pytest.raises(CacheUnavailableError, match=rf"grant .*\+{missing}"):
                await keyspace.clear(None, LAYER)
            assert keyspace.interruptions == 0
    finally:
        await client.acl_deluser("weak")


@on_both_servers
async def test_wrong_password_is_raised_at_once(client, server):
    await client.acl_setuser("weak", enabled=True, passwords=["+weak"], keys=["*"], commands=["+@all"])
    async with (
        Redis(port=server.port, username="weak", password="weak", retry=Retry(NoBackoff(), 0)) as weak,
        Keyspace(weak, patience=0.5) as keyspace,
    ):
        assert await keyspace.size() == 0
        await client.acl_deluser("weak")  # which closes the user's connections
        await weak.connection_pool.disconnect()
        with pytest.raises(CacheUnavailableError, match="AuthenticationError"):
            await keyspace.size()
        assert keyspace.interruptions == 0


async def test_cancelled_audit_keeps_its_resume_position(client, keyspace):
    """And one that was resumed and came no further is to be resumed there again."""
    await many(client)
    place = (await anext(keyspace.pages())).after
    truth = Recording(answers=0)
    audit = Audit(keyspace, truth, AT_ONCE)
    running_audit = asyncio.create_task(audit.run(place))
    await truth.asked.wait()
    running_audit.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running_audit
    assert not audit.report.is_complete
    assert audit.report.position == place


@on_both_servers
async def test_keys_changing_during_the_walk_do_not_stop_it(client, keyspace):
    digests = await many(client, 1_000)
    audits = 0

    async def change():
        while audits < 3:
            for digest in digests[:: audits + 1]:
                pipeline = client.pipeline(transaction=False)
                pipeline.delete(descriptor_key(digest))
                pipeline.set(descriptor_key(digest), "of another type")
                pipeline.delete(descriptor_key(digest))
                await pipeline.execute()

    changing = asyncio.create_task(change())
    truth = Recording()
    while audits < 3:
        report = await Audit(keyspace, truth, AuditOptions(confirm_after=0.05)).run()
        assert report.is_complete
        audits += 1
    await changing


async def test_cluster_walk_meets_every_key_on_every_node(cluster):
    async with RedisCluster.from_url(f"redis://127.0.0.1:{cluster.nodes[0].port}") as client:
        for number in range(300):
            digest = Digest.of(f"{number}".encode())
            await client.hset(descriptor_key(digest), mapping={"digest": digest, "size": 1, "mediatype": "a/b"})
            await client.sadd(membership_key(f"name/{number % 7}"), digest)
        async with Keyspace(client) as keyspace:
            truth = Recording()
            report = await Audit(keyspace, truth, AT_ONCE).run()
            assert (report.checked, report.faults) == (600, [])
            first = await anext(keyspace.pages())
            rest = [page async for page in keyspace.pages(first.after)]
            met = {(one.name, one.digest) for page in (first, *rest) for one in page.subjects}
            assert len(met) == 307


async def test_repositories_are_audited_concurrently_within_objects_at_once(client, keyspace, storage):
    """No more than was permitted, whoever asks."""
    await fill(keyspace, storage)
    for number in range(30):
        await client.sadd(membership_key(f"small/{number}"), LAYER)
        await client.hset(override_key(f"small/{number}", LAYER), "mediatype", "x/y")
    under_way = most = 0
    stat = storage.stat

    async def counted(digest):
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        try:
            await asyncio.sleep(0.005)
            return await stat(digest)
        finally:
            under_way -= 1

    storage.stat = counted
    audit = Audit(keyspace, StorageTruth(storage, objects_at_once=5), AuditOptions(confirm_after=0))
    report = await audit.run()
    assert report.checked == 12 + 30
    assert 1 < most <= 5
    assert {finding.name for finding in report.faults} == {f"small/{number}" for number in range(30)}
