"""What is asked of a storage tree, answered alike by a local folder and by an S3 service."""

from __future__ import annotations

import json
import traceback
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from obstore.store import LocalStore, MemoryStore, ObjectStore, S3Store

from aioblobcache import (
    BlobUnknownError,
    ConfigurationError,
    Descriptor,
    Digest,
    InvalidDigestError,
    RepositoryNameError,
    StorageError,
)
from aioblobcache.cli.sample import build_image, link_blob, store_image
from aioblobcache.media_types import OCI_INDEX, OCI_MANIFEST, OCTET_STREAM
from aioblobcache.storage import RegistryStorage, StorageLayout
from aioblobcache.storage.links import read_link
from aioblobcache.storage.objects import Objects
from tests.support.ports import free_port
from tests.support.stores import (
    KEY_ID,
    LAYERS,
    MANIFESTS,
    NAME,
    SECRET,
    Kind,
    S3Server,
    everything,
    fill_folder,
    paths,
    put,
    put_data,
    put_link,
    s3_options,
)
from tests.support.strategies import digests, names

pytestmark = pytest.mark.anyio

OTHER = "library/other"

IMAGE = build_image([{"etc/motd": "hello\n"}, {"etc/issue": "a demonstration\n"}])
LAYER = IMAGE.layers[0].digest
MANIFEST = IMAGE.manifest.digest

DATA = Digest.of(b"data")
DATA_BY_SHA512 = Digest.of(b"data", "sha512")
ANOTHER = Digest.of(b"another")

LARGEST_MANIFEST = 4 * 1024 * 1024

# What one request to S3 lists at most.
PAGE = 1_000


@pytest.fixture(params=[LAYERS, MANIFESTS], ids=["layers", "manifests"])
def kind(request: pytest.FixtureRequest) -> Kind:
    return request.param


@pytest.fixture(scope="module")
def s3_server() -> Iterator[S3Server]:
    with S3Server() as server:
        yield server


@pytest.fixture
def s3(s3_server: S3Server) -> S3Server:
    s3_server.reset()
    return s3_server


@pytest.fixture
def bucket(s3: S3Server) -> str:
    return s3.make_bucket()


@pytest.fixture
def s3_storage(s3: S3Server, bucket: str) -> RegistryStorage:
    return RegistryStorage(s3.open(bucket))


@pytest.fixture
def local_storage(tmp_path: Path) -> RegistryStorage:
    return RegistryStorage(LocalStore(tmp_path))


@pytest.fixture(params=["local", "s3"])
def storage(request: pytest.FixtureRequest) -> RegistryStorage:
    """A local folder and a bucket in turn, both empty."""
    return request.getfixturevalue(f"{request.param}_storage")


@pytest.fixture
def store(storage: RegistryStorage) -> ObjectStore:
    return storage.store


@pytest.fixture
async def registry(storage: RegistryStorage) -> RegistryStorage:
    """Storage to which the image was pushed."""
    await store_image(storage, NAME, "latest", IMAGE)
    return storage


async def put_manifest(storage: RegistryStorage, manifest: bytes) -> Digest:
    digest = await put_data(storage, manifest)
    await put_link(storage, MANIFESTS, digest)
    return digest


# What is known, and what is said of it


async def test_a_layer_is_described_by_the_size_of_its_data(registry):
    for blob in IMAGE.blobs:
        expected = Descriptor(blob.digest, blob.size, OCTET_STREAM)
        assert await registry.blobs(NAME).stat(blob.digest) == expected


async def test_a_manifest_is_described_with_its_stated_media_type(registry):
    assert await registry.manifests(NAME).stat(MANIFEST) == IMAGE.manifest


async def test_a_global_stat_needs_the_data_alone(storage):
    await put_data(storage, b"data")
    assert await storage.stat(DATA) == Descriptor(DATA, 4, OCTET_STREAM)


async def test_an_empty_blob_is_known(storage, kind):
    digest = await put_data(storage, b"")
    await put_link(storage, kind, digest)
    assert await kind.of(storage, NAME).stat(digest) == Descriptor(digest, 0, OCTET_STREAM)


@pytest.mark.parametrize(
    ("manifest", "media_type"),
    [
        (b'{"mediaType": "application/vnd.example+json"}', "application/vnd.example+json"),
        (b'{"schemaVersion": 2, "manifests": []}', OCI_INDEX),
        (b'{"mediaType": "a\\r\\nb", "config": {}, "layers": []}', OCI_MANIFEST),
        (b"\xff\xfegarbage", OCTET_STREAM),
        (b"[" * LARGEST_MANIFEST, OCTET_STREAM),
    ],
    ids=["stated", "deduced", "header injection", "garbage", "deep"],
)
async def test_a_manifest_of_any_content_is_known(storage, manifest, media_type):
    digest = await put_manifest(storage, manifest)
    assert await storage.manifests(NAME).stat(digest) == Descriptor(digest, len(manifest), media_type)


@pytest.mark.parametrize(("beyond", "media_type"), [(0, OCI_INDEX), (1, OCTET_STREAM)])
async def test_the_media_type_is_read_up_to_four_mebibytes(storage, beyond, media_type):
    manifest = json.dumps({"mediaType": OCI_INDEX}).encode().ljust(LARGEST_MANIFEST + beyond)
    digest = await put_manifest(storage, manifest)
    assert await storage.manifests(NAME).stat(digest) == Descriptor(digest, len(manifest), media_type)


