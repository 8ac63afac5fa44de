"""The README's example runs as it stands there, but for the addresses."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_the_example_runs(valkey_server, tmp_path):
    [example] = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    addresses = {"redis://localhost:6379/0": valkey_server.url, "file:///var/lib/registry": tmp_path.as_uri()}
    for written, real in addresses.items():
        assert written in example
        example = example.replace(written, real)
    shown = subprocess.run([sys.executable, "-c", example], capture_output=True, text=True, check=False)
    assert shown.returncode == 0, shown.stderr
    assert re.fullmatch(r"blob sha256:[0-9a-f]{64} is unknown in repository library/demo\n", shown.stdout)


def test_the_two_commands_are_one_line_each():
    commands = re.findall(r"^python3 -m venv .*$", README, re.MULTILINE)
    programs = [command.rsplit("/", 1)[1] for command in commands]
    assert programs == ["aioblobcache demo", "pytest", "python -m benchmarks --quick"]
