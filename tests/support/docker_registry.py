"""Debian's docker-registry on a storage folder of its own, its descriptor cache in a Redis of the
tests; and what clients ask of it, with skopeo and over plain HTTP."""

from __future__ import annotations

import json
import shutil
from contextlib import closing
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from subprocess import CalledProcessError
from urllib.parse import urlsplit

import anyio
import anyio.to_thread
import attrs
import pytest
from redis.asyncio import Redis

from aioblobcache import Descriptor, Digest, media_types
from aioblobcache.cli.sample import Image
from aioblobcache.redis.keys import membership_key, override_key
from tests.support.ports import free_port
from tests.support.servers import Server, require_program
from tests.support.skopeo import Skopeo

# Where the tests push an image to.
NAME = "library/demo"
TAG = "v1"

# A blob that belongs to no image, and two repositories that may hold it: it gets deleted in the first.
DATA = b"a blob of its own"
BLOB = Descriptor(Digest.of(DATA), len(DATA), media_types.OCTET_STREAM)
GONE, KEPT = "library/gone", "library/kept"


def as_cached(blob: Descriptor) -> Descriptor:
    """A part of an image as the registry caches it: its media type is not kept."""
    return attrs.evolve(blob, media_type=media_types.OCTET_STREAM)


class Registry(Server):
    """A registry and its clients. What a client does fails the test unless the registry accepts it."""

    def __init__(self, folder: Path, redis_port: int) -> None:
        self._program = require_program("docker-registry")
        self.skopeo = Skopeo(folder)
        port = free_port()
        self.config = folder / "registry.yml"
        super().__init__(folder, [self._program, "serve", str(self.config)], port)
        self.root = folder / "storage"
        # JSON is YAML.
        self.config.write_text(json.dumps(_configuration(self.root, port, redis_port)))

    async def push(self, image: Image, name: str, tag: str, *options: str) -> None:
        """Push an image: what the registry says it has is not sent."""
        await self.skopeo.push(image, self.reference(name, tag), *options)

    async def pull(self, name: str, tag: str) -> None:
        """Pull an image whole. ``CalledProcessError``: something of it cannot be had."""
        await self.skopeo.pull(self.reference(name, tag))

    async def content(self, name: str, tag: str) -> dict[Digest, bytes]:
        """Pull an image whole: each of its parts, byte for byte."""
        files = await self.skopeo.pull(self.reference(name, tag))
        return {Digest.of(data): data for file, data in files.items() if file != "version"}

    async def push_blob(self, name: str, data: bytes, algorithm: str = "sha256") -> Digest:
        """Push a blob under its digest of this algorithm, which is returned."""
        digest = Digest.of(data, algorithm)
        started = await self._accepted(202, "POST", f"/v2/{name}/blobs/uploads/")
        upload = urlsplit(started.headers["Location"])
        await self._accepted(201, "PUT", f"{upload.path}?{upload.query}&digest={digest}", data)
        return digest

    async def mount_blob(self, name: str, digest: Digest, source: str) -> None:
        """Link a blob that another repository holds."""
        await self._accepted(201, "POST", f"/v2/{name}/blobs/uploads/?mount={digest}&from={source}")

    async def describe(self, name: str, digest: Digest) -> Descriptor | None:
        """What a HEAD of the blob is answered; ``None``: that it is unknown."""
        return _described(await self._request("HEAD", f"/v2/{name}/blobs/{digest}"))

    async def describe_manifest(self, name: str, reference: str) -> Descriptor | None:
        """What a HEAD of the manifest is answered, by its tag or digest; ``None``: that it is unknown."""
        return _described(await self._request("HEAD", f"/v2/{name}/manifests/{reference}"))

    async def delete(self, name: str, digest: Digest) -> None:
        """Delete a blob."""
        await self._accepted(202, "DELETE", f"/v2/{name}/blobs/{digest}")

    async def delete_manifest(self, name: str, digest: Digest) -> None:
        """Delete a manifest and its tags."""
        await self._accepted(202, "DELETE", f"/v2/{name}/manifests/{digest}")

    async def collect_garbage(self) -> None:
        """Remove the data that no manifest refers to: links, and the cache, are left as they are."""
        await anyio.run_process([self._program, "garbage-collect", str(self.config)])

    def reset(self, folder: Path) -> None:
        """Empty the storage, and forget what the client learned; the process keeps nothing but connections."""
        shutil.rmtree(self.root / "docker", ignore_errors=True)
        self.skopeo = Skopeo(folder)

    def lose_storage(self) -> None:
        """Remove all that is stored: whatever is answered from now on comes from the cache."""
        shutil.rmtree(self.root / "docker")

    async def _accepted(self, status: int, method: str, path: str, body: bytes | None = None) -> HTTPResponse:
        response = await self._request(method, path, body)
        assert response.status == status, f"{method} {path} was answered {response.status}"
        return response

    async def _request(self, method: str, path: str, body: bytes | None = None) -> HTTPResponse:
        return await anyio.to_thread.run_sync(self._blocking_request, method, path, body)

    def _blocking_request(self, method: str, path: str, body: bytes | None) -> HTTPResponse:
        # The registry denies an OCI manifest to clients that do not say they accept one.
        headers = {"Accept": media_types.OCI_MANIFEST}
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=30)) as connection:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            response.read()
            return response

    def reference(self, name: str, tag: str) -> str:
        """An image here, as clients name it."""
        return f"127.0.0.1:{self.port}/{name}:{tag}"


async def leaves_membership(registry: Registry, client: Redis) -> bool:
    """Return whether the registry's DELETE of a blob leaves membership and override in the cache, as 2.8.2 does.

    The registry is asked: its version does not tell, since Debian's 2.8.3+ds1 carries the cure of CVE-2026-35172.
    """
    await registry.push_blob(GONE, DATA)
    assert await client.sismember(membership_key(GONE), BLOB.digest)
    await registry.delete(GONE, BLOB.digest)
    left = bool(await client.sismember(membership_key(GONE), BLOB.digest))
    assert bool(await client.exists(override_key(GONE, BLOB.digest))) == left
    return left


async def break_by_garbage_collection(registry: Registry, image: Image, name: str, tag: str) -> None:
    """Delete an image, collect garbage, and push it again: the push succeeds, and the pull does not."""
    await registry.pull(name, tag)
    await registry.delete_manifest(name, image.manifest.digest)
    await registry.collect_garbage()
    await registry.push(image, name, tag)
    with pytest.raises(CalledProcessError) as caught:
        await registry.pull(name, tag)
    assert b"manifest unknown" in caught.value.stderr


def _configuration(root: Path, port: int, redis_port: int) -> dict[str, object]:
    return {
        "version": 0.1,
        "log": {"accesslog": {"disabled": True}},
        "storage": {
            "filesystem": {"rootdirectory": str(root)},
            "cache": {"blobdescriptor": "redis"},
            "delete": {"enabled": True},
        },
        "http": {"addr": f"127.0.0.1:{port}"},
        "redis": {"addr": f"127.0.0.1:{redis_port}"},
    }


def _described(response: HTTPResponse) -> Descriptor | None:
    if response.status == 404:
        return None
    assert response.status == 200, f"a HEAD was answered {response.status}"
    headers = response.headers
    digest = Digest(headers["Docker-Content-Digest"])
    return Descriptor(digest, int(headers["Content-Length"]), headers["Content-Type"])
