"""The program, as operators run it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.support.ports import free_port
from tests.support.servers import Server

COMMAND = [sys.executable, "-m", "aioblobcache"]


class ServingProcess(Server):
    """A command of ours that goes on as a registry; what it writes goes into files."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        folder.mkdir(exist_ok=True)
        port = free_port()
        super().__init__(folder, [*COMMAND, *arguments, "--listen", f"127.0.0.1:{port}"], port)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def reference(self, name: str, tag: str) -> str:
        return f"127.0.0.1:{self.port}/{name}:{tag}"

    def get(self, path: str) -> tuple[int, bytes]:
        try:
            with urllib.request.urlopen(f"{self.url}{path}", timeout=30) as response:
                return response.status, response.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def lines(self) -> list[dict[str, Any]]:
        """What it has logged: each line is JSON."""
        return [json.loads(line) for line in self.log().splitlines()]

    def memory(self) -> int:
        """Bytes that the process has in memory now."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def stop(self) -> None:
        """Kill it and its workers, which would go on without it."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split() if self.is_running else []
        super().stop()
        for child in children:
            with suppress(ProcessLookupError):
                os.kill(int(child), signal.SIGKILL)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to stop, and wait; its exit status."""
        process = self._process
        assert process is not None
        process.send_signal(number)
        status = process.wait(timeout=60)
        self._process = None
        return status


class ServeProcess(ServingProcess):
    """``aioblobcache serve`` of a storage folder or URL."""

    def __init__(self, folder: Path, storage: Path | str, *options: str) -> None:
        super().__init__(folder, "serve", storage if isinstance(storage, str) else storage.as_uri(), *options)


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command, variables = [*COMMAND, *arguments], {**os.environ, **environment}
    return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=60, check=False)
