"""The objects of a store, as a registry needs them; what obstore raises is mapped here.

``FileNotFoundError`` leaves each of these for an object that is not there: who asked says what is unknown.
Everything else that goes wrong is a :class:`~aioblobcache.StorageError`.
"""

from __future__ import annotations

import atexit
import re
import shutil
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

import anyio.to_thread
import attrs
import obstore
from obstore.exceptions import BaseError
from obstore.store import AzureStore, GCSStore, LocalStore, ObjectStore, S3Store

from ..errors import StorageError, UnsupportedError, one_line

if TYPE_CHECKING:
    from obstore import GetOptions, GetResult

__all__ = ["THREADS_END_SECONDS", "ByteRange", "Objects", "OpenedObject", "reason_of"]

# A page of a listing: what an object store returns for one request.
_PAGE: Final = 1_000

# How much of an object is in memory at once while it is passed on, at least.
_CHUNK: Final = 256 * 1024

# What S3, GCS and Azure answer in place of "no such object" where not even the store is there.
_MISSING_STORE: Final = ("NoSuchBucket", "ContainerNotFound")


# Within this time after a call has ended or was cancelled, obstore's threads are done with the event loop and with
# Python's objects; nothing tells when.
THREADS_END_SECONDS: Final = 0.1


@cache
def _linger_at_exit() -> None:
    """Let obstore's threads put away what they hold of Python's, before that is taken down.

    They do so a moment after the last answer was taken, and are never told to stop; one that comes too late aborts the
    process (PyO3/pyo3-async-runtimes issue 40).
    """
    atexit.register(time.sleep, THREADS_END_SECONDS)


@attrs.frozen
class ByteRange:
    """Which part of an object is wanted (RFC 9110, 14.1.2): from ``first`` on, up to and with ``last``, or to its end.

    Without ``first``, the ``last`` so many bytes.
    """

    first: int | None
    last: int | None

    def of(self, size: int) -> tuple[int, int] | None:
        """Where that begins and ends in an object of ``size`` bytes; ``None``: there is nothing in it."""
        if self.first is None:
            start, end = max(0, size - (self.last or 0)), size
        else:
            start, end = self.first, size if self.last is None else min(size, self.last + 1)
        return (start, end) if start < end else None


@attrs.frozen
class OpenedObject:
    """An object, or a part of it, that the store has begun to send."""

    size: int  # of the whole object, in bytes
    start: int  # where the part begins
    end: int  # and where it ends: the first byte that is not in it
    _path: str
    _result: GetResult

    @property
    def length(self) -> int:
        """How many bytes :meth:`read` and :meth:`chunks` give."""
        return self.end - self.start

    async def read(self) -> bytes:
        """All of it at once.

        :raises StorageError: the store ended too early.
        """
        with storage_errors(self._path):
            content = bytes(await self._result.bytes_async())
        self._require_whole(len(content))
        return content

    async def chunks(self) -> AsyncGenerator[bytes]:
        """All of it, piece by piece, of some hundred kilobytes each; the store is read as slowly as they are taken.

        :raises StorageError: the store ended too early.
        """
        sent = 0
        with storage_errors(self._path):
            async for chunk in self._result.stream(min_chunk_size=_CHUNK):
                sent += len(chunk)
                yield bytes(chunk)
        self._require_whole(sent)

    def _require_whole(self, length: int) -> None:
        # Not every release of obstore looks whether a file has become shorter since it was opened.
        if length != self.length:
            raise StorageError(self._path, f"it gave {length:,} bytes of {self.length:,}")


