"""Pulls from Debian's docker-registry and from ``aioblobcache serve``: one storage folder, one Redis, taking turns.

Each server is asked by wrk with 32 connections for one blob, of 136 bytes or of a mebibyte. A script within wrk
compares every answer with the blob; a wrong one ends the run.
"""

from __future__ import annotations

import asyncio
import datetime
import importlib.metadata
import json
import os
import platform
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Final, Self

import attrs
import obstore
from obstore.store import LocalStore

from aioblobcache import Digest
from aioblobcache.cli.embedded import embedded_valkey
from aioblobcache.cli.sample import link_blob
from aioblobcache.storage import RegistryStorage

from .machine import machine_of
from .rounds import write_rounds
from .server import free_port

__all__ = ["DISTRIBUTION", "LARGE", "NEAR", "SERVE", "SMALL", "Pull", "Pulls", "measure_pulls", "pulls_table"]

SMALL: Final = "136 bytes"
LARGE: Final = "1 MiB"
DISTRIBUTION: Final = "Distribution"
SERVE: Final = "serve"
NEAR: Final = "serve, near cache"

_NAME: Final = "library/demo"
_CONNECTIONS: Final = 32

# What wrk does with each answer; it is given the blob's file.
_SCRIPT: Final = """\
local file = io.open(os.getenv("EXPECTED"), "rb")
local expected = file:read("*a")
file:close()
wrong = 0
local threads = {}
function setup(thread) table.insert(threads, thread) end
function response(status, headers, body)
    if status ~= 200 or body ~= expected then wrong = wrong + 1 end
end
function done(summary, latency, requests)
    local all = 0
    for _, thread in ipairs(threads) do all = all + thread:get("wrong") end
    local errors = summary.errors
    all = all + errors.connect + errors.read + errors.write + errors.status + errors.timeout
    local form = '{"requests": %d, "microseconds": %d, "p50_us": %d, "p99_us": %d, "wrong": %d}'
    print(string.format(form,
        summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), all))
end
"""


@attrs.frozen
class Pull:
    """One server, asked for one blob, in one round."""

    round: int
    server: str
    processes: int
    blob: str
    requests: int
    seconds: float
    cpu_seconds: float  # of the server's processes
    p50_us: float
    p99_us: float

    @property
    def rate(self) -> float:
        """Blobs a second."""
        return self.requests / self.seconds

    @property
    def cpu_us(self) -> float:
        """Microseconds of processor time for each blob."""
        return 1e6 * self.cpu_seconds / self.requests


