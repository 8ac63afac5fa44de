"""The served application, in this process: what it answers besides the registry's API."""

from __future__ import annotations

import asyncio
import json
import socket

import pytest
from obstore.store import LocalStore

from aioblobcache.serve import health
from aioblobcache.serve.app import app, make_app
from aioblobcache.serve.options import ServeOptions
from aioblobcache.storage import RegistryStorage
from tests.support.ports import free_port
from tests.support.registry_content import IMAGE, LAYER, NAME, UNKNOWN, store
from tests.support.serving import asking, by_uvicorn
from tests.support.waiting import until_server_says

pytestmark = pytest.mark.anyio

BLOB = f"/v2/{NAME}/blobs/{LAYER.digest}"


@pytest.fixture
async def tree(tmp_path):
    await store(RegistryStorage(LocalStore(tmp_path / "tree", mkdir=True)))
    return (tmp_path / "tree").as_uri()


async def test_page_readiness_and_metrics_show_a_healthy_cache(client, server, tree):
    options = ServeOptions(storage=tree, cache=server.url, near_cache=100)
    async with by_uvicorn(make_app(options)) as url, asking(url) as asked:

        async def is_near():
            assert (await asked.get(BLOB)).status == 200
            return b"<th>entries</th><td>1</td>" in (await asked.get("/")).body

        await until_server_says(is_near)
        assert (await asked.get(f"/v2/{NAME}/blobs/{UNKNOWN}")).status == 404
        page = (await asked.get("/")).body.decode()
        assert f"127.0.0.1:{server.port}, by lane" in page
        assert "one round trip" in page
        assert json.loads((await asked.get("/readyz")).body) == {"status": "ok", "storage": "ok", "cache": "ok"}
        health = await asked.get("/healthz")
        assert (health.status, health.body) == (200, b"ok\n")
        metrics = (await asked.get("/metrics")).body.decode()
        assert "aioblobcache_near_entries 1.0" in metrics
        assert 'registry_storage_cache_redis_seconds_count{operation="RepoStat"}' in metrics


async def test_metrics_leave_out_a_file_that_a_worker_just_created(tree, tmp_path, monkeypatch):
    folder = tmp_path / "counts"
    folder.mkdir()
    folder.joinpath("counter_1.db").touch()
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(folder))
    options = ServeOptions(storage=tree, cache="memory://")
    async with by_uvicorn(make_app(options)) as url, asking(url) as asked:
        assert (await asked.get("/metrics")).status == 200


async def test_page_counts_errors_while_redis_is_down(tree):
    port = free_port()
    options = ServeOptions(storage=tree, cache=f"redis://127.0.0.1:{port}")
    async with by_uvicorn(make_app(options)) as url, asking(url) as asked:
        for _ in range(3):
            assert (await asked.get(BLOB)).status == 200
        page = (await asked.get("/")).body.decode()
        assert f"127.0.0.1:{port} is unavailable" in page
        assert "(3 times)" in page
        assert "<th>without the cache, which was unavailable</th><td>3</td>" in page
        assert "0 of 1 open" in page
        ready = await asked.get("/readyz")
        assert (ready.status, json.loads(ready.body)["status"]) == (200, "degraded")


async def test_page_and_readiness_describe_an_empty_storage(tmp_path):
    (tmp_path / "empty").mkdir()
    options = ServeOptions(storage=(tmp_path / "empty").as_uri(), access_log=False)
    async with by_uvicorn(make_app(options)) as url, asking(url) as asked:
        page = (await asked.get("/")).body.decode()
        assert "none: the cache is this process's memory" in page
        assert "<td>not asked for</td>" in page
        assert "there is no repository below" in page
        ready = await asked.get("/readyz")
        assert (ready.status, json.loads(ready.body)["status"]) == (503, "down")


async def test_readyz_says_down_when_storage_does_not_answer(monkeypatch):
    """The store takes the connection, and never answers."""
    monkeypatch.setattr(health, "_PATIENCE", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        environment = {
            "AWS_ENDPOINT": f"http://127.0.0.1:{silent.getsockname()[1]}",
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
        }
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        options = ServeOptions(storage="s3://bucket")
        async with by_uvicorn(make_app(options)) as url, asking(url) as asked, asyncio.timeout(20):
            ready = await asked.get("/readyz")
            assert ready.status == 503
            assert json.loads(ready.body) == {"status": "down", "storage": "no answer within 0 s", "cache": "ok"}
            page = (await asked.get("/")).body.decode()
            assert "no answer within 0 s" in page
            assert (await asked.get("/healthz")).status == 200


async def test_worker_receives_the_options_of_its_parent(tree, monkeypatch):
    monkeypatch.setenv("AIOBLOBCACHE_SERVE", "{}")  # restored after the test: pass_on() overwrites it
    options = ServeOptions(storage=tree, cache="memory://", referrers=True)
    options.pass_on()
    assert ServeOptions.received() == options
    async with by_uvicorn(app()) as url, asking(url) as asked:
        assert (await asked.get(BLOB)).status == 200
        assert (await asked.get(f"/v2/{NAME}/referrers/{IMAGE.manifest.digest}")).status == 200
