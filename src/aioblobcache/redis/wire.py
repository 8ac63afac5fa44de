"""How Redis is asked for descriptors and what its replies mean, by the wire contract. No I/O, no clock.

``GlobalScope`` and ``RepositoryScope`` say the same sentences of their scope; everything that
differs between the two is here. Decoders return a value or raise :class:`BlobUnknownError`,
:class:`CorruptEntryError`, the error reply itself, or :class:`UnexpectedReplyError`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import ClassVar, Final, Protocol, TypeAlias, cast

from ..descriptor import Descriptor
from ..digest import Digest
from ..errors import BlobUnknownError
from .keys import descriptor_key, membership_key, override_key, slot_of
from .resp import Group, Reply, Request, Shape, encode, is_fields, is_flag, is_flags, is_text, require_shapes
from .stored import decode_descriptor, decode_override, reject, usual_descriptor

__all__ = ["Answer", "GlobalScope", "RepositoryScope", "Scope"]

# What a stat of several blobs says of each.
Answer: TypeAlias = Descriptor | BlobUnknownError


class Scope(Protocol):
    """The requests and replies of one scope: the whole registry, or one repository."""

    replies_to_stat: ClassVar[int]
    stat_shapes: ClassVar[tuple[Shape, ...]]

    @property
    def name(self) -> str | None:
        """The repository's, or ``None``."""
        ...

    def stat_requests(self, digest: Digest) -> tuple[Request, ...]:
        """What to send, in one write."""
        ...

    def stat_groups(self, digest: Digest) -> list[Group]:
        """The same, each request by itself, with what its reply can be."""
        ...

    def encode_stat(self, digest: Digest) -> bytes:
        """The same, as bytes."""
        ...

    def encode_stat_parts(self, digest: Digest) -> tuple[bytes, ...]:
        """The same, each request by itself."""
        ...

    def stat_slots(self, digest: Digest) -> tuple[int, ...]:
        """The slot of a Cluster that each of the requests is about."""
        ...

    def decode_stat(self, digest: Digest, replies: Sequence[Reply]) -> Descriptor:
        """What the replies to that mean."""
        ...

    def stat_many_group(self, digests: Sequence[Digest]) -> Group:
        """The question about several blobs, for one node."""
        ...

    def encode_stat_many(self, digests: Sequence[Digest]) -> bytes:
        """The same, as bytes."""
        ...

    def replies_to_stat_many(self, count: int) -> int:
        """How many replies there are to that about so many blobs."""
        ...

    def decode_stat_many(self, digests: Sequence[Digest], replies: Sequence[Reply]) -> list[Answer]:
        """What they mean, blob by blob: misses are returned in their places."""
        ...

    def unknown(self, digest: Digest) -> BlobUnknownError:
        """The miss, as an exception that names the scope."""
        ...


class _Templates(dict[int, bytes]):
    """Requests about any digest, by its length, with ``%b`` in the places of the digest; made when first used."""

    def __init__(self, requests: Callable[[Digest], Iterable[Request]]) -> None:
        super().__init__()
        self._requests = requests

    def __missing__(self, length: int) -> bytes:
        # What no key, name or command contains, of the same length.
        placeholder = "\0" * length
        requests = self._requests(cast("Digest", placeholder))
        template = self[length] = encode(requests).replace(placeholder.encode(), b"%b")
        return template


class GlobalScope:
    """``blobs::<digest>`` alone: a blob that the registry holds somewhere."""

    replies_to_stat: ClassVar[int] = 1
    stat_shapes: ClassVar[tuple[Shape, ...]] = (is_fields,)
    name: Final = None

    def __init__(self) -> None:
        self._stat = _Templates(self.stat_requests)

    def stat_requests(self, digest: Digest) -> tuple[Request, ...]:
        return (_descriptor_request(digest),)

    def stat_groups(self, digest: Digest) -> list[Group]:
        return [
            ([request], [shape]) for request, shape in zip(self.stat_requests(digest), self.stat_shapes, strict=True)
        ]

    def encode_stat(self, digest: Digest) -> bytes:
        return self._stat[len(digest)] % digest.encode()

    def encode_stat_parts(self, digest: Digest) -> tuple[bytes, ...]:
        return (self.encode_stat(digest),)

    def stat_slots(self, digest: Digest) -> tuple[int, ...]:
        return (slot_of(descriptor_key(digest)),)

    def decode_stat(self, digest: Digest, replies: Sequence[Reply]) -> Descriptor:
        descriptor = usual_descriptor(digest, replies[0], b"")
        if descriptor is not None:
            return descriptor
        require_shapes(replies, self.stat_shapes)
        return decode_descriptor(digest, None, replies[0])

    def stat_many_group(self, digests: Sequence[Digest]) -> Group:
        return [_descriptor_request(digest) for digest in digests], [is_fields] * len(digests)

    def encode_stat_many(self, digests: Sequence[Digest]) -> bytes:
        return b"".join(map(self.encode_stat, digests))

    def replies_to_stat_many(self, count: int) -> int:
        return count

    def decode_stat_many(self, digests: Sequence[Digest], replies: Sequence[Reply]) -> list[Answer]:
        return _answers(self, digests, zip(replies))

    def unknown(self, digest: Digest) -> BlobUnknownError:
        return BlobUnknownError(digest)


