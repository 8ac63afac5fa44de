"""The tutorial, step by step, in an empty folder: what it says to save, to type, and what is said to be printed."""

from __future__ import annotations

import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.support.ports import free_port
from tests.support.servers import VALKEY, RedisServer, Server, running

PAGE = (Path(__file__).parents[1] / "docs" / "tutorial.md").read_text()
PROGRAMS = Path(sys.executable).parent
WEB = "http://127.0.0.1:8000"


class Reader:
    """Who follows the page: another port for Valkey, the programs of this environment."""

    def __init__(self, folder, redis):
        self.folder = folder
        self._redis = redis

    def own(self, text):
        text = text.replace("redis://localhost:6379/0", self._redis)
        return text.replace(".venv/bin/", f"{PROGRAMS}/")

    def run(self, command):
        done = subprocess.run(
            self.own(command), shell=True, cwd=self.folder, capture_output=True, text=True, check=False, timeout=60
        )
        return done.returncode, done.stdout + done.stderr


def steps():
    """Each block of code with its language, under the heading that it stands below."""
    heading = ""
    for line in re.finditer(r"^## ([^\n]*)$|^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL):
        if line[1]:
            heading = line[1]
        else:
            yield heading, line[2], line[3]


def under(heading, language):
    return [text for where, kind, text in steps() if heading in where and kind == language]


@pytest.fixture
def valkey(tmp_path):
    server = RedisServer(VALKEY, tmp_path)
    with running(server):
        yield server


@pytest.fixture
def reader(valkey, tmp_path):
    folder = tmp_path / "clone"
    folder.mkdir()
    reader = Reader(folder, valkey.url)
    names = re.findall(r"as\s`(\w+\.py)`", PAGE)
    texts = [text for _, language, text in steps() if language == "python"]
    for name, text in zip(names, texts, strict=True):
        (folder / name).write_text(reader.own(text))
    return reader


def follow(reader, heading):
    """Type what stands there; the printed outcome, and what the page shows."""
    [commands], [shown] = under(heading, "sh"), under(heading, "text")
    status, printed = reader.run(commands)
    assert status == 0
    return printed, shown


def test_tutorial_can_be_followed_to_the_end(reader, valkey):
    for heading in ("Make a registry's storage", "Ask through the cache"):
        printed, shown = follow(reader, heading)
        assert printed == shown

    known, unknown = under("Look at what is kept", "sh")
    status, printed = reader.run(known)
    assert status == 0
    assert "is a member" in printed
    assert ", size=20, mediatype=application/octet-stream" in printed
    status, printed = reader.run(unknown)
    assert status == 1
    assert "unknown" in printed

    start, ask = under("Answer in a handler", "sh")
    [answers] = under("Answer in a handler", "text")
    port = free_port()
    application = Server(reader.folder, [*reader.own(start).split(), "--port", str(port)], port)
    with running(application):

        def typed(commands):
            return "".join(answer(line, port) for line in commands.splitlines())

        assert typed(ask) == answers
        assert typed(ask) == answers
        valkey.stop()
        assert typed(ask) == answers
        valkey.start()
        [delete], [gone] = under("Delete", "sh"), under("Delete", "text")
        # Until the connection is open again, a delete is refused.
        deadline = time.monotonic() + 10
        while (printed := typed(delete)) != gone and time.monotonic() < deadline:
            time.sleep(0.1)
        assert printed == gone


def answer(line, port):
    """What curl prints; not every machine has it."""
    program, *options, url = line.split()
    assert program == "curl"
    assert url.startswith(WEB)
    method = {(): "GET", ("-X", "DELETE"): "DELETE"}[tuple(options)]
    request = urllib.request.Request(url.replace(WEB, f"http://127.0.0.1:{port}"), method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.read().decode()


def test_programs_named_in_the_tutorial_exist():
    [install] = under("Install", "sh")
    assert "'.[demo]'" in install
    [start] = under("Start a Valkey", "sh")
    program, *options = start.split()
    said = subprocess.run([f"{PROGRAMS}/{Path(program).name}", "--help"], capture_output=True, text=True, check=True)
    assert all(option in said.stdout for option in options if option.startswith("--"))
