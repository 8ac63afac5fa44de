"""Lanes as a provider's options want them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from .coherence import Coherence
from .keeper import Connect
from .keys import probe_key
from .lane import Lane
from .options import RedisOptions
from .scripts import Script
from .writes import load_request

__all__ = ["LaneMaker", "close_all"]


async def _any_key() -> bytes:
    return probe_key()


class LaneMaker:
    """Makes the lanes of a provider."""

    def __init__(self, options: RedisOptions, coherence: Coherence | None) -> None:
        self.options = options
        self._coherence = coherence

    def make(
        self,
        connect: Connect,
        address: str,
        known: Sequence[Script],
        *,
        on_lost: Callable[[], None] | None = None,
        probe: Callable[[], Awaitable[bytes]] = _any_key,
    ) -> Lane:
        """A lane on the running event loop, to a server that is taught the scripts.

        ``on_lost`` is called whenever it has no connection any more; ``probe`` gives a key of nobody's
        that the server serves.
        """
        return Lane(
            connect,
            address,
            timeout=self.options.timeout,
            max_in_flight=self.options.max_in_flight,
            connect_timeout=max(self.options.connect_timeout, self.options.timeout),
            longest_pause=self.options.longest_pause,
            greeting=[load_request(script) for script in known],
            companion=None if self._coherence is None else self._coherence.companion(address, probe),
            on_lost=on_lost,
        )

    async def unmake(self, lanes: Sequence[Lane]) -> None:
        """Close lanes while the provider goes on."""
        if self._coherence is not None:
            for lane in lanes:
                self._coherence.dismiss(lane.companion)
        await close_all(lanes)


async def close_all(lanes: Sequence[Lane]) -> None:
    """Close lanes; first what a cancellation cannot interrupt."""
    for lane in lanes:
        lane.close()
    for lane in lanes:
        await lane.aclose()
