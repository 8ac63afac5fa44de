"""Referrers: the manifests of a repository whose ``subject`` is a given one.

A Distribution tree keeps no index of them, so a repository's manifests are read once in a while, never for each
request, and only if there are not too many. Where they are, the answer is that there is no such API: clients then look
at the tag ``sha256-<hex>`` themselves ("Unavailable Referrers API"), while an empty list would hide the signatures
there are.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import OrderedDict
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

import attrs

from .. import media_types
from ..descriptor import Descriptor
from ..digest import Digest
from ..errors import BlobUnknownError, InvalidDigestError, StorageError
from ..flights import Flights
from ..storage import RegistryStorage

__all__ = ["Referrers"]

# Bounds of one repository's index: manifests that are read, bytes of what is kept of them. The second is what the
# specification allows of a response.
_MOST_MANIFESTS: Final = 10_000
_MOST_BYTES: Final = 4 * 1024 * 1024

_MOST_REPOSITORIES: Final = 64
_READ_AT_ONCE: Final = 16

# A scan that failed is not repeated for each request: for so many seconds its failure is the answer.
_FAILURE_STANDS: Final = 5.0

_Described = dict[str, Any]  # a descriptor, as JSON has it


@attrs.frozen
class _Index:
    """Who refers to what in one repository; ``None``: too much to say."""

    by_subject: Mapping[str, list[_Described]] | None
    read_at: float


class Referrers:
    """The referrers in each repository of a storage; an index is read anew after ``max_age`` seconds.

    A referrer that was pushed, or deleted, is seen that much later.
    """

    def __init__(self, storage: RegistryStorage, *, max_age: float = 60.0) -> None:
        self._storage = storage
        self._max_age = max_age
        self._indexes: OrderedDict[str, _Index] = OrderedDict()
        self._failures: dict[str, tuple[float, StorageError]] = {}
        self._flights: Flights[_Index] = Flights()

    async def of(self, name: str, subject: Digest) -> list[_Described] | None:
        """Descriptors of the manifests that refer to ``subject``; ``None``: this repository has too many manifests.

        :raises StorageError: the store could not tell.
        """
        failure = self._failures.get(name)
        if failure is not None and time.monotonic() - failure[0] < _FAILURE_STANDS:
            raise StorageError(failure[1].path, failure[1].reason)  # one of its own: each raising adds to a traceback
        index = self._indexes.get(name)
        if index is None or time.monotonic() - index.read_at > self._max_age:
            try:
                index = await self._flights.join(name, partial(self._read, name))
            except StorageError as error:
                if len(self._failures) >= _MOST_REPOSITORIES:
                    self._failures.clear()
                self._failures[name] = (time.monotonic(), error)
                raise
            self._failures.pop(name, None)
        if index.by_subject is None:
            return None
        found = index.by_subject.get(subject, [])
        known = {described["digest"] for described in found}
        return found + [one for one in await self._tagged(name, subject) if one["digest"] not in known]

    async def _read(self, name: str) -> _Index:
        began = time.monotonic()
        digests: list[Digest] = []
        async for digest in self._storage.manifests(name).links():
            digests.append(digest)
            if len(digests) > _MOST_MANIFESTS:
                break
        by_subject = None if len(digests) > _MOST_MANIFESTS else await self._read_all(name, digests)
        self._indexes[name] = index = _Index(by_subject, began)
        self._indexes.move_to_end(name)
        while len(self._indexes) > _MOST_REPOSITORIES:
            self._indexes.popitem(last=False)
        return index

    async def _read_all(self, name: str, digests: list[Digest]) -> dict[str, list[_Described]] | None:
        by_subject: dict[str, list[_Described]] = {}
        kept = 0
        for start in range(0, len(digests), _READ_AT_ONCE):
            some = digests[start : start + _READ_AT_ONCE]
            for read in await asyncio.gather(*(self._read_one(name, digest) for digest in some)):
                if read is None:
                    continue
                subject, described = read
                by_subject.setdefault(subject, []).append(described)
                kept += len(json.dumps(described))
                if kept > _MOST_BYTES:
                    return None
        return by_subject

    async def _read_one(self, name: str, digest: Digest) -> tuple[str, _Described] | None:
        try:
            found, content = await self._storage.manifests(name).read(digest)
        except BlobUnknownError:
            return None
        if found.media_type not in media_types.MANIFESTS:
            return None
        manifest = json.loads(content)  # of a manifest's type only if it is an object
        subject = manifest.get("subject")
        named = subject.get("digest") if isinstance(subject, dict) else None
        return (named, _described(found, manifest)) if isinstance(named, str) else None

    async def _tagged(self, name: str, subject: Digest) -> list[_Described]:
        """What the tag lists that clients keep where there is no API ("Referrers Tag Schema")."""
        tag = f"{subject.algorithm[:32].replace('+', '-')}-{subject.encoded[:64]}"
        try:
            digest = await self._storage.tags(name).resolve(tag)
            if digest is None:
                return []
            found, content = await self._storage.manifests(name).read(digest)
        except BlobUnknownError:
            return []
        if found.media_type != media_types.OCI_INDEX:
            return []
        listed = json.loads(content).get("manifests")
        return [one for one in listed if _is_described(one)] if isinstance(listed, list) else []


def _described(found: Descriptor, manifest: Mapping[str, Any]) -> _Described:
    """A referrer's descriptor, by "Listing Referrers": of which artifact type it is, and its annotations."""
    described: _Described = {"mediaType": found.media_type, "digest": found.digest, "size": found.size}
    config = manifest.get("config")
    artifact_type = manifest.get("artifactType") or (config.get("mediaType") if isinstance(config, dict) else None)
    if isinstance(artifact_type, str):
        described["artifactType"] = artifact_type
    if isinstance(manifest.get("annotations"), dict):
        described["annotations"] = manifest["annotations"]
    return described


def _is_described(one: object) -> bool:
    if not isinstance(one, dict) or not isinstance(one.get("mediaType"), str) or not isinstance(one.get("size"), int):
        return False
    try:
        Digest(one.get("digest", ""))
    except InvalidDigestError:
        return False
    return True
