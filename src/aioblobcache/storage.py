"""The storage tree of a CNCF Distribution registry, read through obstore: the truth behind the cache.

Any store that obstore opens will do: a local folder, S3, GCS, Azure. Needs the extra ``storage``.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any, Final

import attrs
import obstore
from obstore.exceptions import BaseError
from obstore.store import ObjectStore, from_url

from . import media_types
from .descriptor import Descriptor
from .digest import Digest
from .errors import (
    BlobUnknownError,
    ConfigurationError,
    InvalidDigestError,
    RepositoryNameError,
    StorageError,
    one_line,
    shorten,
)
from .names import validate_repository_name

__all__ = ["LinkedBlobs", "LinkedManifests", "RegistryStorage", "StorageLayout"]

# A link holds one digest; what is longer is not read.
_LONGEST_LINK: Final = 300

# What registries accept of a manifest (OCI Distribution Specification, "Pushing Manifests").
_LARGEST_MANIFEST: Final = 4 * 1024 * 1024

# A page of a listing: what an object store returns for one request.
_PAGE: Final = 1_000

# What S3, GCS and Azure answer in place of "no such object" where not even the store is there.
_MISSING_STORE: Final = ("NoSuchBucket", "ContainerNotFound")


def _as_prefix(root: str) -> str:
    """A root without slashes at its ends, if it is one that every store can have."""
    prefix = root.strip("/") if isinstance(root, str) else None
    components = [] if not prefix else prefix.split("/")
    if prefix is None or not prefix.isprintable() or any(part in ("", ".", "..") for part in components):
        raise ConfigurationError(f"root is a path of plain folder names, not {shorten(root)}")
    return prefix


@attrs.frozen
class StorageLayout:
    """Where things are: paths of objects, without a leading slash."""

    root: str = attrs.field(default="", converter=_as_prefix)

    @property
    def base(self) -> str:
        """The folder that holds everything."""
        return f"{self.root}/docker/registry/v2" if self.root else "docker/registry/v2"

    @property
    def repositories(self) -> str:
        """The folder of the repositories."""
        return f"{self.base}/repositories"

    def data(self, digest: Digest) -> str:
        """A blob's bytes."""
        return f"{self.base}/blobs/{_algorithm_path(digest)}/{digest.encoded[:2]}/{digest.encoded}/data"

    def layer_links(self, name: str) -> str:
        """The folder of a repository's links to layers and configs."""
        return f"{self.repositories}/{name}/_layers"

    def revision_links(self, name: str) -> str:
        """The folder of a repository's links to manifests."""
        return f"{self.repositories}/{name}/_manifests/revisions"

    def link(self, folder: str, digest: Digest) -> str:
        """The link of one digest in such a folder."""
        return f"{folder}/{_algorithm_path(digest)}/{digest.encoded}/link"

    def linked_digest(self, folder: str, path: str) -> Digest | None:
        """The digest whose link in ``folder`` is ``path``; ``None`` if it is no link."""
        parts = path.removeprefix(f"{folder}/").split("/")
        if len(parts) < 3 or parts[-1] != "link":
            return None
        *algorithm, encoded, _ = parts
        if algorithm[0] == "tarsum":
            algorithm = [f"{'.'.join(algorithm[:-1])}+{algorithm[-1]}"]
        try:
            digest = Digest(f"{'/'.join(algorithm)}:{encoded}")
        except InvalidDigestError:
            return None
        return digest if self.link(folder, digest) == path else None


def _algorithm_path(digest: Digest) -> str:
    """An algorithm's folders: ``sha256``, or ``tarsum/v1/sha256`` for ``tarsum.v1+sha256``."""
    return digest.algorithm.replace("+", "/").replace(".", "/")


class _Links:
    """One kind of link in one repository; the subclasses say where, and what type is behind it."""

    def __init__(self, storage: RegistryStorage, name: str, folder: str) -> None:
        self._storage = storage
        self._folder = folder
        self.name = name

    async def stat(self, digest: str) -> Descriptor:
        """Describe what is linked under ``digest``, by the size of its data.

        A link that names a digest of another algorithm is an alias: the answer carries that digest.

        :raises BlobUnknownError: no link, a link that names another blob or none, or no data.
        :raises StorageError: the store could not tell (permission, transport).
        :raises InvalidDigestError: ``digest`` is not one.
        """
        digest = Digest(digest)
        target = await self._target(digest)
        try:
            return await self._describe(target)
        except FileNotFoundError:
            raise BlobUnknownError(digest, self.name) from None

    async def clear(self, digest: str) -> None:
        """Remove the link; the data stays for a garbage collection.

        :raises BlobUnknownError: there is no link.
        :raises StorageError: the store could not tell, or refused.
        :raises InvalidDigestError: ``digest`` is not one.
        """
        digest = Digest(digest)
        path = self._storage.layout.link(self._folder, digest)
        try:
            with _storage_errors(path):
                # Object stores delete what is not there without a word, and only a GET's answer tells a
                # missing object from a missing bucket.
                await obstore.get_async(self._storage.store, path)
                await obstore.delete_async(self._storage.store, path)
        except FileNotFoundError:
            raise BlobUnknownError(digest, self.name) from None

    async def links(self) -> AsyncIterator[Digest]:
        """Iterate over the digests that have a link, in no order; the targets are not looked at.

        :raises StorageError: the listing failed.
        """
        with _storage_errors(self._folder):
            async for page in obstore.list(self._storage.store, self._folder, chunk_size=_PAGE):
                for entry in page:
                    digest = self._storage.layout.linked_digest(self._folder, entry["path"])
                    if digest is not None:
                        yield digest

    async def _describe(self, digest: Digest) -> Descriptor:
        return await self._storage.describe(digest)

    async def _target(self, digest: Digest) -> Digest:
        """The canonical digest that the link of ``digest`` names."""
        path = self._storage.layout.link(self._folder, digest)
        try:
            _, content = await self._storage.read(path, _LONGEST_LINK)
        except FileNotFoundError:
            raise BlobUnknownError(digest, self.name) from None
        try:
            target = Digest((content or b"").decode("latin-1"))
        except InvalidDigestError:
            raise BlobUnknownError(digest, self.name) from None
        if target != digest and target.algorithm == digest.algorithm:
            raise BlobUnknownError(digest, self.name)
        return target

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.name}>"


