"""The blob descriptor cache of OCI registries, for asyncio."""

from .connect import connect
from .descriptor import Descriptor
from .digest import Digest
from .errors import (
    BlobCacheError,
    BlobUnknownError,
    CacheUnavailableError,
    ConfigurationError,
    CorruptEntryError,
    DigestFormatError,
    DigestLengthError,
    DigestUnsupportedError,
    InvalidDescriptorError,
    InvalidDigestError,
    LifecycleError,
    RepositoryNameError,
    StorageError,
    UnsupportedError,
)
from .interfaces import (
    BlobDescriptorCacheProvider,
    BlobDescriptorService,
    BlobStatter,
    BlobStore,
    FillToken,
    GuardedCacheProvider,
    GuardedDescriptorService,
    RegistryBackend,
)
from .memory import MemoryBlobDescriptorCache
from .observer import NearCacheStats, Observer
from .readthrough import CachedBlobStatter, CachedRegistry
from .redis.provider import RedisBlobDescriptorCache

__all__ = [
    "BlobCacheError",
    "BlobDescriptorCacheProvider",
    "BlobDescriptorService",
    "BlobStatter",
    "BlobStore",
    "BlobUnknownError",
    "CacheUnavailableError",
    "CachedBlobStatter",
    "CachedRegistry",
    "ConfigurationError",
    "CorruptEntryError",
    "Descriptor",
    "Digest",
    "DigestFormatError",
    "DigestLengthError",
    "DigestUnsupportedError",
    "FillToken",
    "GuardedCacheProvider",
    "GuardedDescriptorService",
    "InvalidDescriptorError",
    "InvalidDigestError",
    "LifecycleError",
    "MemoryBlobDescriptorCache",
    "NearCacheStats",
    "Observer",
    "RedisBlobDescriptorCache",
    "RegistryBackend",
    "RepositoryNameError",
    "StorageError",
    "UnsupportedError",
    "connect",
]


def __getattr__(name: str) -> str:
    if name == "__version__":
        from importlib.metadata import version

        return version("aioblobcache")
    raise AttributeError(f"module {__name__} has no attribute {name}")
