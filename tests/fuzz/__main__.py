"""Fuzz each target for an equal share of the time: ``python -m tests.fuzz SECONDS [TARGET…]``.

It begins with the inputs in ``corpus``, and says what it reached. An input that breaks a target is left in this folder
as ``crash-…``, and the exit status is 1: put it into the corpus when it is mended. ``--keep`` adds to the corpus what
reached new code.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.fuzz.targets import TARGETS

HERE = Path(__file__).parent
CORPUS = HERE / "corpus"


def fuzz(name: str, seconds: int, new: Path, *options: str) -> subprocess.CompletedProcess[str]:
    folders = [str(new), str(CORPUS / name)]
    limits = [f"-max_total_time={seconds}", "-max_len=4096", "-timeout=10", f"-artifact_prefix={HERE}/", *options]
    command = [sys.executable, "-m", "tests.fuzz.one", name, *folders, *limits]
    return subprocess.run(command, cwd=HERE.parents[1], capture_output=True, text=True, check=False)


def main(arguments: list[str]) -> int:
    keep = "--keep" in arguments
    seconds, *names = [argument for argument in arguments if argument != "--keep"]
    names = names or list(TARGETS)
    share = max(1, int(seconds) // len(names))
    failed = 0
    for name in names:
        (CORPUS / name).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as new:
            done = fuzz(name, share, Path(new))
            runs = re.findall(r"^Done (\d+) runs", done.stderr, re.MULTILINE)
            reached = re.findall(r"cov: (\d+)", done.stderr)
            if done.returncode or not runs:
                failed += 1
                print(done.stdout[-4000:], done.stderr[-4000:], sep="\n")
            tried, places = (found[-1] if found else "no" for found in (runs, reached))
            print(f"{name}: {tried} inputs in {share} s, {places} places in the code", flush=True)
            if keep:
                for found in Path(new).iterdir():
                    shutil.copy(found, CORPUS / name)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
