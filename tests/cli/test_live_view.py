from __future__ import annotations

import json

import attrs
from rich.console import Console

from aioblobcache.cli.live_view import as_data, rates_header, rates_line, rates_table
from aioblobcache.maintenance.rates import Rates

RATES = Rates(seconds=1.0, nodes=1, commands=12_345.6, hits=0.0, scoped_stats=0.25, clients=7, used_memory=3 << 20)
AWAY = Rates(seconds=1.0, nodes=0, unreachable="ConnectionError: [nobody] there")


def shown(rates):
    console = Console(width=80)
    with console.capture() as capture:
        console.print(rates_table(rates))
    return [line.split() for line in capture.get().splitlines()]


def test_table_has_one_line_for_each_rate():
    lines = shown(RATES)
    assert ["commands", "12,346"] in lines
    assert ["keys", "found", "0"] in lines
    assert ["keys", "not", "found", "–"] in lines
    assert ["stats", "in", "repositories", "0.2"] in lines
    assert ["connections", "7"] in lines
    assert ["memory", "3.0", "MiB"] in lines


def test_table_shows_errors_verbatim():
    assert ["ConnectionError:", "[nobody]", "there"] in shown(AWAY)


def test_lines_match_the_columns_of_their_header():
    header = rates_header().split("\t")
    line = dict(zip(header, rates_line(RATES).split("\t"), strict=True))
    assert line["commands"] == "12345.6"
    assert line["misses"] == "-"
    assert line["clients"] == "7"
    assert line["trouble"] == "-"
    line = dict(zip(header, rates_line(AWAY).split("\t"), strict=True))
    assert line["trouble"] == AWAY.unreachable
    assert {field.name for field in attrs.fields(Rates)} - {*header} == {
        "unreachable",
        "why_no_figures",
        "why_no_changes",
    }


def test_rates_can_be_serialized_as_json():
    data = json.loads(json.dumps(as_data(RATES)))
    assert data["scoped_stats"] == 0.25
    assert data["invalidations"] is None
