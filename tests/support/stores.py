"""Stores for the tests of storage: an S3 service inside the test run, and what is put into stores."""

from __future__ import annotations

import threading
import uuid
from collections.abc import AsyncIterator, Callable, Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any, Self

import attrs
import obstore
from moto.core import DEFAULT_ACCOUNT_ID
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.s3.models import s3_backends
from obstore.store import ObjectStore, S3Store
from werkzeug import Request, Response
from werkzeug.serving import WSGIRequestHandler, make_server

from aioblobcache import Digest
from aioblobcache.storage import LinkedBlobs, LinkedManifests, RegistryStorage, StorageLayout

NAME = "library/demo"

KEY_ID = "key-id"
SECRET = "hush-hush"  # short: what is cut off would not be seen to leak

# As S3 words it: the body repeats the key, and has more than one line.
_REFUSAL = f"<Error><Code>AccessDenied</Code><AWSAccessKeyId>{KEY_ID}</AWSAccessKeyId>\n<Message>no</Message></Error>"


def s3_options(endpoint: str) -> dict[str, Any]:
    """Options of obstore for an S3 service on loopback, whose errors are final."""
    return {
        "endpoint": endpoint,
        "region": "us-east-1",
        "access_key_id": KEY_ID,
        "secret_access_key": SECRET,
        "client_options": {"allow_http": True},
        "retry_config": {"max_retries": 0, "retry_timeout": timedelta(seconds=5)},
    }


class S3Server:
    """moto's S3 over HTTP, behind a gate that notes each request and refuses those a test wants refused."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self._refused: Callable[[Request], bool] = _nothing
        self._status = 0
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._backend = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True, request_handler=_QuietHandler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def make_bucket(self) -> str:
        """A new, empty bucket's name."""
        name = f"bucket-{uuid.uuid4()}"
        self._backend.create_bucket(name, "us-east-1")
        return name

    def open(self, bucket: str) -> S3Store:
        return S3Store(bucket, **s3_options(self.endpoint))

    def fill(self, bucket: str, paths: Iterable[str]) -> None:
        """Make many empty objects, without a request for each."""
        for path in paths:
            self._backend.put_object(bucket, path, b"")

    def refuse(self, refused: Callable[[Request], bool], status: int = 403) -> None:
        """Answer the requests of which ``refused`` holds with ``status``."""
        self._refused = refused
        self._status = status

    def reset(self) -> None:
        """Refuse nothing, and forget what was asked."""
        self.refuse(_nothing)
        self.requests.clear()

    def _answer(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        request = Request(environ, populate_request=False)
        self.requests.append(request)
        if self._refused(request):
            return Response(_REFUSAL, self._status)(environ, start_response)
        return self._moto(environ, start_response)


class _QuietHandler(WSGIRequestHandler):
    def log(self, *_: object) -> None:
        """Say nothing of the requests: the gate has them."""


def _nothing(_: Request) -> bool:
    return False


def fill_folder(folder: Path, paths: Iterable[str]) -> None:
    """Make many empty objects of a local store, without asking it for each."""
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).touch()


async def put(store: ObjectStore, *paths: str, content: bytes = b"") -> None:
    for path in paths:
        await obstore.put_async(store, path, content)


async def paths(store: ObjectStore) -> set[str]:
    """The paths of all objects."""
    return {entry["path"] async for page in obstore.list(store) for entry in page}


@attrs.frozen
class Kind:
    """Layers or manifests: who answers for them in a repository, and where their links are."""

    of: Callable[[RegistryStorage, str], LinkedBlobs | LinkedManifests]
    folder: Callable[[StorageLayout, str], str]

    def link(self, storage: RegistryStorage, digest: Digest, name: str = NAME) -> str:
        return storage.layout.link(self.folder(storage.layout, name), digest)


LAYERS = Kind(RegistryStorage.blobs, StorageLayout.layer_links)
MANIFESTS = Kind(RegistryStorage.manifests, StorageLayout.revision_links)


async def put_data(storage: RegistryStorage, data: bytes) -> Digest:
    digest = Digest.of(data)
    await put(storage.store, storage.layout.data(digest), content=data)
    return digest


async def put_link(storage: RegistryStorage, kind: Kind, digest: Digest, content: bytes | None = None) -> None:
    await put(storage.store, kind.link(storage, digest), content=digest.encode() if content is None else content)


async def everything(iterator: AsyncIterator[str]) -> list[str]:
    return [item async for item in iterator]
