"""The page about reliability says what its tests have measured, and names tests that there are."""

from __future__ import annotations

import json
from pathlib import Path

from tests.reliability import FIGURES, PAGE, ROWS, page

FAULTS = Path(__file__).parent / "faults"


def test_the_page_is_made_from_its_figures():
    assert PAGE.read_text() == page(json.loads(FIGURES.read_text()))


def test_every_row_has_its_tests():
    for row in ROWS:
        text = (FAULTS / row.file).read_text()
        for test in row.tests:
            assert f"def {test}(" in text


def test_figures_are_of_rows_there_are():
    named = {test for row in ROWS for test in row.tests}
    assert {name.partition("[")[0] for name in json.loads(FIGURES.read_text())} <= named
