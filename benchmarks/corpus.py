"""The blobs that are asked for, and the order in which they are: the same for every peer.

A peer may be a program of another language, so both are files: ``blobs.tsv`` (repository, digest,
size, media type, and a digest that nobody has) and ``draws.txt`` (indices of blobs).
"""

from __future__ import annotations

import hashlib
import itertools
import random
from pathlib import Path
from typing import Final

import attrs

__all__ = ["MIRROR", "REPOSITORIES", "Blob", "Corpus", "write_corpus"]

BLOBS: Final = 100_000
REPOSITORIES: Final = 500
DRAWS: Final = 200_000

# A repository that holds all of them as well.
MIRROR: Final = "mirror/all"

_MEDIA_TYPES: Final = (
    "application/octet-stream",
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "application/vnd.oci.image.config.v1+json",
)


@attrs.frozen
class Blob:
    """What a peer is asked for, and what it must answer."""

    repository: str
    digest: str
    size: int  # bytes
    media_type: str
    absent: str  # a digest that is in no repository


@attrs.frozen
class Corpus:
    """All blobs, and indices drawn from them by Zipf's law: the n-th most popular is asked for 1/n as often."""

    blobs: list[Blob]
    draws: list[int]

    @classmethod
    def read(cls, folder: Path) -> Corpus:
        """Read what :func:`write_corpus` wrote."""
        rows = (line.split("\t") for line in folder.joinpath("blobs.tsv").read_text().splitlines())
        blobs = [Blob(name, digest, int(size), media_type, absent) for name, digest, size, media_type, absent in rows]
        return cls(blobs, [int(line) for line in folder.joinpath("draws.txt").read_text().splitlines()])

    def drawn(self) -> list[Blob]:
        """The blobs in the order in which they are asked for."""
        return [self.blobs[index] for index in self.draws]

    def by_repository(self) -> dict[str, list[Blob]]:
        """The blobs of each repository."""
        repositories: dict[str, list[Blob]] = {}
        for blob in self.blobs:
            repositories.setdefault(blob.repository, []).append(blob)
        return repositories


def write_corpus(folder: Path) -> None:
    """Write both files, always the same: as blobs are drawn by Zipf's law, so are their repositories."""
    with folder.joinpath("blobs.tsv").open("w") as rows:
        for index in range(BLOBS):
            number = index % REPOSITORIES
            name = f"team-{number % 20}/service-{number}"
            encoded = hashlib.sha256(b"blob %d" % index).hexdigest()
            size = int(encoded[:8], 16)
            media_type = _MEDIA_TYPES[size % len(_MEDIA_TYPES)]
            print(name, f"sha256:{encoded}", size, media_type, f"sha256:{encoded[::-1]}", sep="\t", file=rows)
    weights = list(itertools.accumulate(1 / rank for rank in range(1, BLOBS + 1)))
    drawn = random.Random(2015).choices(range(BLOBS), cum_weights=weights, k=DRAWS)  # noqa: S311
    folder.joinpath("draws.txt").write_text("".join(f"{index}\n" for index in drawn))
