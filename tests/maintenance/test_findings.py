"""The kinds of findings: their names are the JSON interface, and their texts are what an operator reads."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from aioblobcache import Descriptor, Digest
from aioblobcache.maintenance import Fault, Finding, InRepository, Note
from aioblobcache.maintenance.findings import judge_blob, judge_member, judge_set, notes_on_blob
from aioblobcache.media_types import OCTET_STREAM
from aioblobcache.redis.cached import Cached, CachedInRepository

OPERATOR_PAGE = Path(__file__).parents[2] / "docs" / "operator.md"

FAULTS = {
    "missing-data": "it is cached, and storage has no data of it",
    "not-linked": "the repository answers for it, and has no link to it",
    "wrong-size": "the size that is cached is not that of its data",
    "malformed": "what is cached cannot be a descriptor",
}
NOTES = {
    "global-only": "it is cached globally, and in no repository",
    "no-descriptor": "it is a member of the repository, and its descriptor is not cached: a miss",
    "unlinked-member": "it is a member of a repository that does not link it any more; a miss, while that lasts",
    "orphan-override": "a repository's media type for what is no member of it",
    "no-canonical": "it is cached by another algorithm, and not by its own digest",
    "legacy-length": "written by a release of 2014: a miss",
    "octet-stream": "it is cached as application/octet-stream, and is a manifest of another type",
}

DIGEST = Digest.of(b"a blob")
CACHED = Cached(Descriptor(DIGEST, 1_234, OCTET_STREAM))


@pytest.mark.parametrize(("kinds", "meanings"), [(Fault, FAULTS), (Note, NOTES)])
def test_each_kind_has_its_value_and_meaning(kinds, meanings):
    assert {kind.value: Finding(kind, None, DIGEST, "").meaning for kind in kinds} == meanings
    assert {kind.name for kind in kinds} == {value.replace("-", "_").upper() for value in meanings}


@pytest.mark.parametrize(("heading", "kinds"), [("fault", Fault), ("note", Note)])
def test_operator_page_lists_exactly_the_kinds(heading, kinds):
    [table] = re.findall(rf"^\| {heading} \|.*\n\| ---.*\n((?:\|.*\n)+)", OPERATOR_PAGE.read_text(), re.MULTILINE)
    assert re.findall(r"^\| `([a-z-]+)` \|", table, re.MULTILINE) == [kind.value for kind in kinds]


@pytest.mark.parametrize(
    ("media_type", "stored", "kind", "detail"),
    [
        ("a/b", InRepository(True, None), Fault.MISSING_DATA, "storage has a link, but no data"),
        ("a/b", InRepository(False, None), Fault.MISSING_DATA, "storage has neither link nor data"),
        ("a/b", InRepository(False, 1), Fault.NOT_LINKED, "storage has its data, but no link here"),
        (None, InRepository(False, 1), Note.UNLINKED_MEMBER, "storage has its data, but no link here"),
    ],
)
def test_detail_says_what_storage_has_of_a_member(media_type, stored, kind, detail):
    """Without a media type of the repository's own, a stat does not find the member."""
    finding = judge_member("a", DIGEST, CachedInRepository(CACHED, media_type), stored)
    assert finding == Finding(kind, "a", DIGEST, detail)


@pytest.mark.parametrize(
    ("size", "kind", "detail"),
    [
        (None, Fault.MISSING_DATA, "1,234 bytes are cached, and there is no data"),
        (5_678, Fault.WRONG_SIZE, "1,234 bytes are cached, 5,678 are stored"),
    ],
)
def test_detail_compares_the_cached_size_with_storage(size, kind, detail):
    assert judge_blob(DIGEST, CACHED, size) == Finding(kind, None, DIGEST, detail)


def test_detail_names_a_membership_set_of_wrong_type():
    assert judge_set("a", False) == Finding(Fault.MALFORMED, "a", None, "its membership set is of another type")
    assert judge_set("a", True) is None


def test_details_of_notes_name_the_digest_and_the_type():
    found = notes_on_blob(DIGEST, CACHED, is_member=True, has_canonical=False, manifest_type="a/b")
    assert found == [
        Finding(Note.NO_CANONICAL, None, DIGEST, f"its own digest is {DIGEST}"),
        Finding(Note.OCTET_STREAM, None, DIGEST, "storage says a/b"),
    ]
