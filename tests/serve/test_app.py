"""The program's application, in this process: what it answers beside the registry, and what it notes."""

from __future__ import annotations

import json
import logging
import sys

import pytest
from obstore.store import LocalStore

from aioblobcache.serve.access_log import JsonLines
from aioblobcache.serve.app import app, make_app
from aioblobcache.serve.options import ServeOptions
from aioblobcache.serve.run import log_config
from aioblobcache.storage import RegistryStorage
from tests.support.ports import free_port
from tests.support.registry_content import LAYER, NAME, UNKNOWN, store
from tests.support.serving import asking, by_uvicorn
from tests.support.waiting import until_server_says

pytestmark = pytest.mark.anyio

BLOB = f"/v2/{NAME}/blobs/{LAYER.digest}"


@pytest.fixture
async def tree(tmp_path):
    await store(RegistryStorage(LocalStore(tmp_path / "tree", mkdir=True)))
    return (tmp_path / "tree").as_uri()


async def test_operators_are_told_how_it_is_doing(client, server, tree, caplog):
    caplog.set_level(logging.INFO, "aioblobcache.serve.access")
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
        assert json.loads((await asked.get("/readyz")).body)["status"] == "ok"
        assert (await asked.get("/healthz")).body == b"ok\n"
        metrics = (await asked.get("/metrics")).body.decode()
        assert "aioblobcache_near_entries 1.0" in metrics
        assert 'registry_storage_cache_redis_seconds_count{operation="RepoStat"}' in metrics
    noted = [record.request for record in caplog.records if record.name == "aioblobcache.serve.access"]
    assert {"method": "GET", "path": BLOB, "status": 200, "bytes": LAYER.size}.items() <= noted[0].items()


async def test_what_goes_wrong_is_shown_with_how_often_and_escaped(tree):
    port = free_port()
    options = ServeOptions(storage=tree, cache=f"redis://127.0.0.1:{port}")
    async with by_uvicorn(make_app(options)) as url, asking(url) as asked:
        for _ in range(3):
            assert (await asked.get(BLOB)).status == 200
        page = (await asked.get("/")).body.decode()
        assert f"127.0.0.1:{port} is unavailable" in page
        assert "times)" in page
        assert "0 of 1 open" in page
        ready = await asked.get("/readyz")
        assert (ready.status, json.loads(ready.body)["status"]) == (200, "degraded")


async def test_without_redis_at_all_and_without_repositories(tmp_path):
    (tmp_path / "a<b").mkdir()
    options = ServeOptions(storage=(tmp_path / "a<b").as_uri(), access_log=False)
    async with by_uvicorn(make_app(options)) as url, asking(url) as asked:
        page = (await asked.get("/")).body.decode()
        assert "this process&#x27;s memory" in page or "this process's memory" in page
        assert "not asked for" in page
        assert "a<b" not in page
        assert (await asked.get("/readyz")).status == 503


async def test_a_worker_is_told_what_was_passed_on(tree, monkeypatch):
    monkeypatch.setenv("AIOBLOBCACHE_SERVE", "{}")
    options = ServeOptions(storage=tree, cache="memory://", referrers=True)
    options.pass_on()
    assert ServeOptions.received() == options
    async with by_uvicorn(app()) as url, asking(url) as asked:
        assert (await asked.get(BLOB)).status == 200


def test_a_line_of_the_log_is_one_of_json():
    def line(message, **more):
        record = logging.LogRecord("aioblobcache.x", logging.WARNING, "", 0, message, ("an argument",), None)
        record.__dict__.update(more)
        written = JsonLines().format(record)
        assert "\n" not in written
        return json.loads(written)

    said = line("with %s\nand a second line")
    assert (said["level"], said["logger"], said["message"]) == (
        "warning",
        "aioblobcache.x",
        "with an argument\nand a second line",
    )
    assert said["time"].endswith("Z")
    assert line("%s", request={"path": '/"\n'})["path"] == '/"\n'
    try:
        int("no")
    except ValueError:
        assert "ValueError: invalid literal" in line("%s", exc_info=sys.exc_info())["traceback"]


def test_the_logging_is_set_up_as_the_page_says():
    loggers = log_config()["loggers"]
    assert loggers["aioblobcache.serve.access"]["handlers"] == ["out"]
    assert loggers["aioblobcache"]["handlers"] == ["err"]
