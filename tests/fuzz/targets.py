"""What is fuzzed: each target takes any bytes, and fails by any exception but those that it expects."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import attrs
from redis.exceptions import RedisError

from aioblobcache import BlobUnknownError, ConfigurationError, Descriptor, Digest, InvalidDigestError
from aioblobcache.errors import RepositoryNameError
from aioblobcache.names import validate_repository_name
from aioblobcache.redis.cached import Subject, decode_cached, decode_in_repository, subject_of_key
from aioblobcache.redis.guards import decode_token
from aioblobcache.redis.keys import descriptor_key, membership_key, override_key, slot_of
from aioblobcache.redis.keyspace import Position
from aioblobcache.redis.lane import _NOTHING, _new_reader
from aioblobcache.redis.resp import UnexpectedReplyError
from aioblobcache.redis.slotmap import SLOTS, Endpoint, parse_redirect, parse_slots
from aioblobcache.redis.wire import GlobalScope, RepositoryScope
from aioblobcache.registry_api.conditions import etag_of, is_known_to_client, wanted_range
from aioblobcache.registry_api.paging import link_to_next, page_asked_for
from aioblobcache.registry_api.problems import Problem
from aioblobcache.registry_api.routes import find_route

HEXADECIMAL: Final = set("0123456789abcdef")
LENGTHS: Final = {"sha256": 64, "sha384": 96, "sha512": 128, "blake3": 64}
DIGESTS: Final = (Digest(f"sha256:{'a' * 64}"), Digest(f"sha512:{'b' * 128}"))
HERE: Final = Endpoint("127.0.0.1", 6379)
LARGEST: Final = 2**63 - 1
MOST_REPLIES: Final = 64


def text_of(data: bytes) -> str:
    """Any text, lone surrogates too."""
    return data.decode("utf-8", "surrogateescape")


def require_short(error: Exception) -> None:
    """A message repeats no more than a part of what was refused."""
    assert len(str(error)) < 600


def digest(data: bytes) -> None:
    """What passes is a digest by the grammar; what does not is refused by a short message."""
    text = text_of(data)
    try:
        found = Digest(text)
    except InvalidDigestError as error:
        require_short(error)
        return
    algorithm, _, encoded = text.partition(":")
    assert len(encoded) == LENGTHS[algorithm.rpartition("+")[2]]
    assert set(encoded) <= HEXADECIMAL
    assert found == text == f"{found.algorithm}:{found.encoded}"
    assert subject_of_key(descriptor_key(found)) == Subject(None, found)


def name(data: bytes) -> None:
    """What passes can extend neither a key nor a path."""
    text = text_of(data)
    try:
        assert validate_repository_name(text) == text
    except RepositoryNameError as error:
        require_short(error)
        return
    assert len(text) <= 255
    for component in text.split("/"):
        assert component
        assert component[0].isalnum()
        assert component[-1].isalnum()
        assert component == component.lower()
        assert component.isascii()
        assert not set(component) - set("abcdefghijklmnopqrstuvwxyz0123456789._-")
        assert ".." not in component
    assert subject_of_key(membership_key(text)) == Subject(text, None)
    assert subject_of_key(override_key(text, DIGESTS[0])) == Subject(text, DIGESTS[0])


def key(data: bytes) -> None:
    """A key of which something is known is the key of just that."""
    assert 0 <= slot_of(data) < SLOTS
    found = subject_of_key(data)
    if found is None:
        return
    if found.name is None:
        assert found.digest is not None
        assert data == descriptor_key(found.digest)
    else:
        assert data == (membership_key(found.name) if found.digest is None else override_key(found.name, found.digest))


def range_header(data: bytes) -> None:
    """Whatever is asked for is a part of what there is."""
    headers = dict(zip(("Range", "If-Range", "If-None-Match"), text_of(data).split("\n")[:3], strict=False))
    etag = etag_of(DIGESTS[0])
    is_known_to_client(headers, etag)
    wanted = wanted_range(headers, etag)
    if wanted is None:
        return
    for size in (0, 1, 2, 10, 4096, LARGEST):
        part = wanted.of(size)
        assert part is None or 0 <= part[0] < part[1] <= size


def path(data: bytes) -> None:
    """What a path names, said as a path again, is that path; and a link to what follows is one line."""
    text = text_of(data)
    route = find_route(text)
    if route is not None and route.name:
        whole = text.removeprefix("/")
        assert whole.startswith(f"{route.name}/")
        assert whole.endswith(route.reference)
    query = dict(zip(("n", "last"), text.split("&")[:2], strict=False))
    try:
        page = page_asked_for(query)
    except Problem:
        return
    if page.number is None:
        return
    try:
        [link] = link_to_next("/v2/_catalog", page.number, page.last).values()
    except UnicodeEncodeError:  # no server hands a lone surrogate on
        assert any(0xD800 <= ord(character) < 0xE000 for character in page.last)
        return
    assert link.isascii()
    assert link.isprintable()


def position(data: bytes) -> None:
    """A place to resume at is read as it was printed."""
    try:
        found = Position.parse(text_of(data))
    except ConfigurationError as error:
        require_short(error)
        return
    assert Position.parse(str(found)) == found


def replies(data: bytes) -> None:
    """Whatever a server says to a question is a descriptor, a miss or an error of Redis, and nothing else."""
    reader = _new_reader()
    reader.feed(data)
    said = []
    try:
        while len(said) < MOST_REPLIES and (reply := reader.gets()) is not _NOTHING:
            said.append(reply)
    except Exception:
        pass
    for scope in (GlobalScope(), RepositoryScope("foo/bar")):
        for asked in DIGESTS:
            count = scope.replies_to_stat
            for start in range(0, len(said) - count + 1, count):
                _decoded(lambda: scope.decode_stat(asked, said[start : start + count]), asked)  # noqa: B023
        if len(said) >= scope.replies_to_stat_many(2):
            _expecting_errors(lambda: scope.decode_stat_many(DIGESTS, said[: scope.replies_to_stat_many(2)]))  # noqa: B023
    for reply in said:
        _expecting_errors(lambda: decode_in_repository(decode_cached(DIGESTS[0], _four(reply)), _text(reply)))  # noqa: B023
        _expecting_errors(lambda: parse_slots(reply, HERE))  # noqa: B023
        parse_redirect(reply, HERE)
    if len(said) >= 2:
        _expecting_errors(lambda: decode_token(said[:2], b"nonce"))


def _four(reply: object) -> object:
    """What the shape lets through."""
    texts = isinstance(reply, list) and all(part is None or type(part) is bytes for part in reply)
    return reply if isinstance(reply, RedisError) or (texts and len(reply) == 4) else [None] * 4


def _text(reply: object) -> object:
    return reply if reply is None or isinstance(reply, bytes | RedisError) else None


def _expecting_errors(work: Callable[[], object]) -> None:
    try:
        work()
    except (RedisError, UnexpectedReplyError, BlobUnknownError) as error:
        str(error)


def _decoded(work: Callable[[], Descriptor], asked: Digest) -> None:
    try:
        found = work()
    except (RedisError, UnexpectedReplyError, BlobUnknownError) as error:
        str(error)
        return
    assert type(found.digest) is Digest
    assert found.digest == asked or found.digest.algorithm != asked.algorithm
    # Valid by construction, however it was made.
    assert Descriptor(*attrs.astuple(found, recurse=False)) == found


TARGETS: Final[dict[str, Callable[[bytes], None]]] = {
    target.__name__: target for target in (digest, name, key, range_header, path, position, replies)
}
