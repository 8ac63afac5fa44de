from __future__ import annotations

import asyncio
from collections.abc import Callable


async def until(condition: Callable[[], bool]) -> None:
    """Run the event loop until ``condition`` holds: for a state that offers nothing to await.

    One that never comes true is ended by the suite's timeout for each test.
    """
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0)
