"""What is in the storage that is served."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import obstore
import pytest
from obstore.store import LocalStore

from aioblobcache import CachedRegistry, Descriptor, Digest, MemoryBlobDescriptorCache
from aioblobcache.cli.sample import build_image, store_image
from aioblobcache.media_types import OCI_INDEX, OCI_MANIFEST
from aioblobcache.storage import RegistryStorage
from tests.support.stores import put_data

NAME = "library/demo"
OTHER = "library/other"

# Names that look like parts of other paths.
ODD_NAMES = ("a/blobs/b", "tags/list", "x/manifests/y", "referrers/z")

IMAGE = build_image([{"etc/motd": "hello\n"}, {"srv/data": "more of it\n" * 20_000}])
FOREIGN = build_image([{"etc/motd": "of another repository\n"}])
LAYER = IMAGE.layers[0]
LARGE = bytes(range(256)) * 4096  # a megabyte


async def store(storage: RegistryStorage) -> None:
    for tag in ("latest", "1.0", "1.1", "2.0"):
        await store_image(storage, NAME, tag, IMAGE)
    await store_image(storage, OTHER, "latest", FOREIGN)
    for name in ODD_NAMES:
        await store_image(storage, name, "latest", FOREIGN)


async def store_blob(storage: RegistryStorage, data: bytes, name: str = NAME) -> Descriptor:
    digest = await put_data(storage, data)
    await obstore.put_async(
        storage.store, storage.layout.link(storage.layout.layer_links(name), digest), digest.encode()
    )
    return Descriptor(digest, len(data), "application/octet-stream")


async def store_manifest(
    storage: RegistryStorage, document: Any, tag: str | None = None, name: str = NAME
) -> Descriptor:
    data = document if isinstance(document, bytes) else json.dumps(document).encode()
    digest = await put_data(storage, data)
    revisions = storage.layout.revision_links(name)
    await obstore.put_async(storage.store, storage.layout.link(revisions, digest), digest.encode())
    if tag is not None:
        await obstore.put_async(storage.store, storage.layout.current(name, tag), digest.encode())
    media_type = document.get("mediaType", OCI_MANIFEST) if isinstance(document, dict) else OCI_MANIFEST
    return Descriptor(digest, len(data), media_type)


def reference(descriptor: Descriptor) -> dict[str, Any]:
    return {"mediaType": descriptor.media_type, "digest": descriptor.digest, "size": descriptor.size}


def referrer(subject: Descriptor, artifact_type: str, **more: Any) -> dict[str, Any]:
    """A manifest that refers to another."""
    return {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": artifact_type,
        "config": reference(IMAGE.config),
        "layers": [],
        "subject": reference(subject),
        **more,
    }


def index_of(*manifests: dict[str, Any]) -> dict[str, Any]:
    return {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": list(manifests)}


UNKNOWN = Digest.of(b"nobody has this")


@pytest.fixture
async def storage(tmp_path: Path) -> RegistryStorage:
    storage = RegistryStorage(LocalStore(tmp_path / "registry", mkdir=True))
    await store(storage)
    return storage


@pytest.fixture
def registry(storage: RegistryStorage) -> CachedRegistry:
    """The storage behind a cache that has seen nothing."""
    return CachedRegistry(MemoryBlobDescriptorCache(), storage)
