"""A provider by its URL, so that a program's configuration decides what stands behind it."""

from __future__ import annotations

from typing import Any, TypeAlias

from .errors import ConfigurationError
from .memory import MemoryBlobDescriptorCache
from .redis.provider import RedisBlobDescriptorCache

__all__ = ["AnyBlobDescriptorCache", "connect"]

AnyBlobDescriptorCache: TypeAlias = MemoryBlobDescriptorCache | RedisBlobDescriptorCache


def connect(url: str, **options: Any) -> AnyBlobDescriptorCache:
    """Make the provider that ``url`` names; it is opened by ``async with``.

    ``memory://`` takes the options of :class:`MemoryBlobDescriptorCache`; ``redis://``, ``rediss://``, ``unix://``,
    ``redis+sentinel://`` and ``redis+cluster://`` those of :class:`RedisBlobDescriptorCache`.

    :raises ConfigurationError: an unknown scheme, a malformed URL, an option that it does not take.
    """
    try:
        if url == "memory://":
            return MemoryBlobDescriptorCache(**options)
        return RedisBlobDescriptorCache.from_url(url, **options)
    except TypeError as error:  # an unexpected keyword, named by the message
        raise ConfigurationError(str(error)) from None
