"""The pull and discovery workflows of the OCI Distribution Specification v1.1, row by row, behind each framework."""

from __future__ import annotations

import json
import re

import pytest

from aioblobcache import Digest
from aioblobcache.media_types import OCI_MANIFEST
from tests.support.registry_content import FOREIGN, IMAGE, LARGE, LAYER, NAME, ODD_NAMES, UNKNOWN, store_blob

pytestmark = pytest.mark.anyio

V2 = f"/v2/{NAME}"
DATA = IMAGE.content[LAYER.digest]
MANIFEST = IMAGE.manifest
ETAG = f'"{LAYER.digest}"'

# section of the specification | method and path | request headers | status | code of the error, or headers
TEXT = {"Accept": "text/plain"}
PULL, CHECK = "Pulling manifests", "Checking if content exists"
ROWS = [
    ("Determining Support", "GET", "/v2/", {}, 200, {"Docker-Distribution-Api-Version": "registry/2.0"}),
    ("Determining Support", "HEAD", "/v2/", {}, 200, {}),
    (PULL, "GET", f"{V2}/manifests/latest", {}, 200, {"Content-Type": OCI_MANIFEST}),
    (PULL, "GET", f"{V2}/manifests/{MANIFEST.digest}", {}, 200, {"Content-Type": OCI_MANIFEST}),
    (PULL, "GET", f"{V2}/manifests/latest", {}, 200, {"Docker-Content-Digest": MANIFEST.digest}),
    (PULL, "GET", f"{V2}/manifests/latest", TEXT, 200, {"Content-Type": OCI_MANIFEST}),
    (PULL, "GET", f"{V2}/manifests/latest?ns=docker.io", {}, 200, {"Content-Length": str(MANIFEST.size)}),
    (PULL, "GET", f"{V2}/manifests/nothing", {}, 404, "MANIFEST_UNKNOWN"),
    (PULL, "GET", f"{V2}/manifests/{UNKNOWN}", {}, 404, "MANIFEST_UNKNOWN"),
    (PULL, "GET", f"{V2}/manifests/{LAYER.digest}", {}, 404, "MANIFEST_UNKNOWN"),
    (PULL, "GET", f"{V2}/manifests/.hidden", {}, 404, "MANIFEST_UNKNOWN"),
    (PULL, "GET", f"{V2}/manifests/sha256:12", {}, 400, "DIGEST_INVALID"),
    (PULL, "GET", "/v2/UPPER/manifests/latest", {}, 400, "NAME_INVALID"),
    (PULL, "GET", "/v2/no/such/manifests/latest", {}, 404, "MANIFEST_UNKNOWN"),
    (PULL, "GET", f"{V2}/manifests/latest", {"If-None-Match": f'"{MANIFEST.digest}"'}, 304, {}),
    (CHECK, "HEAD", f"{V2}/manifests/latest", {}, 200, {"Content-Length": str(MANIFEST.size)}),
    (CHECK, "HEAD", f"{V2}/manifests/{MANIFEST.digest}", {}, 200, {"Content-Type": OCI_MANIFEST}),
    (CHECK, "HEAD", f"{V2}/manifests/nothing", {}, 404, None),
    (CHECK, "HEAD", f"{V2}/manifests/{UNKNOWN}", {}, 404, None),
    ("Pulling blobs", "GET", f"{V2}/blobs/{LAYER.digest}", {}, 200, {"Docker-Content-Digest": LAYER.digest}),
    ("Pulling blobs", "GET", f"{V2}/blobs/{LAYER.digest}", {}, 200, {"ETag": ETAG, "Accept-Ranges": "bytes"}),
    ("Pulling blobs", "GET", f"{V2}/blobs/{LAYER.digest}?ns=docker.io", {}, 200, {"Content-Length": str(LAYER.size)}),
    ("Pulling blobs", "GET", f"{V2}/blobs/{LAYER.digest}", {"If-None-Match": ETAG}, 304, {"ETag": ETAG}),
    ("Pulling blobs", "GET", f"{V2}/blobs/{UNKNOWN}", {}, 404, "BLOB_UNKNOWN"),
    ("Pulling blobs", "GET", f"{V2}/blobs/{FOREIGN.layers[0].digest}", {}, 404, "BLOB_UNKNOWN"),
    ("Pulling blobs", "GET", f"{V2}/blobs/{MANIFEST.digest}", {}, 404, "BLOB_UNKNOWN"),
    ("Pulling blobs", "GET", f"{V2}/blobs/latest", {}, 400, "DIGEST_INVALID"),
    ("Pulling blobs", "GET", f"{V2}/blobs/md5:d41d8cd98f00b204e9800998ecf8427e", {}, 400, "DIGEST_INVALID"),
    (CHECK, "HEAD", f"{V2}/blobs/{LAYER.digest}", {}, 200, {"Content-Length": str(LAYER.size)}),
    (CHECK, "HEAD", f"{V2}/blobs/{LAYER.digest}", {"If-None-Match": ETAG}, 304, {}),
    (CHECK, "HEAD", f"{V2}/blobs/{UNKNOWN}", {}, 404, None),
    ("Listing Tags", "GET", f"{V2}/tags/list", {}, 200, {"Content-Type": "application/json"}),
    ("Listing Tags", "GET", f"{V2}/tags/list?n=1", {}, 200, {"Link": f'<{V2}/tags/list?n=1&last=1.0>; rel="next"'}),
    ("Listing Tags", "GET", f"{V2}/tags/list?ns=docker.io", {}, 200, {}),
    ("Listing Tags", "GET", "/v2/no/such/tags/list", {}, 404, "NAME_UNKNOWN"),
    ("Listing Tags", "GET", f"{V2}/tags/list?n=many", {}, 400, "PAGINATION_NUMBER_INVALID"),
    ("Listing Tags", "GET", f"{V2}/tags/list?n=-1", {}, 400, "PAGINATION_NUMBER_INVALID"),
    ("Unavailable Referrers API", "GET", f"{V2}/referrers/{MANIFEST.digest}", {}, 404, "UNSUPPORTED"),
    ("Unavailable Referrers API", "GET", f"{V2}/referrers/no", {}, 400, "DIGEST_INVALID"),
    ("Pushing blobs", "POST", f"{V2}/blobs/uploads/", {}, 405, "UNSUPPORTED"),
    ("Pushing blobs", "PATCH", f"{V2}/blobs/uploads/1", {}, 405, "UNSUPPORTED"),
    ("Pushing manifests", "PUT", f"{V2}/manifests/latest", {}, 405, "UNSUPPORTED"),
    ("Content Management", "DELETE", f"{V2}/manifests/latest", {}, 405, "UNSUPPORTED"),
    ("Content Management", "DELETE", f"{V2}/blobs/{LAYER.digest}", {}, 405, "UNSUPPORTED"),
    ("Error Codes", "GET", "/v2/nothing", {}, 404, "UNSUPPORTED"),
]


