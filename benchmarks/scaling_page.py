"""``docs/scaling.md``, made from forecasts, from what checked them, and from what a server was measured to do."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Final

import attrs

from .fleet import Fleet, Forecast, popularity
from .fleet_check import Check
from .jobs import COLD, WITHOUT
from .markdown import markdown_table
from .results import Results
from .scaling import LARGE, LOAD, MIDDLE, SHARED_LARGE, SHARED_MIDDLE, SILENT, SIZES, Forecasts, nodes_for
from .server_costs import ServerCosts
from .targets import OURS

__all__ = ["scaling_page"]

_GIGA: Final = 1e9

# `tracking-table-max-keys`, as servers have it by default.
_DEFAULT_KEYS: Final = 1_000_000

_HEAD: Final = """\
# Scaling

<!-- Made by `python -m benchmarks page`: change benchmarks/scaling_page.py instead. -->

What fleets of registry processes take of Redis, beyond what one machine can show. The figures come from a simulation
(`benchmarks/fleet.py`): the library's own near caches, to which callers, a server that tracks who has read what,
pushes, deletes, restarts and dying networks are simulated, event by event. A few processes stand for all, since they
are alike. Take the figures for what they are: the order of things, and where it breaks.

## The simulation beside real processes

The same fleets, simulated and run on one machine: processes with near caches, Valkeys, and a writer that pushes new
blobs, deletes others and pushes them again. Wanted was that no figure is off by more than 20 %; the largest deviation
is {worst:.0%}.
"""

_LEFT_OUT: Final = """\
Left out of the simulation: fills of what is not cached yet, unknown blobs, what load does to a server's answers, and
any bound of what the server tracks. Checked are steady states of up to four processes and three nodes; what hundreds of
processes do is reckoned from a few of them.
"""

_FLEETS: Final = """\
## What three sizes take

Blobs are drawn by Zipf's law (the n-th most popular is asked for 1/n as often), {per_process:,.0f} stats a second from
each process: about what one of `aioblobcache serve` answers for a very small blob ([performance](performance.md)).
Images have ten layers of neighbouring popularity, repositories {per_repository:.0f} blobs; pushes and deletes fall on
repositories as stats do. Each process keeps {entries:,} answers, for at most {age:.0f} s (`near_max_age`). *By 8*:
whoever distributes requests asks each repository of eight processes only; why follows below.
"""

_NODES: Final = """\
- *Nodes* are those whose processors are busy to {load:.0%} with this; they share the slots of a Cluster, and each wants
  a replica besides. A stat whose keys are tracked takes {low:.1f} µs of a server's processor where many come at once,
  and about {high:.0f} µs where each of its three commands comes alone to a node of its own; without tracking it is
  {bare:.1f} and {bare_high:.0f} µs. The truth is between. Telling a client of a change takes about {telling:.0f} µs.
- So near caches *relieve the servers* when they answer more than {even_low:.0%} (where commands come alone) to
  {even:.0%} (where many come at once) of the stats. In the largest fleet, where {large:,} processes are asked for
  everything and {pushes:,.0f} pushes a second reach them all, they do not: there they are of use only where each
  repository is asked of some.
- *Memory of entries*: {blob:,.0f} bytes for a blob in one repository (its descriptor, its membership, its media type),
  by MEMORY USAGE. **A million blobs take {million:.1f} GB.** The guards of a miss or a delete take {guards:,.0f} more,
  for as long as they live.
- *Memory of tracking*: about {key:,.0f} bytes for a key that a client has read, and {reader:,.0f} for each other client
  that has.
- *Network*: {request:,.0f} bytes to the servers and {reply:,.0f} back for a stat that is not answered near.
"""

_ENTRIES: Final = """\
## How large a near cache, and how old its answers

The middle fleet, with near caches of other sizes, and with other values of `near_max_age`.

![Hit ratio by the size of the near cache, by pushes, and how stale answers are](scaling.svg)
"""

_AGE: Final = """\
Beyond some size a near cache holds all that is asked for twice within `near_max_age`; what is older is dead weight.
Raise it where storage is only changed through this cache. It is what bounds how long an answer survives a key that
has *expired* in Redis, which is announced late ([near cache](near-cache.md)).
"""

_TRACKING: Final = """\
## Where it breaks first: who has read what

For a near cache the server remembers of each key who has read it, until the key changes, however long ago the client
has forgotten it or ended. Processes that are asked for everything have read nearly everything after a day, each of
them. In the middle fleet that is {pairs} million pairs of a key and a process, **{memory} GB, {times:.0f} times
what the entries take**; in the largest it is out of all reach.

