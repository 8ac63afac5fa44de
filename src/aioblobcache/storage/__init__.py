"""The storage tree of a CNCF Distribution registry, read through obstore: the truth behind the cache.

Any store that obstore opens will do: a local folder, S3, GCS, Azure. Needs the extra ``storage``.
"""

try:
    import obstore as _  # noqa: F401
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("storage needs obstore: pip install 'aioblobcache[storage]'", name=error.name) from None

from .layout import StorageLayout
from .links import LinkedBlobs, LinkedManifests
from .objects import ByteRange, OpenedObject
from .registry import RegistryStorage
from .tags import Tags

__all__ = [
    "ByteRange",
    "LinkedBlobs",
    "LinkedManifests",
    "OpenedObject",
    "RegistryStorage",
    "StorageLayout",
    "Tags",
]
