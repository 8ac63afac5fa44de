"""The mutants of small sources, and a run of the command on a small project."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest

from tests.mutation.__main__ import HERE, expand, read_targets
from tests.mutation.lua_source import lua_mutants
from tests.mutation.mutant import Mutant, SourceFile
from tests.mutation.python_source import python_mutants
from tests.mutation.report import Accepted, Finding, read_accepted, table
from tests.mutation.runner import NOTICED, SURVIVED, Result
from tests.mutation.selection import REPOSITORY, Selection


def mutants_of(text: str) -> list[Mutant]:
    return python_mutants(SourceFile("module.py", text.encode()))


def changes(mutants: Sequence[Mutant]) -> list[tuple[str, str]]:
    return sorted((mutant.operator, mutant.after) for mutant in mutants)


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("x = a < b", [("comparison", "x = a <= b")]),
        ("x = (a) >= b", [("comparison", "x = (a) > b")]),
        ("x = a == b", [("comparison", "x = a != b")]),
        ("x = a is not b", [("comparison", "x = a is b")]),
        ("x = a not in b", [("comparison", "x = a in b")]),
        ("x = a < b <= c", [("comparison", "x = a < b < c"), ("comparison", "x = a <= b <= c")]),
        ("x = a and b", [("boolean", "x = a or b")]),
        ("x = not (a or b)", [("boolean", "x = not (a and b)"), ("remove not", "x = (a or b)")]),
        ("x = a + b", [("arithmetic", "x = a - b")]),
        ("x = a * b // c", [("arithmetic", "x = a * b * c"), ("arithmetic", "x = a // b // c")]),
        ("x = 'a' + b", [("string", "x = 'XXa' + b")]),
        ("x = f'{a}:b'", [("string", "x = f'XX{a}:b'")]),
        ("x = 1_000", [("number", "x = 1001")]),
        ("x = True", [("boolean constant", "x = False")]),
        ("x.y = a", [("delete assignment", "pass")]),
        ("x.y, x.z = a, b", [("delete assignment", "pass")]),
        ("x, x.z = a, b", []),
        ("x.y += a", [("arithmetic", "x.y -= a"), ("delete assignment", "pass")]),
        ("await f(a)", [("delete call", "pass")]),
        ("del x[a]", [("delete del", "pass")]),
        ("raise E('a text', 'CODE')", [("delete raise", "pass"), ("string", "raise E('a text', 'XXCODE')")]),
        ("return a", [("return None", "return None")]),
        ("return False", [("boolean constant", "return True")]),
        ("if a: f = b", [("negate condition", "if not (a): f = b")]),
        ("if a != b: c", [("comparison", "if a == b: c")]),
        ("x = [a for a in b if a]", [("negate condition", "x = [a for a in b if not (a)]")]),
        ("x = a if b else c", [("negate condition", "x = a if not (b) else c")]),
        ("_log.info('a %s', 1)", []),
        ("x: Literal['a'] = a", []),
        ("'a text'", []),
        ("if TYPE_CHECKING: x = 1", []),
    ],
)  # fmt: skip
def test_a_python_statement_has_these_mutants(statement, expected):
    assert changes(mutants_of(f"async def f():\n    {statement}\n")) == sorted(expected)


def test_loops_have_mutants_of_their_jumps():
    found = mutants_of("def f():\n    for x in y:\n        if x:\n            break\n        continue\n")
    assert ("break", "continue") in changes(found)
    assert ("continue", "break") in changes(found)


@pytest.mark.parametrize(
    "text",
    [
        "__all__ = ['a']\n",
        "class A(Protocol):\n    def f(self) -> int:\n        return 1\n",
        "class A:\n    __slots__ = ('a',)\n    def __repr__(self):\n        return 'a'\n",
        "class A:\n    def __init__(self):\n        self.a = b\n",
        "@overload\ndef f(a=1): ...\n",
        "A: TypeAlias = 'B[1]'\n",
        "T = TypeVar('T')\n",
    ],
)
def test_text_without_behaviour_has_no_mutants(text):
    assert mutants_of(text) == []


def test_a_mutant_changes_one_span_and_keeps_the_rest():
    text = "# é\ndef f(a):\n    return (a ==\n            1)  # kept\n"
    for mutant in mutants_of(text):
        mutated = mutant.apply(text.encode()).decode()
        assert mutated.startswith("# é\ndef f(a):\n    return ")
        assert mutated.endswith("# kept\n")
        compile(mutated, "mutant", "exec")


def test_a_mutant_knows_its_scope_and_its_uses():
    limit, default, body = mutants_of("LIMIT = 3\nclass A:\n    def f(self, a=1):\n        return a < LIMIT\n")[:3]
    assert (limit.scope, limit.at_import, limit.lines) == ("", True, (4,))
    assert (default.scope, default.at_import, default.lines) == ("A", True, (4,))
    assert (body.scope, body.at_import, body.lines) == ("A.f", False, (4,))


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("local x = a == 1 -- 2", [("comparison", "local x = a ~= 1 -- 2"), ("number", "local x = a == 2 -- 2")]),
        ("local x = f('a < 1')", [("string", "local x = f('XXa < 1')")]),
        ("if not a then return 0 end", [
            ("remove not", "if a then return 0 end"),
            ("returned value", "if not a then return 1 end"),
        ]),
        ("if a or b then f() end", [
            ("boolean", "if a and b then f() end"),
            ("delete call", "if a or b then  end"),
            ("negate condition", "if not (a or b) then f() end"),
        ]),
        ("redis.call('DEL', k)", [("delete call", "")]),
        ("return redis.call('HDEL', k)", [("returned value", "return 0")]),
        ("f(KEYS[n + 1])", [("arithmetic", "f(KEYS[n - 1])"), ("delete call", ""), ("number", "f(KEYS[n + 2])")]),
        ("return true", [("boolean constant", "return false")]),
    ],
)  # fmt: skip
def test_a_lua_statement_has_these_mutants(statement, expected):
    text = f"#!lua flags=allow-oom\n-- A comment < 1.\n{statement}\n"
    assert changes(lua_mutants(SourceFile("script.lua", text.encode()))) == sorted(expected)


def test_the_fastest_tests_run_first_and_further_cases_later():
    selection = Selection(seconds={"a.py::x[1]": 0.1, "a.py::x[2]": 0.25, "a.py::y": 0.4, "b.py::z": 0.3})
    assert selection.choose(selection.seconds, max_tests=3, max_seconds=9.0) == ["a.py::x[1]", "a.py::y", "b.py::z"]
    assert selection.choose(selection.seconds, max_tests=9, max_seconds=0.5) == ["a.py::x[1]", "b.py::z"]
    selection = Selection(seconds={"a.py::x[1]": 0.1, "a.py::x[2]": 0.1, "a.py::y": 0.4})
    assert selection.choose(selection.seconds, max_tests=2, max_seconds=9.0) == ["a.py::x[1]", "a.py::x[2]"]


def test_an_accepted_survivor_is_matched_by_text_and_scope():
    (mutant,) = mutants_of("def f(a, b):\n    x = a < b\n")
    entry = Accepted("module.py", "x = a < b", "x = a <= b", "equal by construction")
    assert entry.matches(mutant)
    assert entry.matches(attrs.evolve(mutant, line=99))
    assert attrs.evolve(entry, scope="f").matches(mutant)
    assert not attrs.evolve(entry, scope="g").matches(mutant)
    assert not attrs.evolve(entry, line="x = a < c").matches(mutant)


def test_accepted_survivors_do_not_count_as_noticed():
    (mutant,) = mutants_of("def f(a, b):\n    x = a < b\n")
    noticed = [Finding("t", mutant, Result(NOTICED))] * 17
    accepted = [Finding("t", mutant, Result(SURVIVED), "a reason")] * 3
    assert table(noticed + accepted)[1]
    assert not table(noticed[:16] + accepted)[1]


def test_the_table_of_targets_names_files_that_exist():
    for target in read_targets(HERE / "targets.toml")[1].values():
        assert expand(REPOSITORY / "src", [*target.sources, *target.called_from])
        assert expand(REPOSITORY, target.tests)


def test_each_accepted_survivor_is_a_mutant_of_its_module():
    for entry in read_accepted(HERE / "accepted.toml"):
        source = SourceFile.read(REPOSITORY / "src", entry.module)
        mutants = lua_mutants(source) if entry.module.endswith(".lua") else python_mutants(source)
        assert any(entry.matches(mutant) for mutant in mutants), entry
        assert entry.reason


# --- the command on a project of its own ---------------------------------------------------------

SOURCE = """\
LIMIT = 3

