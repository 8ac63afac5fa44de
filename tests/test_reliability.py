"""The page about reliability says what its tests have measured, and names tests that there are."""

from __future__ import annotations

import json
from pathlib import Path

from tests.reliability import FIGURES, PAGE, ROWS, page

FAULTS = Path(__file__).parent / "faults"


def test_the_page_matches_its_figures():
    assert PAGE.read_text() == page(json.loads(FIGURES.read_text()))


def test_the_tests_of_every_row_exist():
    for row in ROWS:
        text = (FAULTS / row.file).read_text()
        for test in row.tests:
            assert f"def {test}(" in text


def test_every_figure_belongs_to_a_row():
    named = {test for row in ROWS for test in row.tests}
    assert {name.partition("[")[0] for name in json.loads(FIGURES.read_text())} <= named
