"""Throughput and latency of every peer, drawn."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import Final

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt

from .jobs import HIT
from .results import Results
from .targets import OURS

__all__ = ["draw"]

_COLOURS: Final = ("#d1495b", "#3366aa", "#88aadd", "#2a9d8f", "#e9a23b", "#777777", "#bbbbbb")


def draw(results: Results, stem: Path) -> None:
    """Write ``stem`` as PNG and as SVG: stats that hit, by the number of callers."""
    callers = [number for workload, number in results.jobs() if workload == HIT]
    plt.rcParams.update({"svg.hashsalt": "aioblobcache", "font.size": 10})
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
    figure.savefig(stem.with_suffix(".png"), dpi=110, metadata={"Software": ""})
    figure.savefig(stem.with_suffix(".svg"), metadata={"Date": None})
    plt.close(figure)
