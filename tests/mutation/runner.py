"""Runs tests against mutants. Each mutant has a process of its own, forked from one that has imported the libraries.

The parent imports what the tests need from others, but not the library, and forks a supervisor for each mutant. The
supervisor forks a process that runs pytest, first for the tests of one file, since most mutants are noticed by those,
and then for the others. It ends the process when a test's time is over, and every process that tests have left behind.
Each of the parallel jobs has a copy of the sources, into which the mutant is written: the tests, the
programs that they start, and whatever reads the scripts all find it there.
"""

from __future__ import annotations

import compileall
import ctypes
import gc
import importlib
import importlib.util
import json
import os
import resource
import select
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, NoReturn

import attrs
import pytest

from tests.mutation.hooks import ChosenTests
from tests.mutation.mutant import Mutant
from tests.mutation.selection import MARKS, python_path

__all__ = ["NOTICED", "SURVIVED", "TIMEOUT", "Plan", "Result", "Runner", "preload"]

NOTICED, SURVIVED, TIMEOUT = "noticed", "survived", "timeout"

# Plugins that are switched off. That of pytest-randomly imports NumPy, which starts threads.
_UNUSED_PLUGINS = {"randomly", "pytest_cov"}

_PR_SET_CHILD_SUBREAPER = 36
_MAX_STARTUP_SECONDS = 120.0
_MAX_MEMORY_BYTES = 8 << 30  # a mutant may allocate without end


@attrs.frozen
class Plan:
    """A mutant and the tests to run; without a mutant, the tests run on the original."""

    mutant: Mutant | None
    limits: Mapping[str, float]  # seconds by test, in the order to run them


@attrs.frozen
class Result:
    """What the tests said."""

    outcome: str
    noticed_by: str = ""
    seconds: float = 0.0
    output: str = attrs.field(default="", repr=False)


def preload(modules: Iterable[str]) -> None:
    """Import pytest's plugins and modules that the tests use, so that no test process has to.

    Modules that are not installed are passed over.

    :raises RuntimeError: one has started a thread; a process with threads cannot be forked safely.
    """
    plugins = [plugin.module for plugin in entry_points(group="pytest11") if plugin.name not in _UNUSED_PLUGINS]
    for module in [*plugins, *modules]:
        with suppress(ImportError):
            importlib.import_module(module)
    if len(os.listdir("/proc/self/task")) > 1:
        raise RuntimeError("a module that is imported beforehand has started a thread: take it out of targets.toml")
    gc.collect()
    gc.freeze()  # pytest collects garbage several times, and would look at every object of these modules


class Runner:
    """Runs plans, as many at a time as there are jobs."""

    def __init__(self, root: Path, folder: Path, jobs: int) -> None:
        self._root = root
        self._slots = [_Slot(root, folder / f"job-{number}") for number in range(jobs)]

    def run(self, plans: Iterable[Plan]) -> Iterator[tuple[Plan, Result]]:
        """Yield the result of each plan, in the order in which they end."""
        free = list(self._slots)
        running: dict[int, tuple[_Slot, Plan]] = {}
        waiting = iter(plans)
        try:
            while True:
                while free and (plan := next(waiting, None)) is not None:
                    slot = free.pop()
                    running[slot.start(plan)] = (slot, plan)
                if not running:
                    return
                pid, _ = os.wait()
                slot, plan = running.pop(pid)
                free.append(slot)
                yield plan, slot.result()
        finally:
            for pid in running:
                os.kill(pid, signal.SIGTERM)
            for pid in running:
                os.waitpid(pid, 0)


