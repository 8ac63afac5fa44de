"""A registry's storage as a whole, and the way to each repository's."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

from obstore.exceptions import BaseError
from obstore.store import ObjectStore, from_url

from ..descriptor import Descriptor
from ..digest import Digest
from ..errors import BlobUnknownError, ConfigurationError, RepositoryNameError
from ..names import validate_repository_name
from .layout import StorageLayout
from .links import LinkedBlobs, LinkedManifests, describe_blob, read_manifest
from .objects import Objects, reason_of
from .tags import Tags

__all__ = ["RegistryStorage"]


class RegistryStorage:
    """A registry's storage, on any obstore store; ``root`` is the folder or prefix below it.

    ``root`` is what Distribution's configuration calls ``rootdirectory``. A local folder that is there but
    empty, as when what should be mounted on it is not, holds no repository and knows no blob.
    """

    def __init__(self, store: ObjectStore, root: str = "") -> None:
        self.store = store
        self.layout = StorageLayout(root)
        self._objects = Objects(store)

    @classmethod
    def from_url(cls, url: str, root: str = "", **store_options: Any) -> RegistryStorage:
        """Open ``file:///var/lib/registry``, ``s3://bucket/prefix``, ``gs://…``, ``az://…``.

        ``store_options`` are obstore's for that kind of store: region, endpoint, credentials, and
        ``retry_config``, which bounds how long a failing store is tried (by obstore's default, minutes).

        :raises ConfigurationError: the URL or an option cannot be used.
        """
        StorageLayout(root)
        try:
            store = from_url(url, **store_options)
        except (BaseError, OSError, ValueError, TypeError, OverflowError) as error:
            # Only a folder's name is safe to repeat: other URLs and options may hold credentials.
            known = isinstance(url, str) and url.startswith("file:")
            reason = reason_of(error) if known else "obstore accepts neither the URL nor its options as they are"
            raise ConfigurationError(f"cannot open storage: {reason}") from None
        return cls(store, root)

    async def stat(self, digest: str) -> Descriptor:
        """Describe a blob by its data alone, whichever repository it is in.

        :raises BlobUnknownError: there is no data.
        :raises StorageError: the store could not tell (permission, transport).
        :raises InvalidDigestError: ``digest`` is not one.
        """
        digest = Digest(digest)
        try:
            return await describe_blob(self._objects, self.layout, digest)
        except FileNotFoundError:
            raise BlobUnknownError(digest) from None

    async def stat_manifest(self, digest: str) -> Descriptor:
        """The same of what is known to be a manifest: its media type is read from it.

        :raises BlobUnknownError: there is no data.
        :raises StorageError: the store could not tell.
        :raises InvalidDigestError: ``digest`` is not one.
        """
        digest = Digest(digest)
        try:
            return (await read_manifest(self._objects, self.layout, digest))[0]
        except FileNotFoundError:
            raise BlobUnknownError(digest) from None

    def blobs(self, name: str) -> LinkedBlobs:
        """The layers and configs linked into the repository ``name``.

        :raises RepositoryNameError: not a repository name.
        """
        folder = self.layout.layer_links(validate_repository_name(name))
        return LinkedBlobs(self._objects, self.layout, name, folder)

    def manifests(self, name: str) -> LinkedManifests:
        """The manifest revisions of the repository ``name``.

        :raises RepositoryNameError: not a repository name.
        """
        folder = self.layout.revision_links(validate_repository_name(name))
        return LinkedManifests(self._objects, self.layout, name, folder)

    def tags(self, name: str) -> Tags:
        """The tags of the repository ``name``.

        :raises RepositoryNameError: not a repository name.
        """
        return Tags(self._objects, self.layout, validate_repository_name(name))

    async def repositories(self, *, after: str = "") -> AsyncIterator[str]:
        """Iterate over the names of all repositories, each before those nested in it: by their components.

        Those up to and with ``after`` are left out, and folders in which there are no others are not listed.
        What is held in memory is one folder's names for each level, not all names.

        :raises StorageError: a listing failed.
        """
        beyond = _components(after)
        pending: list[Iterator[str]] = [iter(("",))]
        while pending:
            name = next(pending[-1], None)
            if name is None:
                pending.pop()
                continue
            children = await self._objects.folders(f"{self.layout.repositories}/{name}".rstrip("/"))
            own = _components(name)
            if own > beyond and not children.isdisjoint(("_layers", "_manifests")):
                yield name
            depth = len(own) + 1
            nested = (f"{name}/{child}" if name else child for child in sorted(children))
            wanted = [child for child in nested if _components(child) >= beyond[:depth] and _is_repository_name(child)]
            pending.append(iter(wanted))

    async def has_repositories(self) -> bool:
        """Whether there is anything below the repositories' folder: one page of a listing, however many there are.

        :raises StorageError: the listing failed.
        """
        async for _ in self._objects.paths(self.layout.repositories):
            return True
        return False

    @property
    def can_sign(self) -> bool:
        """Whether the store makes URLs for others: S3, GCS and Azure do."""
        return self._objects.can_sign

    async def signed_url(self, digest: Digest, seconds: float) -> str:
        """A URL by which anybody may read a blob's data for so long; whether it is there is not looked at.

        :raises UnsupportedError: this kind of store cannot sign.
        :raises StorageError: it could not.
        """
        return await self._objects.signed_url(self.layout.data(digest), seconds)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} on {type(self.store).__name__}, below {self.layout.base}>"


def _components(name: str) -> list[str]:
    return name.split("/") if name else []


def _is_repository_name(name: str) -> bool:
    try:
        validate_repository_name(name)
    except RepositoryNameError:
        return False
    return True
