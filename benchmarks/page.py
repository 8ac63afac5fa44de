"""``docs/performance.md``, made from the results of several runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Final, Self, TypeVar

import attrs

from .fleet_check import Check
from .jobs import HIT, IN_STORM
from .layers import Layers, layers_table
from .markdown import markdown_table
from .registries import DISTRIBUTION, LARGE, NEAR, SERVE, SMALL, Pulls, pulls_table
from .results import Results
from .scaling import Forecasts
from .targets import OURS, TARGETS, Target
from .upkeep import Upkeep, upkeep_figures

__all__ = ["Kept", "page", "with_summary"]

_T = TypeVar("_T")

_WHAT_HELPED: Final = Path(__file__).with_name("what_helped.md")
_UPKEEP: Final = Path(__file__).with_name("upkeep.md")

_HEAD: Final = """\
# Performance

<!-- Made by `python -m benchmarks page`: change benchmarks/page.py or benchmarks/what_helped.md instead. -->

How fast a stat is, beside every client that could answer the same question. All figures of a run come from one
machine and one server within a few minutes, the peers taking turns in every round: their *ratios* mean something,
the absolute numbers are this machine's and its neighbours'. Ratios differ with the kind of processor too: earlier runs
on another stand below.

![Throughput and latency by callers]({picture})
"""

_METHOD: Final = """\
## What is measured

- 100,000 blobs in 500 repositories, under the keys of CNCF Distribution, drawn by Zipf's law (the n-th most popular is
  asked for 1/n as often). Each *caller* asks again as soon as it has been answered.
- *hit*: a stat of a blob that its repository holds. *miss*: of one that nobody holds. *mixed*: one operation in twenty
  sets a descriptor. *stat_many(n)*: n blobs of a repository by one call.
- **Every answer is compared with what is kept**; a wrong or missing one ends the run. Where a near cache answers, that
  takes longer than the answer, so there it is done when the clock stands.
- Each peer is a process of its own. This library is given plain strings and validates all it is given and gets; the
  other Python peers validate nothing and return a named tuple.
- `redis-py pipeline` and `coredis`: `pipeline(transaction=False)`, with as many connections as served them best.
  `valkey-glide`: a non-atomic batch. `redis-py awaits`: three commands, one after the other.
- `Distribution (Go)`: the registry's own `NewRedisBlobDescriptorCacheProvider` in a small Go program, with the
  registry's own test of a connection before each use, a PING, and with a connection for each caller, which is more than
  a registry allows itself. `Distribution, no PING`: the same without that test, which no release of 2.8 can switch off.
- *near hit*, *peek*: with a near cache that holds every blob, one caller, `Digest`s passed in, all in one repository or
  spread over 500; timed for a thousand answers at a time. *uniform*: every blob is asked for as often as any other.
  *A bare dict* is asked in the same process and minutes, with a look at the clock and nothing else: what these machines
  do at most, which differs by half from hour to hour.
  *nine in ten near*: drawn by Zipf's law, with 24,000 entries; *the same without* is the lane alone. *cold*: with a
  near cache of 1,000 entries, half of the questions are about the 100 hottest blobs, half about all; *in a storm*,
  another client overwrites the hottest 50,000 times a second. `coredis` uses its own tracking cache in these, by single
  commands, since its pipeline does not use it.
- *hit, three nodes*: on a Cluster of three primaries, all on the one machine; redis-py's is the pipeline of
  `RedisCluster`, which makes as many connections as it has callers.
- *The server's ceiling*: `redis-benchmark -c 16 -P 64` for SISMEMBER, HMGET and HGET of one blob, each alone; the
  harmonic sum of the three is what the server could do if it did nothing else.
- CPU is in seconds for a million blobs, of the client's process and of the server's. Memory is the most that the
  client's process held, its interpreter and the list of 100,000 blobs included.
- Equal questions of callers who ask in the same tick of the event loop go to the server once; *on the server* says how
  many stats arrived there for each that was asked.

To measure by yourself, and to make this page:

```sh
python3 -m venv .venv && .venv/bin/pip install '.[benchmarks]' && .venv/bin/python -m benchmarks --quick
.venv/bin/python -m benchmarks --output benchmarks/results/1.json   # the whole, about 15 minutes
.venv/bin/python -m benchmarks page
```
"""

_EARLIER: Final = """\
## Earlier, on another machine

