"""The command: ``python -m tests.mutation [--target NAME]… [--sample N] [--jobs N]``.

The exit status is 1 if the tests notice less than 85 % of a module's mutants, 2 if they could not be run.
"""

# ruff: noqa: T201 - a command that prints

from __future__ import annotations

import argparse
import random
import re
import signal
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import attrs

from tests.mutation.lua_source import lua_mutants
from tests.mutation.mutant import Mutant, SourceFile
from tests.mutation.python_source import python_mutants
from tests.mutation.report import ACCEPTED, Accepted, Finding, read_accepted, read_survivors, table, write_json
from tests.mutation.runner import SURVIVED, Plan, Result, Runner, preload
from tests.mutation.selection import REPOSITORY, Selection, measure

HERE = Path(__file__).parent

TIMEOUT_FACTOR = 4.0
PROGRESS_MUTANTS = 20


@attrs.frozen
class Target:
    """Sources that are changed together, relative to ``src``, and the paths of the tests that must notice."""

    name: str
    sources: Sequence[str]
    tests: Sequence[str]
    called_from: Sequence[str] = ()  # the modules that call scripts, whose lines coverage does not see


def read_targets(path: Path) -> tuple[list[str], dict[str, Target]]:
    """Return the modules to import beforehand, and the targets by name."""
    read = tomllib.loads(path.read_text())
    return read["preload"], {name: Target(name, **entry) for name, entry in read["target"].items()}


def expand(folder: Path, patterns: Sequence[str]) -> list[str]:
    """Return the files and folders that the patterns match, relative to ``folder``.

    :raises ValueError: a pattern that matches nothing.
    """
    found: dict[str, None] = {}
    for pattern in patterns:
        matches = sorted(str(path.relative_to(folder)) for path in folder.glob(pattern))
        if not matches:
            raise ValueError(f"{pattern} matches nothing in {folder}: correct targets.toml")
        found.update(dict.fromkeys(matches))
    return list(found)


def mutants_of(root: Path, target: Target, sample: int | None, seed: int) -> list[Mutant]:
    """Return the mutants of a target's files, or a sample of each file's."""
    found: list[Mutant] = []
    for module in expand(root / "src", target.sources):
        source = SourceFile.read(root / "src", module)
        mutants = lua_mutants(source) if module.endswith(".lua") else python_mutants(source)
        if sample is not None and sample < len(mutants):
            chosen = random.Random(f"{seed}:{module}").sample(mutants, sample)
            mutants = sorted(chosen, key=lambda mutant: (mutant.start, mutant.end))
        found += mutants
    return found


def callers_of(root: Path, target: Target, module: str) -> dict[str, list[int]]:
    """Return the lines that call a script: those that name it (``LINK`` for ``link.lua``), or all if none does."""
    if not module.endswith(".lua"):
        return {}
    name = re.compile(rf"\b{Path(module).stem.upper()}\b")
    named: dict[str, list[int]] = {}
    every: dict[str, list[int]] = {}
    for caller in target.called_from:
        lines = (root / "src" / caller).read_text().splitlines()
        every[caller] = [*range(1, len(lines) + 1)]
        named[caller] = [number for number, line in enumerate(lines, start=1) if name.search(line)]
    return named if any(named.values()) else every