@attrs.frozen
class Pulls:
    """A whole run, and where and when it was."""

    date: str
    machine: dict[str, str]
    versions: dict[str, str]
    seconds: float
    pulls: list[Pull]

    def write(self, path: Path) -> None:
        """Keep them as JSON, a line each."""
        write_rounds(self, path)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what :meth:`write` wrote."""
        document = json.loads(path.read_text())
        return cls(**{**document, "pulls": [Pull(**row) for row in document["pulls"]]})

    def of(self, server: str, processes: int, blob: str) -> list[Pull]:
        """The rounds of one server and blob."""
        return [one for one in self.pulls if (one.server, one.processes, one.blob) == (server, processes, blob)]

    def ratio(self, server: str, processes: int, blob: str, *, cpu: bool = False) -> float:
        """How many times Distribution's blobs a second a server's are, or its processor time for each: the median."""
        pairs = zip(self.of(server, processes, blob), self.of(DISTRIBUTION, processes, blob), strict=True)
        return median(my.cpu_us / their.cpu_us if cpu else my.rate / their.rate for my, their in pairs)


@attrs.frozen
class _Server:
    name: str
    processes: int
    port: int
    command: list[str]
    environment: dict[str, str] = attrs.field(factory=dict)

    @contextmanager
    def running(self, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
        with (folder / f"{self.port}.log").open("wb") as log:
            process = subprocess.Popen(self.command, env={**os.environ, **self.environment}, stdout=log, stderr=log)
        try:
            self._wait(process, folder)
            yield process
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _wait(self, process: subprocess.Popen[bytes], folder: Path) -> None:
        ends = time.monotonic() + 30
        while time.monotonic() < ends and process.poll() is None:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/v2/", timeout=5).close()
            except OSError:
                time.sleep(0.05)
            else:
                return
        sys.exit(f"{self.name} did not start: {(folder / f'{self.port}.log').read_text(errors='replace')}")


def measure_pulls(rounds: int, seconds: float, processes: Sequence[int], say: Callable[[str], None]) -> Pulls:
    """Do the whole run; ``say`` is told of each round."""
    for program, package in (("wrk", "wrk"), ("docker-registry", "docker-registry")):
        if shutil.which(program) is None:
            sys.exit(f"{program} is not installed: apt-get install {package}")
    pulls: list[Pull] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="aioblobcache-pulls-")))
        redis = stack.enter_context(embedded_valkey(folder / "valkey"))
        blobs = asyncio.run(_store(folder))
        (folder / "check.lua").write_text(_SCRIPT)
        running = [
            (server, stack.enter_context(server.running(folder)))
            for count in processes
            for server in _servers(folder, redis, count)
        ]
        for number in range(rounds):
            say(f"round {number + 1} of {rounds}")
            for blob, (digest, path) in blobs.items():
                for server, process in running:
                    pulls.append(_ask(number, server, process, blob, digest, path, folder, seconds))
    date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return Pulls(date, machine_of(), _versions(), seconds, pulls)


def pulls_table(pulls: Pulls) -> str:
    """What a run says, as a table of Markdown: medians of the rounds, and of the rounds' ratios."""
    lines = [
        "| blob | processes | server | blobs/s | times Distribution | p50 µs | p99 µs | CPU µs | of Distribution's |",
        "| --- | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for blob, processes, server in dict.fromkeys((one.blob, one.processes, one.server) for one in pulls.pulls):
        rounds = pulls.of(server, processes, blob)
        is_ours = server != DISTRIBUTION
        cells = [
            blob,
            str(processes),
            server,
            f"{median(one.rate for one in rounds):,.0f}",
            f"{pulls.ratio(server, processes, blob):.1f}×" if is_ours else "",
            f"{median(one.p50_us for one in rounds):,.0f}",
            f"{median(one.p99_us for one in rounds):,.0f}",
            f"{median(one.cpu_us for one in rounds):,.0f}",
            f"{pulls.ratio(server, processes, blob, cpu=True):.0%}" if is_ours else "",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _versions() -> dict[str, str]:
    registry = subprocess.run(["docker-registry", "--version"], capture_output=True, text=True, check=True).stdout
    ours = {name: importlib.metadata.version(name) for name in ("aioblobcache", "uvicorn", "starlette", "obstore")}
    return {"docker-registry": registry.split()[-1], "python": platform.python_version(), **ours}


async def _store(folder: Path) -> dict[str, tuple[Digest, Path]]:
    storage = RegistryStorage(LocalStore(folder / "storage", mkdir=True))
    stored = {}
    for name, size in ((SMALL, 136), (LARGE, 2**20)):
        data = random.Random(size).randbytes(size)  # noqa: S311
        digest = Digest.of(data)
        await obstore.put_async(storage.store, storage.layout.data(digest), data)
        await link_blob(storage, _NAME, digest)
        path = folder / "storage" / storage.layout.data(digest)
        stored[name] = (digest, path)
    return stored


def _servers(folder: Path, redis: str, processes: int) -> Iterator[_Server]:
    storage = folder / "storage"
    port = free_port()
    configuration = folder / f"registry-{port}.yml"
    host = redis.partition("://")[2].partition("/")[0]
    configuration.write_text(json.dumps(_configuration(storage, port, host)))
    yield _Server(
        DISTRIBUTION,
        processes,
        port,
        ["docker-registry", "serve", str(configuration)],
        {"GOMAXPROCS": str(processes)},
    )
    for name, near in ((SERVE, 0), (NEAR, 10_000)):
        port = free_port()
        command = [sys.executable, "-m", "aioblobcache", "serve", storage.as_uri(), "--cache", redis]
        options = ["--near-cache", str(near), "--workers", str(processes), "--listen", f"127.0.0.1:{port}"]
        yield _Server(name, processes, port, [*command, *options, "--no-access-log"])


def _configuration(storage: Path, port: int, redis: str) -> dict[str, object]:
    return {
        "version": 0.1,
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(storage)}, "cache": {"blobdescriptor": "redis"}},
        "http": {"addr": f"127.0.0.1:{port}"},
        "redis": {"addr": redis},
    }


def _ask(
    number: int,
    server: _Server,
    process: subprocess.Popen[bytes],
    blob: str,
    digest: Digest,
    path: Path,
    folder: Path,
    seconds: float,
) -> Pull:
    url = f"http://127.0.0.1:{server.port}/v2/{_NAME}/blobs/{digest}"
    command = [
        "wrk",
        "-t1",
        f"-c{_CONNECTIONS}",
        f"-d{seconds:g}s",
        "--timeout",
        "10s",
        "-s",
        str(folder / "check.lua"),
    ]
    before = _cpu_seconds(process.pid)
    done = subprocess.run(
        [*command, url], env={**os.environ, "EXPECTED": str(path)}, capture_output=True, text=True, check=True
    )
    cpu = _cpu_seconds(process.pid) - before
    said = json.loads(done.stdout.splitlines()[-1])
    if said["wrong"] or not said["requests"]:
        sys.exit(f"{server.name} gave {said['wrong']} wrong answers of {said['requests']}, for a blob of {blob}")
    return Pull(
        number,
        server.name,
        server.processes,
        blob,
        said["requests"],
        said["microseconds"] / 1e6,
        cpu,
        said["p50_us"],
        said["p99_us"],
    )


def _cpu_seconds(pid: int) -> float:
    """Of a process and all below it that still live."""
    ticks = re.sub(r".*\) ", "", Path(f"/proc/{pid}/stat").read_text()).split()
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    own = (int(ticks[11]) + int(ticks[12])) / os.sysconf("SC_CLK_TCK")
    return own + sum(_cpu_seconds(int(child)) for child in children)
