"""What tests have measured, written as one JSON file by ``pytest --figures=FILE``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Notes what a test has measured, under its name; numbers, times in seconds."""

    def note(**measured: float) -> None:
        name = request.node.name
        print(f"\n{name}: " + ", ".join(f"{what} {figure:.4g}" for what, figure in measured.items()))  # noqa: T201
        request.node.user_properties.append(("figures", measured))

    return note


class _Figures:
    """Collects what tests have measured, whichever process ran them, and writes it at the end."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._measured: dict[str, Any] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        name = report.nodeid.rpartition("::")[2].partition("@")[0]
        for kind, measured in report.user_properties:
            if report.when == "call" and kind == "figures":
                self._measured[name] = measured

    def pytest_sessionfinish(self) -> None:
        self._path.write_text(json.dumps(self._measured, indent=2, sort_keys=True) + "\n")


def pytest_configure(config: pytest.Config) -> None:
    path = config.getoption("--figures")
    if path is not None and not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Figures(path))