async def test_a_digest_may_be_a_plain_str(registry):
    assert (await registry.stat(str(LAYER))).digest == LAYER
    assert (await registry.blobs(NAME).stat(str(LAYER))).digest == LAYER


async def test_the_data_of_a_layer_is_never_downloaded(s3, s3_storage):
    await store_image(s3_storage, NAME, "latest", IMAGE)
    s3.reset()
    await s3_storage.blobs(NAME).stat(LAYER)
    await s3_storage.stat(LAYER)
    asked = [(request.method, request.path.rpartition("/")[2]) for request in s3.requests]
    assert asked == [("GET", "link"), ("HEAD", "data"), ("HEAD", "data")]


# What is unknown


async def test_an_unknown_blob_is_named_with_its_repository(storage, kind):
    with pytest.raises(BlobUnknownError) as caught:
        await kind.of(storage, NAME).stat(LAYER)
    assert (caught.value.digest, caught.value.repository) == (LAYER, NAME)


async def test_a_globally_unknown_blob_is_named_without_repository(storage):
    with pytest.raises(BlobUnknownError) as caught:
        await storage.stat(LAYER)
    assert (caught.value.digest, caught.value.repository) == (LAYER, None)


async def test_layers_and_manifests_are_separate(registry):
    with pytest.raises(BlobUnknownError):
        await registry.manifests(NAME).stat(LAYER)
    with pytest.raises(BlobUnknownError):
        await registry.blobs(NAME).stat(MANIFEST)


async def test_a_blob_linked_in_another_repository_is_unknown(registry):
    with pytest.raises(BlobUnknownError):
        await registry.blobs(OTHER).stat(LAYER)
    with pytest.raises(BlobUnknownError):
        await registry.manifests(OTHER).stat(MANIFEST)


async def test_a_blob_linked_in_a_nested_repository_is_unknown(registry):
    with pytest.raises(BlobUnknownError):
        await registry.blobs("library").stat(LAYER)


async def test_a_link_without_data_is_unknown(storage, kind):
    await put_link(storage, kind, LAYER)
    with pytest.raises(BlobUnknownError) as caught:
        await kind.of(storage, NAME).stat(LAYER)
    assert (caught.value.digest, caught.value.repository) == (LAYER, NAME)


async def test_a_folder_in_place_of_data_is_unknown(storage, kind):
    await put_link(storage, kind, LAYER)
    await put(storage.store, f"{storage.layout.data(LAYER)}/within")
    with pytest.raises(BlobUnknownError):
        await kind.of(storage, NAME).stat(LAYER)


async def test_a_folder_in_place_of_a_link_is_unknown(storage, kind):
    await put_data(storage, b"data")
    await put(storage.store, f"{kind.link(storage, DATA)}/within")
    with pytest.raises(BlobUnknownError):
        await kind.of(storage, NAME).stat(DATA)
    with pytest.raises(BlobUnknownError):
        await kind.of(storage, NAME).clear(DATA)


# Links: a digest, of the blob itself or of the same blob by another algorithm


async def test_an_alias_link_is_described_by_its_canonical_digest(storage, kind):
    await put_data(storage, b"data")
    await put_link(storage, kind, DATA_BY_SHA512, DATA.encode())
    assert await kind.of(storage, NAME).stat(DATA_BY_SHA512) == Descriptor(DATA, 4, OCTET_STREAM)


async def test_an_alias_is_not_followed_through_a_second_link(storage, kind):
    await put_data(storage, b"data")
    second = Digest.of(b"data", "sha384")
    await put_link(storage, kind, DATA_BY_SHA512, second.encode())
    await put_link(storage, kind, second, DATA.encode())
    with pytest.raises(BlobUnknownError) as caught:
        await kind.of(storage, NAME).stat(DATA_BY_SHA512)
    assert caught.value.digest == DATA_BY_SHA512


@pytest.mark.parametrize(
    "content",
    [
        ANOTHER.encode(),
        b"",
        b"garbage",
        DATA.encode() + b"\n",
        b" " + DATA.encode(),
        DATA.upper().encode(),
        DATA.encode()[:-1],
        DATA.encode() * 2,
        DATA.encode("utf-16"),
        b"\xff" + DATA.encode(),
        b"md5:" + b"0" * 32,
        b"sha512:../../../../../etc/passwd",
        DATA.encode().ljust(1_000_000, b"0"),
    ],
    ids=[
        *("another blob", "empty", "garbage", "newline", "space", "upper case", "cut short", "twice", "UTF-16"),
        *("not UTF-8", "unsupported", "path", "1 MB"),
    ],
)
async def test_a_broken_link_makes_the_blob_unknown(storage, kind, content):
    await put_data(storage, b"data")
    await put_data(storage, b"another")
    await put_link(storage, kind, DATA, content)
    with pytest.raises(BlobUnknownError) as caught:
        await kind.of(storage, NAME).stat(DATA)
    assert caught.value.digest == DATA


BROKEN_LINKS = {
    "empty": b"",
    "garbage": b"garbage",
    "another blob": ANOTHER.encode(),
    "cut short": DATA.encode()[:-1],
    "newline": DATA.encode() + b"\n",
    "long": DATA.encode().ljust(301, b"0"),
}


