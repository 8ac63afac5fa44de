"""What became of the mutants: lines for each, a table of modules, and the survivors that were reviewed."""

from __future__ import annotations

import json
import tomllib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import attrs

from tests.mutation.mutant import Mutant
from tests.mutation.runner import NOTICED, SURVIVED, TIMEOUT, Result

__all__ = ["ACCEPTED", "MIN_PERCENT", "Accepted", "Finding", "read_accepted", "read_survivors", "table", "write_json"]

ACCEPTED = "accepted"

# The share of a module's mutants that tests must notice.
MIN_PERCENT = 85


@attrs.frozen
class Accepted:
    """A survivor that was reviewed; matched by its text, so that lines may move."""

    module: str
    line: str
    replacement: str
    reason: str
    scope: str | None = None  # for a line that a module has more than once

    def matches(self, mutant: Mutant) -> bool:
        """Whether the mutant is this one."""
        same = (self.module, self.line, self.replacement) == (mutant.module, mutant.before, mutant.after)
        return same and self.scope in (None, mutant.scope)


def read_accepted(path: Path) -> list[Accepted]:
    """Read the reviewed survivors."""
    return [Accepted(**entry) for entry in tomllib.loads(path.read_text()).get("survivor", [])]


@attrs.frozen
class Finding:
    """A mutant and its result."""

    target: str
    mutant: Mutant
    result: Result
    reason: str = ""  # why its survival is accepted

    @property
    def outcome(self) -> str:
        """The result's outcome; ``accepted`` for a survivor that was reviewed."""
        return ACCEPTED if self.reason and self.result.outcome == SURVIVED else self.result.outcome

    def __str__(self) -> str:
        mutant = self.mutant
        text = f"{mutant.module}:{mutant.line}: {mutant.before}  ->  {mutant.after}"
        where = f" [{mutant.scope}]" if mutant.scope else ""
        return f"{text}{where} ({self.result.noticed_by or 'tests passed'})"


def table(findings: Sequence[Finding]) -> tuple[str, bool]:
    """Return the figures of each module as text, and whether every module reaches :data:`MIN_PERCENT`."""
    by_module: dict[str, list[str]] = defaultdict(list)
    for finding in findings:
        by_module[finding.mutant.module].append(finding.outcome)
    width = max([len("module"), *map(len, by_module)])
    columns = ("mutants", "noticed", "timeouts", "accepted", "survivors", "percent")
    lines = [f"{'module':{width}}  " + "  ".join(columns)]
    enough = True
    for module, outcomes in by_module.items():
        counts = [outcomes.count(outcome) for outcome in (NOTICED, TIMEOUT, ACCEPTED, SURVIVED)]
        percent = 100 * (counts[0] + counts[1]) / len(outcomes)
        enough = enough and percent >= MIN_PERCENT
        figures = (str(len(outcomes)), *map(str, counts), f"{percent:.0f}")
        lines.append(f"{module:{width}}  " + "  ".join(f"{f:>{len(c)}}" for f, c in zip(figures, columns, strict=True)))
    return "\n".join(lines), enough


def write_json(path: Path, findings: Iterable[Finding]) -> None:
    """Write every finding."""
    rows = [
        {
            "target": finding.target,
            "module": finding.mutant.module,
            "line": finding.mutant.line,
            "scope": finding.mutant.scope,
            "operator": finding.mutant.operator,
            "before": finding.mutant.before,
            "after": finding.mutant.after,
            "outcome": finding.outcome,
            "noticed_by": finding.result.noticed_by,
            "seconds": finding.result.seconds,
        }
        for finding in findings
    ]
    path.write_text(json.dumps(rows, indent=1) + "\n")


def read_survivors(path: Path) -> set[tuple[str, str, str, str]]:
    """Read the keys of the survivors from the JSON of an earlier run."""
    rows = json.loads(path.read_text())
    return {(r["module"], r["scope"], r["before"], r["after"]) for r in rows if r["outcome"] == SURVIVED}
