"""How long a cleared blob is served elsewhere: ``python -m benchmarks.window ADDRESS FOLDER`` is the elsewhere.

It has a near cache, says of one blob after the other when it is served from there, and waits until it is not any more.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Final

import attrs

from aioblobcache import RedisBlobDescriptorCache

from .corpus import Corpus

__all__ = ["Window", "measure_window"]

_CLEARS: Final = 1_000


@attrs.frozen
class Window:
    """From when Redis has confirmed a clear until the blob is gone from another process's near cache."""

    clears: int
    p50_us: float
    p99_us: float


def measure_window(address: str, folder: Path, corpus: Corpus) -> Window:
    """Clear blobs: they are not there any more afterwards."""
    command = [sys.executable, "-m", "benchmarks.window", address, str(folder)]
    with subprocess.Popen(command, cwd=Path(__file__).parents[1], stdout=subprocess.PIPE, text=True) as elsewhere:
        assert elsewhere.stdout is not None
        confirmed = asyncio.run(_clear_what_is_served(address, corpus, elsewhere.stdout))
        gone = json.loads(elsewhere.stdout.readline())
    # The other process may have heard of it first.
    windows = sorted(max(0.0, end - begin) * 1e6 for begin, end in zip(confirmed, gone, strict=True))
    return Window(_CLEARS, windows[_CLEARS // 2], windows[_CLEARS * 99 // 100])


async def _clear_what_is_served(address: str, corpus: Corpus, says: IO[str]) -> list[float]:
    """Clear one blob after the other, each when ``says`` has another line; returns when each was confirmed."""
    confirmed = []
    async with RedisBlobDescriptorCache.from_url(f"redis://{address}/0", timeout=10.0) as cache:
        for blob in corpus.blobs[:_CLEARS]:
            await asyncio.to_thread(says.readline)
            await cache.repository_scoped(blob.repository).clear(blob.digest)
            confirmed.append(time.monotonic())
    return confirmed


async def _elsewhere(address: str, corpus: Corpus) -> None:
    gone = []
    url = f"redis://{address}/0"
    async with RedisBlobDescriptorCache.from_url(url, timeout=10.0, near_cache=_CLEARS, max_staleness=60.0) as cache:
        for blob in corpus.blobs[:_CLEARS]:
            repository = cache.repository_scoped(blob.repository)
            while repository.peek(blob.digest) is None:
                await repository.stat(blob.digest)
            print("served", flush=True)  # noqa: T201
            while repository.peek(blob.digest) is not None:  # noqa: ASYNC110
                await asyncio.sleep(0)
            gone.append(time.monotonic())
    print(json.dumps(gone), flush=True)  # noqa: T201


if __name__ == "__main__":
    asyncio.run(_elsewhere(sys.argv[1], Corpus.read(Path(sys.argv[2]))))
