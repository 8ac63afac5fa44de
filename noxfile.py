"""Checks that need environments of their own; ``nox --list`` names them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nox

nox.options.sessions = ["compat"]
nox.options.error_on_missing_interpreters = True

# What is tried once, on the oldest Python: the model, the benchmarks, and what mostly waits for other programs.
ONCE = ["--ignore", "tests/model", "--ignore", "tests/coherence", "--ignore", "tests/test_benchmarks.py"]


def interpreters() -> list[str]:
    """Each Python from 3.11 on that this machine has, the oldest first: on the path, or kept by pyenv."""
    kept = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    folders = [*map(Path, os.environ["PATH"].split(os.pathsep)), *kept.glob("*/bin")]
    found: dict[int, str] = {}
    for python in (python for folder in folders for python in sorted(folder.glob("python3.*"))):
        minor = re.fullmatch(r"python3\.(\d+)", python.name)
        if minor and int(minor[1]) >= 11 and int(minor[1]) not in found and _works(python):
            found[int(minor[1])] = str(python)
    return [found[minor] for minor in sorted(found)]


def _works(python: Path) -> bool:
    return subprocess.run([python, "-c", "import venv, ensurepip"], capture_output=True, check=False).returncode == 0


PYTHONS = interpreters()

# Each with the newest libraries; the first with the oldest that are supported as well.
PAIRS = [(PYTHONS[0], "oldest"), *((python, "newest") for python in PYTHONS)]


@nox.session
@nox.parametrize("python, libraries", PAIRS, ids=[f"{old}-{Path(path).name}" for path, old in PAIRS])
def compat(session: nox.Session, libraries: str) -> None:
    """The tests with the oldest libraries that are supported, and with the newest on every Python."""
    options = ONCE if (session.python, libraries) != (PYTHONS[0], "newest") else []
    if libraries == "oldest":
        session.install("-q", "-e", ".[test]", "-c", "tests/oldest.txt")
        options = [*options, "--ignore", "tests/interop"]
    else:
        session.install("-q", "-e", ".[test]")
    session.run("pip", "freeze", "--exclude-editable")
    session.run("pytest", "-q", *options, *session.posargs)


# Run in a newer Debian, in the checkout: its Python and what to give pytest follow.
TEST_ON_NEWER_SYSTEM = """
environment=/srv/$1
[ -e "$environment" ] || "$1" -m venv "$environment"
"$environment/bin/pip" install -q -e '.[benchmarks,docs,test]'
shift
"$environment/bin/pytest" -q "$@"
"""


@nox.session(python=False)
@nox.parametrize("interpreter", ["python3.14", "python3.15"], ids=["3.14", "3.15"])
def newest_system(session: nox.Session, interpreter: str) -> None:
    """Run the tests on a newer Debian: with Redis 8, Valkey 9 and docker-registry 2.8.3; needs root.

    With arguments for pytest, without what only the whole suite needs.
    """
    environment = {} if session.posargs else {"EVERYTHING": "1"}
    script = ["bash", "-ec", TEST_ON_NEWER_SYSTEM, "newest_system", interpreter, *session.posargs]
    session.run(".ci/newest_system", *script, env=environment, external=True)


@nox.session(python=PYTHONS[:1])
def package(session: nox.Session) -> None:
    """Build wheel and sdist, check what they say of themselves, and run the demo from each in an empty environment."""
    session.install("build", "twine")
    folder = Path(session.create_tmp()).absolute()
    shutil.rmtree(folder / "dist", ignore_errors=True)
    session.run("python", "-m", "build", "--outdir", str(folder / "dist"))
    built = sorted((folder / "dist").iterdir())
    session.run("twine", "check", "--strict", *map(str, built))
    for file in built:
        place = folder / "installed"
        session.run(sys.executable, "-m", "venv", "--clear", str(place), external=True)
        session.run(str(place / "bin/pip"), "install", "-q", f"{file}[demo]", external=True)
        with session.chdir(folder):  # not beside the sources
            session.run(str(place / "bin/aioblobcache"), "demo", external=True, silent=True)


@nox.session(python=PYTHONS[:1])
def fuzz(session: nox.Session) -> None:
    """Look for inputs that break a parser, for so many seconds (600)."""
    session.install("-e", ".[fuzz,test]")
    session.run("python", "-m", "tests.fuzz", *session.posargs or ["600"])


@nox.session(python=PYTHONS[:1])
def mutants(session: nox.Session) -> None:
    """Check that the tests notice changes to the library, one at a time: ``-- --target near-cache --sample 40``."""
    session.install("-q", "-e", ".[test]")
    session.run("python", "-m", "tests.mutation", *session.posargs)
