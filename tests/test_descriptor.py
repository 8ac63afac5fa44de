from __future__ import annotations

import pickle

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aioblobcache import Descriptor, Digest, InvalidDescriptorError, InvalidDigestError
from aioblobcache.descriptor import require_cacheable, written_digests
from tests.support.strategies import descriptors, digests

DIGEST = Digest.of(b"x")


@given(descriptors)
def test_a_descriptor_keeps_its_values(descriptor):
    twin = Descriptor(str(descriptor.digest), descriptor.size, descriptor.media_type)
    assert twin == descriptor
    assert type(twin.digest) is Digest
    assert hash(twin) == hash(descriptor)
    assert pickle.loads(pickle.dumps(descriptor)) == descriptor


def test_a_descriptor_is_immutable():
    descriptor = Descriptor(DIGEST, 1, "text/plain")
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        descriptor.size = 2
    assert not hasattr(descriptor, "__dict__")


def test_descriptors_are_ordered_by_digest_size_and_type():
    low, high = sorted([Digest.of(b"1"), Digest.of(b"2")])
    ordered = [Descriptor(low, 1, "b"), Descriptor(low, 2, "a"), Descriptor(high, 0, "a")]
    assert sorted([ordered[2], ordered[0], ordered[1]]) == ordered


@pytest.mark.parametrize("size", [-1, 2**63, 10**400, 1.0, True, "5", b"5", None, float("nan")])
def test_an_invalid_size_is_refused(size):
    with pytest.raises(InvalidDescriptorError, match=r"size is an int of bytes from 0 to 2\*\*63-1") as caught:
        Descriptor(DIGEST, size, "text/plain")
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "media_type",
    ["a\r\nSet-Cookie: x", "a\n", "\x00", "a\x7f", "é", "\u2028", "x" * 1025, "x" * 10_000_000, None, 5, b"text/plain"],
)
def test_an_invalid_media_type_is_refused(media_type):
    with pytest.raises(InvalidDescriptorError, match="printable ASCII") as caught:
        Descriptor(DIGEST, 1, media_type)
    assert len(str(caught.value)) < 400


@given(st.text())
def test_no_accepted_media_type_can_split_a_header(text):
    try:
        media_type = Descriptor(DIGEST, 1, text).media_type
    except InvalidDescriptorError:
        return
    assert media_type.isascii()
    assert not media_type or media_type.isprintable()


@pytest.mark.parametrize("digest", ["", "sha256:abc", "md5:" + "0" * 32, None])
def test_an_invalid_digest_makes_an_invalid_descriptor(digest):
    with pytest.raises(InvalidDescriptorError, match="its digest is invalid") as caught:
        Descriptor(digest, 1, "text/plain")
    assert isinstance(caught.value.__cause__, InvalidDigestError)


@given(digests(), descriptors)
def test_a_descriptor_is_cacheable_under_itself_or_an_alias(digest, descriptor):
    allowed = descriptor.media_type and (digest == descriptor.digest or digest.algorithm != descriptor.digest.algorithm)
    if not allowed:
        with pytest.raises(InvalidDescriptorError):
            require_cacheable(digest, descriptor)
        return
    require_cacheable(digest, descriptor)
    assert set(written_digests(digest, descriptor)) == {digest, descriptor.digest}


@pytest.mark.parametrize("value", [None, {}, ("sha256:x", 1, "y"), "descriptor"])
def test_a_value_of_another_type_is_refused(value):
    with pytest.raises(InvalidDescriptorError, match="expected a Descriptor"):
        require_cacheable(DIGEST, value)