async def test_a_link_is_read_up_to_300_bytes():
    class Recorder(Objects):
        asked: tuple[str, int]

        async def read(self, path: str, most: int) -> tuple[int, bytes | None]:
            self.asked = (path, most)
            return most + 1, None

    recorder = Recorder(MemoryStore())
    assert await read_link(recorder, "some/link") is None
    assert recorder.asked == ("some/link", 300)


async def test_the_target_of_a_link_needs_no_data(storage, kind):
    await put_link(storage, kind, DATA)
    await put_link(storage, kind, DATA_BY_SHA512, DATA.encode())
    service = kind.of(storage, NAME)
    for digest in (DATA, DATA_BY_SHA512, str(DATA)):
        assert await service.target(digest) == DATA
        assert await service.target_if_linked(digest) == DATA


async def test_without_a_link_there_is_no_target(storage, kind):
    await put_data(storage, b"data")
    service = kind.of(storage, NAME)
    with pytest.raises(BlobUnknownError) as caught:
        await service.target(str(DATA))
    assert (caught.value.digest, caught.value.repository) == (DATA, NAME)
    assert await service.target_if_linked(DATA) is None


@pytest.mark.parametrize("content", BROKEN_LINKS.values(), ids=BROKEN_LINKS)
async def test_a_broken_link_differs_from_an_absent_one(storage, kind, content):
    await put_link(storage, kind, DATA, content)
    service = kind.of(storage, NAME)
    with pytest.raises(BlobUnknownError) as caught:
        await service.target(DATA)
    assert (caught.value.digest, caught.value.repository) == (DATA, NAME)
    error = await failure(service.target_if_linked(str(DATA)))
    assert error.path == kind.link(storage, DATA)
    assert error.reason == "the link is broken: it does not name the blob that it is for"


async def test_a_manifest_is_read_with_its_bytes(storage):
    content = json.dumps({"mediaType": OCI_INDEX}).encode()
    digest = await put_manifest(storage, content)
    alias = Digest.of(content, "sha512")
    await put_link(storage, MANIFESTS, alias, digest.encode())
    for asked in (digest, str(digest), alias):
        assert await storage.manifests(NAME).read(asked) == (Descriptor(digest, len(content), OCI_INDEX), content)


@pytest.mark.parametrize("missing", ["link", "data", "bound"])
async def test_a_manifest_that_cannot_be_had_is_unknown(storage, missing):
    content = b"{}" if missing != "bound" else b"{}".ljust(LARGEST_MANIFEST + 1)
    digest = Digest.of(content)
    if missing != "data":
        await put_data(storage, content)
    if missing != "link":
        await put_link(storage, MANIFESTS, digest)
    with pytest.raises(BlobUnknownError) as caught:
        await storage.manifests(NAME).read(str(digest))
    assert (caught.value.digest, caught.value.repository) == (digest, NAME)


async def test_the_largest_manifest_is_read(storage):
    content = b"{}".ljust(LARGEST_MANIFEST)
    digest = await put_manifest(storage, content)
    assert await storage.manifests(NAME).read(digest) == (Descriptor(digest, len(content), OCTET_STREAM), content)


async def test_a_global_manifest_needs_the_data_alone(storage):
    content = json.dumps({"mediaType": OCI_INDEX}).encode()
    digest = await put_data(storage, content)
    assert await storage.stat_manifest(str(digest)) == Descriptor(digest, len(content), OCI_INDEX)
    with pytest.raises(BlobUnknownError) as caught:
        await storage.stat_manifest(str(DATA))
    assert (caught.value.digest, caught.value.repository) == (DATA, None)


async def test_an_opened_blob_without_data_is_named(storage):
    with pytest.raises(BlobUnknownError) as caught:
        await storage.blobs(NAME).open(DATA)
    assert (caught.value.digest, caught.value.repository) == (DATA, NAME)


# Clearing


@pytest.fixture
async def linked_everywhere(storage: RegistryStorage) -> RegistryStorage:
    """Storage in which one blob is linked as a layer and as a manifest, in two repositories."""
    await put_data(storage, b"data")
    for name in (NAME, OTHER):
        for kind in (LAYERS, MANIFESTS):
            await put(storage.store, kind.link(storage, DATA, name), content=DATA.encode())
    return storage


async def test_a_clear_removes_its_link_alone(linked_everywhere, kind):
    before = await paths(linked_everywhere.store)
    await kind.of(linked_everywhere, NAME).clear(DATA)
    assert before - await paths(linked_everywhere.store) == {kind.link(linked_everywhere, DATA)}
    with pytest.raises(BlobUnknownError):
        await kind.of(linked_everywhere, NAME).stat(DATA)


async def test_a_clear_of_an_alias_keeps_the_canonical_link(linked_everywhere, kind):
    await put_link(linked_everywhere, kind, DATA_BY_SHA512, DATA.encode())
    before = await paths(linked_everywhere.store)
    await kind.of(linked_everywhere, NAME).clear(DATA_BY_SHA512)
    assert before - await paths(linked_everywhere.store) == {kind.link(linked_everywhere, DATA_BY_SHA512)}


