"""The tags of a repository, opened blobs, and repositories from a given one on: on a folder and on an S3 service."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import obstore
import pytest
from obstore.store import LocalStore, MemoryStore, S3Store

from aioblobcache import BlobUnknownError, Digest, RepositoryNameError, StorageError, UnsupportedError
from aioblobcache.cli.sample import build_image, store_image
from aioblobcache.storage import ByteRange, OpenedObject, RegistryStorage
from aioblobcache.storage.tags import is_tag
from tests.support.stores import NAME, S3Server, everything, paths, put, put_data

pytestmark = pytest.mark.anyio

IMAGE = build_image([{"etc/motd": "hello\n"}])
OTHER = build_image([{"etc/motd": "another\n"}])
DATA = bytes(range(256)) * 4000


@pytest.fixture(scope="module")
def s3():
    with S3Server() as server:
        yield server


@pytest.fixture(params=["folder", "S3", "memory"])
def storage(request, tmp_path):
    if request.param == "S3":
        server = request.getfixturevalue("s3")
        server.reset()
        return RegistryStorage(server.open(server.make_bucket()), "some/where")
    store = LocalStore(tmp_path / "store", mkdir=True) if request.param == "folder" else MemoryStore()
    return RegistryStorage(store, "some/where")


@pytest.fixture
async def tags(storage):
    for tag in ("b", "a", "B", "1.0"):
        await store_image(storage, NAME, tag, IMAGE)
    await store_image(storage, NAME, "other", OTHER)
    return storage.tags(NAME)


async def test_tags_are_listed_in_byte_order(tags):
    assert await tags.names() == ["1.0", "B", "a", "b", "other"]


async def test_a_tag_resolves_to_its_manifest(tags):
    assert await tags.resolve("a") == IMAGE.manifest.digest
    assert await tags.resolve("other") == OTHER.manifest.digest
    assert await tags.resolve("none") is None


@pytest.mark.parametrize("tag", ["", "..", ".hidden", "a/b", "a\n", "x" * 129, "é", "-a"])
async def test_an_ill_formed_tag_is_absent(tags, tag):
    assert not is_tag(tag)
    assert await tags.resolve(tag) is None
    assert await tags.remove(tag) is False


@pytest.mark.parametrize("tag", ["a", "_", "1", "x" * 128, "A.b-c_d"])
def test_well_formed_tags_are_accepted(tag):
    assert is_tag(tag)


@pytest.mark.parametrize("content", [b"", b"nothing", b"sha256:12"])
async def test_a_tag_with_an_invalid_link_is_absent(tags, storage, content):
    await put(storage.store, storage.layout.current(NAME, "broken"), content=content)
    assert await tags.resolve("broken") is None


async def test_removing_a_tag_removes_its_history_alone(tags, storage):
    before = await paths(storage.store)
    assert await tags.remove("a") is True
    gone = before - await paths(storage.store)
    assert {path.partition("/tags/")[2].split("/")[0] for path in gone} == {"a"}
    assert len(gone) == 2  # the current link, and the one in its index
    assert await tags.names() == ["1.0", "B", "b", "other"]
    assert await tags.remove("a") is False


async def test_leftovers_of_an_interrupted_removal_are_removed(tags, storage):
    await obstore.delete_async(storage.store, storage.layout.current(NAME, "a"))
    assert "a" in await tags.names()
    assert await tags.remove("a") is True
    assert "a" not in await tags.names()
    assert await tags.remove("a") is False


async def test_the_tags_of_a_manifest_are_removed_together(tags):
    assert await tags.remove_those_of(IMAGE.manifest.digest) == ["1.0", "B", "a", "b"]
    assert await tags.names() == ["other"]
    assert await tags.remove_those_of(IMAGE.manifest.digest) == []


async def test_a_refused_removal_is_raised_after_all_others_ended(s3):
    s3.reset()
    storage = RegistryStorage(s3.open(s3.make_bucket()), "some/where")
    for tag in ("a", "b", "c", "d"):
        await store_image(storage, NAME, tag, IMAGE)
    s3.refuse(lambda request: "/tags/a/" in request.path)
    with pytest.raises(StorageError):
        await storage.tags(NAME).remove_those_of(IMAGE.manifest.digest)
    s3.reset()
    assert await storage.tags(NAME).names() == ["a"]


async def test_a_repository_without_tags_lists_none(tags):
    for tag in await tags.names():
        await tags.remove(tag)
    assert await tags.names() == []


async def test_an_absent_repository_has_no_tags(storage):
    await store_image(storage, f"{NAME}/nested", "a", IMAGE)
    assert await storage.tags(NAME).names() is None
    assert await storage.tags("no/such").names() is None
    with pytest.raises(RepositoryNameError):
        storage.tags("NO")


async def test_a_failed_tag_listing_is_an_error(s3):
    s3.reset()
    storage = RegistryStorage(s3.open(s3.make_bucket()))
    s3.refuse(lambda request: True)
    with pytest.raises(StorageError):
        await storage.tags(NAME).names()
    with pytest.raises(StorageError):
        await storage.tags(NAME).resolve("a")
    s3.reset()


# --- opened blobs --------------------------------------------------------------------------------


@pytest.fixture
async def digest(storage):
    return await put_data(storage, DATA)


async def test_a_blob_is_read_whole_or_in_chunks(storage, digest):
    opened = await storage.blobs(NAME).open(digest)
    assert isinstance(opened, OpenedObject)
    assert (opened.size, opened.start, opened.end, opened.length) == (len(DATA), 0, len(DATA), len(DATA))
    assert await opened.read() == DATA
    pieces = [piece async for piece in (await storage.blobs(NAME).open(digest)).chunks()]
    assert b"".join(pieces) == DATA
    assert all(len(piece) >= 256 * 1024 for piece in pieces[:-1])
    assert (len(pieces) == 1) is isinstance(storage.store, MemoryStore)


@pytest.mark.parametrize(
    ("wanted", "part"),
    [
        (ByteRange(0, 0), slice(0, 1)),
        (ByteRange(1000, 1999), slice(1000, 2000)),
        (ByteRange(5, None), slice(5, None)),
        (ByteRange(None, 7), slice(-7, None)),
        (ByteRange(None, 10**9), slice(None)),
        (ByteRange(3, 10**18), slice(3, None)),
    ],
)
async def test_a_range_of_a_blob_is_opened(storage, digest, wanted, part):
    opened = await storage.blobs(NAME).open(digest, wanted)
    assert opened.size == len(DATA)
    assert await opened.read() == DATA[part]
    assert opened.length == len(DATA[part])


@pytest.mark.parametrize("wanted", [ByteRange(len(DATA), None), ByteRange(10**18, 10**18), ByteRange(None, 0)])
async def test_an_unsatisfiable_range_gives_the_size(storage, digest, wanted):
    assert await storage.blobs(NAME).open(digest, wanted) == len(DATA)


async def test_an_empty_blob_is_opened(storage):
    opened = await storage.blobs(NAME).open(await put_data(storage, b""))
    assert (opened.length, await opened.read()) == (0, b"")
    assert [piece async for piece in (await storage.blobs(NAME).open(Digest.of(b""))).chunks()] in ([], [b""])


@pytest.mark.parametrize("wanted", [None, ByteRange(0, 1)])
async def test_a_blob_without_data_is_not_opened(storage, wanted):
    with pytest.raises(BlobUnknownError):
        await storage.blobs(NAME).open(Digest.of(b"nothing"), wanted)


async def test_a_truncated_file_is_a_storage_error(tmp_path):
    storage = RegistryStorage(LocalStore(tmp_path))
    digest = await put_data(storage, DATA)
    opened = await storage.blobs(NAME).open(digest)
    with (tmp_path / storage.layout.data(digest)).open("r+b") as file:
        file.truncate(10)
    with pytest.raises(StorageError):
        await opened.read()


# --- URLs for others -----------------------------------------------------------------------------


async def test_only_object_stores_sign_urls(storage, digest):
    assert storage.can_sign is isinstance(storage.store, S3Store)
    if storage.can_sign:
        url = urlsplit(await storage.signed_url(digest, 90))
        assert url.path.endswith(f"/{storage.layout.data(digest)}")
        assert parse_qs(url.query)["X-Amz-Expires"] == ["90"]
    else:
        with pytest.raises(UnsupportedError, match="cannot sign"):
            await storage.signed_url(digest, 60)


# --- repositories from one on --------------------------------------------------------------------

NAMES = ["a", "a/b", "a/b/c", "a-b", "b", "c/d", "c/d/e", "c0"]


@pytest.mark.parametrize("after", ["", "0", *NAMES, "a/a", "a/b/c/d", "c", "c/d/e/f", "zzz"])
async def test_repositories_are_listed_from_any_name_on(storage, after):
    for name in NAMES:
        await put(storage.store, f"{storage.layout.layer_links(name)}/x")
    in_order = sorted(NAMES, key=lambda name: name.split("/"))
    assert await everything(storage.repositories()) == in_order
    expected = [name for name in in_order if name.split("/") > (after.split("/") if after else [])]
    assert await everything(storage.repositories(after=after)) == expected


async def test_folders_before_the_start_are_not_listed(s3):
    s3.reset()
    storage = RegistryStorage(s3.open(s3.make_bucket()))
    for number in range(50):
        await put(storage.store, f"{storage.layout.layer_links(f'r{number:02}')}/x")
    s3.requests.clear()
    assert await everything(storage.repositories(after="r47")) == ["r48", "r49"]
    assert len(s3.requests) == 4  # the top, the last one left out (what is nested in it is not), and the two
