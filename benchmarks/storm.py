"""Another client that overwrites the hottest blobs without end: ``python -m benchmarks.storm ADDRESS FOLDER``.

The values are those that are kept already, so that answers stay right; the server tells whoever has read them even so.
"""

from __future__ import annotations

import itertools
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from aioblobcache.redis.keys import descriptor_key
from aioblobcache.redis.resp import encode

from .corpus import Corpus
from .jobs import HOTTEST, OVERWRITES

__all__ = ["storm"]

_BATCH: Final = 500
_REPLY: Final = b":0\r\n"  # of HSET, where no field is new


@contextmanager
def storm(address: str, folder: Path) -> Iterator[None]:
    """Overwrite for as long as the context lasts."""
    command = [sys.executable, "-m", "benchmarks.storm", address, str(folder)]
    with subprocess.Popen(command, cwd=Path(__file__).parents[1], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()  # it has begun
            yield
        finally:
            process.kill()


def _overwrite(host: str, port: int, corpus: Corpus) -> None:
    blobs = corpus.blobs[:HOTTEST]
    requests = [(b"HSET", descriptor_key(blob.digest), b"size", b"%d" % blob.size) for blob in blobs]
    batch = encode(itertools.islice(itertools.cycle(requests), _BATCH))
    with socket.create_connection((host, port)) as connection:
        began = time.perf_counter()
        for number in itertools.count():
            connection.sendall(batch)
            missing = _BATCH * len(_REPLY)
            while missing:
                missing -= len(connection.recv(missing))
            if not number:
                print("overwriting", flush=True)  # noqa: T201
            time.sleep(max(0.0, began + (number + 1) * _BATCH / OVERWRITES - time.perf_counter()))


if __name__ == "__main__":
    host, _, port = sys.argv[1].rpartition(":")
    _overwrite(host, int(port), Corpus.read(Path(sys.argv[2])))
