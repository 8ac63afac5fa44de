"""What read-through, metrics and traces cost, put around a provider: hits by Redis, 128 callers, in turns."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import datetime
import gc
import inspect
import json
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median
from types import ModuleType
from typing import Final, Self

import attrs
from obstore.store import MemoryStore
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import NoOpTracerProvider
from prometheus_client import CollectorRegistry

from aioblobcache import CachedRegistry, Descriptor, Digest, RedisBlobDescriptorCache, readthrough
from aioblobcache.contrib.opentelemetry import traced
from aioblobcache.contrib.prometheus import PrometheusObserver, timed
from aioblobcache.interfaces import GuardedCacheProvider
from aioblobcache.observer import Observer
from aioblobcache.storage import RegistryStorage

from .answers import is_right, require
from .corpus import Blob, Corpus, write_corpus
from .machine import machine_of
from .rounds import write_rounds
from .server import running_server

__all__ = ["LAYERS", "LayerRun", "Layers", "layers_table", "measure_layers"]

_CALLERS: Final = 128

BARE: Final = "the provider alone"
UNASKED: Final = "read-through without the calls to an observer"
THROUGH: Final = "read-through, nobody observes"
OBSERVED: Final = "read-through, Prometheus counts"
TIMED: Final = "and Redis is timed"
UNTRACED: Final = "spans that nobody records"
TRACED: Final = "spans that are recorded and dropped"
LAYERS: Final = (BARE, UNASKED, THROUGH, OBSERVED, TIMED, UNTRACED, TRACED)

_Stat = Callable[[str, Digest], Awaitable[Descriptor]]


@attrs.frozen
class LayerRun:
    """One way to ask, in one round."""

    round: int
    layer: str
    stats: int
    seconds: float

    @property
    def rate(self) -> float:
        """Stats a second."""
        return self.stats / self.seconds


@attrs.frozen
class Layers:
    """A whole run, and where and when it was."""

    date: str
    machine: dict[str, str]
    runs: list[LayerRun]

    def write(self, path: Path) -> None:
        """Keep it as JSON, a line each."""
        write_rounds(self, path)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what :meth:`write` wrote."""
        document = json.loads(path.read_text())
        return cls(**{**document, "runs": [LayerRun(**row) for row in document["runs"]]})

    def of(self, layer: str) -> list[LayerRun]:
        """The rounds of one."""
        return [run for run in self.runs if run.layer == layer]

    def with_all(self, others: Sequence[Layers]) -> Layers:
        """This run and others, as if they had been one."""
        return attrs.evolve(self, runs=[run for layers in (*others, self) for run in layers.runs])

    def cost(self, layer: str, beside: str) -> float:
        """How much fewer stats than ``beside`` it does, as a share: the median of the rounds."""
        pairs = zip(self.of(layer), self.of(beside), strict=True)
        return median(1 - one.rate / other.rate for one, other in pairs)


