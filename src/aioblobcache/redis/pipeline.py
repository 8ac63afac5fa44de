"""The road through redis-py: each group of requests is one of its pipelines."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final, cast

from redis.asyncio import Redis

from .cancellation import keep_cancellation
from .resp import Reply, Request

__all__ = ["PipelineRoad"]

# More connections than this gain nothing in one process, and redis-py refuses a caller for whom its
# pool has none left, so callers wait here instead, first come first served.
_MOST_CONNECTIONS: Final = 32


class PipelineRoad:
    """Sends requests through a ``redis.asyncio`` client, and returns their replies in order."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._turns = asyncio.Semaphore(min(_MOST_CONNECTIONS, client.connection_pool.max_connections))

    async def send(self, requests: Sequence[Request]) -> list[Reply]:
        """Send the requests in one write; error replies are returned in their places.

        Raises what redis-py raises when there is no connection to be had or it breaks.
        """
        async with self._turns, self._client.pipeline(transaction=False) as pipeline:
            # A name in bytes has no response callback, and nothing is decoded even for a client
            # that was made with decode_responses: replies come as the server sent them.
            raw: dict[str, Any] = {"NEVER_DECODE": True}
            for request in requests:
                pipeline.execute_command(*request, **raw)
            return cast("list[Reply]", await keep_cancellation(pipeline.execute(raise_on_error=False)))
