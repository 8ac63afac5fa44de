"""The inputs of the corpus, and a few seconds of looking for others; more by ``python -m tests.fuzz 600``."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from tests.fuzz.__main__ import CORPUS, fuzz
from tests.fuzz.targets import TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_in_the_corpus_breaks_nothing(name):
    inputs = sorted((CORPUS / name).iterdir())
    assert inputs
    for path in inputs:
        TARGETS[name](path.read_bytes())


@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris is there for Linux on x86-64 only")
@pytest.mark.parametrize("name", TARGETS)
def test_a_few_seconds_of_looking_find_nothing(name, tmp_path):
    done = fuzz(name, 1, Path(tmp_path), f"-artifact_prefix={tmp_path}/")
    assert done.returncode == 0, done.stderr[-2000:]
