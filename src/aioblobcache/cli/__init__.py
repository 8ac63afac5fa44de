"""The command ``aioblobcache``."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, NoReturn

__all__ = ["main", "program"]

# Exit statuses beside those of commands, of which 1 says that something was found: an extra is missing, a fault of the
# program (sysexits.h), and what a shell says of who was ended by SIGPIPE.
_USAGE: Final = 2
_FAULT: Final = 70
_NOBODY_READS: Final = 141


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line (that of the process, or ``arguments``); ends with its exit status."""
    try:
        from .app import app
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.startswith("aioblobcache"):
            raise
        sys.exit(f"aioblobcache: the command needs {error.name}: pip install 'aioblobcache[cli]'")
    app(sys.argv[1:] if arguments is None else arguments)


def program() -> NoReturn:
    """Be the whole process: run the command line, and end at once with its exit status.

    obstore's threads are never told to stop. One that comes back while Python takes itself down aborts the process
    (PyO3/pyo3-async-runtimes issue 40; one command in ten on a busy machine), and a script would see that as the
    status. So Python is not taken down: what was written is flushed, and the process ends.
    """
    try:
        main()
        status = 0
    except SystemExit as end:
        status = _status(end)
    except BrokenPipeError:
        status = _NOBODY_READS
    except BaseException:
        sys.excepthook(*sys.exc_info())
        status = _FAULT
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # whoever read it has gone
            stream.flush()
    os._exit(status)


def _status(end: SystemExit) -> int:
    if end.code is None or isinstance(end.code, int):
        return end.code or 0
    print(end.code, file=sys.stderr)  # noqa: T201
    return _USAGE