Redis and Valkey bound the number of *keys*, not of pairs: `tracking-table-max-keys`, 1,000,000 a node unless you say
otherwise. Beyond it they drop keys at random and tell their readers, which is never wrong, and costs hits. With
{processes} readers of each key that still is up to {default:.0f} GB a node: **set it so that it fits, and look at
`tracking_total_items` in INFO.**

**The remedy is to ask few processes for a repository**, say eight: whoever distributes requests sends each there by a
hash of the repository's name. Every near cache then holds fewer repositories and more of each, and each key has eight
readers: in the middle fleet {shared_memory} GB in place of {memory}, and {shared_hits:.0%} answered near in
place of {hits:.0%}. It takes a setting of the load balancer (for nginx `hash $repository consistent`, with a
repository cut out of the path by a `map`).

Its price: what everybody pulls is asked of eight processes as well. In this fleet the ten layers of the most popular
image are {popular:.0%} of all stats, and the busiest process gets {busiest} a second in place of {mean:,.0f}, more than
one can answer over HTTP. Spread the few hottest repositories over more processes (a hash with bounded loads, or a list
of them): they are few keys, so that costs little.

What the library could do besides, and does not yet: have only those keys tracked that are asked for a second time
(OPTIN), since most that a process reads in a day it never reads again.

## Where it breaks next: pushes into what everybody pulls

An answer rests on the repository's *set of members*, one key. A push changes it, and the server cannot say that it
only grew: every answer that any process keeps of that repository is dropped, and every process that had read it is
told. Where a repository is pushed to all the time and pulled from all the time, its answers do not live long enough
to be of use. The middle fleet, with more and more pushes, most of them into the repositories that are asked for most:
"""

_REMEDY: Final = """\
*By 8*, the remedy from above, is one here too: a push is told to eight processes and not to {processes}. Others:

- *Pull from repositories that are not pushed to.* Build into `ci/app`, and promote what is released into `app`.
- *Leave the near cache off* in processes that serve such repositories. Nobody is told of anything then, and each stat
  takes less of the server.
- *More nodes* do not help a single hot repository: its set is one key on one node.

It could only be cured at its root by a key for each membership. That would be another layout, which no registry
shares.

After that come connections: each process has one to each node, on which it sends four heartbeats in each
`max_staleness`. {large:,} processes are as many clients of each node, where `maxclients` is 10,000 unless you say
otherwise; and with {nodes} nodes, {beats} heartbeats a second. Fewer, larger processes are the better fleet; beyond
some fifty nodes, separate Redis for separate groups of repositories is simpler than one Cluster.
"""

_STALE: Final = """\
## How stale, and how often

Normally a process hears of a delete within a trip of the network, about when whoever deletes is told that it is done
([measured](performance.md), *the near cache besides*). What takes longer is a network that dies in silence. With
{silences:.1f} such deaths a second among {of} processes, far more than any network has, and {deletes} deletes a
second, {share:.1%} of the answers contradicted a delete that had been confirmed: half of them for less than
{half:.1f} s, the latest for {latest:.2f} s. `max_staleness` is {bound:.1f} s, and {is_kept}. The simulated processes
wait for that; a real one gives a connection up that has not answered a heartbeat within `timeout`, and drops what came
by it.
"""

_NAMES: Final = {
    "hit_ratio": "stats answered near",
    "misses": "stats at Redis, a second",
    "commands": "commands, a second",
    "invalidations": "keys told of, a second",
    "tracked_keys": "keys tracked",
    "tracked_pairs": "pairs of a key and a client",
}


@attrs.frozen
class _Times:
    """Seconds of a server's processor for a stat: where many come at once, and where each command comes alone."""

    tracked: tuple[float, float]
    bare: tuple[float, float]
    telling: float

    @classmethod
    def of(cls, costs: ServerCosts, runs: Sequence[Results]) -> _Times:
        tracked, bare = (median(_cpu_of_a_stat(run, job) for run in runs) for job in (COLD, WITHOUT))
        waking = costs.stat_cpu - bare  # for a request that comes alone; a stat is three in a Cluster
        return cls(
            (tracked, costs.tracked_cpu + 2 * waking), (bare, costs.stat_cpu + 2 * waking), max(0.0, costs.telling_cpu)
        )


def _cpu_of_a_stat(run: Results, job: str) -> float:
    return median(sample.server_cpu_seconds / sample.stats_on_server for sample in run.of(OURS, job, 128))


