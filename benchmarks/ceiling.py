"""What the server could answer at most: its own tool's figures for the three commands of a scoped stat."""

from __future__ import annotations

import shutil
import subprocess
from typing import Final

import attrs

from aioblobcache.redis.keys import descriptor_key, membership_key, override_key

from .corpus import Blob

__all__ = ["Ceiling", "measure_ceiling", "missing"]

_PROGRAM: Final = "redis-benchmark"
_REQUESTS: Final = 300_000
# Of 1, 4, 16 and 50 connections, and 16, 64 and 256 commands in each write, what gave the most.
_CONNECTIONS: Final = 16
_PIPELINED: Final = 64


@attrs.frozen
class Ceiling:
    """Commands a second, of one blob, by ``redis-benchmark -P``."""

    sismember: float
    hmget: float
    hget: float

    @property
    def stats(self) -> float:
        """Stats a second, were each command as quick as alone: the harmonic sum."""
        return 1 / (1 / self.sismember + 1 / self.hmget + 1 / self.hget)


def missing() -> str | None:
    """How to install the tool, if it is not there."""
    return None if shutil.which(_PROGRAM) else "apt-get install redis-tools"


def measure_ceiling(port: int, blob: Blob) -> Ceiling:
    """Measure each command by itself, one after the other."""
    return Ceiling(
        _measure(port, "SISMEMBER", membership_key(blob.repository), blob.digest),
        _measure(port, "HMGET", descriptor_key(blob.digest), "digest", "size", "mediatype"),
        _measure(port, "HGET", override_key(blob.repository, blob.digest), "mediatype"),
    )


def _measure(port: int, *command: str | bytes) -> float:
    options = ["-p", str(port), "-c", str(_CONNECTIONS), "-P", str(_PIPELINED), "-n", str(_REQUESTS), "--csv"]
    ran = subprocess.run([_PROGRAM, *options, *command], capture_output=True, text=True, check=True)
    # "command","rps","avg_latency_ms",… ; the command is quoted and may hold commas.
    return float(ran.stdout.splitlines()[-1].rsplit(",", 7)[1].strip('"'))
