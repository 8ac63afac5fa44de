"""How rates look: a table that is drawn again and again, lines, or data."""

from __future__ import annotations

from typing import Any, Final

import attrs
from rich.table import Table
from rich.text import Text

from ..maintenance.rates import Rates
from .screen import in_bytes

__all__ = ["as_data", "rates_header", "rates_line", "rates_table"]

_PER_SECOND: Final = {
    "commands": "commands",
    "hits": "keys found",
    "misses": "keys not found",
    "scoped_stats": "stats in repositories",
    "writes": "sets, fills and clears of aioblobcache",
    "invalidations": "keys of the cache that changed",
    "descriptors": "  descriptors",
    "memberships": "  repositories",
    "overrides": "  media types of repositories",
    "flushes": "flushes of everything",
    "expired": "keys expired",
    "evicted": "keys evicted",
}
_NOW: Final = {"clients": "connections", "used_memory": "memory"}
_TROUBLES: Final = ("unreachable", "why_no_figures", "why_no_changes")
_COLUMNS: Final = ("seconds", "nodes", *_PER_SECOND, *_NOW)

_NOT_TOLD: Final = "–"


def rates_table(rates: Rates) -> Table:
    """For a person who watches."""
    table = Table("", box=None, pad_edge=False, show_header=True)
    table.add_column("a second", justify="right", min_width=12)
    for name, label in _PER_SECOND.items():
        table.add_row(label, _number(getattr(rates, name)))
    table.add_section()
    table.add_row(_NOW["clients"], _number(rates.clients))
    table.add_row(_NOW["used_memory"], _NOT_TOLD if rates.used_memory is None else in_bytes(rates.used_memory))
    for trouble in filter(None, (getattr(rates, name) for name in _TROUBLES)):
        table.add_row(Text(trouble, "bold red", overflow="fold"), "")
    return table


def rates_header() -> str:
    """What stands in the columns of :func:`rates_line`; they are separated by tabs."""
    return "\t".join((*_COLUMNS, "trouble"))


def rates_line(rates: Rates) -> str:
    """For a file or a pipe."""
    troubles = "; ".join(filter(None, (getattr(rates, name) for name in _TROUBLES)))
    return "\t".join((*(_plain(getattr(rates, name)) for name in _COLUMNS), troubles or "-"))


def as_data(rates: Rates) -> dict[str, Any]:
    """As what ``json`` can write."""
    return attrs.asdict(rates)


def _number(rate: float | None) -> str:
    if rate is None:
        return _NOT_TOLD
    return f"{rate:,.1f}" if isinstance(rate, float) and 0 < rate < 10 else f"{rate:,.0f}"


def _plain(value: float | None) -> str:
    return "-" if value is None else str(value) if isinstance(value, int) else f"{value:.1f}"
