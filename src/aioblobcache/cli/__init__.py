"""The command ``aioblobcache``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line (that of the process, or ``arguments``); ends with its exit status."""
    try:
        from .app import app
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.startswith("aioblobcache"):
            raise
        sys.exit(f"aioblobcache: the command needs {error.name}: pip install 'aioblobcache[cli]'")
    app(sys.argv[1:] if arguments is None else arguments)
