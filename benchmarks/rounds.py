"""How a run is kept: one JSON document, with a line for each round, so that two can be compared."""

from __future__ import annotations

import json
from pathlib import Path

from attrs import AttrsInstance, asdict

__all__ = ["write_rounds"]


def write_rounds(run: AttrsInstance, path: Path) -> None:
    """Write a run; what was measured in a round begins with its number, as ``round``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(run)).replace('{"round"', '\n{"round"') + "\n")
