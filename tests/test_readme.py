"""The examples of README and docs run as they stand there, but for the addresses."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import anyio
from obstore.store import LocalStore
from redis import Redis

from aioblobcache.cli.sample import store_image
from aioblobcache.storage import RegistryStorage
from tests.support.registry_content import IMAGE, NAME

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def run_example(page, addresses, environment=None):
    """What the one example of a page prints."""
    [example] = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    for written, real in addresses.items():
        assert written in example
        example = example.replace(written, real)
    command = [sys.executable, "-c", example]
    shown = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert shown.returncode == 0, shown.stderr
    return shown.stdout


def test_the_example_of_the_readme_runs(valkey_server, tmp_path):
    addresses = {"redis://localhost:6379/0": valkey_server.url, "file:///var/lib/registry": tmp_path.as_uri()}
    shown = run_example(README, addresses)
    assert re.fullmatch(r"blob sha256:[0-9a-f]{64} is unknown in repository library/demo\n", shown)


def test_the_near_cache_example_shows_hits(valkey_server):
    page = (ROOT / "docs" / "near-cache.md").read_text()
    descriptor, figures = run_example(page, {"redis://localhost:6379/0": valkey_server.url}).splitlines()
    assert descriptor.startswith("Descriptor(")
    assert "'hits': 2" in figures
    assert "'why_off': None" in figures


def test_the_operator_example_finds_the_fault(valkey_server, tmp_path):
    storage = RegistryStorage(LocalStore(tmp_path))
    anyio.run(store_image, storage, NAME, "latest", IMAGE)
    [lost, *_] = IMAGE.blobs
    with Redis.from_url(valkey_server.url) as client:
        client.flushall()
        client.hset(f"blobs::{lost.digest}", mapping={"digest": lost.digest, "size": lost.size + 1, "mediatype": "x/y"})
        page = (ROOT / "docs" / "operator.md").read_text()
        environment = {"STORAGE_URL": tmp_path.as_uri(), "CACHE_URL": valkey_server.url}
        shown = run_example(page, {}, environment)
    assert shown.startswith(f"wrong-size None {lost.digest} ")
    assert len(shown.splitlines()) == 1


def test_the_two_commands_are_one_line_each():
    commands = re.findall(r"^python3 -m venv .*$", README, re.MULTILINE)
    programs = [command.rsplit("/", 1)[1] for command in commands]
    assert programs == ["aioblobcache demo", "pytest", "python -m benchmarks --quick"]
