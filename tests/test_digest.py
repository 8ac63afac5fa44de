from __future__ import annotations

import copy
import hashlib
import json
import pickle
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aioblobcache import (
    Digest,
    DigestFormatError,
    DigestLengthError,
    DigestUnsupportedError,
    InvalidDigestError,
)
from tests.support.growth import costs_less_than
from tests.support.strategies import LENGTHS, damaged, digests

EMPTY = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@given(digests())
def test_a_digest_is_its_text(digest):
    text = str(digest)
    assert digest == text
    assert hash(digest) == hash(text)
    assert f"{digest}" == text
    assert f"{digest.algorithm}:{digest.encoded}" == text
    assert json.dumps(digest) == json.dumps(text)
    assert Digest(text) == digest


@given(digests())
def test_a_digest_survives_copying_and_pickling(digest):
    for twin in (copy.copy(digest), copy.deepcopy(digest), pickle.loads(pickle.dumps(digest))):
        assert type(twin) is Digest
        assert twin == digest


def test_a_cost_that_grows_with_the_size_is_noticed():
    assert not costs_less_than(100, lambda text: text.count("b"), "a" * 1_000, "a" * 1_000_000)


def test_a_digest_is_not_validated_again():
    digest = Digest(EMPTY)
    assert Digest(digest) is digest


def test_a_digest_has_a_representation():
    assert repr(Digest(EMPTY)) == f"Digest('{EMPTY}')"


@pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512"])
def test_a_digest_of_data_is_computed(algorithm):
    digest = Digest.of(b"data", algorithm)
    assert digest.algorithm == algorithm
    assert digest.encoded == hashlib.new(algorithm, b"data").hexdigest()


def test_the_default_algorithm_is_sha256():
    assert Digest.of(b"") == EMPTY


@pytest.mark.parametrize("algorithm", ["blake3", "md5", "sha1", "", "SHA256"])
def test_other_algorithms_cannot_be_computed(algorithm):
    with pytest.raises(DigestUnsupportedError):
        Digest.of(b"data", algorithm)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "sha256",
        "sha256:",
        ":" + "0" * 64,
        "sha256:" + "G" * 64,
        EMPTY.upper(),
        "sha256:" + EMPTY[7:].upper(),
        EMPTY + "\n",
        "\n" + EMPTY,
        EMPTY + "\x00",
        EMPTY[:-1] + "٣",
        EMPTY[:-1] + "\uff11",
        f" {EMPTY}",
        "sha256:../../../../etc/passwd",
        "sha256 :" + "0" * 64,
        "sha256::" + "0" * 63,
        "+sha256:" + "0" * 64,
        "sha256+:" + "0" * 64,
    ],
)
def test_an_ill_formed_digest_is_refused(value):
    with pytest.raises((DigestFormatError, DigestLengthError)):
        Digest(value)


@pytest.mark.parametrize("value", [None, 5, b"sha256:" + b"0" * 64, ["sha256"], object()])
def test_a_digest_of_another_type_is_a_format_error(value):
    with pytest.raises(DigestFormatError, match="a digest is a str"):
        Digest(value)


@pytest.mark.parametrize(
    "value",
    ["md5:" + "0" * 32, "sha1:" + "0" * 40, "tarsum.v2+sha256:" + "0" * 64, "multihash+base58:QmRZxt2b1F", "x:y"],
)
def test_an_unknown_algorithm_is_unsupported(value):
    with pytest.raises(DigestUnsupportedError, match="none of sha256, sha384, sha512, blake3"):
        Digest(value)


@pytest.mark.parametrize("algorithm", sorted(LENGTHS))
@pytest.mark.parametrize("off", [-1, 1])
def test_a_digest_of_wrong_length_is_refused(algorithm, off):
    with pytest.raises(DigestLengthError, match=f"exactly {LENGTHS[algorithm]} hexadecimal"):
        Digest(f"{algorithm}:{'0' * (LENGTHS[algorithm] + off)}")


@given(damaged(digests()))
def test_an_accepted_digest_contains_nothing_hostile(text):
    try:
        digest = Digest(text)
    except InvalidDigestError:
        return
    assert re.fullmatch(r"[a-z0-9.+]+:[0-9a-f]+", digest)


@given(st.text())
def test_arbitrary_text_is_a_digest_or_an_invalid_digest_error(text):
    try:
        digest = Digest(text)
    except InvalidDigestError:
        return
    assert digest == text


@pytest.mark.parametrize("prefix", ["", "sha256:", "sha256", "a.", "a-", "tarsum.v1+", "\n", "é", "a:"])
def test_a_refusal_costs_the_same_for_any_size(prefix):
    def refuse(value):
        with pytest.raises((DigestFormatError, DigestLengthError)) as caught:
            Digest(value)
        assert len(str(caught.value)) < 300

    assert costs_less_than(100, refuse, prefix + "a" * 1_000, prefix + "a" * 10_000_000)


def test_the_message_names_the_value_and_the_rule():
    with pytest.raises(DigestLengthError) as caught:
        Digest("sha256:abc")
    assert str(caught.value) == "invalid digest 'sha256:abc': sha256 takes exactly 64 hexadecimal digits"
    assert caught.value.value == "sha256:abc"
