"""Which cache and which storage a command is about, and how it ends when they cannot be used."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn, TypeVar

import attrs
from cyclopts import Parameter

from ..errors import (
    BlobCacheError,
    CacheUnavailableError,
    ConfigurationError,
    InvalidDescriptorError,
    InvalidDigestError,
    RepositoryNameError,
    StorageError,
)
from ..maintenance import RepairRefusedError
from ..maintenance.bench import WrongAnswerError
from ..redis.client import AnyClient, client_from_url, close_client
from ..redis.keyspace import Keyspace
from ..storage import RegistryStorage
from ..storage.objects import THREADS_END_SECONDS
from .registry_config import RegistryPlaces, read_registry_config

__all__ = ["FINDINGS", "FINE", "NOTHING_SAID", "UNAVAILABLE", "USAGE", "Target", "run", "run_behind", "step_behind"]

# Exit statuses.
FINE: Final = 0
FINDINGS: Final = 1
USAGE: Final = 2
UNAVAILABLE: Final = 3

# What the kernel calls being nice. It is what others' slowest answers depend on most: docs/performance.md.
_BEHIND: Final = 10

_T = TypeVar("_T")


@Parameter(name="*")
@attrs.frozen(kw_only=True)
class Target:
    """Options that the commands about a registry's cache have in common."""

    cache: Annotated[
        str | None,
        Parameter(
            help="Where Redis is: redis://host, rediss://, unix:///path, redis+sentinel://hosts/service,"
            " redis+cluster://hosts. Else what --registry-config says, else AIOBLOBCACHE_URL.",
        ),
    ] = None
    registry_config: Annotated[
        Path | None,
        Parameter(help="A configuration of Distribution (config.yml) that says where Redis and storage are."),
    ] = None
    as_json: Annotated[bool, Parameter(name="--json", negative="", help="Print one JSON document.")] = False

    def cache_url(self) -> str:
        """The cache's URL.

        :raises ConfigurationError: none is said, or the configuration cannot be used.
        """
        url = self.cache or self._places().cache or os.environ.get("AIOBLOBCACHE_URL")
        if not url:
            raise ConfigurationError("which cache? --cache URL, AIOBLOBCACHE_URL, or --registry-config FILE")
        if url.startswith("memory:"):
            raise ConfigurationError("memory:// is a process's own memory: there is nothing to look after from outside")
        return url

    def open_storage(self, url: str | None, root: str) -> RegistryStorage:
        """The storage, by what was said on the command line, or else in the configuration.

        :raises ConfigurationError: none is said, or it cannot be used.
        """
        if url is not None:
            return RegistryStorage.from_url(_as_url(url), root)
        places = self._places()
        if places.storage is None:
            raise ConfigurationError("which storage? file:///var/lib/registry, s3://bucket, or --registry-config FILE")
        return RegistryStorage.from_url(places.storage, root or places.root, **places.store_options)

    def _places(self) -> RegistryPlaces:
        if self.registry_config is None:
            return RegistryPlaces()
        return read_registry_config(self.registry_config)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[tuple[AnyClient, Keyspace]]:
        """A client and the keys behind it, closed in the end."""
        async with self.client() as client, Keyspace(client) as keyspace:
            yield client, keyspace

    @asynccontextmanager
    async def client(self) -> AsyncIterator[AnyClient]:
        """A client alone."""
        client = client_from_url(self.cache_url())
        try:
            yield client
        finally:
            await close_client(client)


# A command's default: its options come from the command line and the environment.
NOTHING_SAID: Final = Target()


def run(work: Coroutine[Any, Any, _T]) -> _T:
    """Do a command's work; what it cannot do is said in a line, and is the exit status."""
    try:
        return asyncio.run(_let_threads_end(work))
    except (ConfigurationError, InvalidDescriptorError, InvalidDigestError, RepositoryNameError) as error:
        _end(error, USAGE)
    except (CacheUnavailableError, StorageError, RepairRefusedError, WrongAnswerError) as error:
        _end(error, UNAVAILABLE)


async def _let_threads_end(work: Coroutine[Any, Any, _T]) -> _T:
    """Await ``work``; if it ends early, keep the event loop open until obstore's threads are done with it.

    A thread that finds the loop closed prints a traceback.
    """
    try:
        return await work
    except (asyncio.CancelledError, CacheUnavailableError, StorageError):
        await asyncio.sleep(THREADS_END_SECONDS)
        raise


def run_behind(work: Coroutine[Any, Any, _T]) -> _T:
    """The same for what goes through a whole cache, and is in no hurry."""
    step_behind()
    return run(work)


def step_behind() -> None:
    """Let the other programs of this machine go first, of which one may be the registry, and another its Redis."""
    os.setpriority(os.PRIO_PROCESS, 0, max(_BEHIND, os.getpriority(os.PRIO_PROCESS, 0)))


def _end(error: BlobCacheError, status: int) -> NoReturn:
    print(f"aioblobcache: {error}", file=sys.stderr)  # noqa: T201
    raise SystemExit(status)


def _as_url(storage: str) -> str:
    """A folder may be named as such."""
    return storage if "://" in storage else Path(storage).absolute().as_uri()
