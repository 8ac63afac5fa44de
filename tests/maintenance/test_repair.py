"""What a repair removes, what it leaves, and what makes it refuse."""

from __future__ import annotations

import asyncio

import pytest
from obstore.store import LocalStore, MemoryStore

from aioblobcache import BlobUnknownError, Digest
from aioblobcache.maintenance import (
    Audit,
    AuditOptions,
    Fault,
    RepairRefusedError,
    RepairReport,
    StorageTruth,
    repair,
    require_few_faults,
    require_registry,
)
from aioblobcache.maintenance.audit import AuditReport
from aioblobcache.maintenance.findings import Finding
from aioblobcache.redis.keys import descriptor_guard_key, descriptor_key, membership_guard_key, membership_key
from aioblobcache.storage import RegistryStorage
from tests.support.cached_image import CONFIG, IMAGE, LAYER, NAME, OTHER, lose
from tests.support.internals import read_storage_through
from tests.support.one_server import on_both_servers
from tests.support.stores import S3Server

pytestmark = pytest.mark.anyio


async def audited(keyspace, truth):
    audit = Audit(keyspace, truth, AuditOptions(confirm_after=0))
    await audit.run()
    return audit


async def contents(client):
    """All that is there, guards apart: their lives run out."""
    found = {}
    async for key in client.scan_iter():
        if not key.startswith(b"aioblobcache::"):
            found[key] = await client.dump(key)
    return found


@on_both_servers
async def test_repair_removes_the_faults_and_nothing_else(client, filled, storage):
    lose(storage, LAYER)
    before = await contents(client)
    audit = await audited(filled, StorageTruth(storage))
    assert await contents(client) == before  # an audit writes nothing
    removed = []
    report = await repair(audit, filled, most=10, on_removed=removed.append)
    assert (report.removed, report.gone, report.left) == (3, 0, 0)
    assert {finding.name for finding in removed} == {None, NAME, OTHER}
    after = await contents(client)
    gone = before.keys() - after.keys()
    assert gone == {key for key in before if key.endswith(LAYER.encode())}
    assert {key for key in after if after[key] != before[key]} == {membership_key(NAME), membership_key(OTHER)}
    assert (await audited(filled, StorageTruth(storage))).report.faults == []


async def test_repair_leaves_a_tombstone_and_an_unknown_blob(client, filled, storage):
    await client.hset(descriptor_key(LAYER), "size", 1)
    audit = await audited(filled, StorageTruth(storage))
    assert (await repair(audit, filled, most=1)).removed == 1
    assert (await client.get(descriptor_guard_key(LAYER))).startswith(b"tombstone:")
    with pytest.raises(BlobUnknownError):
        await filled.cache.stat(LAYER)


@on_both_servers
async def test_repository_repair_leaves_tombstones_in_all_guards(client, filled, storage):
    lose(storage, LAYER)
    await client.delete(descriptor_key(LAYER))
    audit = await audited(filled, StorageTruth(storage))
    assert (await repair(audit, filled, most=10)).removed == 2
    for guard in (descriptor_guard_key(LAYER), membership_guard_key(NAME, LAYER), membership_guard_key(OTHER, LAYER)):
        assert (await client.get(guard)).startswith(b"tombstone:")


async def test_repair_removes_a_membership_key_of_wrong_type(client, keyspace, storage):
    await client.set(membership_key(NAME), "of another type")
    audit = await audited(keyspace, StorageTruth(storage))
    assert (await repair(audit, keyspace, most=1)).removed == 1
    assert not await client.exists(membership_key(NAME))


async def test_repair_keeps_entries_that_became_correct(client, filled, storage):
    lose(storage, LAYER)
    audit = await audited(filled, StorageTruth(storage))
    path = storage.store.prefix / storage.layout.data(LAYER)
    path.write_bytes(IMAGE.content[LAYER])
    before = await contents(client)
    report = await repair(audit, filled, most=10)
    assert (report.removed, report.gone) == (0, 3)
    assert await contents(client) == before