def measure_layers(rounds: int, seconds: float, say: Callable[[str], None]) -> Layers:
    """Do the whole run; ``say`` is told of each round."""
    with tempfile.TemporaryDirectory(prefix="aioblobcache-layers-") as name:
        folder = Path(name)
        write_corpus(folder)
        corpus = Corpus.read(folder)
        with running_server(folder / "valkey") as server:
            server.load(corpus.blobs)
            runs = asyncio.run(_measure(f"redis://{server.address}", corpus, rounds, seconds, say))
    return Layers(datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"), machine_of(), runs)


async def _measure(url: str, corpus: Corpus, rounds: int, seconds: float, say: Callable[[str], None]) -> list[LayerRun]:
    asked = [(blob, Digest(blob.digest)) for blob in corpus.drawn()]
    runs = []
    async with contextlib.AsyncExitStack() as stack:
        ways = {layer: await stack.enter_async_context(_open(layer, url)) for layer in LAYERS}
        for number in range(rounds):
            say(f"round {number + 1} of {rounds}")
            turn = number % len(LAYERS)
            for layer in (*LAYERS[turn:], *LAYERS[:turn]):
                await _work(ways[layer], asked, seconds / 5)
                stats, took = await _work(ways[layer], asked, seconds)
                runs.append(LayerRun(number, layer, stats, took))
    return runs


@asynccontextmanager
async def _open(layer: str, url: str) -> AsyncIterator[_Stat]:
    """A provider with what the layer puts around it."""
    cache: GuardedCacheProvider
    observer: Observer | None = None
    async with RedisBlobDescriptorCache.from_url(url, timeout=10.0) as provider:
        cache = provider
        if layer == BARE:

            def bare(name: str, digest: Digest) -> Awaitable[Descriptor]:
                return provider.repository_scoped(name).stat(digest)

            yield bare
            return
        if layer in (OBSERVED, TIMED):
            observer = metrics = PrometheusObserver(CollectorRegistry())
            cache = timed(provider, metrics) if layer == TIMED else provider
        elif layer == UNTRACED:
            cache = traced(provider, NoOpTracerProvider())
        elif layer == TRACED:
            cache = traced(provider, TracerProvider())
        registry_class = unobserved_registry() if layer == UNASKED else CachedRegistry
        registry = registry_class(cache, RegistryStorage(MemoryStore()), observer=observer)  # all is cached

        def through(name: str, digest: Digest) -> Awaitable[Descriptor]:
            return registry.blobs(name).stat(digest)

        yield through


class _WithoutObserver(ast.NodeTransformer):
    """Takes out each statement that does nothing but call an observer."""

    def __init__(self) -> None:
        self.taken_out = 0

    def visit_Expr(self, node: ast.Expr) -> ast.stmt:
        if not (isinstance(node.value, ast.Call) and ".observer." in ast.unparse(node.value.func)):
            return node
        self.taken_out += 1
        return ast.copy_location(ast.Pass(), node)


def unobserved_registry() -> type[CachedRegistry]:
    """``CachedRegistry`` as it would be if there were no observers: what having them costs is the difference."""
    transformer = _WithoutObserver()
    tree = transformer.visit(ast.parse(inspect.getsource(readthrough)))
    if transformer.taken_out < 4:
        raise AssertionError("read-through no longer calls its observer as it did: a hit, a miss, a failure, a refusal")
    module = ModuleType(readthrough.__name__)
    module.__package__ = readthrough.__package__
    exec(compile(tree, "<read-through without observers>", "exec"), module.__dict__)  # noqa: S102 - our own source
    registry: type[CachedRegistry] = module.CachedRegistry
    return registry


async def _work(stat: _Stat, asked: Sequence[tuple[Blob, Digest]], seconds: float) -> tuple[int, float]:
    # What stands here for ever is not to be searched for garbage, and what is put by in one list hardly is.
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    answers: list[Descriptor] = []
    blobs: list[Blob] = []
    began = time.perf_counter()
    ends = began + seconds

    async def call(place: int) -> None:
        while time.perf_counter() < ends:
            blob, digest = asked[place]
            answers.append(await stat(blob.repository, digest))
            blobs.append(blob)
            place = (place + 1) % len(asked)

    step = len(asked) // _CALLERS
    async with asyncio.TaskGroup() as callers:
        for number in range(_CALLERS):
            callers.create_task(call(number * step))
    took = time.perf_counter() - began
    for answer, blob in zip(answers, blobs, strict=True):
        require(is_right(answer, blob), answer, blob)
    return len(answers), took


def layers_table(layers: Layers) -> str:
    """What a run says, as a table of Markdown."""
    lines = ["| | stats/s | costs, of the provider alone | of such a read-through |", "| --- | ---: | ---: | ---: |"]
    for layer in LAYERS:
        rate = median(run.rate for run in layers.of(layer))
        alone = "" if layer == BARE else f"{layers.cost(layer, BARE):.1%}"
        through = "" if layer in (BARE, UNASKED) else f"{layers.cost(layer, UNASKED):.1%}"
        lines.append(f"| {layer} | {rate:,.0f} | {alone} | {through} |")
    return "\n".join(lines) + "\n"