The same at an earlier state of the code. Ratios to programs in Go differ most: on this processor they are slower,
beside Python. The near cache's jobs of 128 callers included the comparing of answers then, a third of a hit's time.
"""

_PULLS: Final = """\
## Pulling from a registry

`aioblobcache serve` beside Debian's `docker-registry`, on one storage folder and one Redis, each asked by wrk with 32
connections for one blob; every answer is compared with the blob. *processes* are the workers of `serve`, and what
GOMAXPROCS says to the Go program; its connections to Redis are its default. wrk, Redis and all servers share the two
cores, so that with two processes there are fewer cores than there is work. Access logs are off.

![Blobs a second and processor time for each, small and large](registries.svg)
"""

_LAYERS: Final = """\
## What metrics and traces cost

Hits by Redis, 128 callers, each way to ask in a provider and on a connection of its own, taking turns; medians of all
rounds of the runs that are kept. Metrics and traces are layers around a provider: where there are none, there is
nothing to skip. Read-through tells its observer of each hit; with none, that is a method that does nothing, and what
this costs is the difference to the same source without these calls. *Recorded and dropped* is what OpenTelemetry's SDK
takes for a span before it is exported; its processors and exporters come on top.
"""

# What stands between these lines of README.md is made from the results as well.
_BEGIN: Final = "<!-- measured, by `python -m benchmarks page` -->\n"
_END: Final = "<!-- end of what was measured -->\n"

_SUMMARY: Final = """\
With 128 callers, one process answers {redis} times as many scoped stats as by redis-py's pipeline, {glide} times as
many as by valkey-glide, {coredis} times as many as by coredis, and {go} times as many as CNCF Distribution's own Go
provider ({bare} without the PING that its registry sends first), for one {cpu}th of the CPU that the pipeline takes.
Smallest and largest of {count} runs on {machines} of {cores} cores; all figures, and how they were measured:
[performance](docs/performance.md).
"""


def with_summary(readme: str, runs: Sequence[Results]) -> str:
    """README.md with what these runs say."""
    before, _, rest = readme.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    cpu_ratios = [run.ratio("redis-py pipeline", OURS, HIT, 128, lambda sample: sample.client_cpu) for run in runs]
    cpu = [ratio for ratio in cpu_ratios if ratio is not None]
    machines = len({_machine(run) for run in runs})
    summary = _SUMMARY.format(
        redis=_range(runs, "redis-py pipeline"),
        glide=_range(runs, "valkey-glide"),
        coredis=_range(runs, "coredis"),
        go=_range(runs, "Distribution (Go)"),
        bare=_range(runs, "Distribution, no PING"),
        cpu=f"{median(cpu):.0f}" if cpu else "(not measured)",
        count=len(runs),
        machines="one machine" if machines == 1 else f"{machines} machines",
        cores=runs[-1].machine["cores"],
    )
    return f"{before}{_BEGIN}{summary}{_END}{after}"


def _range(runs: Sequence[Results], peer: str) -> str:
    """How many times as fast as a peer: the smallest and the largest of the runs."""
    ratios = [run.ratio(OURS, peer, HIT, 128, lambda sample: sample.rate) for run in runs]
    measured = [ratio for ratio in ratios if ratio is not None]
    return f"{min(measured):.1f} to {max(measured):.1f}" if measured else "(not measured)"


@attrs.frozen
class Kept:
    """All results that are kept."""

    runs: Sequence[Results]
    earlier: Sequence[Results] = ()  # on another machine
    pulls: Sequence[Pulls] = ()  # of registries
    layers: Sequence[Layers] = ()
    upkeep: Sequence[Upkeep] = ()
    checks: Sequence[Check] = ()  # of the simulated fleet
    forecasts: Forecasts | None = None

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read those in a folder, each kind by date."""

        def read(pattern: str, kind: Callable[[Path], _T]) -> list[_T]:
            return [kind(path) for path in sorted(folder.glob(pattern))]

        return cls(
            read("*.json", Results.read),
            read("earlier/*.json", Results.read),
            read("registries/*.json", Pulls.read),
            read("layers/*.json", Layers.read),
            read("upkeep/*.json", Upkeep.read),
            read("fleet/*.json", Check.read),
            next(iter(read("forecasts/*.json", Forecasts.read)), None),
        )


