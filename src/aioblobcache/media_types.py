"""The media types of manifests, and how to tell a manifest's type from its bytes."""

from __future__ import annotations

import json
from typing import Final

from .descriptor import is_media_type

__all__ = ["MANIFESTS", "OCTET_STREAM", "SCHEMA_1", "of_manifest"]

OCTET_STREAM: Final = "application/octet-stream"
OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_SCHEMA1: Final = "application/vnd.docker.distribution.manifest.v1+json"
DOCKER_SCHEMA1_SIGNED: Final = "application/vnd.docker.distribution.manifest.v1+prettyjws"

SCHEMA_1: Final = frozenset({DOCKER_SCHEMA1, DOCKER_SCHEMA1_SIGNED})
MANIFESTS: Final = frozenset({OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_LIST}) | SCHEMA_1


# Parsing costs by the value, and holds up the event loop: 4 MiB of empty lists take more than a
# second, as many values as this some milliseconds. An image of a thousand layers has about 4,000.
_MOST_VALUES: Final = 20_000


def of_manifest(data: bytes) -> str:
    """The media type of a manifest's bytes: its ``mediaType``, or what its shape says.

    By the OCI Image Specification an index has ``manifests``, an image manifest has ``config``
    and ``layers``, and either may lack ``mediaType``. What is neither, or has more than about 20,000
    values in it, is ``application/octet-stream``.
    """
    if sum(map(data.count, (b",", b"[", b"{"))) > _MOST_VALUES:
        return OCTET_STREAM
    try:
        manifest = json.loads(data)
    except (ValueError, RecursionError):  # ValueError: not JSON, not UTF-8, or an absurd number
        return OCTET_STREAM
    if not isinstance(manifest, dict):
        return OCTET_STREAM
    stated = manifest.get("mediaType")
    if isinstance(stated, str) and "/" in stated and is_media_type(stated):
        return stated
    version = manifest.get("schemaVersion")
    if version == 1 and version is not True:
        return DOCKER_SCHEMA1_SIGNED if "signatures" in manifest else DOCKER_SCHEMA1
    if isinstance(manifest.get("manifests"), list):
        return OCI_INDEX
    if isinstance(manifest.get("config"), dict) and isinstance(manifest.get("layers"), list):
        return OCI_MANIFEST
    return OCTET_STREAM
