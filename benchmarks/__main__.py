"""The command: ``python -m benchmarks --help``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Final

from cyclopts import App, Parameter
from rich.console import Console

from aioblobcache.cli.embedded import sigterm_exits

from .contest import Settings, run_contest
from .jobs import SOME_NEAR_JOBS
from .page import page, with_summary
from .peers import PEERS
from .picture import draw
from .results import Results
from .table import show

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


@app.command(name="page")
def make_page(*results: Path) -> None:
    """Make docs/performance.md, its pictures and README's summary from the results of one or more runs.

    Parameters
    ----------
    results
        The JSON files, the latest last; by default all in benchmarks/results.
    """
    files = list(results) or sorted(_RESULTS.glob("*.json"))
    runs = [Results.read(path) for path in files]
    draw(runs[-1], _DOCS / "performance")
    earlier = [Results.read(path) for path in sorted(_RESULTS.glob("earlier/*.json"))]
    _DOCS.joinpath("performance.md").write_text(page(runs, earlier, "performance.svg"))
    _README.write_text(with_summary(_README.read_text(), runs))


if __name__ == "__main__":
    app()
