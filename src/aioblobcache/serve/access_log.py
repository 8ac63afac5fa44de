"""The access log: a line of JSON for each request, on standard output."""

from __future__ import annotations

import json
import logging
import time
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["AccessLog", "JsonLines"]

_log = logging.getLogger("aioblobcache.serve.access")


class AccessLog:
    """Notes each request when it has ended, whatever its end."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: D102
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        status, sent = 0, 0

        async def note(message: Message) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
            else:
                sent += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, receive, note)
        finally:
            client = scope.get("client")
            agent = next((value for name, value in scope["headers"] if name == b"user-agent"), b"")
            _log.info(
                "request",
                extra={
                    "request": {
                        "remote": client[0] if client else None,
                        "method": scope["method"],
                        "path": scope["path"],
                        "status": status or None,  # none: the program failed before it answered
                        "bytes": sent,
                        "seconds": round(time.perf_counter() - began, 6),
                        "agent": agent.decode("latin-1"),
                    }
                },
            )


class JsonLines(logging.Formatter):
    """Each record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:  # noqa: D102
        line: dict[str, Any] = {"time": self._time(record), "level": record.levelname.lower(), "logger": record.name}
        request = getattr(record, "request", None)
        if request is None:
            line["message"] = record.getMessage()
            if record.exc_info:
                line["traceback"] = self.formatException(record.exc_info)
        else:
            line |= request
        return json.dumps(line)

    def _time(self, record: logging.LogRecord) -> str:
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        return f"{seconds}.{int(record.msecs):03}Z"
