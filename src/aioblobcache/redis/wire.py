"""What is said to Redis and what its replies mean, by the wire contract. No I/O, no clock.

``GlobalScope`` and ``RepositoryScope`` say the same sentences of their scope; everything that
differs between the two is here. Decoders return a value or raise :class:`BlobUnknownError`,
:class:`CorruptEntryError`, the error reply itself, or :class:`UnexpectedReplyError`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar, Final, Protocol, TypeAlias, cast

import attrs
from redis.exceptions import RedisError

from ..descriptor import Descriptor, written_digests
from ..digest import Digest
from ..errors import BlobUnknownError
from ..interfaces import FillToken
from . import scripts
from .keys import descriptor_guard_key, descriptor_key, membership_guard_key, membership_key, override_key
from .resp import (
    Reply,
    Request,
    Shape,
    encode,
    error_code,
    is_fields,
    is_flag,
    is_flags,
    is_text,
    raise_reply,
    require_shapes,
)
from .scripts import Script
from .stored import decode_descriptor, decode_override, reject, usual_descriptor

__all__ = [
    "Answer",
    "GlobalScope",
    "RepositoryScope",
    "Scope",
    "ScriptCall",
    "decode_count",
    "decode_token",
    "is_noscript",
    "token_requests",
    "token_shapes",
]

# What a stat of several blobs says of each.
Answer: TypeAlias = Descriptor | BlobUnknownError

# What stands in a guard: who took it, or that it was buried, and something never used before.
_TOKEN: Final = b"token:"
_TOMBSTONE: Final = b"tombstone:"


@attrs.frozen
class ScriptCall:
    """A script with its keys and arguments."""

    script: Script
    keys: tuple[bytes, ...]
    arguments: tuple[bytes, ...]

    def request(self) -> Request:
        """Call it by its hash; the server may answer NOSCRIPT."""
        return (b"EVALSHA", self.script.sha, b"%d" % len(self.keys), *self.keys, *self.arguments)

    def load_request(self) -> Request:
        """Make the script known to the server, after a NOSCRIPT."""
        return (b"SCRIPT", b"LOAD", self.script.source)


class Scope(Protocol):
    """The requests and replies of one scope: the whole registry, or one repository."""

    replies_to_stat: ClassVar[int]

    def stat_requests(self, digest: Digest) -> tuple[Request, ...]:
        """What to send, in one write."""
        ...

    def encode_stat(self, digest: Digest) -> bytes:
        """The same, as bytes."""
        ...

    def decode_stat(self, digest: Digest, replies: Sequence[Reply]) -> Descriptor:
        """What the replies to that mean."""
        ...

    def stat_many_requests(self, digests: Sequence[Digest]) -> list[Request]:
        """The question about several blobs, in one write."""
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

    def write(self, digest: Digest, descriptor: Descriptor, ttl_ms: int | None, token: FillToken | None) -> ScriptCall:
        """Write an entry: a fill with a token, an authoritative set without one."""
        ...

    def clear(self, digest: Digest, nonce: bytes, guard_ms: int) -> ScriptCall:
        """Put a tombstone of this nonce into the guards, and remove the entry."""
        ...

    def guard_keys(self, digest: Digest) -> tuple[bytes, ...]:
        """The guards that a fill has to hold."""
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

    def __init__(self) -> None:
        self._stat = _Templates(self.stat_requests)

    def stat_requests(self, digest: Digest) -> tuple[Request, ...]:
        return (_descriptor_request(digest),)

    def encode_stat(self, digest: Digest) -> bytes:
        return self._stat[len(digest)] % digest.encode()

    def decode_stat(self, digest: Digest, replies: Sequence[Reply]) -> Descriptor:
        descriptor = usual_descriptor(digest, replies[0], b"")
        if descriptor is not None:
            return descriptor
        require_shapes(replies, [is_fields])
        return decode_descriptor(digest, None, replies[0])

    def stat_many_requests(self, digests: Sequence[Digest]) -> list[Request]:
        return [_descriptor_request(digest) for digest in digests]

    def encode_stat_many(self, digests: Sequence[Digest]) -> bytes:
        return b"".join(map(self.encode_stat, digests))

    def replies_to_stat_many(self, count: int) -> int:
        return count

    def decode_stat_many(self, digests: Sequence[Digest], replies: Sequence[Reply]) -> list[Answer]:
        return _answers(self, digests, zip(replies))

    def write(self, digest: Digest, descriptor: Descriptor, ttl_ms: int | None, token: FillToken | None) -> ScriptCall:
        guards = self.guard_keys(digest) if token else ()
        return ScriptCall(
            scripts.WRITE_GLOBAL,
            (*guards, descriptor_key(digest)),
            _write_arguments(descriptor, ttl_ms, token),
        )

    def clear(self, digest: Digest, nonce: bytes, guard_ms: int) -> ScriptCall:
        return ScriptCall(
            scripts.CLEAR_GLOBAL,
            (descriptor_guard_key(digest), descriptor_key(digest)),
            (_TOMBSTONE + nonce, b"%d" % guard_ms),
        )

    def guard_keys(self, digest: Digest) -> tuple[bytes, ...]:
        return (descriptor_guard_key(digest),)

    def unknown(self, digest: Digest) -> BlobUnknownError:
        return BlobUnknownError(digest)


class RepositoryScope:
    """Membership of a repository, the global descriptor, and the repository's own media type.

    Nothing ties the three keys together: whichever is missing, the blob is unknown. Compares by identity.
    """

    replies_to_stat: ClassVar[int] = 3

    def __init__(self, name: str) -> None:
        self.name = name
        self._stat = _Templates(self.stat_requests)
        self._entry = _Templates(self._entry_requests)

    def stat_requests(self, digest: Digest) -> tuple[Request, ...]:
        membership = (b"SISMEMBER", membership_key(self.name), digest.encode())
        return (membership, *self._entry_requests(digest))

    def _entry_requests(self, digest: Digest) -> tuple[Request, ...]:
        return (_descriptor_request(digest), (b"HGET", override_key(self.name, digest), b"mediatype"))

    def encode_stat(self, digest: Digest) -> bytes:
        encoded = digest.encode()
        return self._stat[len(digest)] % (encoded, encoded, encoded)

    def decode_stat(self, digest: Digest, replies: Sequence[Reply]) -> Descriptor:
        member, fields, override = replies
        if member == 1 and type(member) is int and type(override) is bytes:
            descriptor = usual_descriptor(digest, fields, override)
            if descriptor is not None:
                return descriptor
        require_shapes(replies, [is_flag, is_fields, is_text])
        if member == 0:
            raise self.unknown(digest)
        if member != 1:
            reject(digest, self.name, member, "its membership set is of another type")
        return decode_override(decode_descriptor(digest, self.name, fields), digest, self.name, override)

    def stat_many_requests(self, digests: Sequence[Digest]) -> list[Request]:
        entries = [request for digest in digests for request in self._entry_requests(digest)]
        return [self._membership_request(digests), *entries]

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

    def write(self, digest: Digest, descriptor: Descriptor, ttl_ms: int | None, token: FillToken | None) -> ScriptCall:
        guards = self.guard_keys(digest) if token else ()
        # A fill holds the guards of its key alone, so it writes under that alone.
        members = (digest,) if token else written_digests(digest, descriptor)
        entries = (key for member in members for key in (descriptor_key(member), override_key(self.name, member)))
        return ScriptCall(
            scripts.WRITE_SCOPED,
            (*guards, membership_key(self.name), *entries),
            (*_write_arguments(descriptor, ttl_ms, token), *(member.encode() for member in members)),
        )

    def clear(self, digest: Digest, nonce: bytes, guard_ms: int) -> ScriptCall:
        membership_guard, descriptor_guard = self.guard_keys(digest)
        return ScriptCall(
            scripts.CLEAR_SCOPED,
            (
                membership_guard,
                membership_key(self.name),
                override_key(self.name, digest),
                descriptor_guard,
                descriptor_key(digest),
            ),
            (_TOMBSTONE + nonce, b"%d" % guard_ms, digest.encode()),
        )

    def guard_keys(self, digest: Digest) -> tuple[bytes, ...]:
        return (membership_guard_key(self.name, digest), descriptor_guard_key(digest))

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


def token_requests(scope: Scope, digest: Digest, nonce: bytes, guard_ms: int) -> list[Request]:
    """Take every guard of the scope that is free, and read what stands in each now."""
    requests: list[Request] = []
    for key in scope.guard_keys(digest):
        requests.append((b"SET", key, _TOKEN + nonce, b"NX", b"PX", b"%d" % guard_ms))
        requests.append((b"GET", key))
    return requests


def token_shapes(scope: Scope, digest: Digest) -> tuple[Shape, ...]:
    """What the replies to that are."""
    return (is_text,) * (2 * len(scope.guard_keys(digest)))


def decode_token(replies: Sequence[Reply], nonce: bytes) -> FillToken:
    """Read the guards. What is not a token (a tombstone, nothing, a planted value) permits no fill."""
    guards: list[bytes] = []
    permits_fill = True
    for taken, held in zip(replies[::2], replies[1::2], strict=True):
        if isinstance(taken, RedisError):
            raise taken
        if isinstance(held, bytes):
            guards.append(held)
            permits_fill = permits_fill and held.startswith(_TOKEN)
        elif held is None or error_code(held) == "WRONGTYPE":
            guards.append(nonce)  # equal to no other token
            permits_fill = False
        else:
            raise_reply(held)
    return FillToken(tuple(guards), permits_fill)


def decode_count(reply: Reply) -> int:
    """The number that a write script returns."""
    if not isinstance(reply, int):
        raise_reply(reply)
    return reply


def is_noscript(reply: Reply) -> bool:
    """Whether the server does not know the script that was called by its hash."""
    return error_code(reply) == "NOSCRIPT"


def _descriptor_request(digest: Digest) -> Request:
    return (b"HMGET", descriptor_key(digest), b"digest", b"size", b"mediatype")


def _write_arguments(descriptor: Descriptor, ttl_ms: int | None, token: FillToken | None) -> tuple[bytes, ...]:
    guards = token.guards if token else ()
    return (
        b"%d" % len(guards),
        *guards,
        b"" if ttl_ms is None else b"%d" % ttl_ms,
        descriptor.digest.encode(),
        b"%d" % descriptor.size,
        descriptor.media_type.encode(),
    )
