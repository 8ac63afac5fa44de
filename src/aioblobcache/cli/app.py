"""The commands and their options; what they do is done elsewhere."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from rich.console import Console

from .. import __version__
from .demo import run_demo
from .demo_view import as_data, show
from .embedded import embedded_valkey, sigterm_exits

__all__ = ["app"]

app = App(
    name="aioblobcache",
    help="The blob descriptor cache of OCI registries: try it, and look after the one you have.",
    version=__version__,
)


@app.command
def demo(*, as_json: Annotated[bool, Parameter(name="--json", negative="")] = False) -> int:
    """Show the main job on a real Valkey and a real storage tree, both made for it and removed.

    Exit status 0: every answer was the expected one. 1: one was not.

    Parameters
    ----------
    as_json
        Print the same as one JSON document.
    """
    with sigterm_exits(), tempfile.TemporaryDirectory(prefix="aioblobcache-") as folder:
        try:
            with embedded_valkey(Path(folder, "valkey")) as url:
                report = asyncio.run(run_demo(url, Path(folder, "registry")))
        except ModuleNotFoundError as error:
            sys.exit(f"aioblobcache demo: needs {error.name}: pip install 'aioblobcache[demo]'")
    if as_json:
        print(json.dumps(as_data(report), indent=2))  # noqa: T201
    else:
        show(report, Console())
    return 0 if report.as_expected else 1
