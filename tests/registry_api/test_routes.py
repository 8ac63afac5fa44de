"""What a path names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aioblobcache.registry_api.routes import Endpoint, Route, find_route
from tests.support.strategies import digests, names


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("", Route(Endpoint.BASE)),
        ("/", Route(Endpoint.BASE)),
        ("/_catalog", Route(Endpoint.CATALOG)),
        ("/a/b/tags/list", Route(Endpoint.TAGS, "a/b")),
        ("/tags/list/tags/list", Route(Endpoint.TAGS, "tags/list")),
        ("/tags/list/manifests/latest", Route(Endpoint.MANIFEST, "tags/list", "latest")),
        ("/a/blobs/b/blobs/sha256:00", Route(Endpoint.BLOB, "a/blobs/b", "sha256:00")),
        ("/a/blobs/b/tags/list", Route(Endpoint.TAGS, "a/blobs/b")),
        ("/a/manifests/tags/list", Route(Endpoint.TAGS, "a/manifests")),
        ("/a/referrers/sha256:00", Route(Endpoint.REFERRERS, "a", "sha256:00")),
        ("/a/blobs/uploads/", Route(Endpoint.UPLOADS, "a", "")),
        ("/a/blobs/uploads/0e2b", Route(Endpoint.UPLOADS, "a", "0e2b")),
        ("/a/blobs/", None),
        ("/blobs/sha256:00", None),
        ("/tags/list", None),
        ("/a", None),
        ("/_catalog/", None),
    ],
)
def test_path_maps_to_its_route(path, route):
    assert find_route(path) == route


ENDPOINTS = {"blobs": Endpoint.BLOB, "manifests": Endpoint.MANIFEST, "referrers": Endpoint.REFERRERS}


@given(names, st.sampled_from(sorted(ENDPOINTS)), digests())
def test_every_repository_name_is_routed(name, kind, digest):
    assert find_route(f"/{name}/{kind}/{digest}") == Route(ENDPOINTS[kind], name, digest)
    assert find_route(f"/{name}/tags/list") == Route(Endpoint.TAGS, name)


@given(st.text())
def test_no_path_raises(path):
    route = find_route(path)
    assert route is None or route.name in path
