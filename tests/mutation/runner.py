"""Runs tests against mutants. Each mutant has a process of its own, forked from one that has imported the libraries.

The parent imports what the tests need from others, but not the library, and forks a supervisor for each mutant. The
supervisor forks the process that runs pytest, ends it when its time is over, and ends every process that the tests have
left behind. Each of the parallel jobs has a copy of the sources, into which the mutant is written: the tests, the
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
from collections.abc import Iterable, Iterator, Sequence
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

_PR_SET_CHILD_SUBREAPER = 36
_MAX_MEMORY_BYTES = 8 << 30  # a mutant may allocate without end


@attrs.frozen
class Plan:
    """A mutant and the tests to run; without a mutant, the tests run on the original."""

    mutant: Mutant | None
    tests: Sequence[str]
    timeout: float  # seconds


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
    """
    plugins = [plugin.module for plugin in entry_points(group="pytest11")]
    for module in [*plugins, *modules]:
        with suppress(ImportError):
            importlib.import_module(module)
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
        pid = os.fork()
        if pid == 0:
            _exit_with(self._run_tests, plan.tests)
        try:
            in_time, _, _ = select.select([os.pidfd_open(pid)], [], [], plan.timeout)
            if in_time:
                status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        finally:
            _end_children()
        written = self._failed.read_text() if self._failed.exists() else "pytest itself"
        if not in_time:
            result = {"outcome": TIMEOUT, "noticed_by": f"no end after {plan.timeout:.0f} s"}
        elif status == pytest.ExitCode.OK:
            result = {"outcome": SURVIVED}
        else:
            result = {"outcome": NOTICED, "noticed_by": written}
        self._result.write_text(json.dumps({**result, "seconds": round(time.monotonic() - began, 3)}))
        return 0

    def _run_tests(self, tests: Sequence[str]) -> int:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        output = os.open(self._output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(output, stream)
        resource.setrlimit(resource.RLIMIT_AS, (_MAX_MEMORY_BYTES, resource.getrlimit(resource.RLIMIT_AS)[1]))
        os.chdir(self._root)
        sys.path.insert(0, str(self._sources))
        sys.dont_write_bytecode = True
        os.environ.update(PYTHONPATH=python_path(self._sources), PYTHONDONTWRITEBYTECODE="1")
        _let_hypothesis_fail_fast()
        options = ["-x", "-q", "-p", "no:randomly", "-n", "0", "-p", "no:cacheprovider", "-p", "no:cov", "-m", MARKS]
        options += ["-W", "ignore::pytest.PytestAssertRewriteWarning", "--hypothesis-seed=0"]
        options += [f"--basetemp={self._folder}/tmp", f"--rootdir={self._root}"]
        files = dict.fromkeys(test.partition("::")[0] for test in tests)
        return pytest.main([*options, *files], plugins=[ChosenTests(tests, self._failed)])


def _let_hypothesis_fail_fast() -> None:
    """Make Hypothesis report the first failure it meets, without shrinking and without remembering it."""
    with suppress(ImportError):
        from hypothesis import Phase, settings

        phases = (Phase.explicit, Phase.generate)
        settings.register_profile("mutation", phases=phases, database=None, report_multiple_bugs=False)
        settings.load_profile("mutation")


def _exit_with(function: Any, argument: Any) -> NoReturn:
    """Run a function in a forked process, which ends with it and never returns to the parent's code."""
    status = 70
    try:
        status = int(function(argument))
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
