"""Hostile requests: none makes the program fail, leaves the storage's root, or gets more than was asked for."""

from __future__ import annotations

import asyncio
import random
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aioblobcache import CachedRegistry, MemoryBlobDescriptorCache
from aioblobcache.registry_api import RegistryApi, Request
from aioblobcache.registry_api.messages import is_header_value
from tests.support.registry_content import IMAGE, LAYER, NAME, ODD_NAMES, UNKNOWN
from tests.support.strategies import HOSTILE, damaged, digests, names

pytestmark = pytest.mark.anyio

SECRET = b"what lies beside the storage's root"

some_names = st.one_of(st.sampled_from([NAME, *ODD_NAMES]), names)
some_digests = st.one_of(st.sampled_from(sorted(IMAGE.content)), digests())
tags = st.one_of(st.sampled_from(["latest", "1.0"]), st.text(max_size=140))
kinds = st.sampled_from(["blobs", "manifests", "referrers", "tags", "blobs/uploads", "_layers", "_manifests", "data"])
references = st.one_of(some_digests, damaged(some_digests), tags, st.just("list"), st.sampled_from(HOSTILE))
paths = st.one_of(
    st.builds(lambda name, kind, reference: f"/{name}/{kind}/{reference}", some_names, kinds, references),
    st.builds(lambda name, kind, reference: f"/{name}/{kind}/{reference}", damaged(some_names), kinds, references),
    st.lists(st.sampled_from(["..", ".", "", NAME, "blobs", "manifests", "secret", *HOSTILE]), max_size=8).map(
        "/".join
    ),
    st.text(max_size=80),
)
numbers = st.one_of(st.integers(-5, 2**70).map(str), st.text(max_size=20))
header_values = st.one_of(
    st.builds("bytes={}-{}".format, numbers, numbers), st.builds('"{}"'.format, some_digests), st.text(max_size=60)
)
headers = st.dictionaries(st.sampled_from(["Range", "If-None-Match", "If-Range", "Accept"]), header_values)
queries = st.dictionaries(st.sampled_from(["n", "last", "ns", "artifactType"]), st.one_of(numbers, names, tags))
methods = st.sampled_from(["GET", "GET", "GET", "HEAD", "DELETE", "PUT", "POST", "BREW"])


async def anybody(request, repository, action):
    """May do anything but delete."""
    from aioblobcache.registry_api import ForbiddenError

    if action == "delete":
        raise ForbiddenError


@pytest.fixture
async def api(storage, tmp_path):
    (tmp_path / "secret").write_bytes(SECRET)
    async with MemoryBlobDescriptorCache() as cache:
        yield RegistryApi(CachedRegistry(cache, storage), authorize=anybody, deletes=True, referrers=True)


async def body_of(response):
    if isinstance(response.body, bytes):
        return response.body
    return b"".join([chunk async for chunk in response.body])


@settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(methods, paths, headers, queries)
async def test_every_request_is_answered_within_the_storage_root(api, method, path, headers, query):
    response = await api.handle(Request(method, path, "/v2", query, headers, None))
    assert response.status in {200, 202, 206, 304, 307, 400, 403, 404, 405, 416}
    assert all(is_header_value(name + value) for name, value in response.headers.items())
    body = await body_of(response)
    assert SECRET not in body
    if method == "HEAD":
        assert body == b""
    elif response.status != 304:
        assert response.headers["Content-Length"] == str(len(body))


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(header_values)
async def test_every_range_returns_a_part_of_the_blob(api, asked):
    data = IMAGE.content[LAYER.digest]
    request = Request("GET", f"/{NAME}/blobs/{LAYER.digest}", "/v2", {}, {"Range": asked}, None)
    response = await api.handle(request)
    body = await body_of(response)
    if response.status == 206:
        start, _, rest = response.headers["Content-Range"].removeprefix("bytes ").partition("-")
        end, _, size = rest.partition("/")
        assert body == data[int(start) : int(end) + 1]
        assert int(size) == len(data)
    else:
        assert response.status in {200, 416}


# What a path on the wire may be made of, so that frameworks decode it.
WIRE = [
    *("/", "//", "/.", "/..", "%2e%2e", "%2F", "%00", "%0d%0aX-Injected:%20y", "%ff", "%e6%97%a5", "%25", "%3c%22"),
    *("library", "demo", "_catalog", "blobs", "manifests", "tags", "list", "referrers", "latest", "uploads"),
    *(LAYER.digest, UNKNOWN, "sha256:12", "?n=1", "&last=", "a" * 300, "etc/passwd", "storage", "+", "~", "\\\\"),
]


async def test_every_raw_request_is_answered_by_each_framework(client):
    """Raw requests, without a client that would mend them first; the same ones each time."""
    chosen = random.Random(7)
    url = urlsplit(client.url)
    answered = 0
    for _ in range(400):
        path = "/v2/" + "".join(chosen.choice(WIRE) for _ in range(chosen.randrange(1, 9)))
        method = chosen.choice(["GET", "HEAD", "DELETE", "POST"])
        reader, writer = await asyncio.open_connection(url.hostname, url.port)
        writer.write(f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        head = answer.partition(b"\r\n\r\n")[0]
        status = int(head.split(b" ", 2)[1])
        assert status < 500, (method, path, head)
        assert b"x-injected" not in head.lower(), (method, path, head)
        assert b"root:" not in answer
        answered += status in (200, 404)
    assert answered > 50
