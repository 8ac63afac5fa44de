"""Where things are in a registry's storage tree."""

from __future__ import annotations

import attrs

from ..digest import Digest
from ..errors import ConfigurationError, InvalidDigestError, shorten

__all__ = ["StorageLayout"]


def _as_prefix(root: str) -> str:
    """A root without slashes at its ends, if it is one that every store can have."""
    prefix = root.strip("/") if isinstance(root, str) else None
    components = [] if not prefix else prefix.split("/")
    if prefix is None or not prefix.isprintable() or any(part in ("", ".", "..") for part in components):
        raise ConfigurationError(f"root is a path of plain folder names, not {shorten(root)}")
    return prefix


@attrs.frozen
class StorageLayout:
    """Where things are, as CNCF Distribution keeps them (registry/storage/paths.go): paths of objects, without a
    leading slash.

    :raises ConfigurationError: ``root`` is no path of plain folder names.
    """

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

    def tags(self, name: str) -> str:
        """The folder of a repository's tags."""
        return f"{self.repositories}/{name}/_manifests/tags"

    def current(self, name: str, tag: str) -> str:
        """The link of a tag to the manifest that it names now."""
        return f"{self.tags(name)}/{tag}/current/link"

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