@attrs.frozen
class Session:
    """One run of the command."""

    options: argparse.Namespace
    runner: Runner
    accepted: Sequence[Accepted]

    def test_target(self, target: Target) -> Iterator[Finding]:
        """Run the target's mutants and yield what became of each.

        :raises RuntimeError: tests that do not pass without a mutant either.
        """
        options = self.options
        selection = Selection()
        for path in expand(options.root, target.tests):
            print(f"{target.name}: measuring {path}", flush=True)
            selection.add(measure(options.root, path, options.cache, options.jobs))
        mutants = mutants_of(options.root, target, options.sample, options.seed)
        if options.only_survivors is not None:
            survivors = read_survivors(options.only_survivors)
            mutants = [mutant for mutant in mutants if mutant.key in survivors]
        print(f"{target.name}: {len(mutants)} mutants, {len(selection.seconds)} tests", flush=True)
        self._check_original(selection)
        plans: list[Plan] = []
        for mutant in mutants:
            tests = selection.tests_of(mutant, callers_of(options.root, target, mutant.module))
            if tests:
                plans.append(self._plan(selection, mutant, tests))
            else:
                yield self._finding(target, mutant, Result(SURVIVED, "no test runs the line"))
        for done, (plan, result) in enumerate(self.runner.run(plans), start=1):
            assert plan.mutant is not None
            if done % PROGRESS_MUTANTS == 0:
                print(f"{target.name}: {done} of {len(plans)}", flush=True)
            yield self._finding(target, plan.mutant, result)

    def _plan(self, selection: Selection, mutant: Mutant | None, tests: Iterable[str]) -> Plan:
        least = self.options.min_timeout
        chosen = selection.choose(tests, self.options.max_tests, self.options.max_seconds)
        return Plan(mutant, {test: max(least, TIMEOUT_FACTOR * selection.seconds[test]) for test in chosen})

    def _check_original(self, selection: Selection) -> None:
        """Run tests without a mutant.

        :raises RuntimeError: they do not pass.
        """
        ((_, result),) = self.runner.run([self._plan(selection, None, selection.seconds)])
        if result.outcome != SURVIVED:
            raise RuntimeError(f"tests fail without a mutant: {result.noticed_by}\n{result.output[-4000:]}")

    def _finding(self, target: Target, mutant: Mutant, result: Result) -> Finding:
        reason = next((entry.reason for entry in self.accepted if entry.matches(mutant)), "")
        return Finding(target.name, mutant, result, reason)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    add = parser.add_argument
    add("--target", action="append", metavar="NAME", help="test only this target of targets.toml (repeatable)")
    add("--sample", type=int, metavar="N", help="test N mutants of each file, not all")
    add("--seed", type=int, default=0, help="chooses the sample")
    add("--jobs", type=int, default=2, metavar="N", help="mutants tested at a time")
    add("--only-survivors", type=Path, metavar="FILE", help="test only the survivors in the JSON of an earlier run")
    add("--json", type=Path, metavar="FILE", help="write the results")
    add("--max-tests", type=int, default=500, metavar="N", help="tests run for a mutant")
    add("--max-seconds", type=float, default=60.0, metavar="S", help="measured time of the tests run for a mutant")
    add("--min-timeout", type=float, default=15.0, metavar="S", help="least time that a test has, in seconds")
    add("--root", type=Path, default=REPOSITORY, help="the project")
    add("--targets", type=Path, default=HERE / "targets.toml", metavar="FILE", help="the table of targets")
    add("--accepted", type=Path, default=HERE / "accepted.toml", metavar="FILE", help="the reviewed survivors")
    add("--cache", type=Path, metavar="FOLDER", help="where measured tests are kept (ROOT/.nox/mutation)")
    options = parser.parse_args(arguments)
    options.root = options.root.absolute()
    options.cache = options.cache or options.root / ".nox" / "mutation"
    return options


def main(arguments: Sequence[str]) -> int:
    options = parse(arguments)
    modules, targets = read_targets(options.targets)
    names = options.target or list(targets)
    unknown = set(names) - targets.keys()
    if unknown:
        print(f"unknown targets: {', '.join(sorted(unknown))}; there are: {', '.join(targets)}", file=sys.stderr)
        return 2
    preload(modules)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that processes are ended and folders removed
    print(f"seed {options.seed}", flush=True)
    findings: list[Finding] = []
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        session = Session(options, Runner(options.root, Path(folder), options.jobs), read_accepted(options.accepted))
        for name in names:
            try:
                for finding in session.test_target(targets[name]):
                    findings.append(finding)
                    if finding.outcome == SURVIVED:
                        print(finding, flush=True)
            except (RuntimeError, ValueError) as error:
                print(f"{name}: {error}", file=sys.stderr)
                return 2
            finally:
                if options.json is not None:
                    write_json(options.json, findings)
    print_report(findings)
    return 0 if table(findings)[1] else 1


def print_report(findings: Sequence[Finding]) -> None:
    print("\n" + table(findings)[0])
    for outcome, title in ((ACCEPTED, "Accepted survivors"), (SURVIVED, "Survivors")):
        chosen = sorted(
            (finding for finding in findings if finding.outcome == outcome),
            key=lambda finding: (finding.mutant.module, finding.mutant.start),
        )
        print(f"\n{title}: {len(chosen)}")
        for finding in chosen:
            print(finding, f"because {finding.reason}" if finding.reason else "")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
