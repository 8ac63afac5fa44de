"""A process with a near cache that asks for one blob without end.

``python -m tests.faults.near_reader URL NAME DIGEST SECONDS``: it prints ``near`` once answers come from
the near cache, and ``unknown`` once the blob is unknown. When standard input ends it prints its answers as
JSON: runs of equal answers, each with the times at which the first and the last were asked for.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

from aioblobcache import BlobUnknownError, CacheUnavailableError, RedisBlobDescriptorCache


async def main(url: str, name: str, digest: str, max_staleness: str) -> None:
    end = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    runs: list[list[object]] = []
    near = False
    async with RedisBlobDescriptorCache.from_url(
        url, near_cache=100, max_staleness=float(max_staleness), timeout=10.0
    ) as cache:
        repository = cache.repository_scoped(name)
        while not end.done():
            if not near and repository.peek(digest) is not None:
                near = True
                print("near", flush=True)  # noqa: T201
            asked = time.monotonic()
            try:
                answer: int | None = (await repository.stat(digest)).size
            except BlobUnknownError:
                answer = None
            except CacheUnavailableError:
                answer = -1
            if runs and runs[-1][0] == answer:
                runs[-1][2] = asked
            else:
                runs.append([answer, asked, asked])
                if answer is None:
                    print("unknown", flush=True)  # noqa: T201
            await asyncio.sleep(0)
    print(json.dumps(runs), flush=True)  # noqa: T201


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
