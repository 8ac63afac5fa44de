"""The links of a repository: which layers, configs and manifests it holds."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from .. import media_types
from ..descriptor import Descriptor
from ..digest import Digest
from ..errors import BlobUnknownError, InvalidDigestError, StorageError
from .layout import StorageLayout
from .objects import ByteRange, Objects, OpenedObject

__all__ = ["LinkedBlobs", "LinkedManifests", "describe_blob", "read_link", "read_manifest"]

# A link holds one digest; what is longer is not read.
_LONGEST_LINK: Final = 300

# What registries accept of a manifest (OCI Distribution Specification, "Pushing Manifests").
_LARGEST_MANIFEST: Final = 4 * 1024 * 1024


async def read_link(objects: Objects, path: str) -> Digest | None:
    """The digest that a link names; ``None``: none that is one. ``FileNotFoundError``: there is no link."""
    _, content = await objects.read(path, _LONGEST_LINK)
    try:
        return Digest((content or b"").decode("latin-1"))
    except InvalidDigestError:
        return None


async def describe_blob(objects: Objects, layout: StorageLayout, digest: Digest) -> Descriptor:
    """A blob by its data alone. ``FileNotFoundError``: there is none."""
    return Descriptor(digest, await objects.size(layout.data(digest)), media_types.OCTET_STREAM)


async def read_manifest(objects: Objects, layout: StorageLayout, digest: Digest) -> tuple[Descriptor, bytes | None]:
    """A blob as a manifest, and its bytes unless it is larger than one may be. ``FileNotFoundError``: there is none."""
    size, content = await objects.read(layout.data(digest), _LARGEST_MANIFEST)
    media_type = media_types.OCTET_STREAM if content is None else media_types.of_manifest(content)
    return Descriptor(digest, size, media_type), content


class _Links:
    """One kind of link in one repository; the subclasses say where, and what type is behind it."""

    def __init__(self, objects: Objects, layout: StorageLayout, name: str, folder: str) -> None:
        self._objects = objects
        self._layout = layout
        self._folder = folder
        self.name = name

    async def stat(self, digest: str) -> Descriptor:
        """Describe what is linked under ``digest``, by the size of its data.

        A link that names a digest of another algorithm is an alias: the answer carries that digest.

        :raises BlobUnknownError: no link, a link that names another blob or none, or no data.
        :raises StorageError: the store could not tell (permission, transport).
        :raises InvalidDigestError: ``digest`` is not one.
        """
        target = await self.target(digest)
        try:
            return await self._describe(target)
        except FileNotFoundError:
            raise BlobUnknownError(Digest(digest), self.name) from None

    async def target(self, digest: str) -> Digest:
        """The canonical digest of what is linked under ``digest``; whether its data is there is not looked at.

        :raises BlobUnknownError: no link, or a link that names another blob or none.
        :raises StorageError: the store could not tell.
        :raises InvalidDigestError: ``digest`` is not one.
        """
        digest = Digest(digest)
        try:
            target = await self._target(digest)
        except FileNotFoundError:
            target = None
        if target is None:
            raise BlobUnknownError(digest, self.name)
        return target

    async def target_if_linked(self, digest: str) -> Digest | None:
        """The same for who looks after a storage: a link that is broken is told from one that is not there.

        ``None``: there is no link.

        :raises StorageError: the store could not tell, or the link names another blob or none: it was cut short, say.
        :raises InvalidDigestError: ``digest`` is not one.
        """
        digest = Digest(digest)
        try:
            target = await self._target(digest)
        except FileNotFoundError:
            return None
        if target is None:
            path = self._layout.link(self._folder, digest)
            raise StorageError(path, "the link is broken: it does not name the blob that it is for")
        return target

    async def _target(self, digest: Digest) -> Digest | None:
        """What the link names: the same digest, or the same blob's by another algorithm; ``None``: neither.

        ``FileNotFoundError``: there is no link.
        """
        target = await read_link(self._objects, self._layout.link(self._folder, digest))
        return target if target == digest or (target is not None and target.algorithm != digest.algorithm) else None

    async def clear(self, digest: str) -> None:
        """Remove the link; the data stays for a garbage collection.

        :raises BlobUnknownError: there is no link.
        :raises StorageError: the store could not tell, or refused.
        :raises InvalidDigestError: ``digest`` is not one.
        """
        digest = Digest(digest)
        try:
            await self._objects.remove(self._layout.link(self._folder, digest))
        except FileNotFoundError:
            raise BlobUnknownError(digest, self.name) from None

    async def links(self) -> AsyncIterator[Digest]:
        """Iterate over the digests that have a link, in no order; the targets are not looked at.

        :raises StorageError: the listing failed.
        """
        async for path in self._objects.paths(self._folder):
            digest = self._layout.linked_digest(self._folder, path)
            if digest is not None:
                yield digest

    async def _describe(self, digest: Digest) -> Descriptor:
        return await describe_blob(self._objects, self._layout, digest)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.name}>"


class LinkedBlobs(_Links):
    """The layers and configs of one repository; their media type is ``application/octet-stream``."""

    async def open(self, digest: Digest, wanted: ByteRange | None = None) -> OpenedObject | int:
        """Open the data of a blob by its canonical digest, or the part of it that is wanted.

        The link is not looked at: that is what a stat is for. Returns the data's size in bytes where the
        part that is wanted has nothing in it.

        :raises BlobUnknownError: there is no data.
        :raises StorageError: the store could not tell.
        """
        try:
            return await self._objects.open(self._layout.data(digest), wanted)
        except FileNotFoundError:
            raise BlobUnknownError(digest, self.name) from None


class LinkedManifests(_Links):
    """The manifest revisions of one repository; their media type is read from the manifest."""

    async def read(self, digest: str) -> tuple[Descriptor, bytes]:
        """A manifest that is linked under ``digest``: what it is, and its very bytes.

        :raises BlobUnknownError: no link, no data, or more than the 4 MiB that a manifest may have.
        :raises StorageError: the store could not tell.
        :raises InvalidDigestError: ``digest`` is not one.
        """
        target = await self.target(digest)
        try:
            described, content = await read_manifest(self._objects, self._layout, target)
        except FileNotFoundError:
            content = None
        if content is None:
            raise BlobUnknownError(Digest(digest), self.name)
        return described, content

    async def _describe(self, digest: Digest) -> Descriptor:
        return (await read_manifest(self._objects, self._layout, digest))[0]
