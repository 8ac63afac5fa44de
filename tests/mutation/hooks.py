"""pytest plugins: one notes how long each test takes, one runs chosen tests and says what becomes of them."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import pytest

__all__ = ["DURATIONS_FILE", "ChosenTests"]

# The environment variable that names the file for the durations.
DURATIONS_FILE = "MUTATION_DURATIONS_FILE"


class _Durations:
    """Writes each test's time in seconds; ``None`` for a test that did not pass."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seconds: dict[str, float] = defaultdict(float)
        self._not_passed: set[str] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._seconds[report.nodeid] += report.duration
        if not report.passed:
            self._not_passed.add(report.nodeid)

    def pytest_sessionfinish(self) -> None:
        measured = {test: None if test in self._not_passed else seconds for test, seconds in self._seconds.items()}
        self._path.write_text(json.dumps(measured))


def pytest_configure(config: pytest.Config) -> None:
    path = os.environ.get(DURATIONS_FILE)
    if path is not None and not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Durations(Path(path)))


class ChosenTests:
    """Runs only the tests with these node ids, in this order.

    It writes to the pipe ``progress`` the seconds that each test has and its name, when the test starts, and to the
    file ``failed`` the name of the first test that fails.
    """

    def __init__(self, limits: Mapping[str, float], progress: int, failed: Path) -> None:
        self._limits = limits
        self._order = {test: place for place, test in enumerate(limits)}
        self._progress = progress
        self._failed = failed

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [item for item in items if item.nodeid in self._order]
        items.sort(key=lambda item: self._order[item.nodeid])

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        os.write(self._progress, f"{self._limits[nodeid]} {nodeid}\n".encode())

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._note(f"{report.nodeid} (at import)")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._note(report.nodeid)

    def _note(self, test: str) -> None:
        if not self._failed.exists():
            self._failed.write_text(test)
