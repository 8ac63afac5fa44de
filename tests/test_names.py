from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aioblobcache import RepositoryNameError
from aioblobcache.names import validate_repository_name
from tests.support.growth import costs_less_than
from tests.support.strategies import damaged, names


@given(names)
def test_a_well_formed_name_is_returned_unchanged(name):
    assert validate_repository_name(name) is name


@pytest.mark.parametrize(
    "name", ["a", "library/debian", "a/b/c", "a.b_c__d-e---f", "0/1", "a/blobs/b", "tags/list", "x" * 255]
)
def test_common_repository_names_are_accepted(name):
    assert validate_repository_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        *["", "/", "a/", "/a", "a//b", "A", "a_", "_a", "a..b", "a___b", "a._b", "-a", "a-", "..", "a/../b", "a:b"],
        *["a\n", "a\x00", "a b", "é", "a\u0663", "a%2fb", "a\\b", "::blobs", "x" * 256, "a@sha256:0"],
        *[None, 5, b"a", ["a"]],
    ],
)
def test_an_invalid_name_is_refused(name):
    with pytest.raises(RepositoryNameError, match="invalid repository name"):
        validate_repository_name(name)


@given(damaged(names) | st.text(max_size=300))
def test_no_accepted_name_can_extend_a_key_or_path(text):
    try:
        name = validate_repository_name(text)
    except RepositoryNameError:
        return
    assert re.fullmatch(r"[a-z0-9._/-]+", name)
    assert not any(component in ("", ".", "..") or component.startswith("_") for component in name.split("/"))


@pytest.mark.parametrize("unit", ["a", "a/", "a-", "a_", "-", "a__"])
def test_a_refusal_costs_the_same_for_any_size(unit):
    def refuse(value):
        with pytest.raises(RepositoryNameError, match="longer than 255"):
            validate_repository_name(value)

    assert costs_less_than(100, refuse, unit * (1_000 // len(unit)), unit * (10_000_000 // len(unit)))


@pytest.mark.parametrize("tail", ["!", "_", "/"])
@pytest.mark.parametrize("unit", ["a", "a-", "a.a__", "a/"])
def test_the_worst_names_take_linear_time(unit, tail):
    """Sizes a factor of 10 apart: a quadratic search would take 100 times as long, a cubic one 1,000."""

    def refuse(value):
        with pytest.raises(RepositoryNameError):
            validate_repository_name(value)

    def worst(length):
        return ((unit * length)[: length - 2] + "a" + tail)[-length:]

    assert costs_less_than(100, refuse, worst(25), worst(250))
