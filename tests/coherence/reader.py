"""A process with a near cache whose callers ask for blobs at random.

``python -m tests.coherence.reader URL FOLDER NUMBER``: the blobs are in ``blobs.json``. When standard
input ends it writes what it was answered, and ends.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import sys
import time
from array import array
from pathlib import Path

from aioblobcache import BlobUnknownError, CacheUnavailableError, Digest, RedisBlobDescriptorCache
from tests.coherence.history import BOUND, UNKNOWN, write_answers

CALLERS = 40
AT_ONCE = 10  # questions of a caller between two pauses
PAUSE = 0.02


async def main(url: str, folder: Path, number: int) -> None:
    blobs = [(Digest(digest), names) for digest, names in json.loads(folder.joinpath("blobs.json").read_text())]
    end = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    records: array[float] = array("d")
    # Fewer entries than answers, and every other reader has two connections.
    async with RedisBlobDescriptorCache.from_url(
        url, near_cache=2 * len(blobs), max_staleness=BOUND, timeout=5.0, lanes=1 + number % 2
    ) as cache:
        scopes = [[cache, *map(cache.repository_scoped, names)] for _, names in blobs]
        print("ready", flush=True)  # noqa: T201

        async def call(draw: random.Random) -> None:
            while not end.done():
                for _ in range(AT_ONCE):
                    blob = draw.randrange(len(blobs))
                    scope = draw.randrange(len(scopes[blob]))
                    service = scopes[blob][scope]
                    asked = time.monotonic()
                    try:
                        found = service.peek(blobs[blob][0])
                        near = found is not None
                        size = (found or await service.stat(blobs[blob][0])).size
                    except BlobUnknownError:
                        size = UNKNOWN
                    except CacheUnavailableError:  # its connection was killed
                        await asyncio.sleep(0.01)
                        continue
                    records.extend((blob, scope, asked, time.monotonic(), size, near))
                await asyncio.sleep(draw.uniform(0, PAUSE))

        async with asyncio.TaskGroup() as callers:
            for caller in range(CALLERS):
                callers.create_task(call(random.Random(f"{number} {caller}")))
    write_answers(folder / f"answers-{number}", records)


if __name__ == "__main__":
    logging.getLogger("aioblobcache").addHandler(logging.NullHandler())  # connections are killed all the time
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])))