def scaling_page(forecasts: Forecasts, checks: Sequence[Check], runs: Sequence[Results]) -> str:
    """The page."""
    costs, times = checks[-1].costs, _Times.of(checks[-1].costs, runs)
    deviations = (one.deviations(place) for one in checks for place in range(len(one.fleets)))
    sections = [
        _HEAD.format(worst=max(abs(off) for of_one in deviations for off in of_one.values())),
        *map(_checked, checks),
        _LEFT_OUT,
        _of_sizes(forecasts, costs, times),
        _ENTRIES,
        _varied(forecasts.entries, "entries of each process"),
        _varied(forecasts.age, "seconds that answers may be old"),
        _AGE,
        _of_tracking(forecasts, costs),
        _pushes(forecasts),
        _of_remedies(forecasts, times),
        _of_staleness(forecasts.silent),
        "## Where and when\n",
        "".join(
            f"- {one.date}; {one.machine['processor']}, {one.machine['cores']} cores; {one.server};"
            f" {one.seconds:.0f} s after {one.warm_up:.0f} s of warming up.\n"
            for one in checks
        ),
    ]
    return "\n".join(sections)


def _rough(value: float) -> str:
    """Two digits: more would pretend to know more."""
    value = float(f"{value:.2g}")
    return f"{value:,.1f}" if value < 10 and value != round(value) else f"{value:,.0f}"


def _checked(check: Check) -> str:
    rows = []
    for name, words in _NAMES.items():
        form = ".1%" if name == "hit_ratio" else ",.0f"
        rows.append([words])
        for place, (forecast, seen) in enumerate(zip(check.forecasts, check.seen, strict=True)):
            said, was = (format(getattr(one, name), form) for one in (forecast, seen))
            rows[-1].append(f"{said}, {was}: {check.deviations(place)[name]:+.1%}")
    return markdown_table(["simulated, real: off by", *map(_described, check.fleets)], rows)


def _described(fleet: Fleet) -> str:
    words = [
        f"{fleet.processes} process{'es' if fleet.processes > 1 else ''}",
        f"{fleet.stats:,.0f} stats/s",
        f"{fleet.pushes:.0f} pushes/s",
        f"{fleet.near_cache:,} entries",
    ]
    if fleet.max_age < 60:
        words.append(f"at most {fleet.max_age:.0f} s old")
    if fleet.nodes > 1:
        words.append(f"{fleet.nodes} nodes")
    return ", ".join(words)


def _of_sizes(forecasts: Forecasts, costs: ServerCosts, times: _Times) -> str:
    middle = SIZES[MIDDLE]
    said = _FLEETS.format(
        per_process=middle.stats / middle.processes,
        per_repository=middle.blobs / middle.repositories,
        entries=middle.near_cache,
        age=middle.max_age,
    )
    low, high = times.tracked
    bare, bare_high = times.bare
    notes = _NODES.format(
        load=LOAD,
        low=1e6 * low,
        high=1e6 * high,
        bare=1e6 * bare,
        bare_high=1e6 * bare_high,
        telling=1e6 * times.telling,
        even=1 - bare / low,
        even_low=1 - bare_high / high,
        blob=costs.blob,
        million=costs.blob * 1e6 / _GIGA,
        guards=costs.guards,
        key=costs.tracked_key,
        reader=costs.reader,
        request=costs.request,
        reply=costs.reply,
        large=SIZES[LARGE].processes,
        pushes=SIZES[LARGE].pushes,
    )
    columns = [_size(name, fleet, forecasts.sizes[name], costs, times) for name, fleet in SIZES.items()]
    names = list(columns[0])
    rows = [[name, *(column[name] for column in columns)] for name in names[1:]]
    return "\n".join([said, markdown_table(["", *(column[names[0]] for column in columns)], rows), notes])


def _size(name: str, fleet: Fleet, one: Forecast, costs: ServerCosts, times: _Times) -> dict[str, str]:
    nodes = _nodes(fleet, one, times)
    cluster = attrs.evolve(fleet, nodes=max(nodes))
    return {
        "": f"{name} stats/s" if fleet.sharers is None else name,
        "processes": f"{fleet.processes:,}",
        "blobs in repositories": f"{fleet.blobs / 1e6:,.0f} M in {fleet.repositories:,}",
        "pushes and deletes, a second": f"{fleet.pushes:,.0f}, {fleet.deletes:,.0f}",
        "stats of the busiest process, a second": _rough(one.busiest),
        "answered near": f"{one.hit_ratio:.0%}",
        "stats at Redis, a second": _rough(one.misses),
        "commands, a second": _rough(3 * one.misses + cluster.beats + cluster.steps),
        "keys told of, a second": _rough(one.invalidations),
        "nodes": _span(nodes),
        "nodes without near caches": _span(_bare_nodes(fleet, one, times)),
        "memory of entries": f"{_rough(fleet.blobs * costs.blob / _GIGA)} GB",
        "pairs tracked after a day": f"{_rough(one.pairs_of_a_day / 1e6)} M",
        "memory of tracking, then, unbounded": f"{_rough(_tracking_gigabytes(one, costs))} GB",
        "network": f"{_rough(8 * one.misses * (costs.request + costs.reply) / 1e6)} Mbit/s",
    }


