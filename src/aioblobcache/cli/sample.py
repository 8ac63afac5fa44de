"""A small image with true digests, laid out as a Distribution registry stores it."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence

import attrs
import obstore

from .. import media_types
from ..descriptor import Descriptor
from ..digest import Digest
from ..storage import RegistryStorage

__all__ = ["Image", "build_image", "link_blob", "store_image"]

_CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
_LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"


@attrs.frozen
class Image:
    """An image's parts, and the bytes of each by its digest."""

    manifest: Descriptor
    config: Descriptor
    layers: tuple[Descriptor, ...]
    content: Mapping[Digest, bytes]

    @property
    def blobs(self) -> tuple[Descriptor, ...]:
        """All but the manifest."""
        return (self.config, *self.layers)


def build_image(layers: Sequence[Mapping[str, str]]) -> Image:
    """An OCI image of one layer for each mapping of file names to texts; the same each time."""
    content: dict[Digest, bytes] = {}

    def add(data: bytes, media_type: str) -> Descriptor:
        descriptor = Descriptor(Digest.of(data), len(data), media_type)
        content[descriptor.digest] = data
        return descriptor

    archives = [_archive(files) for files in layers]
    layer_descriptors = tuple(add(gzip.compress(archive, mtime=0), _LAYER_TYPE) for archive in archives)
    diff_ids = [f"sha256:{hashlib.sha256(archive).hexdigest()}" for archive in archives]
    config = add(
        _json({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids}}),
        _CONFIG_TYPE,
    )
    manifest = add(
        _json(
            {
                "schemaVersion": 2,
                "mediaType": media_types.OCI_MANIFEST,
                "config": _reference(config),
                "layers": [_reference(layer) for layer in layer_descriptors],
            }
        ),
        media_types.OCI_MANIFEST,
    )
    return Image(manifest, config, layer_descriptors, content)


async def store_image(storage: RegistryStorage, name: str, tag: str, image: Image) -> None:
    """Write the image's data and links, as a push to ``name:tag`` does."""
    for digest, data in image.content.items():
        await obstore.put_async(storage.store, storage.layout.data(digest), data)
    for blob in image.blobs:
        await link_blob(storage, name, blob.digest)
    digest = image.manifest.digest
    revisions = storage.layout.revision_links(name)
    tag_folder = f"{revisions.removesuffix('/revisions')}/tags/{tag}"
    for path in (
        storage.layout.link(revisions, digest),
        f"{tag_folder}/current/link",
        storage.layout.link(f"{tag_folder}/index", digest),
    ):
        await obstore.put_async(storage.store, path, digest.encode())


async def link_blob(storage: RegistryStorage, name: str, digest: Digest) -> None:
    """Link a blob that is stored into a repository."""
    path = storage.layout.link(storage.layout.layer_links(name), digest)
    await obstore.put_async(storage.store, path, digest.encode())


def _archive(files: Mapping[str, str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path, text in files.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))
    return buffer.getvalue()


def _json(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def _reference(descriptor: Descriptor) -> dict[str, str | int]:
    return {"mediaType": descriptor.media_type, "digest": descriptor.digest, "size": descriptor.size}
