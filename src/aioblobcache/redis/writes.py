"""How entries are written and removed: which requests, in which order. No I/O, no clock.

A write is a sequence of *steps*, each one moment for all who look. On one node it is a single one. In a
Cluster the three keys of a repository's entry lie in up to three slots, and no step sees more than one: what
makes a blob visible, its membership, is then written last and removed first, so that whoever stops after any
step leaves the blob as it was or unknown.
"""

from __future__ import annotations

from typing import Protocol, TypeAlias

import attrs

from ..descriptor import Descriptor, written_digests
from ..digest import Digest
from ..interfaces import FillToken
from . import scripts
from .guards import guard_keys, tombstone
from .keys import descriptor_guard_key, descriptor_key, membership_guard_key, membership_key, override_key
from .resp import Reply, Request, error_code, raise_reply
from .scripts import Script

__all__ = ["ClusterWrites", "OneNodeWrites", "Step", "Steps", "Writes", "decode_count", "is_noscript", "load_request"]


@attrs.frozen
class Step:
    """A request that is answered by a number, about keys of one slot."""

    request: Request
    script: Script | None = None  # that it calls by its hash
    decides: bool = True  # whether 0 means that the write ends here, for nothing


Steps: TypeAlias = tuple[Step, ...]


class Writes(Protocol):
    """The writes of one topology; ``name`` is a repository, or ``None`` for the global scope."""

    def set(self, name: str | None, digest: Digest, descriptor: Descriptor, ttl_ms: int | None) -> Steps:
        """Write an entry, whatever the guards say."""
        ...

    def fill(
        self, name: str | None, digest: Digest, descriptor: Descriptor, ttl_ms: int | None, token: FillToken
    ) -> Steps:
        """Write an entry while the guards hold the token, and spend it."""
        ...

    def clear(self, name: str | None, digest: Digest, nonce: bytes, guard_ms: int) -> Steps:
        """Put a tombstone of this nonce into the guards, and remove the entry."""
        ...


class _GlobalWrites:
    """Those of the global scope: its guard lies in the slot of its one key."""

    def _write_global(
        self, digest: Digest, descriptor: Descriptor, ttl_ms: int | None, guards: tuple[bytes, ...]
    ) -> Steps:
        keys = (descriptor_guard_key(digest),) if guards else ()
        return (
            _step(
                scripts.WRITE_GLOBAL, (*keys, descriptor_key(digest)), (*_tokens(guards), *_values(descriptor, ttl_ms))
            ),
        )

    def _clear_global(self, digest: Digest, nonce: bytes, guard_ms: int) -> Steps:
        keys = (descriptor_guard_key(digest), descriptor_key(digest))
        return (_step(scripts.CLEAR_GLOBAL, keys, _tombstone(nonce, guard_ms)),)


class OneNodeWrites(_GlobalWrites):
    """Every write is one script."""

    def set(self, name: str | None, digest: Digest, descriptor: Descriptor, ttl_ms: int | None) -> Steps:
        if name is None:
            return self._write_global(digest, descriptor, ttl_ms, ())
        return self._write(name, written_digests(digest, descriptor), descriptor, ttl_ms, (), ())

    def fill(
        self, name: str | None, digest: Digest, descriptor: Descriptor, ttl_ms: int | None, token: FillToken
    ) -> Steps:
        if name is None:
            return self._write_global(digest, descriptor, ttl_ms, token.guards)
        # A fill holds the guards of its key alone, so it writes under that alone.
        return self._write(name, (digest,), descriptor, ttl_ms, guard_keys(name, digest), token.guards)

    def _write(
        self,
        name: str,
        members: tuple[Digest, ...],
        descriptor: Descriptor,
        ttl_ms: int | None,
        guards: tuple[bytes, ...],
        tokens: tuple[bytes, ...],
    ) -> Steps:
        entries = (key for member in members for key in (descriptor_key(member), override_key(name, member)))
        keys = (*guards, membership_key(name), *entries)
        values = (*_tokens(tokens), *_values(descriptor, ttl_ms), *(member.encode() for member in members))
        return (_step(scripts.WRITE_SCOPED, keys, values),)

    def clear(self, name: str | None, digest: Digest, nonce: bytes, guard_ms: int) -> Steps:
        if name is None:
            return self._clear_global(digest, nonce, guard_ms)
        keys = (
            membership_guard_key(name, digest),
            membership_key(name),
            override_key(name, digest),
            descriptor_guard_key(digest),
            descriptor_key(digest),
        )
        return (_step(scripts.CLEAR_SCOPED, keys, (*_tombstone(nonce, guard_ms), digest.encode())),)