class RepositoryScope:
    """Membership of a repository, the global descriptor, and the repository's own media type.

    Nothing ties the three keys together: whichever is missing, the blob is unknown. Compares by identity.
    """

    replies_to_stat: ClassVar[int] = 3
    stat_shapes: ClassVar[tuple[Shape, ...]] = (is_flag, is_fields, is_text)

    def __init__(self, name: str) -> None:
        self.name = name
        self._membership_slot = slot_of(membership_key(name))
        self._stat = _Templates(self.stat_requests)
        self._entry = _Templates(self._entry_requests)
        self._parts = tuple(_Templates(partial(self._stat_part, place)) for place in range(self.replies_to_stat))

    def stat_requests(self, digest: Digest) -> tuple[Request, ...]:
        membership = (b"SISMEMBER", membership_key(self.name), digest.encode())
        return (membership, *self._entry_requests(digest))

    def _stat_part(self, place: int, digest: Digest) -> tuple[Request]:
        return (self.stat_requests(digest)[place],)

    def _entry_requests(self, digest: Digest) -> tuple[Request, ...]:
        return (_descriptor_request(digest), (b"HGET", override_key(self.name, digest), b"mediatype"))

    def stat_groups(self, digest: Digest) -> list[Group]:
        return [
            ([request], [shape]) for request, shape in zip(self.stat_requests(digest), self.stat_shapes, strict=True)
        ]

    def encode_stat(self, digest: Digest) -> bytes:
        encoded = digest.encode()
        return self._stat[len(digest)] % (encoded, encoded, encoded)

    def encode_stat_parts(self, digest: Digest) -> tuple[bytes, ...]:
        encoded = digest.encode()
        return tuple([part[len(encoded)] % encoded for part in self._parts])

    def stat_slots(self, digest: Digest) -> tuple[int, ...]:
        return (self._membership_slot, slot_of(descriptor_key(digest)), slot_of(override_key(self.name, digest)))

    def decode_stat(self, digest: Digest, replies: Sequence[Reply]) -> Descriptor:
        member, fields, override = replies
        if member == 1 and type(member) is int and type(override) is bytes:
            descriptor = usual_descriptor(digest, fields, override)
            if descriptor is not None:
                return descriptor
        require_shapes(replies, self.stat_shapes)
        if member == 0:
            raise self.unknown(digest)
        if member != 1:
            reject(digest, self.name, member, "its membership set is of another type")
        return decode_override(decode_descriptor(digest, self.name, fields), digest, self.name, override)

    def stat_many_group(self, digests: Sequence[Digest]) -> Group:
        entries = [request for digest in digests for request in self._entry_requests(digest)]
        shapes = [is_flags(len(digests)), *[is_fields, is_text] * len(digests)]
        return [self._membership_request(digests), *entries], shapes

    def _membership_request(self, digests: Sequence[Digest]) -> Request:
        return (b"SMISMEMBER", membership_key(self.name), *map(str.encode, digests))

    def encode_stat_many(self, digests: Sequence[Digest]) -> bytes:
        encoded = [encode([self._membership_request(digests)])]
        for digest in digests:
            words = digest.encode()
            encoded.append(self._entry[len(words)] % (words, words))
        return b"".join(encoded)

    def replies_to_stat_many(self, count: int) -> int:
        return 1 + 2 * count

    def decode_stat_many(self, digests: Sequence[Digest], replies: Sequence[Reply]) -> list[Answer]:
        members = replies[0]
        require_shapes([members], [is_flags(len(digests))])
        # Of an error each blob is told, as if it had been asked for alone.
        flags = members if isinstance(members, list) else [members] * len(digests)
        return _answers(self, digests, zip(flags, replies[1::2], replies[2::2], strict=True))

    def unknown(self, digest: Digest) -> BlobUnknownError:
        return BlobUnknownError(digest, self.name)


def _answers(scope: Scope, digests: Sequence[Digest], replies: Iterable[Sequence[Reply]]) -> list[Answer]:
    answers: list[Answer] = []
    for digest, own in zip(digests, replies, strict=True):
        try:
            answers.append(scope.decode_stat(digest, own))
        except BlobUnknownError as miss:
            answers.append(miss)
    return answers


def _descriptor_request(digest: Digest) -> Request:
    return (b"HMGET", descriptor_key(digest), b"digest", b"size", b"mediatype")
