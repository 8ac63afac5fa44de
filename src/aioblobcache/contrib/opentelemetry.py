"""For OpenTelemetry: a span for each call that goes to Redis, within the span of who made it.

    cache = traced(connect("redis://localhost"))
    registry = CachedRegistry(cache, storage)

A lane sends the questions of many callers in one write: each has a span of its own all the same, from when it was asked
to when it was answered. By the semantic conventions for database client calls. Needs the extra ``opentelemetry``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, cast

from opentelemetry.trace import SpanKind, Status, StatusCode, TracerProvider, get_tracer

from ..digest import Digest
from ..errors import BlobUnknownError
from ..interfaces import GuardedCacheProvider
from .around import AroundCache, Operation

__all__ = ["traced"]

# What is sent for an operation: the command, and of how many the question consists.
_COMMANDS: Final[dict[Operation, tuple[str, int]]] = {
    "Stat": ("HMGET", 1),
    "SetDescriptor": ("EVALSHA", 1),
    "Clear": ("EVALSHA", 1),
    "TakeToken": ("PIPELINE", 2),
    "RepoStat": ("PIPELINE", 3),
    "RepoSetDescriptor": ("EVALSHA", 1),
    "RepoClear": ("EVALSHA", 1),
    "RepoTakeToken": ("PIPELINE", 4),
}


def traced(cache: GuardedCacheProvider, tracer_provider: TracerProvider | None = None) -> AroundCache:
    """The provider with a span around what goes to Redis; by default of the global tracer provider.

    An unknown blob is an answer; only what is no answer gives the span the status of an error.
    """
    tracer = get_tracer("aioblobcache", tracer_provider=tracer_provider)
    where = _where(cache)

    @contextmanager
    def around(operation: Operation, name: str | None, digest: Digest) -> Iterator[None]:
        command, count = _COMMANDS[operation]
        attributes: dict[str, str | int] = {
            "db.system.name": "redis",
            "db.operation.name": command,
            "db.query.summary": operation,
            "aioblobcache.digest": digest,
            **where,
        }
        if count > 1:
            attributes["db.operation.batch.size"] = count
        if name is not None:
            attributes["aioblobcache.repository"] = name
        with tracer.start_as_current_span(
            operation,
            kind=SpanKind.CLIENT,
            attributes=attributes,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                yield
            except BlobUnknownError:
                raise
            except Exception as error:
                span.set_attribute("error.type", type(error).__qualname__)
                span.set_status(Status(StatusCode.ERROR, str(error)))
                raise

    return AroundCache(cache, around)


def _where(cache: GuardedCacheProvider) -> dict[str, str | int]:
    """The server, as far as the provider knows one."""
    if not hasattr(cache, "info"):
        return {}
    info = cast("Any", cache).info()
    if info.get("topology") != "node":  # which of several answers is not known here
        return {}
    address = str(info.get("address", ""))
    host, _, port = address.rpartition(":")
    if host and port.isascii() and port.isdigit():
        return {"server.address": host, "server.port": int(port)}
    return {"server.address": address} if address else {}
