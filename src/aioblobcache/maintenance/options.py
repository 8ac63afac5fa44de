"""What the options of audits and warm-ups may be."""

from __future__ import annotations

import math

import attrs

from ..errors import ConfigurationError, shorten

__all__ = ["check_count", "check_delay", "check_rate"]


def check_delay(_: object, attribute: attrs.Attribute[float], value: float) -> None:
    """Seconds, or none."""
    if not _is_number(value) or value < 0:
        raise ConfigurationError(f"{attribute.name} is a number of seconds, 0 or more, not {shorten(value)}")


def check_rate(_: object, attribute: attrs.Attribute[float], value: float) -> None:
    """So many a second."""
    if not _is_number(value) or value <= 0:
        raise ConfigurationError(f"{attribute.name} is a number a second, above 0, not {shorten(value)}")


def check_count(_: object, attribute: attrs.Attribute[int], value: int) -> None:
    """At least one."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigurationError(f"{attribute.name} is an int, 1 or more, not {shorten(value)}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
