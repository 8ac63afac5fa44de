"""The command: ``python -m benchmarks --help``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Final

from cyclopts import App, Parameter
from rich.console import Console

from aioblobcache.cli.embedded import sigterm_exits

from .contest import Settings, run_contest
from .fleet_check import check_fleets
from .jobs import SOME_NEAR_JOBS
from .layers import layers_table, measure_layers
from .page import Kept, page, with_summary
from .peers import PEERS
from .picture import draw, draw_pulls, draw_scaling
from .registries import measure_pulls, pulls_table
from .scaling import forecast_all
from .scaling_page import scaling_page
from .table import show
from .upkeep import measure_upkeep, upkeep_figures

_RESULTS: Final = Path(__file__).with_name("results")
_DOCS: Final = Path(__file__).parents[1] / "docs"
_README: Final = Path(__file__).parents[1] / "README.md"

app = App(name="python -m benchmarks", help="Measure this library beside its peers, on one server, in one run.")


@app.default
def run(
    *,
    peers: Annotated[list[str] | None, Parameter(consume_multiple=True, negative="")] = None,
    callers: Annotated[list[int] | None, Parameter(consume_multiple=True, negative="")] = None,
    seconds: float = 0.6,
    rounds: int = 5,
    output: Path = Path("build/benchmarks/results.json"),
    quick: Annotated[bool, Parameter(negative="")] = False,
    uvloop: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Measure, print the ratios, and write every round to a file.

    Every answer is compared with what is kept: a wrong one ends the run. Peers that are not
    installed are left out, with a line that says how to install them.

    Parameters
    ----------
    peers
        Who takes part; all by default.
    callers
        How many ask at once: 1, 16, 128 and 512 by default.
    seconds
        How long each peer does each job in each round.
    rounds
        How often they take turns; what is printed are medians.
    output
        The JSON file.
    quick
        A short form, within a minute: fewer jobs and rounds. Its figures are rough.
    uvloop
        Run the Python peers on uvloop.
    """
    console = Console()
    names = peers or list(PEERS)
    for name in names:
        if name not in PEERS:
            sys.exit(f"no peer is called {name!r}; they are: {', '.join(PEERS)}")
    loop = "uvloop" if uvloop else "asyncio"
    if quick:
        settings = Settings(
            names,
            callers or [1, 128],
            0.3,
            2,
            ("hit",),
            (100,),
            near=SOME_NEAR_JOBS,
            near_rounds=1,
            cluster_callers=[128],
            entries=100_000,
            loop=loop,
        )
    else:
        settings = Settings(names, callers or [1, 16, 128, 512], seconds, rounds, loop=loop)
    with sigterm_exits():
        results = run_contest(settings, console.print)
    results.write(output)
    show(results, console)
    console.print(f"every round: {output}")


@app.command
def registries(
    *,
    seconds: float = 3.0,
    rounds: int = 5,
    processes: Annotated[list[int] | None, Parameter(consume_multiple=True, negative="")] = None,
    output: Path = Path("build/benchmarks/registries.json"),
) -> None:
    """Pull from `aioblobcache serve` and from Debian's docker-registry, by wrk, and print the ratios.

    Parameters
    ----------
    seconds
        How long each server is asked for each blob in each round.
    rounds
        How often they take turns; what is printed are medians.
    processes
        How many worker processes, or processors for the registry: 1 and 2 by default.
    output
        The JSON file.
    """
    console = Console()
    with sigterm_exits():
        pulls = measure_pulls(rounds, seconds, processes or [1, 2], console.print)
    pulls.write(output)
    console.print(pulls_table(pulls), markup=False)
    console.print(f"every round: {output}")


@app.command
def layers(*, seconds: float = 1.0, rounds: int = 9, output: Path = Path("build/benchmarks/layers.json")) -> None:
    """Measure what read-through, metrics and traces cost around a provider.

    Parameters
    ----------
    seconds
        How long each is asked in each round.
    rounds
        How often they take turns; what is printed are medians.
    output
        The JSON file.
    """
    console = Console()
    with sigterm_exits():
        measured = measure_layers(rounds, seconds, console.print)
    measured.write(output)
    console.print(layers_table(measured), markup=False)
    console.print(f"every round: {output}")


@app.command
def upkeep(
    *,
    entries: int = 1_000_000,
    rounds: int = 3,
    seconds: float = 20.0,
    folder: Path | None = None,
    output: Path = Path("build/benchmarks/upkeep.json"),
) -> None:
    """Measure an audit and a warm-up of a large cache, their memory, and what other clients notice of them.

    The whole takes about 13 minutes.

    Parameters
    ----------
    entries
        How many the cache holds: half are descriptors, half memberships.
    rounds
        How often each is done; what is printed are medians. With a tree of files: once.
    seconds
        How long another client asks, alone and beside an audit, in each round.
    folder
        Where the tree of files is made, and removed in the end; a new folder among temporary files by default. A
        million entries take two million inodes and 4 GB, or in memory (/dev/shm, where this is quickest) some 7 GB.
    output
        The JSON file.
    """
    console = Console()
    with sigterm_exits():
        measured = measure_upkeep(entries, rounds, seconds, folder, console.print)
    measured.write(output)
    console.print(upkeep_figures([measured]), markup=False, soft_wrap=True)
    console.print(f"every round: {output}")


@app.command
def fleet(*, warm_up: float = 30.0, seconds: float = 50.0, output: Path = Path("build/benchmarks/fleet.json")) -> None:
    """Simulate fleets of processes with near caches, and run the same on this machine, beside each other.

    The whole takes about nine minutes.

    Parameters
    ----------
    warm_up
        How long near caches may fill before anything is counted.
    seconds
        How long it is counted.
    output
        The JSON file.
    """
    console = Console()
    with sigterm_exits():
        check = check_fleets(warm_up, seconds, console.print)
    check.write(output)
    for number in range(len(check.fleets)):
        off = ", ".join(f"{name} {deviation:+.1%}" for name, deviation in check.deviations(number).items())
        console.print(f"fleet {number + 1}, simulated against real: {off}", soft_wrap=True)
    console.print(f"all figures: {output}")


@app.command
def scaling(*, seconds: float = 30.0, output: Path = Path("build/benchmarks/forecasts.json")) -> None:
    """Simulate what fleets of other sizes take of Redis: some ten minutes, and all processors.

    Parameters
    ----------
    seconds
        Simulated seconds that are counted, after near caches have filled.
    output
        The JSON file.
    """
    console = Console()
    forecast_all(seconds, console.print).write(output)
    console.print(f"all figures: {output}")


@app.command(name="page")
def make_page() -> None:
    """Make docs/performance.md, docs/scaling.md, their pictures and README's summary from benchmarks/results."""
    kept = Kept.read(_RESULTS)
    draw(kept.runs[-1], _DOCS / "performance")
    if kept.pulls:
        draw_pulls(kept.pulls[-1], _DOCS / "registries")
    _DOCS.joinpath("performance.md").write_text(page(kept, "performance.svg"))
    if kept.forecasts:
        draw_scaling(kept.forecasts, _DOCS / "scaling")
        _DOCS.joinpath("scaling.md").write_text(scaling_page(kept.forecasts, kept.checks, kept.runs))
    _README.write_text(with_summary(_README.read_text(), kept.runs))


if __name__ == "__main__":
    app()
