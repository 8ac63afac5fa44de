"""A client that asks at a steady, modest pace: ``python -m benchmarks.bystander ADDRESS BLOBS SECONDS``.

For each line on standard input it asks about known blobs for so long, one at a time, and prints what each answer took.
"""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from aioblobcache import RedisBlobDescriptorCache

from .tree import blob, described, repository_of

__all__ = ["RATE", "bystander"]

RATE: Final = 200  # questions a second


@contextmanager
def bystander(address: str, blobs: int, seconds: float) -> Iterator[Callable[[], list[float]]]:
    """A process that asks for ``seconds`` each time that it is called; the seconds that each answer took, ordered."""
    command = [sys.executable, "-m", "benchmarks.bystander", address, str(blobs), str(seconds)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=Path(__file__).parents[1], stdin=pipe, stdout=pipe, text=True) as process:
        asks, says = process.stdin, process.stdout
        assert asks is not None
        assert says is not None

        def ask() -> list[float]:
            print(file=asks, flush=True)
            line = says.readline()
            if not line:
                sys.exit("the client beside an audit failed")
            return sorted(json.loads(line))

        try:
            yield ask
        finally:
            process.kill()


async def _main(address: str, blobs: int, seconds: float) -> None:
    draw = random.Random(2019)  # noqa: S311
    async with RedisBlobDescriptorCache.from_url(f"redis://{address}/0", timeout=10.0) as cache:
        await _ask(cache, draw, blobs, 0.2)
        while await asyncio.to_thread(sys.stdin.readline):
            print(json.dumps(await _ask(cache, draw, blobs, seconds)), flush=True)  # noqa: T201


async def _ask(cache: RedisBlobDescriptorCache, draw: random.Random, blobs: int, seconds: float) -> list[float]:
    took = []
    began = time.perf_counter()
    for number in range(round(RATE * seconds)):
        digest = blob(draw.randrange(blobs))
        repository = cache.repository_scoped(repository_of(digest))
        await asyncio.sleep(began + number / RATE - time.perf_counter())
        asked = time.perf_counter()
        answer = await repository.stat(digest)
        took.append(time.perf_counter() - asked)
        if answer != described(digest):
            raise AssertionError(f"{answer} where {described(digest)} is kept")
    return took


if __name__ == "__main__":
    address, blobs, seconds = sys.argv[1:]
    asyncio.run(_main(address, int(blobs), float(seconds)))
