"""Why a stat is answered as it is: the keys behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import attrs

from ..descriptor import Descriptor
from ..digest import Digest
from ..errors import BlobCacheError, CacheUnavailableError
from ..names import validate_repository_name
from ..redis.guards import guard_keys
from ..redis.keys import descriptor_key, membership_key, override_key
from ..redis.keyspace import Keyspace
from ..redis.resp import Reply, Request, error_code, is_any
from ..redis.wire import GlobalScope, RepositoryScope

__all__ = ["Explanation", "KeyState", "explain"]

_OTHER_TYPE: Final = "(of another type)"
_NOTHING: Final = "(nothing)"


@attrs.frozen
class KeyState:
    """A key, and what it says."""

    key: str
    says: str
    ttl: float | None  # seconds; None: it stays, or is not there


@attrs.frozen
class Explanation:
    """An answer, and what it comes from."""

    digest: Digest
    descriptor: Descriptor | None
    why: str
    keys: list[KeyState]


async def explain(keyspace: Keyspace, name: str | None, digest: str) -> Explanation:
    """Say what a stat in a repository (``None``: globally) answers now, and why.

    :raises InvalidDigestError: ``digest`` is not one.
    :raises RepositoryNameError: not a repository name.
    :raises CacheUnavailableError: the cache was away for too long, or refused.
    """
    digest = Digest(digest)
    questions: list[tuple[bytes, Request]] = [(descriptor_key(digest), (b"HGETALL", descriptor_key(digest)))]
    if name is not None:
        members, override = membership_key(validate_repository_name(name)), override_key(name, digest)
        questions.insert(0, (members, (b"SISMEMBER", members, digest.encode())))
        questions.append((override, (b"HGETALL", override)))
    questions += [(guard, (b"GET", guard)) for guard in guard_keys(name, digest)]
    replies = await keyspace.ask([([request], [is_any]) for _, request in questions])
    ttls = await keyspace.ask([([(b"PTTL", key)], [is_any]) for key, _ in questions])
    keys = [
        KeyState(key.decode(), _in_words(request, reply), ttl / 1000 if isinstance(ttl, int) and ttl >= 0 else None)
        for (key, request), reply, ttl in zip(questions, replies, ttls, strict=True)
    ]
    scope = GlobalScope() if name is None else RepositoryScope(name)
    asked = await keyspace.ask(scope.stat_groups(digest))
    try:
        with keyspace.mapping_errors():
            descriptor = scope.decode_stat(digest, asked)
    except CacheUnavailableError:
        raise
    except BlobCacheError as error:
        return Explanation(digest, None, _why(error, name, keys), keys)
    return Explanation(digest, descriptor, "every key that it takes is there", keys)


def _why(error: BlobCacheError, name: str | None, keys: Sequence[KeyState]) -> str:
    if (reason := getattr(error, "reason", None)) is not None:
        return f"the entry is malformed: {reason}"
    said = [state.says for state in keys]
    if name is None:
        return "there is no descriptor with digest and size"
    if said[0] == "is no member":
        return f"it is no member of {name}"
    if "size" not in said[1] or "digest" not in said[1]:
        return f"it is a member of {name}, but there is no descriptor with digest and size"
    return f"it is a member of {name}, but there is no media type of the repository"


def _in_words(request: Request, reply: Reply) -> str:
    if error_code(reply) == "WRONGTYPE":
        return _OTHER_TYPE
    if request[0] == b"SISMEMBER":
        return "is a member" if reply == 1 else "is no member"
    if isinstance(reply, Mapping):
        reply = [word for pair in reply.items() for word in pair]
    if isinstance(reply, list):
        words = [_text(word) for word in reply]
        return ", ".join(f"{field}={value}" for field, value in zip(words[::2], words[1::2], strict=True)) or _NOTHING
    if isinstance(reply, bytes):
        return reply.partition(b":")[0].decode("latin-1")  # what follows is one miss's own
    return _NOTHING if reply is None else str(reply)


def _text(word: Reply) -> str:
    text = word.decode("latin-1") if isinstance(word, bytes) else str(word)
    return text if text.isprintable() and len(text) <= 200 else ascii(text[:200])
