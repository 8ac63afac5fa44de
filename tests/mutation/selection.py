"""Which tests run which lines, from one pass under coverage, and which of them to run for a mutant."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
from coverage import CoverageData

from tests.mutation.hooks import DURATIONS_FILE
from tests.mutation.mutant import Mutant

__all__ = ["Selection", "measure", "python_path"]

REPOSITORY = Path(__file__).parents[2]

# Tests that measure time or memory tell nothing about a mutant.
MARKS = "not slow and not whole_machine"


def python_path(sources: Path) -> str:
    """Return the PYTHONPATH for the tests: these sources before all others, and this package."""
    return f"{sources}{os.pathsep}{REPOSITORY}"


@attrs.define
class Selection:
    """The tests of one target: their times, and the lines of each source that each of them runs."""

    seconds: dict[str, float] = attrs.Factory(dict)
    tests_of_line: dict[str, dict[int, set[str]]] = attrs.Factory(lambda: defaultdict(lambda: defaultdict(set)))

    def add(self, measured: dict[str, Any]) -> None:
        """Add the result of one pass."""
        tests = list(measured["seconds"])
        self.seconds.update({test: seconds for test, seconds in measured["seconds"].items() if seconds is not None})
        for module, lines in measured["lines"].items():
            for line, indexes in lines.items():
                self.tests_of_line[module][int(line)].update(tests[index] for index in indexes)

    def tests_of(self, mutant: Mutant, callers: Mapping[str, Sequence[int]]) -> set[str]:
        """Return the tests that run the mutated lines.

        For what runs at the module's import: the tests that run its uses, else all that run the module. For a script,
        whose lines coverage does not see: the tests that run the lines of ``callers``.
        """
        lines = self.tests_of_line.get(mutant.module, {})
        of_lines = [lines[line] for line in mutant.lines if lines.get(line)]
        if not mutant.at_import:
            tests = next(iter(of_lines), set())
        elif of_lines:
            tests = set().union(*of_lines)
        elif callers:
            tests = set().union(
                *(self.tests_of_line.get(module, {}).get(line, ()) for module, own in callers.items() for line in own)
            )
        else:
            tests = set().union(*lines.values())
        return tests & self.seconds.keys()

    def choose(self, tests: Iterable[str], max_tests: int, max_seconds: float) -> list[str]:
        """Return the tests to run, in order.

        The fastest come first; further cases of a parametrized test count as slower, the more there are before them.
        Tests of one file stay together, since they share fixtures.
        """
        cases: Counter[str] = Counter()
        ranked: list[tuple[float, str]] = []
        for test in sorted(tests, key=lambda test: (self.seconds[test], test)):
            function = test.partition("[")[0]
            cases[function] += 1
            ranked.append((self.seconds[test] * cases[function], test))
        chosen: dict[str, list[str]] = defaultdict(list)
        total = 0.0
        for _, test in sorted(ranked)[:max_tests]:
            seconds = self.seconds[test]
            if total and total + seconds > max_seconds:
                break
            total += seconds
            chosen[test.partition("::")[0]].append(test)
        return [test for file in chosen.values() for test in file]


def measure(root: Path, path: str, cache: Path, jobs: int) -> dict[str, Any]:
    """Run the tests of a path once and return what they run; a result for the same files is read from ``cache``."""
    stored = cache / f"{re.sub(r'[^A-Za-z0-9]+', '-', path)}-{_digest_of_files(root)}.json"
    if not stored.exists():
        cache.mkdir(parents=True, exist_ok=True)
        stored.write_text(json.dumps(_run_under_coverage(root, path, jobs)))
    measured: dict[str, Any] = json.loads(stored.read_text())
    return measured


def _digest_of_files(root: Path) -> str:
    digest = hashlib.sha256(sys.version.encode())
    for file in sorted(file for kind in ("*.py", "*.lua", "pyproject.toml") for file in root.rglob(kind)):
        name = file.relative_to(root)
        if not any(part.startswith(".") for part in name.parts) and "mutation" not in name.parts:
            digest.update(f"{name}\0".encode() + file.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def _run_under_coverage(root: Path, path: str, jobs: int) -> dict[str, Any]:
    sources = root / "src"
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        data_file, durations = Path(folder, "coverage"), Path(folder, "durations.json")
        variables = {
            **{name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"},
            "PYTHONPATH": python_path(sources),
            "COVERAGE_FILE": str(data_file),
            "HYPOTHESIS_STORAGE_DIRECTORY": str(Path(folder, "hypothesis")),
            DURATIONS_FILE: str(durations),
        }
        options = ["-q", "-p", "tests.mutation.hooks", "-p", "no:randomly", "-p", "no:cacheprovider"]
        # With --dist, pytest-cov waits for the contexts of workers.
        options += ["-n", str(jobs)] if jobs > 1 else ["-n", "0", "--dist", "no"]
        options += ["-m", MARKS, "--hypothesis-seed=0", f"--basetemp={folder}/tmp"]
        options += [f"--cov={sources}", "--cov-branch", "--cov-context=test", "--cov-report="]
        command = [sys.executable, "-m", "pytest", *options, path]
        done = subprocess.run(command, cwd=root, env=variables, capture_output=True, text=True, check=False)
        if done.returncode not in (0, 1):  # some tests may fail: those are left out
            raise RuntimeError(f"the tests of {path} could not be run:\n{done.stdout[-4000:]}{done.stderr[-4000:]}")
        seconds: dict[str, float | None] = json.loads(durations.read_text())
        lines = _lines(data_file, sources, list(seconds))
        if not any(tests for module in lines.values() for tests in module.values()):
            raise RuntimeError(f"coverage does not know which lines the tests of {path} run")
        return {"seconds": seconds, "lines": lines}


def _lines(data_file: Path, sources: Path, tests: Sequence[str]) -> dict[str, dict[int, list[int]]]:
    data = CoverageData(str(data_file))
    data.read()
    index_of = {test: index for index, test in enumerate(tests)}
    lines: dict[str, dict[int, list[int]]] = {}
    for file in data.measured_files():
        module = str(Path(file).relative_to(sources))
        lines[module] = {}
        for line, contexts in data.contexts_by_lineno(file).items():
            run_by = {index_of.get(context.rpartition("|")[0]) for context in contexts}
            lines[module][line] = sorted(index for index in run_by if index is not None)
    return lines
