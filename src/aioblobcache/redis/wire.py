"""What is said to Redis and what its replies mean, by the wire contract. No I/O, no clock.

A request is a tuple of ``bytes``. A reply is what a RESP parser makes of it: ``int``, ``bytes``,
``None``, ``list``; an error reply is a ``RedisError`` *instance*. Decoders return a value or raise
:class:`BlobUnknownError`, :class:`CorruptEntryError`, or the error reply itself.

``GlobalScope`` and ``RepositoryScope`` say the same sentences of their scope; everything that
differs between the two is here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import ClassVar, Final, NoReturn, Protocol, TypeAlias, cast

import attrs
from redis.exceptions import NoScriptError, RedisError, ResponseError

from ..descriptor import Descriptor, is_media_type, trusted_descriptor, written_digests
from ..digest import Digest
from ..errors import BlobUnknownError, CorruptEntryError, InvalidDescriptorError, InvalidDigestError, shorten
from ..interfaces import FillToken
from . import scripts
from .keys import descriptor_guard_key, descriptor_key, membership_guard_key, membership_key, override_key
from .scripts import Script

__all__ = [
    "GlobalScope",
    "Reply",
    "RepositoryScope",
    "Request",
    "Scope",
    "ScriptCall",
    "Shape",
    "UnexpectedReplyError",
    "decode_count",
    "decode_token",
    "encode",
    "is_count",
    "is_noscript",
    "is_text",
    "repository_scope",
    "require_shapes",
    "token_requests",
    "token_shapes",
]

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


# What a reply to a request can be, an error reply apart.
Shape: TypeAlias = Callable[[object], bool]


def is_count(reply: object) -> bool:
    """EVALSHA of our scripts."""
    return type(reply) is int


def is_text(reply: object) -> bool:
    """GET, HGET, SET NX, SCRIPT LOAD."""
    return reply is None or type(reply) is bytes


def is_flag(reply: object) -> bool:
    """SISMEMBER."""
    return type(reply) is int and reply in (0, 1)


def is_fields(reply: object) -> bool:
    """HMGET of three fields."""
    return isinstance(reply, list) and len(reply) == 3 and all(map(is_text, reply))


def require_shapes(replies: Sequence[Reply], shapes: Sequence[Shape]) -> None:
    """Raise :class:`UnexpectedReplyError` unless each reply is an error or of its shape."""
    for reply, is_of_shape in zip(replies, shapes, strict=True):
        if not is_of_shape(reply) and not isinstance(reply, RedisError):
            raise UnexpectedReplyError(f"{shorten(repr(reply))} where none can be ({is_of_shape.__name__})")


class Scope(Protocol):
    """The requests and replies of one scope: the whole registry, or one repository."""

    stat_shapes: ClassVar[tuple[Shape, ...]]  # of the replies to a stat

    def stat_requests(self, digest: Digest) -> tuple[Request, ...]:
        """What to send, in one write."""
        ...

    def encode_stat(self, digest: Digest) -> bytes:
        """The same, as bytes."""
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


class _StatTemplates(dict[int, bytes]):
    """A scope's stat of any digest, by its length, with ``%b`` in the places of the digest; made when first used."""

    def __init__(self, scope: Scope) -> None:
        super().__init__()
        self._scope = scope

    def __missing__(self, length: int) -> bytes:
        # What no key, name or command contains, of the same length.
        placeholder = "\0" * length
        requests = self._scope.stat_requests(cast("Digest", placeholder))
        template = self[length] = encode(requests).replace(placeholder.encode(), b"%b")
        return template


_TEMPLATES: Final = attrs.Factory(_StatTemplates, takes_self=True)


@attrs.frozen(eq=False)
class GlobalScope:
    """``blobs::<digest>`` alone: a blob that the registry holds somewhere. Compares by identity."""

    _templates: _StatTemplates = attrs.field(default=_TEMPLATES, init=False, repr=False)
    stat_shapes: ClassVar[tuple[Shape, ...]] = (is_fields,)

    def stat_requests(self, digest: Digest) -> tuple[Request, ...]:
        return (_descriptor_request(digest),)

    def encode_stat(self, digest: Digest) -> bytes:
        return self._templates[len(digest)] % digest.encode()

    def decode_stat(self, digest: Digest, replies: Sequence[Reply]) -> Descriptor:
        descriptor = _usual_descriptor(digest, replies[0], b"")
        if descriptor is not None:
            return descriptor
        require_shapes(replies, self.stat_shapes)
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


@attrs.frozen(eq=False)
class RepositoryScope:
    """Membership of a repository, the global descriptor, and the repository's own media type.

    Nothing ties the three keys together: whichever is missing, the blob is unknown. Compares by
    identity; :func:`repository_scope` gives the same one for a name while it is remembered.
    """

    name: str
    _templates: _StatTemplates = attrs.field(default=_TEMPLATES, init=False, repr=False)
    stat_shapes: ClassVar[tuple[Shape, ...]] = (is_flag, is_fields, is_text)

    def stat_requests(self, digest: Digest) -> tuple[Request, ...]:
        return (
            (b"SISMEMBER", membership_key(self.name), digest.encode()),
            _descriptor_request(digest),
            (b"HGET", override_key(self.name, digest), b"mediatype"),
        )

    def encode_stat(self, digest: Digest) -> bytes:
        encoded = digest.encode()
        return self._templates[len(digest)] % (encoded, encoded, encoded)

    def decode_stat(self, digest: Digest, replies: Sequence[Reply]) -> Descriptor:
        member, fields, override = replies
        if member == 1 and type(override) is bytes:
            descriptor = _usual_descriptor(digest, fields, override)
            if descriptor is not None:
                return descriptor
        require_shapes(replies, self.stat_shapes)
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


@lru_cache(maxsize=16_384)
def repository_scope(name: str) -> RepositoryScope:
    """The scope of a repository, and what has been prepared for it."""
    return RepositoryScope(name)


def encode(requests: Iterable[Request]) -> bytes:
    """Requests as they go over the wire: arrays of bulk strings (RESP)."""
    parts: list[bytes] = []
    for request in requests:
        parts.append(b"*%d\r\n" % len(request))
        parts.extend(b"$%d\r\n%b\r\n" % (len(argument), argument) for argument in request)
    return b"".join(parts)


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


def _usual_descriptor(digest: Digest, fields: Reply, override: bytes) -> Descriptor | None:
    """The descriptor, if all is there and as it nearly always is; else ``None``, and a closer look is due."""
    if type(fields) is not list or len(fields) != 3:
        return None
    own, size, media_type = fields
    if type(own) is not bytes or type(size) is not bytes or type(media_type) is not bytes:
        return None
    if own != digest.encode() or not size.isdigit() or len(size) >= _LONGEST_SIZE:
        return None
    usual = _media_type(media_type)
    if override:
        usual = usual and _media_type(override)
    return trusted_descriptor(digest, int(size), usual) if usual else None


@lru_cache(maxsize=512)
def _media_type(stored: bytes) -> str:
    """A media type, or nothing if it cannot be one. There are few, and each is made once."""
    text = stored.decode("latin-1")
    return text if is_media_type(text) else ""


def _decode_descriptor(digest: Digest, repository: str | None, reply: Reply) -> Descriptor:
    """Decode ``HMGET digest size mediatype``.

    Entries of 2014 have ``length`` in place of ``size``: they are misses, and get rewritten.
    """
    if not isinstance(reply, list):
        _reject(digest, repository, reply, "its descriptor is of another type")
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