def is_allowed(n):
    return n < LIMIT

def drain(items):
    while items:
        items.pop()
    return items

def unused():
    return True
"""

# The process that the second test starts stays behind when the test is killed.
TESTS = """\
import pathlib, subprocess
from sample import limits

def test_limit():
    assert limits.is_allowed(2)
    assert not limits.is_allowed(5)

def test_drain():
    process = subprocess.Popen(["sleep", "600"])
    pathlib.Path("pid").write_text(str(process.pid))
    try:
        assert limits.drain([1, 2]) == []
    finally:
        process.kill()
        process.wait()

def test_that_fails_without_a_mutant():
    assert limits.is_allowed(5)
"""

TARGETS = """\
preload = ["attrs", "no_such_module"]

[target.limits]
sources = ["sample/*.py"]
tests = ["checks"]
"""

ACCEPTED_SURVIVOR = """\
[[survivor]]
module = "sample/limits.py"
line = "LIMIT = 3"
replacement = "LIMIT = 4"
reason = "nothing promises this limit"
"""


def run_command(project: Path, *options: str) -> tuple[int, str, list[dict[str, Any]]]:
    """Run the command on the project; return its exit status, its output and the findings."""
    files = {name: str(project / name) for name in ("targets.toml", "accepted.toml", "found.json")}
    arguments = ["--root", str(project), "--targets", files["targets.toml"], "--accepted", files["accepted.toml"]]
    arguments += ["--json", files["found.json"], "--jobs", "1", "--min-timeout", "2", *options]
    command = [sys.executable, "-m", "tests.mutation", *arguments]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=100, check=False)
    return done.returncode, done.stdout + done.stderr, json.loads((project / "found.json").read_text())


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    contents = {
        "pyproject.toml": "[tool.pytest.ini_options]\n",
        "src/sample/__init__.py": "",
        "src/sample/limits.py": SOURCE,
        "checks/test_limits.py": TESTS,
        "targets.toml": TARGETS,
        "accepted.toml": ACCEPTED_SURVIVOR,
    }
    for name, text in contents.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return folder


def test_the_command_tells_noticed_mutants_from_survivors(project):
    status, output, found = run_command(project)
    assert {(finding["before"], finding["after"]): finding["outcome"] for finding in found} == {
        ("LIMIT = 3", "LIMIT = 4"): "accepted",
        ("return n < LIMIT", "return n <= LIMIT"): "survived",
        ("return n < LIMIT", "return None"): "noticed",
        ("while items:", "while not (items):"): "noticed",
        ("items.pop()", "pass"): "timeout",
        ("return items", "return None"): "noticed",
        ("return True", "return None"): "survived",
        ("return True", "return False"): "survived",
    }
    assert status == 1
    assert "8 mutants, 2 tests" in output  # without the one that fails in any case
    assert "checks/test_limits.py::test_limit" in {finding["noticed_by"] for finding in found}
    assert "sample/limits.py:4: return n < LIMIT  ->  return n <= LIMIT [is_allowed] (tests passed)" in output
    assert "sample/limits.py:12: return True  ->  return None [unused] (no test runs the line)" in output
    assert not Path("/proc", (project / "pid").read_text()).exists()
    assert (project / "src/sample/limits.py").read_text() == SOURCE

    # Another run tests only what survived, and does not measure the tests again.
    status, output, found = run_command(project, "--only-survivors", str(project / "found.json"), "--target", "limits")
    assert [finding["outcome"] for finding in found] == ["survived"] * 3
    assert status == 1


def test_an_unknown_target_is_refused(project):
    command = [sys.executable, "-m", "tests.mutation", "--target", "none", "--root", os.fspath(project)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "unknown targets: none" in done.stderr
