from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from redis.asyncio import Redis


async def until(condition: Callable[[], bool]) -> None:
    """Run the event loop until ``condition`` holds: for a state that offers nothing to await.

    One that never comes true is ended by the suite's timeout for each test.
    """
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0)


async def until_server_says(condition: Callable[[], Awaitable[bool | int]]) -> None:
    """The same for what a server has to be asked for, a hundred times a second."""
    while not await condition():  # noqa: ASYNC110
        await asyncio.sleep(0.01)


async def until_replicated(port: int, replicas: int) -> None:
    """What the server on this port has written so far is confirmed by so many replicas.

    WAIT would not do: it waits for the writes of its own connection, and of those there are none.
    """
    async with Redis(port=port) as client:
        written = (await client.info("replication"))["master_repl_offset"]

        async def confirmed() -> bool:
            said = await client.info("replication")
            offsets = [said[f"slave{number}"]["offset"] for number in range(said["connected_slaves"])]
            return sum(offset >= written for offset in offsets) >= replicas

        await until_server_says(confirmed)
