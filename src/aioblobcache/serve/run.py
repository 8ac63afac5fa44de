"""Serving: uvicorn, its worker processes, and an orderly end."""

from __future__ import annotations

import os
import signal
import tempfile
from contextlib import ExitStack
from typing import Any, Final

import uvicorn

from .options import ServeOptions

__all__ = ["serve"]

# What is under way when a stop is asked for may go on for so long, in seconds.
_DRAIN: Final = 30


def serve(options: ServeOptions, host: str, port: int, workers: int) -> None:
    """Serve until SIGINT or SIGTERM; answers that are under way are finished first."""
    with ExitStack() as stack:
        if workers > 1:
            folder = tempfile.TemporaryDirectory(prefix="aioblobcache-metrics-")
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = stack.enter_context(folder)
        options.pass_on()
        try:
            uvicorn.run(
                "aioblobcache.serve.app:app",
                factory=True,
                host=host,
                port=port,
                workers=workers,
                log_config=log_config(),
                access_log=False,  # the application writes its own
                server_header=False,
                ws="none",
                timeout_graceful_shutdown=_DRAIN,
            )
        # uvicorn raises the signal anew when it has drained: to end so was what was asked for.
        except KeyboardInterrupt:
            pass
        except SystemExit as end:
            if end.code != 128 + signal.SIGTERM:
                raise


def log_config() -> dict[str, Any]:
    """Lines of JSON: requests on standard output, all else on standard error."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": "aioblobcache.serve.access_log.JsonLines"}},
        "handlers": {
            "out": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout", "formatter": "json"},
            "err": {"class": "logging.StreamHandler", "stream": "ext://sys.stderr", "formatter": "json"},
        },
        "loggers": {
            "aioblobcache": {"handlers": ["err"], "level": "INFO"},
            "aioblobcache.serve.access": {"handlers": ["out"], "level": "INFO", "propagate": False},
            "uvicorn": {"handlers": ["err"], "level": "INFO", "propagate": False},
        },
    }
