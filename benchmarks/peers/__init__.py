"""The peers by their names, in the order in which they are shown."""

from __future__ import annotations

import importlib.metadata
import sys
from importlib import import_module
from pathlib import Path
from typing import Final

import attrs

from . import distribution
from .interface import Peer

__all__ = ["CLUSTER_PEERS", "PEERS", "PYTHON_PEERS", "GoKind", "MissingPeerError", "PeerKind"]


class MissingPeerError(Exception):
    """A peer that is not installed; the text says how to install it."""


@attrs.frozen
class PeerKind:
    """A peer that is a Python library: where its class is, and what has to be installed for it."""

    module: str
    class_name: str
    library: str
    has_stat_many: bool = True
    has_near_cache: bool = False
    has_peek: bool = False
    topology: str = "one"

    def __call__(self) -> Peer:
        """The peer itself, which imports its library."""
        return getattr(import_module(self.module, __package__), self.class_name)()  # type: ignore[no-any-return]

    def command(self, name: str, address: str, folder: Path, loop: str) -> list[str]:
        """What starts its process."""
        return [sys.executable, "-m", "benchmarks.client", name, address, str(folder), loop, self.topology]

    def version(self) -> str:
        """What is installed.

        :raises MissingPeerError: nothing is.
        """
        try:
            return f"{self.library} {importlib.metadata.version(self.library)}"
        except importlib.metadata.PackageNotFoundError:
            raise MissingPeerError(f"pip install {self.library}") from None


@attrs.frozen
class GoKind:
    """The provider that CNCF Distribution itself uses, in a Go program of ours.

    The registry of 2.8 tests each connection by a PING before it is used; ``test`` says whether that is done here.
    """

    test: str
    has_stat_many: bool = False
    has_near_cache: bool = False
    has_peek: bool = False

    def command(self, name: str, address: str, folder: Path, loop: str) -> list[str]:
        """What starts its process; builds it, if need be."""
        return [str(distribution.program()), address, str(folder), self.test]

    def version(self) -> str:
        """What is installed.

        :raises MissingPeerError: nothing is.
        """
        if cure := distribution.missing():
            raise MissingPeerError(cure)
        return distribution.version()


PYTHON_PEERS: Final = {
    "aioblobcache": PeerKind(".ours", "Ours", "aioblobcache", has_near_cache=True, has_peek=True),
    "redis-py pipeline": PeerKind(".redis_py", "RedisPyPipeline", "redis"),
    "redis-py awaits": PeerKind(".redis_py", "RedisPyAwaits", "redis", has_stat_many=False),
    "coredis": PeerKind(".coredis_pipeline", "CoredisPipeline", "coredis", has_near_cache=True),
    "valkey-glide": PeerKind(".glide_batch", "GlideBatch", "valkey-glide"),
}

# Those of them that there are on a Cluster.
CLUSTER_PEERS: Final = {
    "aioblobcache": PeerKind(".ours", "OursOnCluster", "aioblobcache", topology="cluster"),
    "redis-py pipeline": PeerKind(".redis_py", "RedisPyClusterPipeline", "redis", topology="cluster"),
}

PEERS: Final[dict[str, PeerKind | GoKind]] = {
    **PYTHON_PEERS,
    "Distribution (Go)": GoKind("ping"),
    "Distribution, no PING": GoKind("no-ping"),
}
