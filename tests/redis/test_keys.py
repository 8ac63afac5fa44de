"""The layout that other registries read and write, letter by letter."""

from __future__ import annotations

import pytest
from hypothesis import given
from redis.crc import key_slot

from aioblobcache import Digest
from aioblobcache.redis import keys
from aioblobcache.redis.cached import Subject, subject_of_key
from tests.support.strategies import digests, names

DIGEST = Digest("sha256:" + "1" * 64)


def test_keys_have_the_form_that_distribution_writes():
    digest = "sha256:" + "0" * 64
    assert keys.descriptor_key(digest) == b"blobs::" + digest.encode()
    assert keys.membership_key("library/debian") == b"repository::library/debian::blobs"
    assert keys.override_key("library/debian", digest) == b"repository::library/debian::blobs::" + digest.encode()


@given(names, digests())
def test_a_guard_has_the_slot_of_its_key(name, digest):
    assert key_slot(keys.descriptor_guard_key(digest)) == key_slot(keys.descriptor_key(digest))
    assert key_slot(keys.membership_guard_key(name, digest)) == key_slot(keys.membership_key(name))


@given(names, digests())
def test_keys_of_different_kinds_never_collide(name, digest):
    made = [
        keys.descriptor_key(digest),
        keys.membership_key(name),
        keys.override_key(name, digest),
        keys.descriptor_guard_key(digest),
        keys.membership_guard_key(name, digest),
    ]
    assert len(set(made)) == len(made)
    assert all(key.isascii() and b" " not in key and b"\n" not in key for key in made)


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ((b"HGET", b"a", b"b"), (b"a",)),
        ((b"EVALSHA", b"x", b"2", b"a", b"b", b"c"), (b"a", b"b")),
        ((b"MEMORY", b"USAGE", b"a"), (b"a",)),
        ((b"MEMORY", b"USAGE", b"a", b"SAMPLES", b"0"), (b"a",)),
    ],
)
def test_the_keys_of_a_request_are_found(request_, expected):
    assert keys.keys_of(request_) == expected


@pytest.mark.parametrize(
    "key",
    [
        b"",
        b"blobs::",
        b"blobs::nonsense",
        b"repository::foo",
        b"repository::foo::blobs::",
        b"repository::foo::blobs:" + DIGEST.encode(),
        b"repository::foo::blobsets",
        b"repository::::blobs",
        b"repository::::blobs::" + DIGEST.encode(),
        b"repository::Foo::blobs",
        b"repository::foo::blobs::nonsense",
        b"repository::\xff::blobs",
    ],
)
def test_an_ill_formed_key_names_neither_repository_nor_digest(key):
    assert subject_of_key(key) is None
    name, digest = keys.subject_of(key)
    assert not digest.startswith("sha256:")
    assert name in {"", "foo", "Foo", "\xff"}


def test_the_shortest_digest_after_a_name_is_one_character():
    assert keys.subject_of(b"repository::foo::blobs::x") == ("foo", "x")
    assert keys.subject_of(b"repository::foo::blobs::") == ("", "")


def test_a_probe_key_is_in_the_documented_namespace_and_new():
    first, second = keys.probe_key(), keys.probe_key()
    assert first != second
    assert first.startswith(b"aioblobcache::probe::")


def test_a_key_is_decoded_to_repository_and_digest():
    for key, name, digest in (
        (keys.descriptor_key(DIGEST), None, DIGEST),
        (keys.membership_key("foo/bar"), "foo/bar", None),
        (keys.override_key("foo/bar", DIGEST), "foo/bar", DIGEST),
    ):
        assert keys.subject_of(key) == (name or "", digest or "")
        assert subject_of_key(key) == Subject(name, digest)
