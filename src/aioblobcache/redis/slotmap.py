"""Which node serves which slot of a Cluster, by what its nodes say. No I/O, no clock.

The reply to CLUSTER SLOTS, and the error replies that send elsewhere (MOVED, ASK).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

import attrs

from .resp import Reply, UnexpectedReplyError, error_code

__all__ = ["SLOTS", "Endpoint", "Redirect", "SlotRange", "is_slots", "parse_redirect", "parse_slots"]

SLOTS: Final = 16_384


class Endpoint(NamedTuple):
    """Where a node listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@attrs.frozen
class SlotRange:
    """Slots from ``first`` to ``last``, both included, and who serves them."""

    first: int
    last: int
    primary: Endpoint
    replicas: tuple[Endpoint, ...]


@attrs.frozen
class Redirect:
    """MOVED: the slot is served there from now on. ASK: this once."""

    is_for_good: bool
    endpoint: Endpoint


def is_slots(reply: object) -> bool:
    """CLUSTER SLOTS."""
    return isinstance(reply, list)


def parse_slots(reply: Reply, asked: Endpoint) -> list[SlotRange]:
    """The reply to CLUSTER SLOTS of the node ``asked``, which need not know its own address.

    :raises UnexpectedReplyError: it is not one.
    """
    try:
        return [*_ranges(reply, asked)]
    except (TypeError, ValueError, UnicodeError) as error:
        raise UnexpectedReplyError("CLUSTER SLOTS was answered by something else") from error


def _ranges(reply: Reply, asked: Endpoint) -> Iterator[SlotRange]:
    if not isinstance(reply, list):
        raise TypeError
    for entry in reply:
        if not isinstance(entry, list):
            raise TypeError
        first, last, *nodes = entry
        if not isinstance(first, int) or not isinstance(last, int) or not 0 <= first <= last < SLOTS:
            raise ValueError
        primary, *replicas = (_endpoint(node, asked) for node in nodes)
        yield SlotRange(first, last, primary, tuple(replicas))


def _endpoint(node: Reply, asked: Endpoint) -> Endpoint:
    if not isinstance(node, list):
        raise TypeError
    host, port, *_ = node
    if not isinstance(port, int) or not (host is None or isinstance(host, bytes)):
        raise TypeError
    # Nothing or "?" stands for a host that the node does not know: it is where it was asked.
    return Endpoint(host.decode() if host and host != b"?" else asked.host, port)


def parse_redirect(reply: Reply, asked: Endpoint) -> Redirect | None:
    """What a MOVED or ASK of the node ``asked`` says; ``None`` of any other reply, and of one that names no place."""
    code = error_code(reply)
    if code not in ("MOVED", "ASK"):
        return None
    try:
        _code, _slot, place = str(reply).split()
        host, _, port = place.rpartition(":")
        return Redirect(code == "MOVED", Endpoint(host or asked.host, int(port)))
    except ValueError:
        return None
