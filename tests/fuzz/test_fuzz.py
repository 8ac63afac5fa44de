"""The inputs of the corpus, damaged ones, and seconds of fuzzing; more by ``python -m tests.fuzz 600``."""

from __future__ import annotations

import importlib.util
import random
from pathlib import Path

import pytest

from tests.fuzz.__main__ import CORPUS, fuzz
from tests.fuzz.targets import TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_inputs_of_the_corpus_break_no_target(name):
    inputs = sorted((CORPUS / name).iterdir())
    assert inputs
    for path in inputs:
        TARGETS[name](path.read_bytes())


def damaged(draw, data):
    """The input with some bytes replaced, removed or repeated."""
    found = bytearray(data)
    for _ in range(draw.randint(1, 4)):
        start = draw.randint(0, len(found))
        stop = min(len(found), start + draw.randint(0, 8))
        piece = draw.choice([b"", draw.randbytes(draw.randint(1, 4)), bytes(found[start:stop]) * 2, b"\r\n", b"\xff"])
        found[start:stop] = piece
    return bytes(found)


@pytest.mark.parametrize("name", TARGETS)
def test_damaged_inputs_of_the_corpus_break_no_target(name):
    draw = random.Random(name)
    inputs = [path.read_bytes() for path in sorted((CORPUS / name).iterdir())]
    for _ in range(2_000):
        TARGETS[name](damaged(draw, draw.choice(inputs)))


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris is there for Linux on x86-64 only")
@pytest.mark.parametrize("name", TARGETS)
def test_seconds_of_fuzzing_break_no_target(name, tmp_path):
    done = fuzz(name, 1, Path(tmp_path), f"-artifact_prefix={tmp_path}/")
    assert done.returncode == 0, done.stderr[-2000:]