async def test_a_clear_without_a_link_is_unknown_and_removes_nothing(registry):
    before = await paths(registry.store)
    for service, digest in [
        (registry.blobs(NAME), MANIFEST),
        (registry.manifests(NAME), LAYER),
        (registry.blobs(OTHER), LAYER),
    ]:
        with pytest.raises(BlobUnknownError) as caught:
            await service.clear(digest)
        assert (caught.value.digest, caught.value.repository) == (digest, service.name)
    assert await paths(registry.store) == before


async def test_a_second_clear_is_unknown(registry):
    await registry.blobs(NAME).clear(LAYER)
    with pytest.raises(BlobUnknownError):
        await registry.blobs(NAME).clear(LAYER)


@pytest.mark.parametrize("content", [b"", b"garbage", ANOTHER.encode()])
async def test_a_damaged_link_can_be_cleared(storage, kind, content):
    await put_link(storage, kind, DATA, content)
    await kind.of(storage, NAME).clear(DATA)
    assert await paths(storage.store) == set()


# The store cannot tell


@attrs.frozen
class Question:
    """Something to ask of storage, and the first object or folder that it needs."""

    ask: Callable[[RegistryStorage], Awaitable[object]]
    path: str


LAYOUT = StorageLayout()
LAYER_LINK = LAYOUT.link(LAYOUT.layer_links(NAME), LAYER)
QUESTIONS = {
    "global stat": Question(lambda storage: storage.stat(LAYER), LAYOUT.data(LAYER)),
    "layer": Question(lambda storage: storage.blobs(NAME).stat(LAYER), LAYER_LINK),
    "manifest": Question(
        lambda storage: storage.manifests(NAME).stat(MANIFEST), LAYOUT.link(LAYOUT.revision_links(NAME), MANIFEST)
    ),
    "clear": Question(lambda storage: storage.blobs(NAME).clear(LAYER), LAYER_LINK),
    "global manifest": Question(lambda storage: storage.stat_manifest(LAYER), LAYOUT.data(LAYER)),
    "target": Question(lambda storage: storage.blobs(NAME).target(LAYER), LAYER_LINK),
    "target if linked": Question(lambda storage: storage.blobs(NAME).target_if_linked(LAYER), LAYER_LINK),
    "open": Question(lambda storage: storage.blobs(NAME).open(LAYER), LAYOUT.data(LAYER)),
    "any repository": Question(lambda storage: storage.has_repositories(), LAYOUT.repositories),
    "links": Question(lambda storage: everything(storage.blobs(NAME).links()), LAYOUT.layer_links(NAME)),
    "repositories": Question(lambda storage: everything(storage.repositories()), LAYOUT.repositories),
}


@pytest.fixture(params=QUESTIONS.values(), ids=QUESTIONS)
def question(request: pytest.FixtureRequest) -> Question:
    return request.param


@pytest.fixture
def refusing(s3: S3Server, bucket: str) -> ObjectStore:
    s3.refuse(lambda _: True)
    return s3.open(bucket)


@pytest.fixture
def unreachable() -> ObjectStore:
    return S3Store("bucket", **s3_options(f"http://127.0.0.1:{free_port()}"))


@pytest.fixture
def looping(tmp_path: Path) -> ObjectStore:
    loop(tmp_path / "docker")
    return LocalStore(tmp_path)


@pytest.fixture
def obstructed(tmp_path: Path) -> ObjectStore:
    (tmp_path / "docker").write_text("a file")
    return LocalStore(tmp_path)


@pytest.fixture(params=["refusing", "unreachable", "looping", "obstructed"])
def failing(request: pytest.FixtureRequest) -> RegistryStorage:
    """Storage on a store that fails, in each way that can be had as any user."""
    return RegistryStorage(request.getfixturevalue(request.param))


