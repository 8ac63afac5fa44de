"""Runs the peers side by side: each in a process of its own, all on one server or one Cluster, taking turns."""

from __future__ import annotations

import contextlib
import datetime
import json
import platform
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import attrs

from . import ceiling
from .ceiling import Ceiling, measure_ceiling
from .corpus import Corpus, write_corpus
from .footprint import measure_footprint
from .jobs import (
    BARE,
    HIT,
    IN_STORM,
    MISS,
    MIXED,
    NEAR_JOBS,
    ON_CLUSTER,
    PEEK,
    PEEK_UNIFORM,
    WITHOUT,
    Job,
    Measurement,
    many,
)
from .machine import machine_of
from .peers import CLUSTER_PEERS, PEERS, GoKind, MissingPeerError, PeerKind
from .results import Results, Sample
from .server import Server, running_cluster, running_server
from .storm import storm
from .window import measure_window

__all__ = ["Settings", "run_contest"]

_ROOT: Final = Path(__file__).parents[1]
_WARM_UP: Final = 0.1  # seconds of each job that are not counted


@attrs.frozen
class Settings:
    """Who takes part, and in what."""

    peers: Sequence[str]
    callers: Sequence[int]
    seconds: float  # of each job
    rounds: int
    workloads: Sequence[str] = (HIT, MISS, MIXED)
    batches: Sequence[int] = (10, 100)
    batch_callers: int = 16
    near: Sequence[tuple[str, int, int]] = NEAR_JOBS
    near_rounds: int = 3  # of the rounds, those with these
    cluster_callers: Sequence[int] = (1, 128)
    entries: int = 1_000_000  # of the one whose memory is measured
    loop: str = "asyncio"

    def jobs(self, number: int) -> list[Job]:
        """What each peer does in a round."""
        single = [Job(workload, callers, self.seconds) for workload in self.workloads for callers in self.callers]
        batches = [Job(many(batch), self.batch_callers, self.seconds) for batch in self.batches]
        near = [Job(workload, callers, self.seconds, kept) for workload, callers, kept in self.near]
        return single + batches + (near if number < self.near_rounds else [])


class PeerProcess:
    """A peer's process, for as long as the context lasts."""

    def __init__(self, name: str, kind: PeerKind | GoKind, server: Server, folder: Path, loop: str) -> None:
        self.name = name
        self.server = server
        self._kind = kind
        self._command = kind.command(name, server.address, folder, loop)

    def does(self, job: Job) -> bool:
        """Whether it has what the job needs."""
        kind = self._kind
        if job.workload in (PEEK, PEEK_UNIFORM, *BARE):
            return kind.has_peek
        if job.batch > 1:
            return kind.has_stat_many
        return kind.has_near_cache or not (job.kept or job.workload == WITHOUT)

    def do(self, job: Job) -> Measurement:
        """Let it do a job, and return what it measured; if it fails, so does this program."""
        line = ""
        with contextlib.suppress(BrokenPipeError):  # it has ended already
            print(json.dumps(attrs.asdict(job)), file=self._requests, flush=True)
            line = self._replies.readline()
        if not line:
            sys.exit(f"{self.name} failed at {job}: what it said stands above")
        return Measurement(**json.loads(line))

    def __enter__(self) -> Self:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(self._command, cwd=_ROOT, stdin=pipe, stdout=pipe, text=True)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests, self._replies = self._process.stdin, self._process.stdout
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._process.kill()
        self._process.communicate()  # closes its input, which ends it


def run_contest(settings: Settings, say: Callable[[str], None]) -> Results:
    """Measure, telling ``say`` how far it has come."""
    versions = {"python": f"{platform.python_version()} ({_build()})"}
    for name in settings.peers:
        try:
            versions[name] = PEERS[name].version()
        except MissingPeerError as error:
            say(f"without {name}: {error}")
    if cure := ceiling.missing():
        say(f"without the server's ceiling: {cure}")
    ceilings: list[Ceiling] = []
    samples: list[Sample] = []
    with tempfile.TemporaryDirectory(prefix="aioblobcache-benchmarks-") as name, ExitStack() as stack:
        folder = Path(name)
        write_corpus(folder)
        corpus = Corpus.read(folder)
        server = stack.enter_context(running_server(folder / "valkey"))
        server.load(corpus.blobs)
        versions["server"] = server.version()
        cluster = stack.enter_context(running_cluster(folder / "cluster"))
        cluster.load(corpus.blobs)

        def start(kinds: Mapping[str, PeerKind | GoKind], server: Server) -> list[PeerProcess]:
            return [
                stack.enter_context(PeerProcess(name, kinds[name], server, folder, settings.loop))
                for name in settings.peers
                if name in versions and name in kinds
            ]

        peers, cluster_peers = start(PEERS, server), start(CLUSTER_PEERS, cluster)
        for number in range(settings.rounds):
            say(f"round {number + 1} of {settings.rounds}")
            if not cure:
                ceilings.append(measure_ceiling(server.port, corpus.blobs[0]))
            for job in settings.jobs(number):
                for peer in _in_turn(peers, number):
                    if peer.does(job):
                        with storm(server.address, folder) if job.workload == IN_STORM else nullcontext():
                            samples.append(_measure(number, peer, job))
            for callers in settings.cluster_callers:
                job = Job(ON_CLUSTER, callers, settings.seconds)
                samples.extend(_measure(number, peer, job) for peer in _in_turn(cluster_peers, number))
        footprint = window = None
        if settings.near_rounds:
            say("the near cache's memory, and how soon it hears of a clear")
            footprint = measure_footprint(settings.entries)
            window = measure_window(server.address, folder, corpus)
    order = {name: place for place, name in enumerate(settings.peers)}
    samples.sort(key=lambda sample: (sample.round, order[sample.peer]))
    return Results(
        datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        machine_of(),
        versions,
        attrs.asdict(settings),
        ceilings,
        samples,
        footprint,
        window,
    )


def _in_turn(peers: list[PeerProcess], number: int) -> list[PeerProcess]:
    """Each round begins with another peer: none always follows the same one."""
    turn = number % len(peers) if peers else 0
    return [*peers[turn:], *peers[:turn]]


def _measure(number: int, peer: PeerProcess, job: Job) -> Sample:
    server = peer.server
    peer.do(attrs.evolve(job, seconds=_WARM_UP))
    before = server.counts()
    own = peer.do(job)
    after = server.counts()
    return Sample(
        number,
        peer.name,
        job.workload,
        job.callers,
        own,
        after.cpu_seconds - before.cpu_seconds,
        after.stats - before.stats,
        after.overwrites - before.overwrites,
    )


def _build() -> str:
    """How the interpreter was built: it matters more than its version."""
    optimised = "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or "")
    return "built with profile-guided optimisation" if optimised else "built without profile-guided optimisation"
