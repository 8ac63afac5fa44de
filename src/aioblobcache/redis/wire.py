"""What is said to Redis and what its replies mean, by the wire contract. No I/O, no clock.

A request is a tuple of ``bytes``. A reply is what a RESP parser makes of it: ``int``, ``bytes``,
``None``, ``list``; an error reply is a ``RedisError`` *instance*. Decoders return a value or raise
:class:`BlobUnknownError`, :class:`CorruptEntryError`, or the error reply itself.

``GlobalScope`` and ``RepositoryScope`` say the same sentences of their scope; everything that
differs between the two is here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NoReturn, Protocol, TypeAlias, cast

import attrs
from redis.exceptions import NoScriptError, RedisError, ResponseError

from ..descriptor import Descriptor, written_digests
from ..digest import Digest
from ..errors import BlobUnknownError, CorruptEntryError, InvalidDescriptorError, InvalidDigestError, shorten
from ..interfaces import FillToken
from . import scripts
from .keys import descriptor_guard_key, descriptor_key, membership_guard_key, membership_key, override_key
from .scripts import Script

__all__ = ["GlobalScope", "Reply", "RepositoryScope", "Request", "Scope", "ScriptCall", "UnexpectedReplyError"]

Request: TypeAlias = tuple[bytes, ...]
Reply: TypeAlias = int | bytes | list["Reply"] | RedisError | None

# What stands in a guard: who took it, or that it was buried, and something never used before.
_TOKEN: Final = b"token:"
_TOMBSTONE: Final = b"tombstone:"

_LONGEST_SIZE: Final = len(str(2**63 - 1))


class UnexpectedReplyError(RedisError):
    """A reply of a shape that the request cannot have: the stream is not to be trusted."""


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

    stat_length: int  # how many requests make a stat

    def stat_requests(self, digest: Digest) -> tuple[Request, ...]:
        """What to send, in one write."""
        ...

    def decode_stat(self, digest: Digest, replies: Sequence[Reply]) -> Descriptor:
        """What the replies to that mean."""
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


@attrs.frozen
class GlobalScope:
    """``blobs::<digest>`` alone: a blob that the registry holds somewhere."""

    stat_length = 1

    def stat_requests(self, digest: Digest) -> tuple[Request, ...]:
        return (_descriptor_request(digest),)

    def decode_stat(self, digest: Digest, replies: Sequence[Reply]) -> Descriptor:
        return _decode_descriptor(digest, None, replies[0])

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


@attrs.frozen
class RepositoryScope:
    """Membership of a repository, the global descriptor, and the repository's own media type.

    Nothing ties the three keys together: whichever is missing, the blob is unknown.
    """

    name: str
    stat_length = 3

    def stat_requests(self, digest: Digest) -> tuple[Request, ...]:
        return (
            (b"SISMEMBER", membership_key(self.name), digest.encode()),
            _descriptor_request(digest),
            (b"HGET", override_key(self.name, digest), b"mediatype"),
        )

    def decode_stat(self, digest: Digest, replies: Sequence[Reply]) -> Descriptor:
        member, fields, override = replies
        if member == 0:
            raise self.unknown(digest)
        if member != 1:
            _reject(digest, self.name, member, "its membership set is of another type")
        descriptor = _decode_descriptor(digest, self.name, fields)
        if override is None:
            raise self.unknown(digest)
        if not isinstance(override, bytes):
            _reject(digest, self.name, override, "its media type in the repository is of another type")
        if not override:
            return descriptor
        return _descriptor(digest, self.name, descriptor.digest, descriptor.size, override)

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


def token_requests(scope: Scope, digest: Digest, nonce: bytes, guard_ms: int) -> list[Request]:
    """Take every guard of the scope that is free, and read what stands in each now."""
    requests: list[Request] = []
    for key in scope.guard_keys(digest):
        requests.append((b"SET", key, _TOKEN + nonce, b"NX", b"PX", b"%d" % guard_ms))
        requests.append((b"GET", key))
    return requests


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
        elif held is None or _is_wrong_type(held):
            guards.append(nonce)  # equal to no other token
            permits_fill = False
        else:
            _raise_reply(held)
    return FillToken(tuple(guards), permits_fill)


def decode_count(reply: Reply) -> int:
    """The number that a write script returns."""
    if not isinstance(reply, int):
        _raise_reply(reply)
    return reply


def is_noscript(reply: Reply) -> bool:
    """Whether the server does not know the script that was called by its hash."""
    return isinstance(reply, ResponseError) and _error_code(reply) == "NOSCRIPT"


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


def _decode_descriptor(digest: Digest, repository: str | None, reply: Reply) -> Descriptor:
    """Decode ``HMGET digest size mediatype``.

    Entries of 2014 have ``length`` in place of ``size``: they are misses, and get rewritten.
    """
    if not isinstance(reply, list):
        _reject(digest, repository, reply, "its descriptor is of another type")
    if len(reply) != 3 or not all(field is None or isinstance(field, bytes) for field in reply):
        raise UnexpectedReplyError(f"HMGET was answered by {shorten(repr(reply))}")
    own, size, media_type = cast("list[bytes | None]", reply)
    if own is None or size is None:
        raise BlobUnknownError(digest, repository)
    if not size.isdigit() or len(size) > _LONGEST_SIZE:
        raise CorruptEntryError(digest, repository, f"size is {shorten(size)}")
    return _descriptor(digest, repository, _own_digest(digest, repository, own), int(size), media_type or b"")


def _own_digest(digest: Digest, repository: str | None, stored: bytes) -> Digest:
    """The blob's own digest: the one asked for, or one of another algorithm."""
    if stored == digest.encode():
        return digest
    try:
        own = Digest(stored.decode("latin-1"))
    except InvalidDigestError as error:
        raise CorruptEntryError(digest, repository, f"digest is {shorten(stored)}") from error
    if own.algorithm == digest.algorithm:
        raise CorruptEntryError(digest, repository, f"digest is {own}, another blob's")
    return own


def _descriptor(digest: Digest, repository: str | None, own: Digest, size: int, media_type: bytes) -> Descriptor:
    try:
        return Descriptor(own, size, media_type.decode("latin-1"))
    except InvalidDescriptorError as error:
        raise CorruptEntryError(digest, repository, str(error)) from error


def _reject(digest: Digest, repository: str | None, reply: Reply, reason: str) -> NoReturn:
    if _is_wrong_type(reply):
        raise CorruptEntryError(digest, repository, reason)
    _raise_reply(reply)


def _raise_reply(reply: Reply) -> NoReturn:
    if isinstance(reply, RedisError):
        raise reply
    raise UnexpectedReplyError(f"a reply of type {type(reply).__name__} where none can be")


def _is_wrong_type(reply: Reply) -> bool:
    return isinstance(reply, ResponseError) and _error_code(reply) == "WRONGTYPE"


def _error_code(error: ResponseError) -> str:
    """The first word of an error reply. redis-py takes it off where it has a class for it."""
    if isinstance(error, NoScriptError):
        return "NOSCRIPT"
    return str(error).partition(" ")[0]
