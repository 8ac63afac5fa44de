"""The status page, as a browser shows it while Redis is stopped and started."""

from __future__ import annotations

import os
import re
import struct
import subprocess
import zlib

import anyio
import pytest
from obstore.store import LocalStore

from aioblobcache.storage import RegistryStorage
from tests.support.groups import wait_until
from tests.support.registry_content import LAYER, NAME, store
from tests.support.serve_process import ServeProcess
from tests.support.servers import VALKEY, RedisServer, require_program, running


class Browser:
    """Debian's Chromium, without a window."""

    def __init__(self, folder):
        self._program = require_program("chromium")
        self._folder = folder

    def _run(self, *options):
        sandbox = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        page = ["--hide-scrollbars", "--virtual-time-budget=1000", f"--user-data-dir={self._folder / 'profile'}"]
        command = [self._program, "--headless", *sandbox, *page, *options]
        environment = {**os.environ, "HOME": str(self._folder)}
        return subprocess.run(command, env=environment, capture_output=True, timeout=60, check=True).stdout.decode()

    def text(self, url):
        """What a person reads there: the text of the page that the browser has built."""
        document = self._run("--dump-dom", url)
        body = re.sub(r"<style>.*?</style>", "", document, flags=re.DOTALL)
        return " ".join(re.sub(r"<[^>]*>", " ", body).split())

    def picture(self, url, path, *, dark):
        scheme = ["--blink-settings=preferredColorScheme=0"] if dark else []
        self._run(*scheme, f"--screenshot={path}", "--window-size=800,1000", url)
        return path.read_bytes()


def top_left(png):
    """Red, green and blue of the first pixel: before it there is nothing from which a filter could make it."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    place, packed = 8, b""
    while place < len(png):
        length, kind = struct.unpack_from(">I4s", png, place)
        if kind == b"IDAT":
            packed += png[place + 8 : place + 8 + length]
        place += 12 + length
    return zlib.decompress(packed)[1:4]


@pytest.fixture
def browser(tmp_path):
    return Browser(tmp_path)


def test_status_page_shows_redis_stopping_and_returning(browser, tmp_path):
    server = RedisServer(VALKEY, tmp_path)
    anyio.run(store, RegistryStorage(LocalStore(tmp_path / "tree", mkdir=True)))
    served = ServeProcess(tmp_path / "served", tmp_path / "tree", "--cache", server.url, "--near-cache", "100")

    def ask():
        assert served.get(f"/v2/{NAME}/blobs/{LAYER.digest}")[0] == 200

    def shows(*texts):
        ask()
        shown = browser.text(served.url)
        return all(text in shown for text in texts)

    with running(server), running(served):
        wait_until(lambda: shows("cache answers, one round trip", "entries 1 lease", "1 of 1 open"), "all to be well")
        well = browser.text(served.url)
        assert re.search(r"entries 1 lease \d+ ms old", well)
        assert re.search(r"hit ratio \d+\.\d%", well)
        assert "Latest errors None." in well
        assert b"<script" not in served.get("/")[1]
        server.stop()
        wait_until(lambda: shows("is unavailable", "0 of 1 open", "UTC"), "the page to say that Redis is gone")
        down = browser.text(served.url)
        assert "storage answers" in down
        assert f"127.0.0.1:{server.port} is unavailable" in down
        server.start()
        wait_until(lambda: shows("cache answers, one round trip", "state serves", "1 of 1 open"), "it to be back")
        assert "is unavailable" in browser.text(served.url)  # among the latest errors

        light = browser.picture(served.url, tmp_path / "light.png", dark=False)
        dark = browser.picture(served.url, tmp_path / "dark.png", dark=True)
        assert min(top_left(light)) > 240
        assert max(top_left(dark)) < 60