async def test_repair_removes_at_most_the_permitted_number(filled, storage):
    lose(storage, LAYER)
    lose(storage, CONFIG)
    audit = await audited(filled, StorageTruth(storage))
    report = await repair(audit, filled, most=2)
    assert (report.removed, report.left) == (2, 4)
    again = await audited(filled, StorageTruth(storage))
    assert (await repair(again, filled, most=10)).removed == 4


async def test_cancelled_repair_can_be_run_again(filled, storage):
    lose(storage, LAYER)
    audit = await audited(filled, StorageTruth(storage))
    report = RepairReport()
    repairing = asyncio.create_task(repair(audit, filled, most=10, report=report, on_removed=lambda _: stop()))

    def stop():
        repairing.cancel()

    with pytest.raises(asyncio.CancelledError):
        await repairing
    assert report.removed >= 1
    again = await audited(filled, StorageTruth(storage))
    assert len(again.report.faults) <= 3 - report.removed  # one may be removed whose answer nobody waited for
    await repair(again, filled, most=10)
    assert (await audited(filled, StorageTruth(storage))).report.faults == []


async def test_repair_keeps_entries_that_storage_cannot_verify(client, filled, storage):
    lose(storage, LAYER)
    audit = await audited(filled, StorageTruth(storage))
    with S3Server() as s3:
        refusing = RegistryStorage(s3.open(s3.make_bucket()))
        s3.refuse(lambda request: True)
        read_storage_through(audit, StorageTruth(refusing))
        before = await contents(client)
        report = await repair(audit, filled, most=10)
    assert (report.removed, report.not_told) == (0, 3)
    assert await contents(client) == before


def test_done_faults_were_removed_gone_or_not_told():
    assert RepairReport(removed=1, gone=2, not_told=4, left=8).done == 7


# --- brakes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [None, 2])
async def test_safety_limit_refuses_another_registrys_storage(client, filled, tmp_path, most):
    """Each of the many entries looks wrong there."""
    other = RegistryStorage(LocalStore(tmp_path / "storage-of-another", mkdir=True))
    before = await contents(client)
    audit = await audited(filled, StorageTruth(other))
    assert audit.report.fault_share == 1.0
    if most is None:
        with pytest.raises(RepairRefusedError, match=r"12 of 12 .*100%.*--max-fixes 12"):
            await repair(audit, filled)
        assert await contents(client) == before
    else:
        assert (await repair(audit, filled, most=most)).removed == 2


def report_of(faults, checked, not_told=0):
    report = AuditReport(checked=checked, not_told=not_told)
    for number in range(faults):
        report.add(Finding(Fault.MISSING_DATA, None, Digest.of(f"{number}".encode()), ""))
    return report


def test_safety_limit_allows_exactly_a_tenth():
    require_few_faults(report_of(10, 100), None)
    with pytest.raises(RepairRefusedError, match="11 of 100"):
        require_few_faults(report_of(11, 100), None)
    require_few_faults(report_of(11, 100), 11)
    require_few_faults(report_of(0, 0), None)


@pytest.mark.parametrize("most", [None, 1_000])
def test_many_unverified_entries_refuse_the_repair(most):
    require_few_faults(report_of(1, 100, not_told=10), most)
    with pytest.raises(RepairRefusedError, match="could not tell of 50 of 100"):
        require_few_faults(report_of(1, 100, not_told=50), most)


async def test_storage_without_repositories_is_refused():
    with pytest.raises(RepairRefusedError, match="no repository below docker/registry/v2/repositories"):
        await require_registry(RegistryStorage(MemoryStore()))


async def test_wrong_storage_root_is_refused(storage):
    await require_registry(storage)
    with pytest.raises(RepairRefusedError, match="no repository below elsewhere/"):
        await require_registry(RegistryStorage(storage.store, "elsewhere"))


async def test_unlistable_storage_is_refused():
    with S3Server() as s3:
        storage = RegistryStorage(s3.open(s3.make_bucket()))
        s3.refuse(lambda request: True)
        with pytest.raises(RepairRefusedError, match="cannot be listed"):
            await require_registry(storage)