class _Slot:
    """The folder of one job: its copy of the sources, and what the tests of the last plan wrote."""

    def __init__(self, root: Path, folder: Path) -> None:
        self._root = root
        self._folder = folder
        self._sources = folder / "src"
        self._result = folder / "result.json"
        self._failed = folder / "failed"
        self._output = folder / "output"
        self._mutated: str | None = None
        shutil.copytree(root / "src", self._sources, ignore=shutil.ignore_patterns("__pycache__"))
        compileall.compile_dir(self._sources, quiet=2)

    def start(self, plan: Plan) -> int:
        """Write the mutant and start its supervisor; return the process id."""
        for file in (self._result, self._failed, self._output):
            file.unlink(missing_ok=True)
        if self._mutated is not None:
            self._write(self._mutated, (self._root / "src" / self._mutated).read_bytes())
            self._mutated = None
        if plan.mutant is not None:
            self._mutated = plan.mutant.module
            self._write(self._mutated, plan.mutant.apply((self._root / "src" / self._mutated).read_bytes()))
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            _exit_with(self._supervise, plan)
        return pid

    def result(self) -> Result:
        """Read what the supervisor has written."""
        return Result(**json.loads(self._result.read_text()), output=self._output.read_text(errors="replace"))

    def _write(self, module: str, text: bytes) -> None:
        file = self._sources / module
        file.write_bytes(text)
        # Its date has a resolution of a second, which is too coarse to tell mutants apart.
        Path(importlib.util.cache_from_source(str(file))).unlink(missing_ok=True)

    def _supervise(self, plan: Plan) -> int:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        began = time.monotonic()
        result: dict[str, Any] = {"outcome": SURVIVED}
        first_file = next(iter(plan.limits)).partition("::")[0]
        for is_first in (True, False):
            limits = {t: limit for t, limit in plan.limits.items() if (t.partition("::")[0] == first_file) is is_first}
            if limits and result["outcome"] == SURVIVED:
                result = self._fork_tests(limits)
        self._result.write_text(json.dumps({**result, "seconds": round(time.monotonic() - began, 3)}))
        return 0

    def _fork_tests(self, limits: Mapping[str, float]) -> dict[str, Any]:
        progress, end = os.pipe()
        pid = os.fork()
        if pid == 0:
            _exit_with(self._run_tests, limits, end)
        os.close(end)
        try:
            late = _wait(pid, progress)
            if late is not None:
                return {"outcome": TIMEOUT, "noticed_by": late}
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        finally:
            os.close(progress)
            _end_children()
        if status == pytest.ExitCode.OK:
            return {"outcome": SURVIVED}
        return {
            "outcome": NOTICED,
            "noticed_by": self._failed.read_text() if self._failed.exists() else "pytest itself",
        }

    def _run_tests(self, limits: Mapping[str, float], progress: int) -> int:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        output = os.open(self._output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(output, stream)
        resource.setrlimit(resource.RLIMIT_AS, (_MAX_MEMORY_BYTES, resource.getrlimit(resource.RLIMIT_AS)[1]))
        os.chdir(self._root)
        sys.path.insert(0, str(self._sources))
        sys.dont_write_bytecode = True
        os.environ.pop("PYTEST_ADDOPTS", None)  # meant for a whole run
        os.environ.update(PYTHONPATH=python_path(self._sources), PYTHONDONTWRITEBYTECODE="1")
        _let_hypothesis_fail_fast()
        options = ["-x", "-q", "-p", "no:randomly", "-n", "0", "-p", "no:cacheprovider", "-p", "no:cov", "-m", MARKS]
        options += ["-W", "ignore::pytest.PytestAssertRewriteWarning", "--hypothesis-seed=0"]
        options += [f"--basetemp={self._folder}/tmp", f"--rootdir={self._root}"]
        files = dict.fromkeys(test.partition("::")[0] for test in limits)
        return pytest.main([*options, *files], plugins=[ChosenTests(limits, progress, self._failed)])


def _let_hypothesis_fail_fast() -> None:
    """Make Hypothesis report the first failure it meets, without shrinking and without remembering it."""
    with suppress(ImportError):
        from hypothesis import Phase, settings

        phases = (Phase.explicit, Phase.generate)
        settings.register_profile("mutation", phases=phases, database=None, report_multiple_bugs=False)
        settings.load_profile("mutation")


def _wait(pid: int, progress: int) -> str | None:
    """Wait for the end of a process that reports the test it begins; return the test whose time is over, if any."""
    process = os.pidfd_open(pid)
    test, limit, began = "the start of pytest", _MAX_STARTUP_SECONDS, time.monotonic()
    watched = [process, progress]
    try:
        while True:
            ready, _, _ = select.select(watched, [], [], max(0.0, began + limit - time.monotonic()))
            if process in ready:
                return None
            if not ready:
                return f"{test} (no end after {limit:.0f} s)"
            lines = os.read(progress, 1 << 16).decode().splitlines()
            if not lines:  # closed: the process is about to end
                watched.remove(progress)
                continue
            seconds, _, test = lines[-1].partition(" ")
            limit, began = float(seconds), time.monotonic()
    finally:
        os.close(process)


def _exit_with(function: Any, *arguments: Any) -> NoReturn:
    """Run a function in a forked process, which ends with it and never returns to the parent's code."""
    status = 70
    try:
        status = int(function(*arguments))
    except KeyboardInterrupt:
        status = 130
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _end_children() -> None:
    """Kill all children of this process; theirs become children of this process, and are killed as well."""
    while children := Path("/proc/self/task", str(os.getpid()), "children").read_text().split():
        for child in children:
            with suppress(ProcessLookupError):
                os.kill(int(child), signal.SIGKILL)
        for child in children:
            with suppress(ChildProcessError):
                os.waitpid(int(child), 0)
