"""What headers ask for."""

from __future__ import annotations

import re
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aioblobcache.registry_api.conditions import etag_of, is_known_to_client, wanted_range
from aioblobcache.registry_api.messages import is_header_value
from aioblobcache.registry_api.paging import link_to_next
from aioblobcache.storage import ByteRange

ETAG = etag_of("sha256:00")


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        ("bytes=0-0", ByteRange(0, 0)),
        ("bytes=5-", ByteRange(5, None)),
        ("bytes=-5", ByteRange(None, 5)),
        ("Bytes = 5 - 9 ", ByteRange(5, 9)),
        ("bytes=-0", ByteRange(None, 0)),
        ("bytes=9-5", None),
        ("bytes=-", None),
        ("bytes=0-1,5-9", None),
        ("lines=0-1", None),
        ("bytes=1e3-", None),
        ("bytes=٣-", None),
        ("bytes=" + "9" * 30 + "-", None),
        ("", None),
    ],
)
def test_range_header_is_parsed_or_ignored(header, wanted):
    assert wanted_range({"Range": header}, ETAG) == wanted


def test_range_is_ignored_unless_if_range_matches():
    assert wanted_range({"Range": "bytes=0-1", "If-Range": ETAG}, ETAG) == ByteRange(0, 1)
    assert wanted_range({"Range": "bytes=0-1", "If-Range": '"else"'}, ETAG) is None
    assert wanted_range({"Range": "bytes=0-1", "If-Range": f"W/{ETAG}"}, ETAG) is None


@given(st.integers(0, 50), st.one_of(st.none(), st.integers(0, 60)), st.one_of(st.none(), st.integers(0, 60)))
def test_range_selects_the_bytes_it_names(size, first, last):
    if first is None and last is None:
        return
    data = bytes(range(size))
    if first is None:
        expected = data[max(0, size - last) :] if last else b""
    else:
        expected = data[first : None if last is None else last + 1]
    part = ByteRange(first, last).of(size)
    assert (data[slice(*part)] if part else b"") == expected
    assert part is None or part[0] < part[1] <= size


@pytest.mark.parametrize("header", [ETAG, f"W/{ETAG}", "*", f'"else", {ETAG}', "sha256:00", f" {ETAG} "])
def test_if_none_match_recognises_the_etag(header):
    assert is_known_to_client({"If-None-Match": header}, ETAG)


@pytest.mark.parametrize("header", ["", '"else"', "sha256:0", '"sha256:00', "W/*"])
def test_if_none_match_ignores_other_etags(header):
    assert not is_known_to_client({"If-None-Match": header}, ETAG)


def test_nothing_is_known_without_if_none_match():
    assert not is_known_to_client({}, ETAG)


@given(st.text(), st.text())
def test_no_conditional_header_raises(known, wanted):
    headers = {"If-None-Match": known, "Range": wanted, "If-Range": known}
    is_known_to_client(headers, ETAG)
    wanted_range(headers, ETAG)


@pytest.mark.parametrize("base", ['/a>; rel="x', "/a\r\nX: y/v2", "/日/v2", "/a b/v2"])
def test_link_header_holds_only_the_next_page(base):
    [(name, value)] = link_to_next(f"{base}/_catalog", 1, "last").items()
    assert name == "Link"
    assert is_header_value(value)
    assert re.fullmatch(r'<[A-Za-z0-9/%._?=&-]+>; rel="next"', value)
    assert unquote(value[1:].partition("?")[0]) == f"{base}/_catalog"
