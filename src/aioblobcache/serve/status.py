"""The status page: HTML as it is sent, which asks for itself again every two seconds."""

from __future__ import annotations

import time
from collections.abc import Iterable
from html import escape
from typing import Any

import attrs

from .health import Health
from .witness import Event, Witness

__all__ = ["StatusPage"]

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --good: #1a7f37; --bad: #cf222e; }
@media (prefers-color-scheme: dark) { :root { --good: #3fb950; --bad: #ff7b72; } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 48rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
table { border-collapse: collapse; width: 100%; } td, th { text-align: left; padding: .3rem .6rem .3rem 0;
  border-bottom: 1px solid var(--line); vertical-align: top; } th { font-weight: normal; width: 16rem; }
td { font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
.good { color: var(--good); } .bad { color: var(--bad); font-weight: bold; }
"""


@attrs.frozen
class StatusPage:
    """What a person wants to know at a glance, of one worker process."""

    storage: str
    started: float  # seconds since the epoch
    process: int
    witness: Witness
    info: dict[str, Any]  # the provider's, or empty
    health: Health

    def html(self) -> str:
        """The page."""
        parts = [
            ("Parts", self._parts()),
            ("Answers", self._answers()),
            ("Near cache", self._near()),
            ("Connections to Redis", self._lanes()),
        ]
        tables = "".join(f"<h2>{escape(title)}</h2>{_table(rows)}" for title, rows in parts)
        return (
            '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="2">'
            '<meta name="viewport" content="width=device-width"><title>aioblobcache</title>'
            f"<style>{_STYLE}</style></head><body><h1>aioblobcache serves {escape(self.storage)}</h1>"
            f"{tables}<h2>Latest errors</h2>{_events(self.witness.latest())}"
            f"<p>Process {self.process}, for {_duration(time.time() - self.started)}.</p></body></html>"
        )

    def _parts(self) -> list[tuple[str, str]]:
        seconds = self.health.cache_seconds
        trip = "" if seconds is None else f", one round trip {seconds * 1000:.2f} ms"
        return [
            ("storage", _state(self.health.storage, "answers")),
            ("cache", _state(self.health.cache, f"answers{trip}")),
        ]

    def _answers(self) -> list[tuple[str, str]]:
        witness = self.witness
        asked = witness.hits + witness.misses
        ratio = f"{witness.hits / asked:.1%}" if asked else "nothing asked yet"
        return [
            ("hit ratio", ratio),
            ("by the cache", f"{witness.hits:,}"),
            ("by storage", f"{witness.misses:,}"),
            ("without the cache, which was unavailable", f"{witness.unavailable:,}"),
        ]

    def _near(self) -> list[tuple[str, str]]:
        near = self.info.get("near_cache")
        if near is None:
            return [("near cache", "not asked for")]
        why_off, age = near["why_off"], near["lease_age"]
        return [
            ("state", _state(why_off, "serves")),
            ("entries", f"{near['entries']:,}"),
            ("lease", "none" if age is None else f"{age * 1000:.0f} ms old"),
            ("hits, misses", f"{near['hits']:,}, {near['misses']:,}"),
            ("invalidations, flushes", f"{near['invalidations']:,}, {near['flushes']:,}"),
        ]

    def _lanes(self) -> list[tuple[str, str]]:
        if not self.info:
            return [("connections", "none: the cache is this process's memory")]
        info = self.info
        is_open = f"{info['lanes_open']} of {info['lanes']} open"
        why = None if info["lanes_open"] == info["lanes"] else is_open
        return [
            ("where", f"{info['topology']} at {escape(str(info['address']))}, by {info['road']}"),
            ("connections", _state(why, is_open)),
            ("in flight, waiting", f"{info['in_flight']:,}, {info['waiting']:,}"),
            ("made anew", f"{info['reconnects']:,}"),
        ]


def _state(wrong: str | None, well: str) -> str:
    return f'<span class="good">{escape(well)}</span>' if wrong is None else f'<span class="bad">{escape(wrong)}</span>'


def _table(rows: Iterable[tuple[str, str]]) -> str:
    return f"<table>{''.join(f'<tr><th>{escape(name)}</th><td>{value}</td></tr>' for name, value in rows)}</table>"


def _events(events: Iterable[Event]) -> str:
    rows = [(f"{time.strftime('%H:%M:%S', time.gmtime(event.at))} UTC", escape(_times(event))) for event in events]
    return _table(rows) if rows else "<p>None.</p>"


def _times(event: Event) -> str:
    return event.what if event.times == 1 else f"{event.what} ({event.times:,} times)"


def _duration(seconds: float) -> str:
    minutes, hours, days = seconds / 60, seconds / 3600, seconds / 86400
    if days >= 2:
        return f"{days:.0f} days"
    if hours >= 2:
        return f"{hours:.0f} hours"
    return f"{minutes:.0f} minutes" if minutes >= 2 else f"{seconds:.0f} seconds"