def page(kept: Kept, picture: str) -> str:
    """The page; the last run's figures stand in it in full."""
    runs, earlier, pulls, layers = kept.runs, kept.earlier, kept.pulls, kept.layers
    last = runs[-1]
    sections = [
        _HEAD.format(picture=picture),
        "## What it reaches\n",
        _targets(runs),
        _METHOD,
        "## All figures of the last run\n",
        "Medians of the rounds; *aioblobcache is* the median of the rounds' ratios.\n",
        _figures(last),
        "## The near cache besides\n",
        _near(runs),
        *([_PULLS, *_registries(pulls)] if pulls else []),
        *([_LAYERS, layers_table(layers[-1].with_all(layers[:-1]))] if layers else []),
        *([_UPKEEP.read_text(), upkeep_figures(kept.upkeep)] if kept.upkeep else []),
        "## Where and when\n",
        _circumstances(runs),
        *([_EARLIER, _targets(earlier), _circumstances(earlier)] if earlier else []),
        _WHAT_HELPED.read_text(),
    ]
    return "\n".join(sections)


def _targets(runs: Sequence[Results]) -> str:
    headings = ["against", "callers", "at least", "aim", *(f"run {number + 1}" for number in range(len(runs)))]
    rows = [
        [
            target.name,
            str(target.callers),
            target.shown(target.at_least),
            target.shown(target.aim),
            *(_reached(target, run) for run in runs),
        ]
        for target in TARGETS
    ]
    return markdown_table(headings, rows)


def _reached(target: Target, run: Results) -> str:
    reached = target.reached(run)
    if reached is None:
        return "not measured"
    shown = target.shown(reached)
    return shown if target.is_met(reached) else f"**{shown}: short**"


def _figures(run: Results) -> str:
    headings = [
        "peer",
        "blobs/s",
        "aioblobcache is",
        "p50 µs",
        "p99 µs",
        "p99.9 µs",
        "client CPU s",
        "server CPU s",
        "on the server",
        "MB",
    ]
    parts = []
    for workload, callers in run.jobs():
        rows = [_row(run, peer, workload, callers) for peer in run.peers() if run.of(peer, workload, callers)]
        title = f"### {workload}, {callers} caller{'s' if callers > 1 else ''}"
        parts.append(f"{title}\n\n{markdown_table(headings, rows)}")
    return "\n".join(parts)


def _row(run: Results, peer: str, workload: str, callers: int) -> list[str]:
    samples = run.of(peer, workload, callers)
    ratio = run.ratio(OURS, peer, workload, callers, lambda sample: sample.rate)
    return [
        peer,
        f"{median(sample.rate for sample in samples):,.0f}",
        "" if peer == OURS or ratio is None else f"{ratio:.1f}×",
        f"{median(sample.own.p50_us for sample in samples):,.0f}",
        f"{median(sample.own.p99_us for sample in samples):,.0f}",
        f"{median(sample.own.p999_us for sample in samples):,.0f}",
        f"{median(sample.client_cpu for sample in samples):.1f}",
        f"{median(sample.server_cpu for sample in samples):.1f}",
        f"{median(sample.stats_on_server / sample.own.operations for sample in samples):.2f}",
        f"{max(sample.own.memory_bytes for sample in samples) / 1e6:.0f}",
    ]


def _near(runs: Sequence[Results]) -> str:
    lines = []
    for number, run in enumerate(runs):
        if run.footprint and run.window:
            stormy = run.of(OURS, IN_STORM, 128)
            told = median(sample.own.invalidations / sample.own.seconds for sample in stormy)
            lines.append(
                f"- Run {number + 1}: {run.footprint.bytes_each:.0f} bytes of resident memory for each of"
                f" {run.footprint.entries:,} entries. A clear that Redis has confirmed was gone from another process"
                f" after {run.window.p50_us:,.0f} µs (median of {run.window.clears:,}; 99 % within"
                f" {run.window.p99_us:,.0f} µs). In the storm it was told of {told:,.0f} changes a second: those of"
                " blobs that it had read since the last."
            )
    return "\n".join(lines or ["Not measured."]) + "\n"