class Objects:
    """What is done with the objects of one store."""

    def __init__(self, store: ObjectStore) -> None:
        self.store = store
        _linger_at_exit()

    async def size(self, path: str) -> int:
        """An object's size in bytes."""
        with storage_errors(path):
            try:
                return (await obstore.head_async(self.store, path))["size"]
            except FileNotFoundError:
                # A HEAD has no body: only a GET tells a missing object from a missing bucket.
                return (await obstore.get_async(self.store, path)).meta["size"]

    async def read(self, path: str, most: int) -> tuple[int, bytes | None]:
        """An object's size, and its bytes unless they are more than ``most``."""
        with storage_errors(path):
            result = await obstore.get_async(self.store, path)
            size = result.meta["size"]
            return size, bytes(await result.bytes_async()) if size <= most else None

    async def open(self, path: str, wanted: ByteRange | None = None) -> OpenedObject | int:
        """Open an object, or the part of it that is wanted; its size, if there is nothing in that part."""
        if wanted is None:
            return await self._open(path, {})
        # What it spans is known once the size is: a store refuses a part that has nothing in it.
        size = await self.size(path)
        part = wanted.of(size)
        return size if part is None else await self._open(path, {"range": part})

    async def _open(self, path: str, options: GetOptions) -> OpenedObject:
        with storage_errors(path):
            result = await obstore.get_async(self.store, path, options=options)
            start, end = result.range
            return OpenedObject(result.meta["size"], start, end, path, result)

    async def remove(self, path: str) -> None:
        """Remove an object."""
        with storage_errors(path):
            # Object stores delete what is not there without a word, and only a GET's answer tells a
            # missing object from a missing bucket.
            await obstore.get_async(self.store, path)
            await obstore.delete_async(self.store, path)

    async def remove_all(self, folder: str) -> None:
        """Remove a folder with whatever is below it; nothing may be there."""
        async for paths in self._pages(folder):
            with storage_errors(folder):
                await obstore.delete_async(self.store, paths)
        if isinstance(self.store, LocalStore):
            # Here a folder is more than the beginning of names: it would go on being listed.
            with storage_errors(folder):
                await anyio.to_thread.run_sync(_remove_tree, (self.store.prefix or Path("/")) / folder)

    async def paths(self, folder: str) -> AsyncIterator[str]:
        """Iterate over what is below a folder, in no order."""
        async for page in self._pages(folder):
            for path in page:
                yield path

    async def _pages(self, folder: str) -> AsyncIterator[list[str]]:
        with storage_errors(folder):
            async for page in obstore.list(self.store, folder, chunk_size=_PAGE):
                yield [entry["path"] for entry in page]

    async def folders(self, path: str) -> frozenset[str]:
        """The names of the folders directly below one."""
        with storage_errors(path):
            listing = await obstore.list_with_delimiter_async(self.store, path)
        return frozenset(prefix.rsplit("/", 1)[-1] for prefix in listing["common_prefixes"])

    @property
    def can_sign(self) -> bool:
        """Whether the store can make URLs for others."""
        return isinstance(self.store, S3Store | GCSStore | AzureStore)

    async def signed_url(self, path: str, seconds: float) -> str:
        """A URL by which anybody may read the object for so long.

        :raises UnsupportedError: the store cannot sign.
        """
        if not isinstance(self.store, S3Store | GCSStore | AzureStore):
            raise UnsupportedError(f"{type(self.store).__name__} cannot sign URLs")
        with storage_errors(path):
            return await obstore.sign_async(self.store, "GET", path, timedelta(seconds=seconds))


def _remove_tree(folder: Path) -> None:
    with suppress(FileNotFoundError):
        shutil.rmtree(folder)


@contextmanager
def storage_errors(path: str) -> Iterator[None]:
    """Map what obstore raises; ``FileNotFoundError`` passes, for the caller to say what is unknown."""
    try:
        yield
    except FileNotFoundError as error:
        if any(code in str(error) for code in _MISSING_STORE):
            raise StorageError(path, "the bucket or container does not exist") from None
        raise
    except (BaseError, OSError) as error:
        raise StorageError(path, reason_of(error)) from None
    except Exception as error:
        # obstore cannot check every option beforehand; its native code then panics, with a class of
        # exception that it does not export.
        if type(error).__name__ != "RustPanic":
            raise
        raise StorageError(path, "obstore panicked: an option such as its endpoint is malformed") from None


# How obstore says it.
_NO_FOLDER: Final = "Generic LocalFileSystem error: Unable to canonicalize filesystem root: "


def reason_of(error: Exception) -> str:
    """What obstore says, without what may hold a secret or is said already.

    That is its debug dump, the URLs (user, password, signed query) and the body of the answer; for
    the same reason the error is not kept as a cause, which a logged traceback would print.
    """
    line = re.sub(r"https?://\S+", "its URL", str(error).partition("\n")[0])
    line = line.replace(_NO_FOLDER, "there is no such folder: ")
    return one_line(re.sub(r"(status code: \d{3}[^:<]*).*", r"\1", line))
