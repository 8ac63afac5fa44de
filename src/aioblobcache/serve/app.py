"""The application: the registry's API, and beside it what operators look at."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Metric, generate_latest, multiprocess
from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route

from ..connect import connect
from ..contrib.prometheus import sampled, timed
from ..contrib.starlette import RegistryApp, lifespan
from ..errors import ConfigurationError
from ..readthrough import CachedRegistry
from ..storage import RegistryStorage
from .access_log import AccessLog
from .health import look_at
from .options import ServeOptions
from .status import StatusPage
from .witness import Witness

__all__ = ["app", "make_app"]

# Where prometheus_client's processes share what they count; set by who starts several.
_SHARED: Final = "PROMETHEUS_MULTIPROC_DIR"


def app() -> Starlette:
    """The application of a worker process, by the options that were left to it."""
    return make_app(ServeOptions.received())


def make_app(options: ServeOptions) -> Starlette:
    """The application for these options.

    :raises ConfigurationError: a URL or an option cannot be used.
    """
    counted = CollectorRegistry()
    witness = Witness(counted)
    storage = RegistryStorage.from_url(options.storage, options.root)
    provider = connect(options.cache, **_cache_options(options, witness))
    cache = timed(provider, witness)
    registry = CachedRegistry(cache, storage, observer=witness)
    started = time.time()

    def info() -> dict[str, Any]:
        return provider.info() if hasattr(provider, "info") else {}

    async def status(request: Request) -> Response:
        health = await look_at(registry, storage)
        page = StatusPage(_place(options), started, os.getpid(), witness, info(), health)
        return HTMLResponse(page.html(), headers={"Cache-Control": "no-store"})

    async def healthz(request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(request: Request) -> Response:
        health = await look_at(registry, storage)
        return JSONResponse(health.as_data(), 200 if health.is_ready else 503)

    async def metrics(request: Request) -> Response:
        if provided := info():
            witness.sample(provided)
        return Response(generate_latest(_all_counted(counted)), media_type=CONTENT_TYPE_LATEST)

    @asynccontextmanager
    async def sampling(app: Any) -> AsyncIterator[None]:
        if not hasattr(provider, "info"):
            yield
            return
        async with sampled(provider, witness):
            yield

    return Starlette(
        routes=[
            Mount("/v2", RegistryApp(registry, redirect=options.redirect, referrers=options.referrers)),
            Route("/", status),
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route("/metrics", metrics),
        ],
        middleware=[Middleware(AccessLog)] if options.access_log else [],
        lifespan=lifespan(registry, sampling),
    )


def _cache_options(options: ServeOptions, witness: Witness) -> dict[str, Any]:
    if options.cache == "memory://":
        if options.near_cache:
            raise ConfigurationError("a near cache is kept in front of Redis: memory:// is in the process already")
        return {}
    return {"near_cache": options.near_cache, "max_staleness": options.max_staleness, "observer": witness}


def _all_counted(own: CollectorRegistry) -> CollectorRegistry:
    """What all worker processes have counted together."""
    if _SHARED not in os.environ:
        return own
    folder = Path(os.environ[_SHARED])
    for process in _ended(folder):
        with suppress(FileNotFoundError):  # another worker was faster
            multiprocess.mark_process_dead(process)  # type: ignore[no-untyped-call]
    together = CollectorRegistry()
    together.register(_OfAllWorkers(folder))
    return together


class _OfAllWorkers(Collector):
    """Merges the files in which workers count. A file that a worker has just created has no content yet."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> Iterable[Metric]:
        """Return the metrics of all workers."""
        files = [str(file) for file in self._folder.glob("*.db") if _has_content(file)]
        merged: Iterable[Metric] = multiprocess.MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call]
        return merged


def _has_content(file: Path) -> bool:
    try:
        return file.stat().st_size > 0
    except FileNotFoundError:  # another worker has removed what an ended one left
        return False


def _ended(folder: Path) -> set[int]:
    """Workers that left gauges in the folder and are no more: what they had open is not open."""
    processes = {int(file.stem.rpartition("_")[2]) for file in folder.glob("gauge_live*.db")}
    return {process for process in processes if not _is_alive(process)}


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's by now
        return True
    return True


def _place(options: ServeOptions) -> str:
    """The storage, for people: without what a URL may hold of credentials."""
    scheme, _, rest = options.storage.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2].partition('?')[0]}"
