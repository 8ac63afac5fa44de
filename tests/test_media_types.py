from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aioblobcache.descriptor import is_media_type
from aioblobcache.media_types import (
    DOCKER_SCHEMA1,
    DOCKER_SCHEMA1_SIGNED,
    MANIFESTS,
    OCI_INDEX,
    OCI_MANIFEST,
    OCTET_STREAM,
    of_manifest,
)

# What a manifest may be made of, and what may stand where something else belongs.
# The alphabet is given because the default one takes seconds to build in a fresh checkout.
texts = st.text(st.characters(max_codepoint=0x2FF), max_size=20) | st.sampled_from(sorted(MANIFESTS))
scraps = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 2) | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=5,
)
fields = ["mediaType", "schemaVersion", "manifests", "config", "layers", "signatures"]
near_manifests = st.dictionaries(st.sampled_from(fields), scraps)


def media_type(**manifest):
    return of_manifest(json.dumps(manifest).encode())


@pytest.mark.parametrize("stated", sorted(MANIFESTS))
def test_a_manifest_has_its_stated_media_type(stated):
    assert media_type(mediaType=stated) == stated


def test_a_stated_media_type_outweighs_the_shape():
    assert media_type(mediaType="application/vnd.example+json", schemaVersion=1, manifests=[]) == (
        "application/vnd.example+json"
    )


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ({"schemaVersion": 2, "manifests": []}, OCI_INDEX),
        ({"schemaVersion": 2, "config": {}, "layers": []}, OCI_MANIFEST),
        ({"schemaVersion": 1, "fsLayers": []}, DOCKER_SCHEMA1),
        ({"schemaVersion": 1, "fsLayers": [], "signatures": []}, DOCKER_SCHEMA1_SIGNED),
    ],
)
def test_the_shape_decides_without_a_stated_media_type(shape, expected):
    assert media_type(**shape) == expected


@pytest.mark.parametrize(
    "stated",
    ["", "a\r\nSet-Cookie: b", "a\n", "a\x00", "a\x7f", "é", "\ud800", "a" * 1_025, None, 5, ["a"], {"a": "b"}],
)
def test_an_invalid_stated_media_type_is_ignored(stated):
    assert media_type(mediaType=stated) == OCTET_STREAM
    assert media_type(mediaType=stated, manifests=[]) == OCI_INDEX
    assert media_type(mediaType=stated, config={}, layers=[]) == OCI_MANIFEST


@pytest.mark.parametrize(
    "shape",
    [
        {},
        {"schemaVersion": 2},
        {"schemaVersion": "1"},
        {"manifests": {}},
        {"manifests": None},
        {"config": {}},
        {"layers": []},
        {"config": [], "layers": []},
        {"config": {}, "layers": {}},
    ],
)
def test_an_incomplete_shape_is_an_octet_stream(shape):
    assert media_type(**shape) == OCTET_STREAM


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00",
        b"{",
        b"\x1f\x8b\x08garbage",
        b"\xff\xfe\xfd",
        b"null",
        b"5",
        b'"application/json"',
        b'["mediaType", "a"]',
        b'{"mediaType": "a"} trailing',
        b'{"mediaType": "a\nb"}',
    ],
)
def test_data_without_a_json_object_is_an_octet_stream(data):
    assert of_manifest(data) == OCTET_STREAM


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 4_000_000,
        b'{"a":' * 800_000,
        b'{"mediaType": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"schemaVersion": ' + b"9" * 4_000_000 + b"}",
        b'{"mediaType":"application/vnd.oci.image.index.v1+json","a":[' + b"[]," * 1_300_000 + b"[]]}",
    ],
    ids=["arrays", "objects", "closed", "number", "values"],
)
def test_data_that_exhausts_the_parser_is_an_octet_stream(data):
    assert of_manifest(data) == OCTET_STREAM


@given(st.binary() | near_manifests.map(json.dumps).map(str.encode))
@example(b'{"mediaType": "\\ud800"}')
@example(b'{"schemaVersion": NaN, "mediaType": Infinity}')
def test_any_bytes_have_a_valid_media_type(data):
    found = of_manifest(data)
    assert found
    assert is_media_type(found)
