"""The provider of CNCF Distribution, built from Debian's packages of it."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

__all__ = ["missing", "program", "version"]

_PACKAGES: Final = ("golang-go", "golang-github-docker-distribution-dev")
_GOPATH: Final = Path("/usr/share/gocode")
_SOURCE: Final = Path(__file__).with_name("main.go")
_BUILT: Final = Path(__file__).parents[3] / "build" / "benchmarks"


def missing() -> str | None:
    """How to install what is needed, if it is not there."""
    there = shutil.which("go") and _GOPATH.joinpath("src/github.com/docker/distribution").is_dir()
    return None if there else f"apt-get install {' '.join(_PACKAGES)}"


def version() -> str:
    """What Debian calls it, and the compiler."""
    query = ["dpkg-query", "--show", "--showformat=${Version}", _PACKAGES[1]]
    packaged = subprocess.run(query, capture_output=True, text=True, check=True).stdout
    compiler = subprocess.run(["go", "version"], capture_output=True, text=True, check=True).stdout.split()[2]
    return f"distribution {packaged}, {compiler}"


def program() -> Path:
    """The program, built once for each state of its source."""
    source = hashlib.sha256(_SOURCE.read_bytes()).hexdigest()[:16]
    path = _BUILT / f"distribution-{source}"
    if not path.exists():
        _BUILT.mkdir(parents=True, exist_ok=True)
        settings = {"GO111MODULE": "off", "GOPATH": str(_GOPATH), "GOCACHE": str(_BUILT / "go-cache"), "GOFLAGS": ""}
        subprocess.run(["go", "build", "-o", str(path), str(_SOURCE)], env={**os.environ, **settings}, check=True)
    return path