_TARGETS_OF_PULLS: Final = """\
Wanted were, of the small blob, four times Distribution's blobs a second with the near cache (eight were aimed at),
three times without, for a quarter of its processor time; of the large one as many. In these runs it was {small},
{plain}, {cpu}, and {large}.

**Where it is slower:** a mebibyte takes {large_cpu} of Distribution's processor time, asked of one process; and that
process uses {cores} cores for it ({small_cores} for the small blob), since obstore reads files in threads of its own,
where GOMAXPROCS=1 holds Distribution to {their_cores}. So with one process the blobs a second are not like for like.
"""


def _targets_of_pulls(pulls: Sequence[Pulls]) -> str:
    def span(figures: Iterable[float], form: str) -> str:
        low, high = format(min(figures := list(figures)), form), format(max(figures), form)
        return low if low == high else f"{low} to {high}"

    def ratios(server: str, blob: str, *, cpu: bool = False) -> Iterable[float]:
        counts = {one.processes for run in pulls for one in run.pulls}
        return [run.ratio(server, count, blob, cpu=cpu) for run in pulls for count in counts]

    def cores(server: str, blob: str) -> Iterable[float]:
        return [median(one.cpu_us * one.rate / 1e6 for one in run.of(server, 1, blob)) for run in pulls]

    return _TARGETS_OF_PULLS.format(
        small=f"{span(ratios(NEAR, SMALL), '.1f')} times",
        plain=f"{span(ratios(SERVE, SMALL), '.1f')} times",
        cpu=f"{span([*ratios(NEAR, SMALL, cpu=True), *ratios(SERVE, SMALL, cpu=True)], '.0%')} of it",
        large=f"{span([*ratios(NEAR, LARGE), *ratios(SERVE, LARGE)], '.1f')} times as many",
        large_cpu=span([run.ratio(SERVE, 1, LARGE, cpu=True) for run in pulls], ".0%"),
        cores=span(cores(SERVE, LARGE), ".1f"),
        small_cores=span(cores(SERVE, SMALL), ".1f"),
        their_cores=span(cores(DISTRIBUTION, LARGE), ".1f"),
    )


def _registries(pulls: Sequence[Pulls]) -> list[str]:
    parts = [_targets_of_pulls(pulls)]
    for number, run in enumerate(pulls):
        versions = "; ".join(f"{name} {version}" for name, version in run.versions.items())
        where = f"{run.date}; {run.machine['processor']}, {run.machine['cores']} cores; {versions}"
        parts.append(f"Run {number + 1} ({where}):\n\n{pulls_table(run)}")
    return parts


def _circumstances(runs: Sequence[Results]) -> str:
    last = runs[-1]
    machines = dict.fromkeys(_machine(run) for run in runs)
    of_each = [[number + 1 for number, run in enumerate(runs) if _machine(run) == machine] for machine in machines]
    ceilings = [
        f"{median(one.stats for one in run.ceilings) / 1000:,.0f} k/s in run {number + 1}"
        for number, run in enumerate(runs)
        if run.ceilings
    ]
    settings = last.settings
    rounds = f"{settings['rounds']} rounds of {settings['seconds']:g} s for each job, event loop `{settings['loop']}`"
    lines = [
        f"- Runs: {', '.join(run.date for run in runs)}; {rounds}.",
        *(
            f"- Run{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))}: {machine}."
            for machine, numbers in zip(machines, of_each, strict=True)
        ),
        f"- Versions: {'; '.join(f'{name}: {version}' for name, version in last.versions.items())}.",
        f"- The server's ceiling: {', '.join(ceilings) or 'not measured'}.",
    ]
    return "\n".join(lines) + "\n"


def _machine(run: Results) -> str:
    """What a run was on: ratios differ from one kind of processor to the next."""
    machine = run.machine
    memory = f"{int(machine['memory_bytes']) / 2**30:.0f} GiB"
    return f"{machine['processor']}, {machine['cores']} cores, {memory}, {machine['system']}"
