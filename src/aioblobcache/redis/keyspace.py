"""All that a Redis holds of the shared layout, page by page: for who looks after a cache, not for who asks it.

Nothing here is the work of one moment: keys that come, go or are moved to another node while they are walked may be
met or not, and may be met twice, as Redis says of SCAN.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Final, Self, TypeVar, cast

import attrs
from redis.asyncio.cluster import RedisCluster
from redis.exceptions import AuthenticationError, BusyLoadingError, NoPermissionError, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from ..digest import Digest
from ..errors import BlobUnknownError, CacheUnavailableError, ConfigurationError, shorten
from .cached import (
    Cached,
    CachedInRepository,
    Subject,
    decode_cached,
    decode_in_repository,
    descriptor_request,
    digests_among,
    is_four_fields,
    subject_of_key,
)
from .cancellation import keep_cancellation
from .client import AnyClient
from .failures import FAILURES, cause_of, unavailable
from .keys import descriptor_key, membership_key, override_key
from .provider import RedisBlobDescriptorCache
from .resp import Group, Reply, Request, error_code, is_count, is_flags, is_text

__all__ = ["Keyspace", "Page", "Position"]

# Buckets of the server's table that one SCAN looks at, and members that one SSCAN returns: others' requests wait
# for as long as that takes it.
_PAGE: Final = 100

# Requests in one write.
_PIECE: Final = 50

# Between two attempts to reach a server that is away, in seconds.
_PAUSE: Final = 0.25

# What each of the shared keys matches, and guards too; the server leaves out the rest.
_PATTERN: Final = "*blobs*"

_INFO_SERVER: Final[Request] = (b"INFO", b"server")

_AWAY: Final = (RedisConnectionError, RedisTimeoutError, BusyLoadingError, OSError, TimeoutError, CacheUnavailableError)

# What waiting does not mend: redis-py's classes, and the codes of error replies on a multiplexed connection.
_FORBIDDEN: Final = (AuthenticationError, NoPermissionError)
_PERMANENT_CODES: Final = frozenset({"ERR", "NOAUTH", "NOPERM", "WRONGPASS"})

_T = TypeVar("_T")


@attrs.frozen
class Position:
    """How far a walk has come: a node, one life of its process, and SCAN's cursor there."""

    node: str
    run: str
    cursor: int

    def __str__(self) -> str:
        return f"{self.node}/{self.run}/{self.cursor}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what ``str`` gave.

        :raises ConfigurationError: it is none.
        """
        node, run, cursor = (["", "", *text.rsplit("/", 2)])[-3:]
        if not (node and run and cursor.isascii() and cursor.isdigit()):
            raise ConfigurationError(f"a place to resume at is what was printed, not {shorten(text)}")
        return cls(node, run, int(cursor))


@attrs.frozen
class Page:
    """Some keys, and where to go on after them."""

    subjects: list[Subject]
    after: Position


class Keyspace:
    """The keys of one Redis; an asynchronous context manager.

    ``cache`` is a provider on the same ``client``, which stays the caller's. ``timeout`` is in seconds, for each page.
    A server that has answered and goes away is waited for ``patience`` seconds; ``interruptions`` counts how often.
    """

    def __init__(self, client: AnyClient, *, timeout: float = 10.0, patience: float = 30.0) -> None:
        self.cache = RedisBlobDescriptorCache(client, timeout=timeout)
        self.interruptions = 0
        self._client = client
        self._engine = self.cache._engine
        self._patience = patience
        self._has_answered = False

    async def __aenter__(self) -> Self:
        await self.cache.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.cache.__aexit__(kind, error, traceback)

    @property
    def address(self) -> str:
        """Where it is, for messages."""
        return self._engine.address

    # --- walking ---------------------------------------------------------------------------------

    async def size(self) -> int:
        """How many keys there are, of whatever kind.

        :raises CacheUnavailableError: Redis gave no usable answer.
        """
        return sum([int(await self.ask_node(node, "DBSIZE")) for node in await self.nodes()])

    async def pages(self, start: Position | None = None) -> AsyncIterator[Page]:
        """Walk over all keys of the layout, from ``start`` on; a server that was restarted, from its beginning.

        :raises CacheUnavailableError: Redis was away for too long, or refused.
        :raises ConfigurationError: there is no such node.
        """
        async for keys, after in self.walk(start, _PATTERN):
            found = map(subject_of_key, keys)
            yield Page([one for one in found if one is not None], after)

    async def walk(
        self, start: Position | None = None, pattern: str = "*"
    ) -> AsyncIterator[tuple[list[bytes], Position]]:
        """The same over keys of any kind that match a pattern of Redis; where to go on comes with each page."""
        nodes = await self.nodes()
        if start is not None and start.node not in nodes:
            raise ConfigurationError(f"there is no node {shorten(start.node)} to resume at: start from the beginning")
        for node in nodes:
            if start is not None and node < start.node:
                continue
            run = await self._run_of(node)
            cursor = start.cursor if start is not None and (node, run) == (start.node, start.run) else 0
            while True:
                scanned, keys = await self.ask_node(node, "SCAN", cursor, "MATCH", pattern, "COUNT", _PAGE)
                # redis-py replaces a lost connection silently. A cursor is valid only in the process that returned it:
                # another one has another hash seed, and would leave keys out.
                if (now := await self._run_of(node)) != run:
                    run, cursor = now, 0
                    continue
                cursor = int(scanned)
                yield [_as_bytes(key) for key in keys], Position(node, run, cursor)
                if cursor == 0:
                    break

    async def nodes(self) -> list[str]:
        """The nodes that serve keys, in a fixed order."""
        if not isinstance(self._client, RedisCluster):
            return [self.address]
        client = self._client
        await self.persist(client.initialize)
        return sorted(f"{node.host}:{node.port}" for node in client.get_primaries())

    async def _run_of(self, node: str) -> str:
        """One life of a server's process."""
        info = await self.ask_node(node, "INFO", "server")
        return str(info["run_id"])[:12]

    async def ask_node(self, node: str, *command: str | int) -> Any:
        """Send a command without keys to one node; the reply is as redis-py reads it.

        :raises CacheUnavailableError: Redis was away for too long, or refused.
        """
        client = self._client
        if not isinstance(client, RedisCluster):
            return await self.persist(lambda: client.execute_command(*command))  # type: ignore[no-untyped-call]

        async def ask() -> Any:
            target = client.get_node(node_name=node)
            if target is None:
                raise RedisConnectionError(f"{node} has left the Cluster")
            return await target.execute_command(*command)

        return await self.persist(ask)

    # --- reading ---------------------------------------------------------------------------------

    async def descriptors(self, digests: Sequence[Digest]) -> list[Cached]:
        """What is kept of blobs globally.

        :raises CacheUnavailableError: Redis was away for too long, or refused.
        """
        replies = await self.ask([([descriptor_request(digest)], [is_four_fields]) for digest in digests])
        with self.mapping_errors():
            return [decode_cached(digest, reply) for digest, reply in zip(digests, replies, strict=True)]

    async def is_set(self, name: str) -> bool:
        """Whether a repository's members can be read at all: its key may be of another type.

        :raises CacheUnavailableError: Redis was away for too long, or refused.
        """
        [kind] = await self.ask([([(b"TYPE", membership_key(name))], [is_text])])
        return self._checked(kind) in (b"set", b"none")

    async def members(self, name: str) -> AsyncIterator[list[Digest]]:
        """Walk over the members of a repository, from the beginning again if another server process answers.

        Members that are no digests are left out; a member may be met twice.

        :raises CacheUnavailableError: Redis was away for too long, or refused.
        """
        cursor, run = b"0", b""
        while True:
            request = (b"SSCAN", membership_key(name), cursor, b"COUNT", b"%d" % _PAGE)
            # One group travels on one connection: the run id is that of the process that answers SSCAN.
            reply, info = await self.ask([([request, _INFO_SERVER], [_is_scanned, is_text])])
            if error_code(reply) == "WRONGTYPE":
                return
            now = _run_id(self._checked(info))
            if cursor != b"0" and now != run:
                cursor = b"0"
                continue
            run = now
            cursor, members = cast("tuple[bytes, list[bytes]]", self._checked(reply))
            if digests := list(dict.fromkeys(digests_among(members))):
                yield digests
            if cursor == b"0":
                return

    async def entries(self, name: str, digests: Sequence[Digest]) -> list[CachedInRepository]:
        """What is kept of members of a repository, globally and there.

        :raises CacheUnavailableError: Redis was away for too long, or refused.
        """
        blobs = await self.descriptors(digests)
        requests = [(b"HGET", override_key(name, digest), b"mediatype") for digest in digests]
        replies = await self.ask([([request], [is_text]) for request in requests])
        with self.mapping_errors():
            return [decode_in_repository(blob, reply) for blob, reply in zip(blobs, replies, strict=True)]

    async def are_members(self, name: str, digests: Sequence[Digest]) -> list[bool]:
        """Which of the blobs a repository holds, as the cache has it.

        :raises CacheUnavailableError: Redis was away for too long, or refused.
        """
        request = (b"SMISMEMBER", membership_key(name), *map(str.encode, digests))
        [reply] = await self.ask([([request], [is_flags(len(digests))])])
        if error_code(reply) == "WRONGTYPE":
            return [False] * len(digests)
        return [flag == 1 for flag in cast("list[int]", self._checked(reply))]

    # --- removing --------------------------------------------------------------------------------

    async def remove(self, requests: Iterable[Request]) -> int:
        """Send requests that remove something and answer by how many that were; the sum of it.

        :raises CacheUnavailableError: Redis was away for too long, or refused.
        """
        replies = await self.ask([([request], [is_count]) for request in requests])
        return sum(cast("int", self._checked(reply)) for reply in replies if error_code(reply) != "WRONGTYPE")

    async def forget(self, digests: Sequence[Digest]) -> int:
        """Remove global descriptors, without a tombstone; how many there were. Fields of others stay.

        :raises CacheUnavailableError: Redis was away for too long, or refused.
        """
        fields = (b"digest", b"size", b"mediatype", b"length")
        requests = [(b"HDEL", descriptor_key(digest), *fields) for digest in digests]
        replies = await self.ask([([request], [is_count]) for request in requests])
        # Of another type it is nobody's descriptor, and hides what would be filled.
        of_another_type = [
            (b"UNLINK", key)
            for (_, key, *_), reply in zip(requests, replies, strict=True)
            if error_code(reply) == "WRONGTYPE"
        ]
        counts = [self._checked(reply) for reply in replies if error_code(reply) != "WRONGTYPE"]
        return sum(count != 0 for count in counts) + await self.remove(of_another_type)

    async def clear(self, name: str | None, digest: Digest | None) -> bool:
        """Clear an entry as a service does, with its tombstone; whether there was one.

        Without a digest: a repository's set that is of another type.

        :raises CacheUnavailableError: Redis was away for too long, or refused.
        """
        if digest is None:
            return bool(await self.remove([(b"UNLINK", membership_key(name or ""))]))
        service = self.cache if name is None else self.cache.repository_scoped(name)
        try:
            await self.persist(lambda: service.clear(digest))
        except BlobUnknownError:
            return False
        return True

    # --- asking ----------------------------------------------------------------------------------

    async def ask(self, groups: Sequence[Group]) -> list[Reply]:
        """Send requests, some dozens in a write; error replies are in their places.

        :raises CacheUnavailableError: Redis was away for too long.
        """
        replies: list[Reply] = []
        for start in range(0, len(groups), _PIECE):
            piece = groups[start : start + _PIECE]
            replies += await self.persist(lambda piece=piece: self._engine.send(piece))  # type: ignore[misc]
        return replies

    async def persist(self, ask: Callable[[], Awaitable[_T]]) -> _T:
        """Ask until there is an answer: what may be asked twice.

        :raises CacheUnavailableError: Redis was away for too long, or refused.
        """
        loop = asyncio.get_running_loop()
        ends: float | None = None
        while True:
            try:
                answer = await keep_cancellation(ask())
            except _AWAY as error:
                is_over = _is_permanent(error)
                if ends is None and not is_over:
                    self.interruptions += self._has_answered
                    ends = loop.time() + (self._patience if self._has_answered else 0.0)
                if is_over or (ends is not None and loop.time() >= ends):
                    if isinstance(error, CacheUnavailableError):
                        raise
                    raise self._unavailable(error) from cause_of(error)
            except FAILURES as error:
                raise self._unavailable(error) from cause_of(error)
            else:
                self._has_answered = True
                return answer
            await asyncio.sleep(_PAUSE)

    def _unavailable(self, error: Exception) -> CacheUnavailableError:
        return error if isinstance(error, CacheUnavailableError) else unavailable(self.address, error)

    def _checked(self, reply: Reply) -> Reply:
        with self.mapping_errors():
            if isinstance(reply, RedisError):
                raise reply
        return reply

    @contextmanager
    def mapping_errors(self) -> Iterator[None]:
        """Let error replies leave as this library's exception."""
        try:
            yield
        except RedisError as error:
            raise self._unavailable(error) from cause_of(error)


def _is_scanned(reply: object) -> bool:
    return isinstance(reply, list) and len(reply) == 2 and isinstance(reply[0], bytes) and isinstance(reply[1], list)


def _is_permanent(error: BaseException) -> bool:
    cause = error.__cause__ or error
    return isinstance(cause, _FORBIDDEN) or (isinstance(cause, Exception) and error_code(cause) in _PERMANENT_CODES)


def _run_id(info: Reply) -> bytes:
    """Return the run id in the reply to ``INFO server``."""
    match = re.search(rb"^run_id:(\w+)", info, re.MULTILINE) if isinstance(info, bytes) else None
    return match[1] if match else b""


def _as_bytes(key: bytes | str) -> bytes:
    return key if isinstance(key, bytes) else key.encode("latin-1", "replace")