def loop(path: Path) -> None:
    """Make a symbolic link to itself: it is there, and nobody can look at it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(path)


async def failure(asked: Awaitable[object]) -> StorageError:
    with pytest.raises(StorageError) as caught:
        await asked
    return caught.value


async def test_a_failing_store_is_an_error_and_never_unknown(failing, question):
    error = await failure(question.ask(failing))
    assert error.path == question.path
    assert error.reason


async def test_a_failure_message_is_short_and_without_credentials(failing, question):
    error = await failure(question.ask(failing))
    message = str(error)
    assert question.path in message
    assert len(message) < len(question.path) + 400
    assert message.isprintable()
    printed = "".join(traceback.format_exception(error))
    for unwanted in ("list-type", "prefix=", KEY_ID, SECRET, "Debug source"):
        assert unwanted not in message
        assert unwanted not in printed


async def test_a_failure_message_omits_credentials_of_the_endpoint(question):
    options = s3_options(f"http://{KEY_ID}:{SECRET}@127.0.0.1:{free_port()}")
    message = str(await failure(question.ask(RegistryStorage(S3Store("bucket", **options)))))
    assert SECRET not in message


@pytest.mark.parametrize("status", [301, 401, 409, 412, 503])
async def test_any_status_but_not_found_is_an_error(s3, s3_storage, question, status):
    s3.refuse(lambda _: True, status)
    assert (await failure(question.ask(s3_storage))).path == question.path


async def test_a_layer_with_unreadable_data_is_an_error(s3, s3_storage):
    await store_image(s3_storage, NAME, "latest", IMAGE)
    s3.refuse(lambda request: request.path.endswith("/data"))
    assert (await failure(s3_storage.blobs(NAME).stat(LAYER))).path == LAYOUT.data(LAYER)


async def test_an_unreadable_manifest_is_an_error(s3, s3_storage):
    await store_image(s3_storage, NAME, "latest", IMAGE)
    s3.refuse(lambda request: request.method == "GET" and request.path.endswith("/data"))
    assert (await failure(s3_storage.manifests(NAME).stat(MANIFEST))).path == LAYOUT.data(MANIFEST)


async def test_a_manifest_removed_before_reading_is_unknown(s3, s3_storage):
    await store_image(s3_storage, NAME, "latest", IMAGE)
    s3.refuse(lambda request: request.method == "GET" and request.path.endswith("/data"), 404)
    with pytest.raises(BlobUnknownError):
        await s3_storage.manifests(NAME).stat(MANIFEST)


async def test_a_refused_clear_keeps_the_link(s3, s3_storage):
    await store_image(s3_storage, NAME, "latest", IMAGE)
    s3.refuse(lambda request: request.method in ("DELETE", "POST"))
    assert (await failure(s3_storage.blobs(NAME).clear(LAYER))).path == LAYER_LINK
    assert await s3_storage.blobs(NAME).stat(LAYER)


async def test_a_missing_bucket_is_an_error_and_never_unknown(s3, kind):
    storage = RegistryStorage(s3.open("no-such-bucket"))
    service = kind.of(storage, NAME)
    for question in (service.stat(LAYER), service.clear(LAYER), storage.stat(LAYER)):
        assert (await failure(question)).reason == "the bucket or container does not exist"


async def test_a_panic_of_obstore_is_an_error(kind):
    options = {"endpoint": "not a url", "region": "r", "access_key_id": KEY_ID, "secret_access_key": SECRET}
    storage = RegistryStorage.from_url("s3://bucket", **options)
    assert "panicked" in (await failure(kind.of(storage, NAME).stat(LAYER))).reason


async def test_an_invalid_store_object_raises_unchanged(kind):
    with pytest.raises(ValueError, match="Expected an object store"):
        await kind.of(RegistryStorage(None), NAME).stat(LAYER)


def test_an_overflowing_retry_option_is_refused():
    with pytest.raises(ConfigurationError, match="obstore accepts neither"):
        RegistryStorage.from_url("s3://bucket", region="r", retry_config={"max_retries": -1})


@pytest.mark.parametrize("url", ["s3://bucket", "nonsense://host", "file:///no/such/folder"])
def test_a_bad_root_is_named_before_a_url_is_opened(url):
    with pytest.raises(ConfigurationError, match="root is a path"):
        RegistryStorage.from_url(url, root="../x")


def test_the_root_of_a_url_is_its_top_by_default(tmp_path):
    assert RegistryStorage.from_url(tmp_path.as_uri()).layout == StorageLayout("")


@pytest.mark.parametrize("root", ["a//b", "../x", "./x", "a/..", "a\0", "a\nb", "\ud800", None, 5])
def test_an_invalid_root_is_refused(root):
    with pytest.raises(ConfigurationError, match="root is a path of plain folder names"):
        RegistryStorage(MemoryStore(), root)


async def test_listings_of_a_missing_bucket_are_errors(s3):
    storage = RegistryStorage(s3.open("no-such-bucket"))
    await failure(everything(storage.repositories()))
    await failure(everything(storage.blobs(NAME).links()))


async def test_a_symlink_loop_as_data_is_an_error(tmp_path, local_storage, kind):
    await put_link(local_storage, kind, LAYER)
    loop(tmp_path / LAYOUT.data(LAYER))
    assert (await failure(kind.of(local_storage, NAME).stat(LAYER))).path == LAYOUT.data(LAYER)
    assert (await failure(local_storage.stat(LAYER))).path == LAYOUT.data(LAYER)


async def test_a_symlink_loop_as_link_is_an_error(tmp_path, local_storage, kind):
    link = kind.link(local_storage, LAYER)
    loop(tmp_path / link)
    assert (await failure(kind.of(local_storage, NAME).stat(LAYER))).path == link
    assert (await failure(kind.of(local_storage, NAME).clear(LAYER))).path == link
    await failure(everything(kind.of(local_storage, NAME).links()))


async def test_a_file_in_place_of_a_folder_is_an_error(local_storage, kind):
    await put_link(local_storage, kind, LAYER)
    await put(local_storage.store, LAYOUT.data(LAYER).removesuffix("/data"))
    assert (await failure(kind.of(local_storage, NAME).stat(LAYER))).path == LAYOUT.data(LAYER)
    await put(local_storage.store, kind.link(local_storage, MANIFEST).removesuffix("/link"))
    await failure(kind.of(local_storage, NAME).stat(MANIFEST))
    await failure(kind.of(local_storage, NAME).clear(MANIFEST))


# The repositories


async def test_repositories_of_every_depth_are_found_in_order(storage):
    for name in ("a/b/c", "library/demo", "a", "a/b", "x/y/z", "0"):
        await link_blob(storage, name, LAYER)
    assert await everything(storage.repositories()) == ["0", "a", "a/b", "a/b/c", "library/demo", "x/y/z"]


async def test_a_repository_with_manifests_alone_is_found(storage):
    await put_link(storage, MANIFESTS, MANIFEST)
    assert await everything(storage.repositories()) == [NAME]


async def test_a_folder_with_uploads_alone_is_skipped(storage):
    await put(storage.store, f"{LAYOUT.repositories}/a/_uploads/0e2b/startedat", f"{LAYOUT.repositories}/b/notes")
    await link_blob(storage, "a/nested", LAYER)
    assert await everything(storage.repositories()) == ["a/nested"]


async def test_folders_with_ill_formed_names_are_skipped(storage):
    well_formed = "a" * 200
    await link_blob(storage, well_formed, LAYER)
    for name in ("Upper", "Upper/nested", "a b", "a..b", "-a", "_trash/a", "ü", f"{well_formed}/{'b' * 60}"):
        await link_blob(storage, name, LAYER)
    assert await everything(storage.repositories()) == [well_formed]


async def test_an_empty_store_has_no_repositories(storage):
    assert await everything(storage.repositories()) == []
    assert await storage.has_repositories() is False


async def test_any_object_below_the_repositories_counts_as_one(storage):
    await put(storage.store, f"{LAYOUT.base}/blobs/file")
    assert await storage.has_repositories() is False
    await put(storage.store, f"{LAYOUT.repositories}/a/file")
    assert await storage.has_repositories() is True


async def test_one_page_tells_whether_there_are_repositories(s3, bucket, s3_storage):
    s3.fill(bucket, (f"{LAYOUT.repositories}/{number:04}/file" for number in range(PAGE + 1)))
    assert await s3_storage.has_repositories() is True
    assert len(s3.requests) == 1


async def test_a_missing_root_has_no_repositories(store):
    assert await everything(RegistryStorage(store, "nowhere").repositories()) == []


async def test_a_thousand_repositories_are_found_once_each(tmp_path, local_storage):
    names = [f"group{number % 10}/app{number}" for number in range(1_000)]
    fill_folder(tmp_path, (LAYERS.link(local_storage, LAYER, name) for name in names))
    assert sorted(await everything(local_storage.repositories())) == sorted(names)


async def test_a_folder_of_several_pages_is_read_completely(s3, bucket, s3_storage):
    # Ill-formed names, since each other one would be looked into.
    s3.fill(bucket, (f"{LAYOUT.repositories}/{number:04}_/file" for number in range(PAGE)))
    await link_blob(s3_storage, "last", DATA)
    assert await everything(s3_storage.repositories()) == ["last"]


async def test_a_local_listing_raises_an_error_midway(tmp_path, local_storage):
    for name in ("a", "b", "c"):
        await link_blob(local_storage, name, LAYER)
    loop(tmp_path / LAYOUT.repositories / "b" / "nested")
    listing = local_storage.repositories()
    assert await anext(listing) == "a"
    await failure(anext(listing))


async def test_an_s3_listing_raises_an_error_midway(s3, s3_storage):
    for name in ("a", "b", "c"):
        await link_blob(s3_storage, name, LAYER)
    s3.refuse(lambda request: request.args["prefix"].endswith("/b/"))
    listing = s3_storage.repositories()
    assert await anext(listing) == "a"
    await failure(anext(listing))


# The links of a repository


async def test_links_of_one_kind_and_repository_are_listed(registry):
    await store_image(registry, f"{NAME}/nested", "latest", build_image([{"a": "b"}]))
    assert set(await everything(registry.blobs(NAME).links())) == {blob.digest for blob in IMAGE.blobs}
    assert await everything(registry.manifests(NAME).links()) == [MANIFEST]


async def test_a_repository_without_links_lists_none(registry, kind):
    assert await everything(kind.of(registry, OTHER).links()) == []


@pytest.mark.parametrize(
    ("algorithm", "folder"),
    [
        ("sha256", "sha256"),
        ("sha512", "sha512"),
        ("blake3", "blake3"),
        ("tarsum+sha256", "tarsum/sha256"),
        ("tarsum.v1+sha256", "tarsum/v1/sha256"),
        ("tarsum.dev+sha512", "tarsum/dev/sha512"),
    ],
)
async def test_links_of_every_algorithm_are_listed(storage, kind, algorithm, folder):
    digest = Digest(f"{algorithm}:{'0f' * (64 if algorithm.endswith('512') else 32)}")
    await put(storage.store, f"{kind.folder(LAYOUT, NAME)}/{folder}/{digest.encoded}/link")
    assert await everything(kind.of(storage, NAME).links()) == [digest]


async def test_ill_formed_link_paths_are_not_listed(registry):
    encoded = "0" * 64
    foreign = [
        "link",
        "sha256/link",
        f"{encoded}/link",
        f"sha256/{encoded}/data",
        f"sha256/{encoded}/linked/link",
        f"sha256/{encoded[1:]}/link",
        f"sha256/{'0F' * 32}/link",
        f"SHA256/{encoded}/link",
        f"md5/{encoded}/link",
        f"tarsum/{encoded}/link",
        f"tarsum/v2/sha256/{encoded}/link",
        f"v1/sha256/{encoded}/link",
        f"tarsum.v1+sha256/{encoded}/link",
    ]
    folder = LAYOUT.layer_links(NAME)
    await put(registry.store, *(f"{folder}/{path}" for path in foreign), f"{folder}2/sha256/{encoded}/link")
    assert set(await everything(registry.blobs(NAME).links())) == {blob.digest for blob in IMAGE.blobs}


async def test_listing_does_not_read_the_links(storage):
    await put_link(storage, LAYERS, LAYER, b"garbage")
    assert await everything(storage.blobs(NAME).links()) == [LAYER]


def many(storage: RegistryStorage, count: int) -> dict[str, Digest]:
    """Digests by the paths of their links."""
    linked = [Digest.of(number.to_bytes(2)) for number in range(count)]
    return {LAYERS.link(storage, digest): digest for digest in linked}


async def test_links_of_several_pages_are_listed_once_each(tmp_path, local_storage):
    links = many(local_storage, 2 * PAGE + 500)
    fill_folder(tmp_path, links)
    assert sorted(await everything(local_storage.blobs(NAME).links())) == sorted(links.values())


async def test_pages_of_links_are_requested_one_by_one(s3, bucket, s3_storage):
    links = many(s3_storage, PAGE + 1)
    s3.fill(bucket, links)
    listing = s3_storage.blobs(NAME).links()
    listed = [await anext(listing)]
    assert len(s3.requests) == 1
    listed += await everything(listing)
    assert len(s3.requests) == 2
    assert sorted(listed) == sorted(links.values())


async def test_a_failed_page_of_links_loses_no_earlier_page(s3, bucket, s3_storage):
    s3.fill(bucket, many(s3_storage, PAGE + 1))
    s3.refuse(lambda request: "continuation-token" in request.args)
    listing = s3_storage.blobs(NAME).links()
    assert len({await anext(listing) for _ in range(PAGE)}) == PAGE
    await failure(anext(listing))


# The root


@pytest.mark.parametrize("root", ["registry", "/registry", "registry/", "/registry/", "deep/er/registry/"])
async def test_all_paths_are_below_the_root(store, root):
    storage = RegistryStorage(store, root)
    await store_image(storage, NAME, "latest", IMAGE)
    stored = await paths(store)
    assert stored
    assert all(path.startswith(f"{root.strip('/')}/docker/registry/v2/") for path in stored)
    assert (await storage.blobs(NAME).stat(LAYER)).digest == LAYER
    assert await everything(storage.repositories()) == [NAME]
    assert await everything(storage.manifests(NAME).links()) == [MANIFEST]


@pytest.mark.parametrize("root", ["", "/"])
async def test_all_paths_are_at_the_top_without_a_root(store, root):
    await store_image(RegistryStorage(store, root), NAME, "latest", IMAGE)
    stored = await paths(store)
    assert stored
    assert all(path.startswith("docker/registry/v2/") for path in stored)


async def test_a_blob_below_another_root_is_unknown(registry):
    other = RegistryStorage(registry.store, "other")
    with pytest.raises(BlobUnknownError):
        await other.stat(LAYER)
    assert await everything(other.repositories()) == []


# Opening by URL


async def test_a_folder_is_opened_by_url(tmp_path):
    await store_image(RegistryStorage(LocalStore(tmp_path), "root"), NAME, "latest", IMAGE)
    storage = RegistryStorage.from_url(tmp_path.as_uri(), "root")
    assert await storage.manifests(NAME).stat(MANIFEST) == IMAGE.manifest


async def test_a_bucket_is_opened_by_url_with_options(s3, bucket):
    await store_image(RegistryStorage(s3.open(bucket), "prefix/root"), NAME, "latest", IMAGE)
    storage = RegistryStorage.from_url(f"s3://{bucket}/prefix", "root", **s3_options(s3.endpoint))
    assert await storage.manifests(NAME).stat(MANIFEST) == IMAGE.manifest
    assert await everything(storage.repositories()) == [NAME]


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("", {}),
        ("://", {}),
        ("/var/lib/registry", {}),
        ("file:///no/such/folder", {}),
        (f"file:///no/such/folder?password={SECRET}", {}),
        (f"file://user:{SECRET}@localhost/", {}),
        (f"nonsense://user:{SECRET}@host/", {}),
        (f"redis://:{SECRET}@host", {}),
        (f"s3://{KEY_ID}:{SECRET}@", {}),
        (f"https://user:{SECRET}@host:99999/", {}),
        (f"s3://bucket{SECRET}\ud800", {}),
        (None, {}),
        (SECRET.encode(), {}),
        ("s3://bucket", {"nonsense": SECRET}),
        ("s3://bucket", {"region": 5}),
        ("s3://bucket", {"client_options": {SECRET: True}}),
        ("s3://bucket", {"client_options": {"timeout": SECRET}}),
        ("s3://bucket", {"client_options": {"proxy_url": f"http://user:{SECRET}@:::"}}),
        ("s3://bucket", {"retry_config": {"max_retries": SECRET}}),
        ("s3://bucket", {"credential_provider": SECRET}),
        ("gs://bucket", {"service_account_key": SECRET}),
        ("gs://bucket", {"service_account_path": f"/no/such/{SECRET}"}),
        ("az://container", {}),
        ("az://container", {"account_name": "account", "account_key": SECRET}),
        ("az://container", {"account_name": "account", "sas_token": SECRET}),
        ("file:///", {"mkdir": SECRET}),
    ],
)
def test_an_unusable_url_is_refused_without_credentials(url, options):
    with pytest.raises(ConfigurationError, match="cannot open storage: ") as caught:
        RegistryStorage.from_url(url, **options)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 200
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_a_folder_that_fails_to_open_is_named():
    with pytest.raises(ConfigurationError, match="/no/such/folder"):
        RegistryStorage.from_url("file:///no/such/folder")


def test_any_other_url_is_not_repeated():
    for url in ("nonsense://host/folder", "s3://", None, 5):
        with pytest.raises(ConfigurationError) as caught:
            RegistryStorage.from_url(url)
        assert str(caught.value) == "cannot open storage: obstore accepts neither the URL nor its options as they are"


def test_storage_and_services_have_representations():
    storage = RegistryStorage(MemoryStore(), "root")
    assert repr(storage) == "<RegistryStorage on MemoryStore, below root/docker/registry/v2>"
    assert repr(storage.blobs(NAME)) == "<LinkedBlobs of library/demo>"
    assert repr(storage.manifests(NAME)) == "<LinkedManifests of library/demo>"


# What is refused before the store is asked


@pytest.mark.parametrize(
    "digest",
    ["", "sha256", "md5:" + "0" * 32, "sha256:0", f"{LAYER}\n", "sha256:../../../etc/passwd", LAYER.encode(), None, 5],
)
async def test_an_invalid_digest_is_refused_before_the_store_is_asked(s3, s3_storage, kind, digest):
    for ask in (s3_storage.stat, kind.of(s3_storage, NAME).stat, kind.of(s3_storage, NAME).clear):
        with pytest.raises(InvalidDigestError):
            await ask(digest)
    assert s3.requests == []


@pytest.mark.parametrize(
    "name", ["", "A", "..", "a/../b", "/a", "a/", "a//b", "_layers", "a/_manifests", "a\x00", None, 5]
)
def test_an_invalid_name_is_refused_before_the_store_is_asked(kind, name):
    with pytest.raises(RepositoryNameError):
        kind.of(RegistryStorage(MemoryStore()), name)


# The layout


def test_the_layout_matches_distribution():
    encoded = "0123" + "4" * 60
    digest = Digest(f"sha256:{encoded}")
    legacy = Digest(f"tarsum.v1+sha256:{encoded}")
    base = "docker/registry/v2"
    assert LAYOUT.data(digest) == f"{base}/blobs/sha256/01/{encoded}/data"
    assert LAYOUT.data(legacy) == f"{base}/blobs/tarsum/v1/sha256/01/{encoded}/data"
    repository = f"{base}/repositories/library/demo"
    assert LAYERS.link(RegistryStorage(MemoryStore()), digest) == f"{repository}/_layers/sha256/{encoded}/link"
    assert MANIFESTS.link(RegistryStorage(MemoryStore()), digest) == (
        f"{repository}/_manifests/revisions/sha256/{encoded}/link"
    )
    assert LAYOUT.tags("library/demo") == f"{repository}/_manifests/tags"
    assert LAYOUT.current("library/demo", "latest") == f"{repository}/_manifests/tags/latest/current/link"
    assert LAYOUT.link("folder", legacy) == f"folder/tarsum/v1/sha256/{encoded}/link"
    assert (LAYOUT.root, LAYOUT.base, LAYOUT.repositories) == ("", base, f"{base}/repositories")


@pytest.mark.parametrize(
    ("root", "prefix"),
    [("", ""), ("/", ""), ("///", ""), ("a", "a"), ("/a/b/", "a/b"), ("a.b/...", "a.b/..."), ("é", "é"), (" ", " ")],
)
def test_a_root_is_a_path_of_plain_folder_names(root, prefix):
    layout = StorageLayout(root)
    assert layout.root == prefix
    assert layout.base == (f"{prefix}/docker/registry/v2" if prefix else "docker/registry/v2")


@pytest.mark.parametrize(
    "path", ["", "folder", "folder/link", "folder/a/link", "folder/sha256/link", "folder/sha256/zz/link", "other"]
)
def test_a_path_of_too_few_parts_is_no_link(path):
    assert LAYOUT.linked_digest("folder", path) is None


folders = st.builds(lambda kind, name: kind.folder(LAYOUT, name), st.sampled_from([LAYERS, MANIFESTS]), names)


@given(folders, digests())
def test_the_digest_of_a_link_is_decoded_from_its_path(folder, digest):
    assert LAYOUT.linked_digest(folder, LAYOUT.link(folder, digest)) == digest


# What a path may be made of that is nearly a link's, or that is split where it should not be.
segments = st.sampled_from(
    [
        "",
        ".",
        "..",
        "link",
        "data",
        "tarsum",
        "v1",
        "dev",
        "v2",
        "sha256",
        "sha512",
        "tarsum.v1+sha256",
        "tarsum+sha256",
    ]
) | digests().map(lambda digest: digest.encoded)
near_links = st.lists(segments, max_size=6).map("/".join)


@given(folders, st.booleans(), st.text(st.characters()) | near_links | near_links.map("{}/link".format))
def test_a_decoded_digest_leads_back_to_its_path(folder, within, path):
    path = f"{folder}/{path}" if within else path
    digest = LAYOUT.linked_digest(folder, path)
    assert digest is None or LAYOUT.link(folder, digest) == path
