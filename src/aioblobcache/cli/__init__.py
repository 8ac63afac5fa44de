"""The command ``aioblobcache``."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line; ends the process with its exit status."""
    try:
        from .app import app
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.startswith("aioblobcache"):
            raise
        sys.exit(f"aioblobcache: the command needs {error.name}: pip install 'aioblobcache[cli]'")
    app()
