"""The options of the Redis provider, their defaults and limits: the one home of each."""

from __future__ import annotations

import math
from typing import Final, Literal, TypedDict

import attrs

from ..errors import ConfigurationError, shorten
from ..observer import Observer, as_observer

__all__ = ["RedisOptions", "RedisOptionsDict"]

_LONGEST_SECONDS: Final = 10 * 366 * 86_400.0
_LARGEST_COUNT: Final = 1_000_000
_MOST_ENTRIES: Final = 100_000_000
_SHORTEST_STALENESS: Final = 0.05


def _check_seconds(_: object, attribute: attrs.Attribute[float], value: float) -> None:
    usable = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not usable or not 0.001 <= value <= _LONGEST_SECONDS:
        raise ConfigurationError(
            f"{attribute.name} is a number of seconds from 0.001 to ten years, not {shorten(value)}"
        )


def _require_int(name: str, value: object, least: int, most: int, range_: str) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise ConfigurationError(f"{name} is an int from {range_}, not {shorten(value)}")


def _check_count(_: object, attribute: attrs.Attribute[int], value: int) -> None:
    _require_int(attribute.name, value, 1, _LARGEST_COUNT, f"1 to {_LARGEST_COUNT}")


def _check_entries(_: object, attribute: attrs.Attribute[int], value: int) -> None:
    _require_int(attribute.name, value, 0, _MOST_ENTRIES, f"0 (none) to {_MOST_ENTRIES}")


def _check_read_from(instance: RedisOptions, _: object, value: str) -> None:
    if value not in ("primary", "replica"):
        raise ConfigurationError(f"read_from is 'primary' or 'replica', not {shorten(value)}")
    if value == "replica" and instance.near_cache:
        raise ConfigurationError("near_cache needs read_from='primary': replicas cannot vouch for what they answer")


def _check_staleness(instance: object, attribute: attrs.Attribute[float], value: float) -> None:
    _check_seconds(instance, attribute, value)
    if value < _SHORTEST_STALENESS:
        raise ConfigurationError(f"{attribute.name} is {_SHORTEST_STALENESS} seconds or more, not {shorten(value)}")


@attrs.frozen(kw_only=True)
class RedisOptions:
    """Everything that can be chosen about a Redis provider. Times are seconds.

    :raises ConfigurationError: a value is of the wrong type or out of range.
    """

    # How long what this provider writes may stand, from each set anew; None: no limit.
    ttl: float | None = attrs.field(default=None, validator=attrs.validators.optional(_check_seconds))
    # How long a call may take in all before it fails with CacheUnavailableError.
    timeout: float = attrs.field(default=0.25, validator=_check_seconds)
    # How long one attempt to connect may take.
    connect_timeout: float = attrs.field(default=1.0, validator=_check_seconds)
    # How long to wait at most before the next one.
    longest_pause: float = attrs.field(default=1.0, validator=_check_seconds)
    # How long a miss's token and a clear's tombstone live.
    guard_ttl: float = attrs.field(default=60.0, validator=_check_seconds)
    # How many requests of a lane may be under way at once; further callers wait their turn.
    max_in_flight: int = attrs.field(default=4096, validator=_check_count)
    # Connections for each node.
    lanes: int = attrs.field(default=1, validator=_check_count)
    # How many answers may be kept in the process; 0: none.
    near_cache: int = attrs.field(default=0, validator=_check_entries)
    # How long an answer may be served after Redis has confirmed a change to it, whatever becomes of the network.
    max_staleness: float = attrs.field(default=1.0, validator=_check_staleness)
    # How long an answer may be served at all: that a key has expired is told late.
    near_max_age: float = attrs.field(default=60.0, validator=_check_seconds)
    # Whom to ask in a Cluster: "replica" takes load off the primaries, and its answers may be old.
    read_from: Literal["primary", "replica"] = attrs.field(default="primary", validator=_check_read_from)
    observer: Observer = attrs.field(default=None, converter=as_observer)

    @property
    def ttl_ms(self) -> int | None:
        """``ttl`` as Redis takes it."""
        return None if self.ttl is None else round(self.ttl * 1000)

    @property
    def near_age(self) -> float:
        """``near_max_age``, and no longer than what this provider writes may stand."""
        return self.near_max_age if self.ttl is None else min(self.near_max_age, self.ttl)

    @property
    def guard_ms(self) -> int:
        """``guard_ttl`` as Redis takes it."""
        return round(self.guard_ttl * 1000)


class RedisOptionsDict(TypedDict, total=False):
    """The same, as keyword arguments."""

    ttl: float | None
    timeout: float
    connect_timeout: float
    longest_pause: float
    guard_ttl: float
    max_in_flight: int
    lanes: int
    near_cache: int
    max_staleness: float
    near_max_age: float
    read_from: Literal["primary", "replica"]
    observer: Observer | None
