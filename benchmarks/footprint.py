"""What an entry of a near cache takes: ``python -m benchmarks.footprint ENTRIES`` prints bytes of resident memory."""

from __future__ import annotations

import gc
import random
import subprocess
import sys
from pathlib import Path

import attrs

from aioblobcache import Descriptor, Digest
from aioblobcache.redis.near import NearCache, Source

from .memory import memory_bytes

__all__ = ["Footprint", "measure_footprint"]


@attrs.frozen
class Footprint:
    """Memory of a process for each entry, its digest and descriptor included."""

    entries: int
    bytes_each: float


def measure_footprint(entries: int) -> Footprint:
    """Fill a near cache in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.footprint", str(entries)]
    ran = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=True)
    return Footprint(entries, float(ran.stdout))


def _bytes_each(entries: int) -> float:
    near = NearCache(entries, max_staleness=1.0, max_age=60.0)
    source = Source(near)
    near.renew(source.lease, 0.0)
    tables = [near.table(f"team/service-{number}") for number in range(500)]
    draw = random.Random(2018)  # noqa: S311
    gc.collect()
    before = memory_bytes("VmRSS")
    for number in range(entries):
        digest = Digest(f"sha256:{draw.getrandbits(256):064x}")
        descriptor = Descriptor(digest, draw.getrandbits(30), "application/octet-stream")
        source.reading(tables[number % len(tables)], digest).keep(descriptor)
    gc.collect()
    if near.entries != entries:
        raise AssertionError(near.entries)
    return (memory_bytes("VmRSS") - before) / entries


if __name__ == "__main__":
    print(_bytes_each(int(sys.argv[1])))  # noqa: T201
