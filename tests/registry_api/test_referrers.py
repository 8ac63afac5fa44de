"""Referrers (OCI Distribution Specification v1.1, "Listing Referrers"): off, on, merged with the tag that clients keep,
and never an empty list that hides something."""

from __future__ import annotations

import json
import traceback
from types import SimpleNamespace

import pytest

from aioblobcache import StorageError
from aioblobcache.media_types import OCI_INDEX, OCI_MANIFEST
from aioblobcache.registry_api import referrers as module
from aioblobcache.registry_api.referrers import Referrers
from tests.support.internals import count_scans, remembered_failure
from tests.support.registry_content import (
    IMAGE,
    LAYER,
    NAME,
    OTHER,
    UNKNOWN,
    index_of,
    reference,
    referrer,
    store_manifest,
)
from tests.support.serving import serving

pytestmark = pytest.mark.anyio

V2 = f"/v2/{NAME}"
MANIFEST = IMAGE.manifest
SIGNATURE = "application/vnd.example.signature"
TAG = MANIFEST.digest.replace(":", "-")


@pytest.fixture
async def client(framework, registry, signed):
    async with serving(framework, registry, referrers=True) as client:
        yield client


@pytest.fixture
async def signed(storage):
    """A signature and a bill of materials of the image, each a manifest that refers to it."""
    signature = await store_manifest(storage, referrer(MANIFEST, SIGNATURE, annotations={"by": "somebody"}))
    bill = await store_manifest(storage, referrer(MANIFEST, "application/spdx+json"))
    return signature, bill


async def ask(client, digest=MANIFEST.digest, query=""):
    answer = await client.get(f"{V2}/referrers/{digest}{query}")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == OCI_INDEX
    document = json.loads(answer.body)
    assert (document["schemaVersion"], document["mediaType"]) == (2, OCI_INDEX)
    return answer, {one["digest"]: one for one in document["manifests"]}


async def test_referrers_are_listed_with_artifact_type_and_annotations(client, signed):
    signature, bill = signed
    _, found = await ask(client)
    assert found == {
        signature.digest: {**reference(signature), "artifactType": SIGNATURE, "annotations": {"by": "somebody"}},
        bill.digest: {**reference(bill), "artifactType": "application/spdx+json"},
    }


async def test_artifact_type_filter_is_applied_and_named_in_a_header(client, signed):
    answer, found = await ask(client, query=f"?artifactType={SIGNATURE}")
    assert list(found) == [signed[0].digest]
    assert answer.headers["OCI-Filters-Applied"] == "artifactType"
    assert "OCI-Filters-Applied" not in (await ask(client))[0].headers


async def test_blob_without_referrers_has_an_empty_list(client):
    assert (await ask(client, LAYER.digest))[1] == {}
    assert (await ask(client, UNKNOWN))[1] == {}


async def test_referrers_of_the_fallback_tag_are_merged(client, storage, signed):
    elsewhere = {"mediaType": OCI_MANIFEST, "digest": UNKNOWN, "size": 5, "artifactType": "a/b"}
    broken = [{"mediaType": OCI_MANIFEST, "digest": "sha256:12", "size": 5}, "text", {"size": "5"}]
    await store_manifest(storage, index_of(elsewhere, reference(signed[0]), *broken), TAG)
    _, found = await ask(client)
    assert set(found) == {UNKNOWN, *(one.digest for one in signed)}
    assert found[UNKNOWN] == elsewhere
    assert "artifactType" in found[signed[0].digest]


async def test_referrers_of_an_unknown_repository_are_name_unknown(client):
    answer = await client.get(f"/v2/no/such/referrers/{MANIFEST.digest}")
    assert answer.status == 404
    assert json.loads(answer.body)["errors"][0]["code"] == "NAME_UNKNOWN"


async def test_referrers_are_unsupported_for_too_many_manifests(client, monkeypatch):
    monkeypatch.setattr(module, "_MOST_MANIFESTS", 2)
    answer = await client.get(f"{V2}/referrers/{MANIFEST.digest}")
    assert answer.status == 404
    assert json.loads(answer.body)["errors"][0]["code"] == "UNSUPPORTED"
    assert (await client.get(f"/v2/{OTHER}/referrers/{MANIFEST.digest}")).status == 200


async def test_referrers_too_large_to_list_are_unsupported(client, monkeypatch):
    monkeypatch.setattr(module, "_MOST_BYTES", 300)
    assert (await client.get(f"{V2}/referrers/{MANIFEST.digest}")).status == 404


@pytest.fixture
def scanned(monkeypatch):
    """The repositories whose manifests have been read, each time they were."""
    return count_scans(monkeypatch, Referrers)


async def test_manifests_are_read_once_for_many_requests(framework, registry, signed, scanned):
    async with serving(framework, registry, referrers=True) as client:
        for _ in range(5):
            await ask(client)
    assert scanned == [NAME]


async def test_index_is_read_again_after_a_minute(client, storage, signed, scanned, monkeypatch):
    now = 1_000.0
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now))
    known = {one.digest for one in signed}
    assert set((await ask(client))[1]) == known
    new = await store_manifest(storage, referrer(MANIFEST, "application/vnd.example.new"))
    now += 59
    assert set((await ask(client))[1]) == known
    now += 2
    assert set((await ask(client))[1]) == {*known, new.digest}
    assert scanned == [NAME, NAME]


async def test_index_keeps_a_bounded_number_of_repositories(storage, scanned, monkeypatch):
    monkeypatch.setattr(module, "_MOST_REPOSITORIES", 2)
    referrers = Referrers(storage)
    for name in ("one", "two", "three", "three", "two"):
        assert await referrers.of(name, MANIFEST.digest) == []
    assert scanned == ["one", "two", "three"]
    assert await referrers.of("one", MANIFEST.digest) == []
    assert scanned == ["one", "two", "three", "one"]


async def test_failed_scan_is_not_repeated_for_each_request(registry, storage, signed, monkeypatch):
    scans = []

    async def failing(self, name):
        scans.append(name)
        raise StorageError("path", "no")

    monkeypatch.setattr(Referrers, "_read", failing)
    referrers = Referrers(storage)
    for _ in range(5):
        with pytest.raises(StorageError):
            await referrers.of(NAME, MANIFEST.digest)
    assert scans == [NAME]
    assert len(traceback.extract_tb(remembered_failure(referrers, NAME).__traceback__)) < 8  # it does not grow
    monkeypatch.setattr("aioblobcache.registry_api.referrers._FAILURE_STANDS", 0.0)
    with pytest.raises(StorageError):
        await referrers.of(NAME, MANIFEST.digest)
    assert len(scans) == 2
