"""The results on a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from .results import Results
from .targets import OURS, TARGETS

__all__ = ["show"]


def show(results: Results, console: Console) -> None:
    """Print what was measured, job by job, and what was to be reached."""
    console.print(_figures(results))
    console.print(_targets(results))


def _figures(results: Results) -> Table:
    table = Table(title="Medians of the rounds; CPU in seconds for a million blobs")
    table.add_column("job")
    table.add_column("peer")
    for heading in ("blobs/s", "aioblobcache is", "p50 µs", "p99 µs", "p99.9 µs", "client CPU", "server CPU", "MB"):
        table.add_column(heading, justify="right")
    for workload, callers in results.jobs():
        table.add_section()
        for peer in results.peers():
            if not (samples := results.of(peer, workload, callers)):
                continue
            ratio = results.ratio(OURS, peer, workload, callers, lambda sample: sample.rate)
            table.add_row(
                f"{workload}, {callers}" if peer == results.peers()[0] else "",
                peer,
                f"{results.median(peer, workload, callers, lambda sample: sample.rate):,.0f}",
                "" if peer == OURS or ratio is None else f"{ratio:.1f}×",
                *(
                    f"{results.median(peer, workload, callers, figure):,.0f}"
                    for figure in (lambda s: s.own.p50_us, lambda s: s.own.p99_us, lambda s: s.own.p999_us)
                ),
                *(
                    f"{results.median(peer, workload, callers, figure):.1f}"
                    for figure in (lambda s: s.client_cpu, lambda s: s.server_cpu)
                ),
                f"{max(sample.own.memory_bytes for sample in samples) / 1e6:.0f}",
            )
    return table


def _targets(results: Results) -> Table:
    table = Table(title="To be reached")
    for heading in ("against", "callers", "at least", "aim", "reached", ""):
        table.add_column(heading)
    for target in TARGETS:
        reached = target.reached(results)
        if reached is None:
            table.add_row(target.name, str(target.callers), "", "", "", "not measured")
            continue
        shown = [
            f"{value:.0%}" if target.is_share else f"{value:.1f}×" for value in (target.at_least, target.aim, reached)
        ]
        table.add_row(target.name, str(target.callers), *shown, "met" if reached >= target.at_least else "short")
    return table