@pytest.mark.parametrize(
    ("method", "path", "headers", "status", "expected"),
    [row[1:] for row in ROWS],
    ids=[f"{section} {method} {path}" for section, method, path, *_ in ROWS],
)
async def test_response_matches_its_specification_row(client, method, path, headers, status, expected):
    answer = await client.ask(method, path, **headers)
    assert answer.status == status
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    if isinstance(expected, dict):
        assert {name: answer.headers.get(name) for name in expected} == expected
    elif expected is not None:
        [error] = json.loads(answer.body)["errors"]
        assert error["code"] == expected
        assert error["message"]
    if method == "HEAD" or status == 304:
        assert answer.body == b""


async def test_blobs_and_manifests_are_sent_byte_for_byte(client):
    for digest, data in IMAGE.content.items():
        kind = "manifests" if digest == MANIFEST.digest else "blobs"
        answer = await client.get(f"{V2}/{kind}/{digest}")
        assert answer.body == data
        assert answer.headers["Content-Length"] == str(len(data))
        assert Digest.of(answer.body) == digest


@pytest.mark.parametrize("name", ODD_NAMES)
async def test_repository_names_that_look_like_paths_are_served(client, name):
    manifest = await client.get(f"/v2/{name}/manifests/latest")
    assert manifest.body == FOREIGN.content[FOREIGN.manifest.digest]
    for blob in FOREIGN.blobs:
        assert (await client.get(f"/v2/{name}/blobs/{blob.digest}")).body == FOREIGN.content[blob.digest]
    assert json.loads((await client.get(f"/v2/{name}/tags/list")).body) == {"name": name, "tags": ["latest"]}


# --- ranges: RFC 9110, 14 ------------------------------------------------------------------------


@pytest.mark.parametrize("size", ["small", "large"])
@pytest.mark.parametrize(
    ("asked", "part"),
    [
        ("bytes=0-0", slice(0, 1)),
        ("bytes=10-19", slice(10, 20)),
        ("bytes=100-", slice(100, None)),
        ("bytes=-100", slice(-100, None)),
        ("bytes=10-99999999", slice(10, None)),
    ],
)
async def test_range_request_returns_that_part_of_the_blob(client, storage, size, asked, part):
    data = DATA if size == "small" else LARGE
    blob = LAYER if size == "small" else await store_blob(storage, LARGE)
    answer = await client.get(f"{V2}/blobs/{blob.digest}", Range=asked)
    assert answer.status == 206
    assert answer.body == data[part]
    start, end, _ = part.indices(len(data))
    assert answer.headers["Content-Range"] == f"bytes {start}-{end - 1}/{len(data)}"
    assert answer.headers["Content-Length"] == str(end - start)


