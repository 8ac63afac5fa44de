"""Which event loop a provider serves, and when."""

from __future__ import annotations

import asyncio

from .errors import LifecycleError

__all__ = ["LoopBinding"]


class LoopBinding:
    """Binds its owner to the running event loop between entering and leaving a context, once.

    A forked child has to run a loop of its own, so the loop tells a fork as well.
    """

    __slots__ = ("_left", "_owner", "loop")

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self.loop: asyncio.AbstractEventLoop | None = None  # the one that is served, if any is now
        self._left = False

    def enter(self) -> None:
        """Bind to the running event loop."""
        if self.loop is not None or self._left:
            raise LifecycleError(f"{self._owner} can be entered once only: make another one")
        self.loop = asyncio.get_running_loop()

    def leave(self) -> None:
        """Serve nobody any more."""
        self.loop = None
        self._left = True

    def check(self) -> None:
        """Raise :class:`LifecycleError` unless the caller runs in the loop that was entered."""
        if asyncio.get_running_loop() is not self.loop:
            raise LifecycleError(self._misuse())

    def _misuse(self) -> str:
        if self._left:
            return f"{self._owner} was used after its 'async with' block had ended"
        if self.loop is None:
            return f"{self._owner} was used before it was entered: use 'async with'"
        return f"{self._owner} belongs to the event loop that entered it: make one per event loop and process"