def _span(figures: Sequence[int]) -> str:
    return f"{figures[0]:,}" if figures[0] == figures[1] else f"{figures[0]:,} to {figures[1]:,}"


def _nodes(fleet: Fleet, one: Forecast, times: _Times) -> list[int]:
    return [nodes_for(fleet, one, stat=stat, telling=times.telling) for stat in times.tracked]


def _bare_nodes(fleet: Fleet, one: Forecast, times: _Times) -> list[int]:
    """Without near caches every stat is Redis', and there are no heartbeats to speak of."""
    plain = attrs.evolve(fleet, max_staleness=1e9)
    asked = attrs.evolve(one, misses=fleet.stats, invalidations=0.0)
    return [nodes_for(plain, asked, stat=stat, telling=0.0) for stat in times.bare]


def _tracking_gigabytes(one: Forecast, costs: ServerCosts) -> float:
    """After a day, if nothing bounds it."""
    others = max(0.0, one.pairs_of_a_day - one.keys_of_a_day)
    return (one.keys_of_a_day * costs.tracked_key + others * costs.reader) / _GIGA


def _of_tracking(forecasts: Forecasts, costs: ServerCosts) -> str:
    middle, all_of_them, shared = SIZES[MIDDLE], forecasts.sizes[MIDDLE], forecasts.sizes[SHARED_MIDDLE]
    memory, weights = _tracking_gigabytes(all_of_them, costs), popularity(middle)
    return _TRACKING.format(
        pairs=_rough(all_of_them.pairs_of_a_day / 1e6),
        memory=_rough(memory),
        times=memory / (middle.blobs * costs.blob / _GIGA),
        processes=middle.processes,
        default=_DEFAULT_KEYS * (costs.tracked_key + (middle.processes - 1) * costs.reader) / _GIGA,
        shared_memory=_rough(_tracking_gigabytes(shared, costs)),
        shared_hits=shared.hit_ratio,
        hits=all_of_them.hit_ratio,
        popular=weights[middle.image - 1] / weights[-1],
        busiest=_rough(shared.busiest),
        mean=middle.stats / middle.processes,
    )


def _varied(forecasts: dict[str, Forecast], what: str) -> str:
    rows = ([name, f"{one.hit_ratio:.0%}", _rough(one.misses)] for name, one in forecasts.items())
    return markdown_table([what, "answered near", "stats at Redis, a second"], rows)


def _pushes(forecasts: Forecasts) -> str:
    def figures(one: Forecast | None) -> list[str]:
        if one is None:
            return ["not simulated", "", ""]
        return [f"{one.hit_ratio:.0%}", _rough(one.misses), _rough(one.invalidations)]

    shared = forecasts.pushes_shared
    rows = ([rate, *figures(one), *figures(shared.get(rate))] for rate, one in forecasts.pushes.items())
    headings = ["answered near", "stats at Redis, a second", "keys told of, a second"]
    return markdown_table(["pushes a second", *headings, *(f"{text}, by 8" for text in headings)], rows)


def _of_remedies(forecasts: Forecasts, times: _Times) -> str:
    large = SIZES[SHARED_LARGE]
    nodes = max(_nodes(large, forecasts.sizes[SHARED_LARGE], times))
    return _REMEDY.format(
        processes=SIZES[MIDDLE].processes,
        large=large.processes,
        nodes=nodes,
        beats=_rough(attrs.evolve(large, nodes=nodes).beats),
    )


def _of_staleness(silent: Forecast) -> str:
    latest, bound = max(silent.staleness), SILENT.max_staleness
    return _STALE.format(
        silences=SILENT.silences,
        of=SILENT.processes,
        deletes=f"{SILENT.deletes:.0f}",
        share=silent.served_stale,
        half=median(silent.staleness),
        latest=latest,
        bound=bound,
        is_kept="no answer was later" if latest <= bound else "**that was exceeded**",
    )
