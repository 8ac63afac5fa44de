"""Spans: one for each call that goes to Redis, within the caller's own, though the lane batches."""

from __future__ import annotations

import asyncio

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from aioblobcache import BlobUnknownError, CachedRegistry, CacheUnavailableError, RedisBlobDescriptorCache
from aioblobcache.contrib.opentelemetry import traced
from tests.support.ports import free_port
from tests.support.registry_content import IMAGE, LAYER, NAME

pytestmark = pytest.mark.anyio


@pytest.fixture
def spans():
    return InMemorySpanExporter()


@pytest.fixture
def provider(spans):
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    yield provider
    provider.shutdown()


def by_name(spans):
    return {span.name: span for span in spans.get_finished_spans()}


async def test_miss_makes_spans_for_stat_token_and_fill(client, server, storage, spans, provider):
    cache = traced(RedisBlobDescriptorCache.from_url(server.url, timeout=10.0), provider)
    async with cache:
        await CachedRegistry(cache, storage).blobs(NAME).stat(LAYER.digest)
    found = by_name(spans)
    assert set(found) == {"RepoStat", "RepoTakeToken", "RepoSetDescriptor"}
    stat = found["RepoStat"]
    assert stat.kind is SpanKind.CLIENT
    assert stat.status.status_code is StatusCode.UNSET  # an unknown blob is an answer
    assert dict(stat.attributes) == {
        "db.system.name": "redis",
        "db.operation.name": "PIPELINE",
        "db.operation.batch.size": 3,
        "db.query.summary": "RepoStat",
        "server.address": "127.0.0.1",
        "server.port": server.port,
        "aioblobcache.digest": LAYER.digest,
        "aioblobcache.repository": NAME,
    }


async def test_concurrent_stats_keep_their_own_parent_spans(client, server, spans, provider):
    cache = traced(RedisBlobDescriptorCache.from_url(server.url, timeout=10.0), provider)
    tracer = provider.get_tracer("test")
    parents = {}

    async def ask(digest):
        with tracer.start_as_current_span("request") as span:
            parents[digest] = span.get_span_context()
            with pytest.raises(BlobUnknownError):
                await cache.repository_scoped(NAME).stat(digest)

    async with cache:
        await asyncio.gather(*map(ask, IMAGE.content))
    stats = [span for span in spans.get_finished_spans() if span.name == "RepoStat"]
    assert len(stats) == len(IMAGE.content)
    for span in stats:
        parent = parents[span.attributes["aioblobcache.digest"]]
        assert (span.parent.trace_id, span.parent.span_id) == (parent.trace_id, parent.span_id)


async def test_unavailable_cache_makes_an_error_span_without_password(spans, provider):
    port = free_port()
    async with traced(RedisBlobDescriptorCache.from_url(f"redis://:hush@127.0.0.1:{port}"), provider) as cache:
        with pytest.raises(CacheUnavailableError):
            await cache.stat(LAYER.digest)
    span = by_name(spans)["Stat"]
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes["error.type"] == "CacheUnavailableError"
    assert span.attributes["db.operation.name"] == "HMGET"
    assert "hush" not in f"{span.status.description}{dict(span.attributes)}"
