"""The access log: one line for each request, with the status and the bytes that were sent, however it ended."""

from __future__ import annotations

import asyncio
import json
import logging
import sys

import pytest
from obstore.store import LocalStore

from aioblobcache.serve.access_log import AccessLog, JsonLines
from aioblobcache.serve.app import make_app
from aioblobcache.serve.options import ServeOptions
from aioblobcache.serve.run import log_config
from aioblobcache.storage import RegistryStorage
from tests.support.registry_content import LARGE, NAME, store, store_blob
from tests.support.serving import asking, by_uvicorn
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

LOGGER = "aioblobcache.serve.access"
SCOPE = {
    "type": "http",
    "method": "GET",
    "path": "/x",
    "headers": [(b"user-agent", b"tester")],
    "client": ("192.0.2.1", 40_000),
}


@pytest.fixture
def logged(caplog):
    """The requests that have been logged so far."""
    caplog.set_level(logging.INFO, LOGGER)
    return lambda: [record.request for record in caplog.records if record.name == LOGGER]


async def never():
    """Receive nothing from the client."""
    await asyncio.Event().wait()


async def answer_in_chunks(scope, receive, send):
    await send({"type": "http.response.start", "status": 206, "headers": []})
    for chunk in (b"one", b"three", b"seventeen"):
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body"})


async def test_log_counts_the_bytes_of_all_chunks(logged):
    sent = []

    async def send(message):
        sent.append(message)

    await AccessLog(answer_in_chunks)(SCOPE, never, send)
    [request] = logged()
    seconds = request.pop("seconds")
    assert 0 <= seconds < 60
    expected = {"remote": "192.0.2.1", "method": "GET", "path": "/x", "status": 206, "bytes": 17, "agent": "tester"}
    assert request == expected
    assert [message.get("body", b"") for message in sent[1:]] == [b"one", b"three", b"seventeen", b""]


async def test_log_notes_a_request_whose_client_left(logged):
    sent = 0

    async def send(message):
        nonlocal sent
        sent += 1
        if sent == 4:  # the status, two chunks, and now the client is gone
            raise ConnectionResetError("gone")

    with pytest.raises(ConnectionResetError, match="gone"):
        await AccessLog(answer_in_chunks)(SCOPE, never, send)
    [request] = logged()
    # The chunk that failed was handed to the server, so it counts.
    assert (request["status"], request["bytes"]) == (206, 17)


@pytest.mark.parametrize(("started", "status", "size"), [(False, None, 0), (True, 200, 4)])
async def test_log_notes_a_request_that_raised(logged, started, status, size):
    async def failing(scope, receive, send):
        if started:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise LookupError("a fault")

    async def send(message):
        pass

    with pytest.raises(LookupError, match="a fault"):
        await AccessLog(failing)(SCOPE, never, send)
    [request] = logged()
    assert (request["status"], request["bytes"]) == (status, size)


async def test_log_notes_a_request_that_was_cancelled(logged):
    started = asyncio.Event()

    async def waiting(scope, receive, send):
        started.set()
        await never()

    async def send(message):
        pass

    task = asyncio.create_task(AccessLog(waiting)(SCOPE, never, send))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    [request] = logged()
    assert (request["status"], request["bytes"]) == (None, 0)


async def test_served_blobs_are_logged_with_what_was_sent(tmp_path, logged):
    """A whole blob of several chunks, and one whose client leaves in the middle."""
    storage = RegistryStorage(LocalStore(tmp_path / "tree", mkdir=True))
    await store(storage)
    whole, huge = await store_blob(storage, LARGE * 4), await store_blob(storage, LARGE * 64)
    options = ServeOptions(storage=(tmp_path / "tree").as_uri())
    async with by_uvicorn(make_app(options)) as url, asking(url) as client:
        assert (await client.get(f"/v2/{NAME}/blobs/{whole.digest}")).body == LARGE * 4
        async with client.session.get(f"{url}/v2/{NAME}/blobs/{huge.digest}") as response:
            await response.content.readexactly(1000)
            response.close()
        await until(lambda: len(logged()) == 2)
    first, second = logged()
    assert (first["path"], first["status"], first["bytes"]) == (f"/v2/{NAME}/blobs/{whole.digest}", 200, whole.size)
    assert (second["path"], second["status"]) == (f"/v2/{NAME}/blobs/{huge.digest}", 200)
    assert 1000 <= second["bytes"] < huge.size


def test_each_record_is_one_line_of_json():
    def line(message, **more):
        record = logging.LogRecord("aioblobcache.x", logging.WARNING, "", 0, message, ("an argument",), None)
        record.__dict__.update(more)
        written = JsonLines().format(record)
        assert "\n" not in written
        return json.loads(written)

    said = line("with %s\nand a second line")
    assert said.pop("time").endswith("Z")
    assert said == {"level": "warning", "logger": "aioblobcache.x", "message": "with an argument\nand a second line"}
    assert line("%s", request={"path": '/"\n'})["path"] == '/"\n'
    try:
        int("no")
    except ValueError:
        assert "ValueError: invalid literal" in line("%s", exc_info=sys.exc_info())["traceback"]


def test_requests_are_logged_to_stdout_and_others_to_stderr():
    config = log_config()
    loggers, handlers = config["loggers"], config["handlers"]
    assert loggers[LOGGER] == {"handlers": ["out"], "level": "INFO", "propagate": False}
    assert loggers["aioblobcache"]["handlers"] == ["err"]
    assert {name: handler["stream"] for name, handler in handlers.items()} == {
        "out": "ext://sys.stdout",
        "err": "ext://sys.stderr",
    }
