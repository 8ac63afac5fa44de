"""Debian's skopeo, as a client of any registry on loopback."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from subprocess import CalledProcessError
from typing import Any

import anyio

from aioblobcache.cli.sample import Image
from tests.support.servers import require_program

TAG = "image"


class Skopeo:
    """What a client does; ``CalledProcessError`` with what it said, if the registry does not let it."""

    def __init__(self, folder: Path) -> None:
        self._program = require_program("skopeo")
        self._folder = folder

    async def push(self, image: Image, reference: str, *options: str) -> None:
        """Push an image: what the registry says it has is not sent."""
        layout = self._new_folder()
        write_layout(layout, image)
        await self.run("copy", *options, "--dest-tls-verify=false", f"oci:{layout}:{TAG}", f"docker://{reference}")

    async def pull(self, reference: str, *options: str) -> dict[str, bytes]:
        """Pull an image whole; its files by their names, as skopeo keeps them in a folder."""
        target = self._new_folder()
        await self.run("copy", *options, "--src-tls-verify=false", f"docker://{reference}", f"dir:{target}")
        return {path.name: path.read_bytes() for path in target.iterdir()}

    async def inspect(self, reference: str, *options: str) -> Any:
        """What an image is."""
        return json.loads(await self.run("inspect", *options, "--tls-verify=false", f"docker://{reference}"))

    async def tags(self, reference: str) -> list[str]:
        """The tags of a repository."""
        return json.loads(await self.run("list-tags", "--tls-verify=false", f"docker://{reference}"))["Tags"]

    async def run(self, *arguments: str) -> bytes:
        # As root skopeo would keep what it learns of blobs in /var/lib, whatever HOME is.
        environment = {"PATH": os.environ["PATH"], "HOME": str(self._folder), "_CONTAINERS_ROOTLESS_UID": "65534"}
        try:
            done = await anyio.run_process([self._program, "--insecure-policy", *arguments], env=environment)
        except CalledProcessError as error:
            error.add_note(error.stderr.decode())
            raise
        return done.stdout

    def _new_folder(self) -> Path:
        return Path(tempfile.mkdtemp(dir=self._folder))


def write_layout(folder: Path, image: Image) -> None:
    """Write an OCI image layout (OCI Image Specification, image-layout.md)."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    for digest, data in image.content.items():
        (blobs / digest.encoded).write_bytes(data)
    manifest = {
        "mediaType": image.manifest.media_type,
        "digest": image.manifest.digest,
        "size": image.manifest.size,
        "annotations": {"org.opencontainers.image.ref.name": TAG},
    }
    (folder / "oci-layout").write_text(json.dumps({"imageLayoutVersion": "1.0.0"}))
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [manifest]}))