class ClusterWrites(_GlobalWrites):
    """A write to a repository is a step for each key of the entry."""

    def set(self, name: str | None, digest: Digest, descriptor: Descriptor, ttl_ms: int | None) -> Steps:
        if name is None:
            return self._write_global(digest, descriptor, ttl_ms, ())
        members = written_digests(digest, descriptor)
        return (
            *(self._describe(member, descriptor, ttl_ms, ()) for member in members),
            *(self._override(name, member, descriptor, ttl_ms) for member in members),
            *(self._link(name, member, ()) for member in members),
        )

    def fill(
        self, name: str | None, digest: Digest, descriptor: Descriptor, ttl_ms: int | None, token: FillToken
    ) -> Steps:
        if name is None:
            return self._write_global(digest, descriptor, ttl_ms, token.guards)
        membership_token, descriptor_token = token.guards
        return (
            self._describe(digest, descriptor, ttl_ms, (descriptor_token,)),
            self._override(name, digest, descriptor, ttl_ms),
            self._link(name, digest, (membership_token,)),
        )

    def _describe(self, digest: Digest, descriptor: Descriptor, ttl_ms: int | None, guards: tuple[bytes, ...]) -> Step:
        keys = (*((descriptor_guard_key(digest),) if guards else ()), descriptor_key(digest))
        return _step(scripts.WRITE_DESCRIPTOR, keys, (*_tokens(guards), *_values(descriptor, ttl_ms)))

    def _override(self, name: str, digest: Digest, descriptor: Descriptor, ttl_ms: int | None) -> Step:
        arguments = (_ttl(ttl_ms), descriptor.media_type.encode())
        return _step(scripts.WRITE_OVERRIDE, (override_key(name, digest),), arguments)

    def _link(self, name: str, digest: Digest, guards: tuple[bytes, ...]) -> Step:
        keys = (*((membership_guard_key(name, digest),) if guards else ()), membership_key(name))
        return _step(scripts.LINK, keys, (*_tokens(guards), digest.encode()))

    def clear(self, name: str | None, digest: Digest, nonce: bytes, guard_ms: int) -> Steps:
        if name is None:
            return self._clear_global(digest, nonce, guard_ms)
        keys = (membership_guard_key(name, digest), membership_key(name))
        [describe] = self._clear_global(digest, nonce, guard_ms)
        return (
            _step(scripts.UNLINK, keys, (*_tombstone(nonce, guard_ms), digest.encode())),
            attrs.evolve(describe, decides=False),
            Step((b"DEL", override_key(name, digest)), decides=False),
        )


def load_request(script: Script) -> Request:
    """Make a script known to the server, after a NOSCRIPT."""
    return (b"SCRIPT", b"LOAD", script.source)


def is_noscript(reply: Reply) -> bool:
    """Whether the server does not know the script that was called by its hash."""
    return error_code(reply) == "NOSCRIPT"


def decode_count(reply: Reply) -> int:
    """The number that a step is answered by."""
    if not isinstance(reply, int):
        raise_reply(reply)
    return reply


def _step(script: Script, keys: tuple[bytes, ...], arguments: tuple[bytes, ...]) -> Step:
    return Step((b"EVALSHA", script.sha, b"%d" % len(keys), *keys, *arguments), script)


def _tokens(guards: tuple[bytes, ...]) -> tuple[bytes, ...]:
    return (b"%d" % len(guards), *guards)


def _values(descriptor: Descriptor, ttl_ms: int | None) -> tuple[bytes, ...]:
    return (
        _ttl(ttl_ms),
        descriptor.digest.encode(),
        b"%d" % descriptor.size,
        descriptor.media_type.encode(),
    )


def _ttl(ttl_ms: int | None) -> bytes:
    return b"" if ttl_ms is None else b"%d" % ttl_ms


def _tombstone(nonce: bytes, guard_ms: int) -> tuple[bytes, ...]:
    return (tombstone(nonce), b"%d" % guard_ms)