@pytest.mark.parametrize("asked", ["bytes=99999999-", "bytes=-0"])
async def test_empty_range_is_refused_with_the_blob_size(client, asked):
    answer = await client.get(f"{V2}/blobs/{LAYER.digest}", Range=asked)
    assert answer.status == 416
    assert answer.headers["Content-Range"] == f"bytes */{LAYER.size}"
    assert json.loads(answer.body)["errors"][0]["code"] == "RANGE_INVALID"


@pytest.mark.parametrize("asked", ["bytes=0-1,5-9", "lines=1-2", "bytes=5-1", "nonsense", "bytes=0-"])
async def test_unsupported_range_returns_the_whole_blob(client, asked):
    answer = await client.get(f"{V2}/blobs/{LAYER.digest}", Range=asked)
    assert answer.status == 200
    assert answer.body == DATA


async def test_empty_blob_is_served(client, storage):
    empty = await store_blob(storage, b"")
    answer = await client.get(f"{V2}/blobs/{empty.digest}")
    assert (answer.status, answer.body, answer.headers["Content-Length"]) == (200, b"", "0")
    assert (await client.get(f"{V2}/blobs/{empty.digest}", Range="bytes=0-")).status == 416


# --- lists ---------------------------------------------------------------------------------------


def next_of(answer):
    """Where the list goes on: a path on the same host."""
    link = answer.headers.get("Link")
    return None if link is None else re.fullmatch(r'<(/[^>]*)>; rel="next"', link)[1]


async def all_pages(client, path, key):
    pages = []
    while path is not None:
        answer = await client.get(path)
        assert answer.status == 200
        pages.append(json.loads(answer.body)[key])
        path = next_of(answer)
    return pages


async def test_tags_are_listed_in_order_and_page_by_page(client):
    assert await all_pages(client, f"{V2}/tags/list", "tags") == [["1.0", "1.1", "2.0", "latest"]]
    assert await all_pages(client, f"{V2}/tags/list?n=3", "tags") == [["1.0", "1.1", "2.0"], ["latest"]]
    assert await all_pages(client, f"{V2}/tags/list?n=2", "tags") == [["1.0", "1.1"], ["2.0", "latest"]]
    assert await all_pages(client, f"{V2}/tags/list?n=0", "tags") == [[]]
    assert await all_pages(client, f"{V2}/tags/list?last=1.05", "tags") == [["1.1", "2.0", "latest"]]
    assert await all_pages(client, f"{V2}/tags/list?n=2&last=zzz", "tags") == [[]]


async def test_repositories_are_listed_page_by_page(client):
    everything = ["a/blobs/b", NAME, "library/other", "referrers/z", "tags/list", "x/manifests/y"]
    assert await all_pages(client, "/v2/_catalog", "repositories") == [everything]
    assert await all_pages(client, "/v2/_catalog?n=1", "repositories") == [[name] for name in everything]
    assert await all_pages(client, "/v2/_catalog?n=4", "repositories") == [everything[:4], everything[4:]]
    assert await all_pages(client, "/v2/_catalog?n=3&last=library", "repositories") == [everything[1:4], everything[4:]]


async def test_catalog_gives_a_thousand_names_at_most(client, storage):
    names = [f"many/{number:04}" for number in range(1_002)]
    for name in names:
        (storage.store.prefix / storage.layout.layer_links(name)).mkdir(parents=True)
    first = await client.get("/v2/_catalog?n=5000&last=many")
    assert json.loads(first.body)["repositories"] == names[:1_000]
    assert next_of(first) == "/v2/_catalog?n=1000&last=many%2F0999"
    assert len(json.loads((await client.get("/v2/_catalog")).body)["repositories"]) == 100


@pytest.mark.parametrize("path", ["/v2/_catalog", f"{V2}/tags/list"])
async def test_page_length_of_ten_digits_is_refused(client, path):
    assert (await client.get(f"{path}?n=999999999")).status == 200
    answer = await client.get(f"{path}?n=1000000000")
    [error] = json.loads(answer.body)["errors"]
    assert (answer.status, error["code"]) == (400, "PAGINATION_NUMBER_INVALID")


async def test_repository_without_tags_has_an_empty_list(client, storage):
    await store_blob(storage, b"alone", "untagged")
    answer = await client.get("/v2/untagged/tags/list")
    assert json.loads(answer.body) == {"name": "untagged", "tags": []}
