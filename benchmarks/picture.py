"""Throughput and latency of every peer, drawn."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import Final

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .fleet import Forecast
from .jobs import HIT
from .registries import DISTRIBUTION, LARGE, NEAR, SERVE, SMALL, Pulls
from .results import Results
from .scaling import SILENT, Forecasts
from .targets import OURS

__all__ = ["draw", "draw_pulls", "draw_scaling"]

plt.rcParams.update({"svg.hashsalt": "aioblobcache", "font.size": 10})

_COLOURS: Final = ("#d1495b", "#3366aa", "#88aadd", "#2a9d8f", "#e9a23b", "#777777", "#bbbbbb")


def draw(results: Results, stem: Path) -> None:
    """Write ``stem`` as PNG and as SVG: stats that hit, by the number of callers."""
    callers = [number for workload, number in results.jobs() if workload == HIT]
    figure, (rates, latencies) = plt.subplots(1, 2, figsize=(11, 4.6), layout="constrained")
    for peer, colour in zip(results.peers(), _COLOURS, strict=False):
        style = {"color": colour, "marker": "o", "linewidth": 2.5 if peer == OURS else 1.5}
        measured = [number for number in callers if results.of(peer, HIT, number)]
        rates.plot(
            measured,
            [results.median(peer, HIT, number, lambda sample: sample.rate) for number in measured],
            label=peer,
            **style,
        )
        latencies.plot(
            measured,
            [results.median(peer, HIT, number, lambda sample: sample.own.p99_us / 1000) for number in measured],
            label=peer,
            **style,
        )
    if results.ceilings:
        ceiling = median(one.stats for one in results.ceilings)
        rates.axhline(ceiling, color="#dddddd", linestyle="--", label="what the server can do")
    rates.set(title="Scoped stats a second (more is better)", xlabel="callers at once", xscale="log", yscale="log")
    latencies.set(title="99th percentile, ms (less is better)", xlabel="callers at once", xscale="log", yscale="log")
    for axes in (rates, latencies):
        axes.set_xticks(callers, [str(number) for number in callers])
        axes.minorticks_off()
        axes.grid(visible=True, alpha=0.3)
    rates.set_yticks([1_000, 10_000, 100_000], ["1 k", "10 k", "100 k"])
    latencies.set_yticks([0.1, 1, 10, 100], ["0.1", "1", "10", "100"])
    figure.legend(*rates.get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    _save(figure, stem)


def draw_pulls(pulls: Pulls, stem: Path) -> None:
    """Write ``stem`` as PNG and as SVG: blobs a second of each registry, and the processor time for each."""
    figure, axes = plt.subplots(1, 4, figsize=(11, 4), layout="constrained")
    servers = (DISTRIBUTION, SERVE, NEAR)
    counts = sorted({one.processes for one in pulls.pulls})
    for column, (blob, figure_of, title) in enumerate(
        (blob, figure_of, f"{blob}: {title}")
        for blob in (SMALL, LARGE)
        for title, figure_of in (("blobs/s", "rate"), ("CPU µs", "cpu_us"))
    ):
        for place, (server, colour) in enumerate(zip(servers, ("#2a9d8f", "#d1495b", "#8b1e3f"), strict=True)):
            heights = [median(getattr(one, figure_of) for one in pulls.of(server, count, blob)) for count in counts]
            axes[column].bar(
                [number + place * 0.27 for number in range(len(counts))], heights, 0.25, color=colour, label=server
            )
        axes[column].set_xticks(
            [number + 0.27 for number in range(len(counts))],
            [f"{count} process{'es' * (count > 1)}" for count in counts],
        )
        axes[column].set_title(title)
        axes[column].grid(visible=True, axis="y", alpha=0.3)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    _save(figure, stem)


def draw_scaling(forecasts: Forecasts, stem: Path) -> None:
    """Write ``stem`` as PNG and as SVG: what near caches answer, by their size and by pushes, and how late some are."""
    figure, (by_entries, by_pushes, staleness) = plt.subplots(1, 3, figsize=(11, 3.8), layout="constrained")
    _draw_hits(by_entries, forecasts.entries, colour="#d1495b")
    by_entries.set(title="Answered near, %", xlabel="entries of a near cache")
    _draw_hits(by_pushes, forecasts.pushes_shared, colour="#2a9d8f", label="8 processes a repository")
    _draw_hits(by_pushes, forecasts.pushes, colour="#d1495b", label="all processes")  # last: it has all the ticks
    by_pushes.set(title="Answered near, %", xlabel="pushes a second")
    by_pushes.legend(frameon=False)
    late = forecasts.silent.staleness
    shares = [100 * (place + 1) / len(late) for place in range(len(late))]
    staleness.plot(late, shares, color="#3366aa")
    staleness.axvline(SILENT.max_staleness, color="#999999", linestyle="--", label="max_staleness")
    staleness.set(title="Late answers, % so late or less", xlabel="seconds after the delete was confirmed")
    staleness.legend(frameon=False)
    for axes in (by_entries, by_pushes, staleness):
        axes.minorticks_off()
        axes.grid(visible=True, alpha=0.3)
    _save(figure, stem)


def _draw_hits(axes: Axes, forecasts: dict[str, Forecast], *, colour: str, label: str | None = None) -> None:
    places = [_number(name) for name in forecasts]
    shares = [100 * one.hit_ratio for one in forecasts.values()]
    axes.plot(places, shares, color=colour, marker="o", label=label)
    axes.set(xscale="log", ylim=(0, 100))
    axes.set_xticks(places, [name.replace(",000", " k") for name in forecasts])


def _number(name: str) -> int:
    return int(name.replace(",", ""))


def _save(figure: Figure, stem: Path) -> None:
    figure.savefig(stem.with_suffix(".png"), dpi=110, metadata={"Software": ""})
    figure.savefig(stem.with_suffix(".svg"), metadata={"Date": None})
    plt.close(figure)