class LinkedBlobs(_Links):
    """The layers and configs of one repository; their media type is ``application/octet-stream``."""


class LinkedManifests(_Links):
    """The manifest revisions of one repository; their media type is read from the manifest."""

    async def _describe(self, digest: Digest) -> Descriptor:
        size, content = await self._storage.read(self._storage.layout.data(digest), _LARGEST_MANIFEST)
        media_type = media_types.OCTET_STREAM if content is None else media_types.of_manifest(content)
        return Descriptor(digest, size, media_type)


class RegistryStorage:
    """A registry's storage, on any obstore store; ``root`` is the folder or prefix below it.

    ``root`` is what Distribution's configuration calls ``rootdirectory``. A local folder that is there but
    empty, as when what should be mounted on it is not, holds no repository and knows no blob.
    """

    def __init__(self, store: ObjectStore, root: str = "") -> None:
        self.store = store
        self.layout = StorageLayout(root)

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
            reason = _reason(error) if known else "obstore accepts neither the URL nor its options as they are"
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
            return await self.describe(digest)
        except FileNotFoundError:
            raise BlobUnknownError(digest) from None

    def blobs(self, name: str) -> LinkedBlobs:
        """The layers and configs linked into the repository ``name``.

        :raises RepositoryNameError: not a repository name.
        """
        return LinkedBlobs(self, name, self.layout.layer_links(validate_repository_name(name)))

    def manifests(self, name: str) -> LinkedManifests:
        """The manifest revisions of the repository ``name``.

        :raises RepositoryNameError: not a repository name.
        """
        return LinkedManifests(self, name, self.layout.revision_links(validate_repository_name(name)))

    async def repositories(self) -> AsyncIterator[str]:
        """Iterate over the names of all repositories, each before those nested in it.

        What is held in memory is one folder's names for each level, not all names.

        :raises StorageError: a listing failed.
        """
        pending: list[Iterator[str]] = [iter(("",))]
        while pending:
            name = next(pending[-1], None)
            if name is None:
                pending.pop()
                continue
            children = await self._folders(name)
            if name and not children.isdisjoint(("_layers", "_manifests")):
                yield name
            nested = (f"{name}/{child}" if name else child for child in sorted(children))
            pending.append(filter(_is_repository_name, list(nested)))

    async def describe(self, digest: Digest) -> Descriptor:
        """A blob by its data; ``FileNotFoundError``: there is none."""
        path = self.layout.data(digest)
        with _storage_errors(path):
            try:
                meta = await obstore.head_async(self.store, path)
            except FileNotFoundError:
                # A HEAD has no body: only a GET tells a missing object from a missing bucket.
                meta = (await obstore.get_async(self.store, path)).meta
        return Descriptor(digest, meta["size"], media_types.OCTET_STREAM)

    async def read(self, path: str, most: int) -> tuple[int, bytes | None]:
        """An object's size, and its bytes unless they are more than ``most``.

        ``FileNotFoundError``: there is none.
        """
        with _storage_errors(path):
            result = await obstore.get_async(self.store, path)
            size = result.meta["size"]
            return size, bytes(await result.bytes_async()) if size <= most else None

    async def _folders(self, name: str) -> frozenset[str]:
        """The names of the folders directly below a repository's folder, or below all of them."""
        path = f"{self.layout.repositories}/{name}".rstrip("/")
        with _storage_errors(path):
            listing = await obstore.list_with_delimiter_async(self.store, path)
        return frozenset(prefix.rsplit("/", 1)[-1] for prefix in listing["common_prefixes"])

    def __repr__(self) -> str:
        return f"<{type(self).__name__} on {type(self.store).__name__}, below {self.layout.base}>"


def _is_repository_name(name: str) -> bool:
    try:
        validate_repository_name(name)
    except RepositoryNameError:
        return False
    return True


@contextmanager
def _storage_errors(path: str) -> Iterator[None]:
    """Map what obstore raises; ``FileNotFoundError`` passes, for the caller to say what is unknown."""
    try:
        yield
    except FileNotFoundError as error:
        if any(code in str(error) for code in _MISSING_STORE):
            raise StorageError(path, "the bucket or container does not exist") from None
        raise
    except (BaseError, OSError) as error:
        raise StorageError(path, _reason(error)) from None
    except Exception as error:
        # obstore cannot check every option beforehand; its native code then panics, with a class of
        # exception that it does not export.
        if type(error).__name__ != "RustPanic":
            raise
        raise StorageError(path, "obstore panicked: an option such as its endpoint is malformed") from None


def _reason(error: Exception) -> str:
    """What obstore says, without what may hold a secret or is said already.

    That is its debug dump, the URLs (user, password, signed query) and the body of the answer; for
    the same reason the error is not kept as a cause, which a logged traceback would print.
    """
    line = re.sub(r"https?://\S+", "its URL", str(error).partition("\n")[0])
    return one_line(re.sub(r"(status code: \d{3}[^:<]*).*", r"\1", line))
