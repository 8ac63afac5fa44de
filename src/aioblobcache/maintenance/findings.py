"""What can be wrong between a cache and the storage behind it. No I/O.

A *fault* is an answer that the cache gives, or would give after one more push or pull, and storage contradicts. A
*note* is something unusual that healthy registries show as well, and that harms nobody. What is not cached is neither.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, TypeAlias

import attrs

from ..digest import Digest
from ..media_types import OCTET_STREAM
from ..redis.cached import Cached, CachedInRepository
from ..redis.keys import descriptor_key, membership_key, override_key

__all__ = ["Fault", "Finding", "InRepository", "Note", "judge_blob", "judge_member", "judge_set", "notes_on_blob"]


class Fault(Enum):
    """An answer that storage contradicts."""

    MISSING_DATA = "missing-data"
    NOT_LINKED = "not-linked"
    WRONG_SIZE = "wrong-size"
    MALFORMED = "malformed"


class Note(Enum):
    """Unusual, and harmless."""

    GLOBAL_ONLY = "global-only"
    NO_DESCRIPTOR = "no-descriptor"
    UNLINKED_MEMBER = "unlinked-member"
    ORPHAN_OVERRIDE = "orphan-override"
    NO_CANONICAL = "no-canonical"
    LEGACY_LENGTH = "legacy-length"
    OCTET_STREAM = "octet-stream"


MEANINGS: Final[dict[Fault | Note, str]] = {
    Fault.MISSING_DATA: "it is cached, and storage has no data of it",
    Fault.NOT_LINKED: "the repository answers for it, and has no link to it",
    Fault.WRONG_SIZE: "the size that is cached is not that of its data",
    Fault.MALFORMED: "what is cached cannot be a descriptor",
    Note.GLOBAL_ONLY: "it is cached globally, and in no repository",
    Note.NO_DESCRIPTOR: "it is a member of the repository, and its descriptor is not cached: a miss",
    Note.UNLINKED_MEMBER: "it is a member of a repository that does not link it any more; a miss, while that lasts",
    Note.ORPHAN_OVERRIDE: "a repository's media type for what is no member of it",
    Note.NO_CANONICAL: "it is cached by another algorithm, and not by its own digest",
    Note.LEGACY_LENGTH: "written by a release of 2014: a miss",
    Note.OCTET_STREAM: "it is cached as application/octet-stream, and is a manifest of another type",
}


@attrs.frozen
class Finding:
    """Something about one blob, globally or in a repository; or, without a digest, about a repository's set."""

    kind: Fault | Note
    name: str | None  # the repository; None: the global entry
    digest: Digest | None
    detail: str

    @property
    def is_fault(self) -> bool:
        """Whether storage contradicts it."""
        return isinstance(self.kind, Fault)

    @property
    def key(self) -> str:
        """The key that makes it visible, as operators see it in Redis."""
        if self.digest is None or self.kind is Note.ORPHAN_OVERRIDE:
            key = membership_key(self.name or "") if self.digest is None else override_key(self.name or "", self.digest)
        else:
            key = descriptor_key(self.digest) if self.name is None else membership_key(self.name)
        return key.decode()

    @property
    def meaning(self) -> str:
        """The kind, in words."""
        return MEANINGS[self.kind]


@attrs.frozen
class InRepository:
    """What storage has of a blob in a repository."""

    is_linked: bool
    size: int | None  # of its data, in bytes; None: there is none


Judgement: TypeAlias = Finding | None


def judge_blob(digest: Digest, cached: Cached, size: int | None) -> Judgement:
    """The fault of a global entry, of which storage has ``size`` bytes, or no data."""
    if cached.malformed is not None:
        return Finding(Fault.MALFORMED, None, digest, cached.malformed)
    if cached.descriptor is None:
        return None
    said = f"{cached.descriptor.size:,} bytes are cached"
    if size is None:
        return Finding(Fault.MISSING_DATA, None, digest, f"{said}, and there is no data")
    if cached.descriptor.size != size:
        return Finding(Fault.WRONG_SIZE, None, digest, f"{said}, {size:,} are stored")
    return None


def judge_member(name: str, digest: Digest, cached: CachedInRepository, stored: InRepository) -> Judgement:
    """The fault of a membership, or else the note on it."""
    if stored.size is None:
        link = "a link, but no data" if stored.is_linked else "neither link nor data"
        return Finding(Fault.MISSING_DATA, name, digest, f"storage has {link}")
    if cached.malformed is not None:
        return Finding(Fault.MALFORMED, name, digest, cached.malformed)
    if not stored.is_linked:
        kind = Fault.NOT_LINKED if cached.is_known else Note.UNLINKED_MEMBER
        return Finding(kind, name, digest, "storage has its data, but no link here")
    if cached.blob == Cached():
        return Finding(Note.NO_DESCRIPTOR, name, digest, "")
    return None


def judge_set(name: str, is_set: bool) -> Judgement:
    """The fault of a repository's members as a whole."""
    return None if is_set else Finding(Fault.MALFORMED, name, None, "its membership set is of another type")


def notes_on_blob(
    digest: Digest, cached: Cached, *, is_member: bool, has_canonical: bool, manifest_type: str | None
) -> list[Finding]:
    """The notes on a global entry that has no fault; ``manifest_type`` is what storage says, of a manifest."""
    if cached.is_legacy:
        return [Finding(Note.LEGACY_LENGTH, None, digest, "")]
    descriptor = cached.descriptor
    if descriptor is None:
        return []
    notes = []
    if not is_member:
        notes.append(Finding(Note.GLOBAL_ONLY, None, digest, ""))
    if not has_canonical:
        notes.append(Finding(Note.NO_CANONICAL, None, digest, f"its own digest is {descriptor.digest}"))
    if descriptor.media_type == OCTET_STREAM and manifest_type not in (None, OCTET_STREAM):
        notes.append(Finding(Note.OCTET_STREAM, None, digest, f"storage says {manifest_type}"))
    return notes
