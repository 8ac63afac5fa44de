from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable


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
