"""An audit or a warm-up in a process of its own: ``python -m benchmarks.caretaker JOB ADDRESS BLOBS [FOLDER]``.

It compares a cache with what storage says, or fills it, and prints what that took. Storage is in memory and answers at
once, or is a folder. What it reports is compared with what there is; anything else ends the process.
"""

from __future__ import annotations

import asyncio
import gc
import json
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, cast

import attrs
from obstore.store import LocalStore
from redis.asyncio import Redis

from aioblobcache.cli.target import step_behind
from aioblobcache.maintenance import Audit, AuditOptions, Keyspace, StorageTruth, Truth, Warm, WarmOptions
from aioblobcache.storage import RegistryStorage

from .memory import memory_bytes
from .tree import MemoryStorage, MemoryTruth, Planted, planted

__all__ = ["AUDIT", "FILL", "FIND", "Care", "audits_without_end", "take_care"]

AUDIT: Final = "audit"
FIND: Final = "audit with planted faults"
FILL: Final = "warm"
_WITHOUT_END: Final = "audits without end"


@attrs.frozen
class Care:
    """One audit or warm-up, in one round."""

    round: int
    job: str
    in_memory: bool  # storage, or else in a folder
    entries: int  # that were checked, or links by which a cache was filled
    seconds: float
    cpu_seconds: float  # of its process
    peak_bytes: int  # the most that was resident

    @property
    def rate(self) -> float:
        """Entries a second."""
        return self.entries / self.seconds

    @property
    def cpu_us(self) -> float:
        """Microseconds of processor time for each."""
        return 1e6 * self.cpu_seconds / self.entries


def take_care(number: int, job: str, address: str, blobs: int, folder: Path | None = None) -> Care:
    """Do one of the jobs, in a process of its own."""
    with _process(job, address, blobs, folder) as process:
        said, _ = process.communicate()
        if process.returncode:
            sys.exit(f"{job} failed")
        return Care(number, job, folder is None, **json.loads(said))


@contextmanager
def audits_without_end(address: str, blobs: int) -> Iterator[None]:
    """Audit again and again for as long as the context lasts; storage is in memory."""
    with _process(_WITHOUT_END, address, blobs, None) as process:
        assert process.stdout is not None
        process.stdout.readline()  # it has begun
        yield
        if process.poll() is not None:
            sys.exit("the audit ended before its time")


@contextmanager
def _process(job: str, address: str, blobs: int, folder: Path | None) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "benchmarks.caretaker", job, address, str(blobs)]
    with subprocess.Popen(
        command + ([] if folder is None else [str(folder)]),
        cwd=Path(__file__).parents[1],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


# --- in that process -----------------------------------------------------------------------------


async def _main(job: str, address: str, blobs: int, folder: Path | None) -> None:
    storage = None if folder is None else RegistryStorage(LocalStore(folder))
    async with Redis.from_url(f"redis://{address}/0") as client, Keyspace(client) as keyspace:
        if job == FILL:
            # The two are alike as far as a warm-up goes.
            answering = storage or cast("RegistryStorage", MemoryStorage(blobs))
            print(json.dumps(await _timed(lambda: _fill(keyspace, answering, blobs))))  # noqa: T201
            return
        faults = planted(blobs) if job == FIND else Planted()
        truth = MemoryTruth(faults.absent) if storage is None else StorageTruth(storage)
        if job == _WITHOUT_END:
            print("auditing", flush=True)  # noqa: T201
        while job == _WITHOUT_END:
            await _audit(keyspace, truth, blobs, faults)
        print(json.dumps(await _timed(lambda: _audit(keyspace, truth, blobs, faults))))  # noqa: T201


async def _audit(keyspace: Keyspace, truth: Truth, blobs: int, faults: Planted) -> int:
    report = await Audit(keyspace, truth, AuditOptions(confirm_after=0.2)).run()
    found = frozenset((fault.kind, fault.name, fault.digest) for fault in report.faults)
    entries = 2 * blobs + faults.entries
    if (report.checked, found, report.not_told) != (entries, faults.faults, 0):
        raise AssertionError(f"{report.checked:,} of {entries:,} entries, {len(found)} faults, {report.troubles[:3]}")
    return report.checked


async def _fill(keyspace: Keyspace, storage: RegistryStorage, blobs: int) -> int:
    # The second look comes at once: there is no waiting in what it takes, but all of the work.
    report = await Warm(keyspace, storage, WarmOptions(look_again_after=0)).run()
    if (report.seen, report.filled, report.vanished, report.not_told) != (blobs, blobs, 0, 0):
        raise AssertionError(f"{report} of {blobs:,} links")
    return report.filled


async def _timed(work: Callable[[], Awaitable[int]]) -> dict[str, float]:
    # What stands here for ever is not to be searched for garbage.
    gc.collect()
    gc.freeze()
    cpu, began = time.process_time(), time.perf_counter()
    entries = await work()
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    # Not `ru_maxrss`: that is never less than what the process that started this one held then.
    return {"entries": entries, "seconds": seconds, "cpu_seconds": cpu, "peak_bytes": memory_bytes("VmHWM")}


if __name__ == "__main__":
    step_behind()  # as the command does
    job, address, blobs, *folders = sys.argv[1:]
    asyncio.run(_main(job, address, int(blobs), Path(folders[0]) if folders else None))
