"""The results on a terminal: the ratios, and what they are of."""

from __future__ import annotations

from statistics import median

from rich import box
from rich.console import Console
from rich.table import Table

from .results import Results
from .targets import OURS, TARGETS

__all__ = ["show"]


def show(results: Results, console: Console) -> None:
    """Print the medians of what was measured, job by job, and what was to be reached."""
    for workload, callers in results.jobs():
        console.print(_figures(results, workload, callers))
    console.print(_targets(results))


def _figures(results: Results, workload: str, callers: int) -> Table:
    table = Table(title=f"{workload}, {callers} callers", title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("peer")
    for heading in ("blobs/s", "ours is", "p50 µs", "p99 µs", "CPU s/M", "MB"):
        table.add_column(heading, justify="right")
    for peer in results.peers():
        samples = results.of(peer, workload, callers)
        if not samples:
            continue
        ratio = results.ratio(OURS, peer, workload, callers, lambda sample: sample.rate)
        table.add_row(
            peer,
            f"{median(sample.rate for sample in samples):,.0f}",
            "" if peer == OURS or ratio is None else f"{ratio:.1f}×",
            f"{median(sample.own.p50_us for sample in samples):,.0f}",
            f"{median(sample.own.p99_us for sample in samples):,.0f}",
            f"{median(sample.client_cpu for sample in samples):.1f}",
            f"{max(sample.own.memory_bytes for sample in samples) / 1e6:.0f}",
        )
    return table


def _targets(results: Results) -> Table:
    table = Table(title="To be reached", title_justify="left", box=box.SIMPLE_HEAD)
    for heading in ("against", "callers", "at least", "reached", ""):
        table.add_column(heading)
    for target in TARGETS:
        reached = target.reached(results)
        if reached is None:
            table.add_row(target.name, str(target.callers), target.shown(target.at_least), "", "not measured")
        else:
            verdict = "met" if target.is_met(reached) else "short"
            figures = (target.shown(target.at_least), target.shown(reached))
            table.add_row(target.name, str(target.callers), *figures, verdict)
    return table
