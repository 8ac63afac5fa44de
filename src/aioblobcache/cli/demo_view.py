"""How the demonstration looks: a table and the keys, or data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..digest import Digest
from .demo import DemoReport, Key, Step

__all__ = ["as_data", "offer_to_serve", "show", "show_how_to_pull"]

_COMMANDS = {"hash": "HGETALL", "set": "SMEMBERS", "string": "GET"}


def as_data(report: DemoReport) -> dict[str, Any]:
    """The report as what ``json`` can write; times in seconds."""
    return {"as_expected": report.as_expected, **attrs.asdict(report)}


def show(report: DemoReport, console: Console) -> None:
    """Print the report for a person."""
    console.print(f"A registry's questions, answered by storage or by\n{report.server}:\n")
    console.print(_table(report))
    console.print("\nWhat that left in Redis, under the keys that every Distribution registry shares:\n")
    for key in report.keys:
        for line in _lines(key):
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    verdict = "Every answer was the expected one." if report.as_expected else "Not every answer was the expected one!"
    console.print(f"\n{verdict}")


def offer_to_serve(console: Console) -> None:
    """Say how the sample registry can be pulled from."""
    console.print("To pull from this registry with a client of yours: aioblobcache demo --serve", highlight=False)


def show_how_to_pull(listen: str, console: Console) -> None:
    """Say what can be done with the sample registry while it is served."""
    address = f"localhost{listen}" if listen.startswith(":") else listen
    for line in (
        f"\nThe sample registry is served at http://{address}/ until Ctrl-C. Try, from another terminal:\n",
        f"  skopeo inspect --tls-verify=false docker://{address}/library/demo:latest",
        f"  docker pull {address}/library/demo:latest",
        f"  curl http://{address}/v2/library/demo/tags/list\n",
    ):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _table(report: DemoReport) -> Table:
    table = Table("", "what was asked", "answered by", box=None, pad_edge=False)
    table.add_column("descriptor", overflow="fold")
    table.add_column("time", justify="right", no_wrap=True)
    for step in report.steps:
        table.add_row(
            Text("✓", "green") if step.as_expected else Text("✗", "bold red"),
            step.asked,
            step.answered_by or "–",
            _descriptor(step),
            f"{step.seconds * 1000:.2f} ms",
        )
    return table


def _descriptor(step: Step) -> str:
    found = step.descriptor
    if found is None:
        return f"{_short(step.digest)} {step.outcome}"
    return f"{_short(found.digest)} {found.size} bytes\n{found.media_type}"


def _short(digest: Digest) -> str:
    return f"{digest.algorithm}:{digest.encoded[:6]}…"


def _lines(key: Key) -> Iterator[str]:
    """As ``redis-cli`` prints it."""
    yield f"> {_COMMANDS[key.kind]} {key.name}"
    if isinstance(key.value, str):
        yield f'"{key.value}"'
        return
    items = [part for pair in key.value.items() for part in pair] if isinstance(key.value, dict) else key.value
    for number, item in enumerate(items, 1):
        yield f'{number}) "{item}"'
