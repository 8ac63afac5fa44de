"""Real clients pull what a real registry stored, while Redis comes, goes, and is filled with garbage."""

from __future__ import annotations

import json
from subprocess import CalledProcessError

import attrs
import pytest
from redis import Redis

from aioblobcache import Descriptor, Digest
from aioblobcache.cli.sample import Image, build_image
from aioblobcache.media_types import OCI_INDEX
from aioblobcache.redis.keys import descriptor_key, membership_key, override_key
from tests.support.docker_registry import Registry
from tests.support.registry_content import reference
from tests.support.serve_process import ServeProcess
from tests.support.servers import VALKEY, RedisServer, running

pytestmark = pytest.mark.anyio

NAME = "library/demo"
OCI = build_image([{"etc/motd": "hello\n"}, {"srv/data": "data\n" * 50_000}])
ELSEWHERE = build_image([{"etc/motd": "elsewhere\n"}])


def index(*images: Image) -> Image:
    """An image for several platforms."""
    content = {digest: data for image in images for digest, data in image.content.items()}
    manifests = [
        {**reference(image.manifest), "platform": {"os": "linux", "architecture": architecture}}
        for image, architecture in zip(images, ("amd64", "arm64"), strict=True)
    ]
    data = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests}).encode()
    described = Descriptor(Digest.of(data), len(data), OCI_INDEX)
    return Image(described, images[0].config, (), content | {described.digest: data})


@attrs.frozen
class Setting:
    registry: Registry
    server: RedisServer
    served: ServeProcess

    async def both(self, name, tag, *options):
        """What the registry and the program give, by the same client."""
        registry, skopeo = self.registry, self.registry.skopeo
        expected = await skopeo.pull(registry.reference(name, tag), *options)
        return expected, await skopeo.pull(self.served.reference(name, tag), *options)


@pytest.fixture(scope="module")
def anyio_backend():
    return "asyncio"


@pytest.fixture(scope="module")
async def setting(tmp_path_factory):
    folder = tmp_path_factory.mktemp("serve")
    server = RedisServer(VALKEY, folder)
    with running(server):
        registry = Registry(folder, server.port)
        with running(registry):
            await registry.push(OCI, NAME, "oci")
            await registry.push(OCI, NAME, "docker", "--format=v2s2")
            await registry.push(index(OCI, ELSEWHERE), NAME, "many", "--all")
            await registry.push(ELSEWHERE, "library/elsewhere", "latest")
            served = ServeProcess(folder / "served", registry.root, "--cache", server.url, "--near-cache", "1000")
            with running(served):
                yield Setting(registry, server, served)


@pytest.mark.parametrize("cached", ["cold", "cached"])
@pytest.mark.parametrize(("tag", "options"), [("oci", []), ("docker", []), ("many", ["--all"])])
async def test_skopeo_pulls_the_same_bytes_as_from_the_registry(setting, tag, options, cached):
    if cached == "cold":
        with Redis(port=setting.server.port) as redis:
            redis.flushall()
    expected, got = await setting.both(NAME, tag, *options)
    assert got == expected
    assert len(got) > 3


async def test_skopeo_inspects_an_image_and_lists_its_tags(setting):
    skopeo = setting.registry.skopeo
    for options in ([], ["--raw"], ["--config"]):
        here = await skopeo.inspect(setting.served.reference(NAME, "oci"), *options)
        there = await skopeo.inspect(setting.registry.reference(NAME, "oci"), *options)
        if isinstance(here, dict) and "Name" in here:
            del here["Name"], there["Name"]  # which names the port
            there["RepoTags"].sort()  # which Distribution lists as its folder has them
        assert here == there
    assert await skopeo.tags(f"127.0.0.1:{setting.served.port}/{NAME}") == ["docker", "many", "oci"]


async def test_image_is_pulled_while_redis_is_down_and_back(setting):
    setting.server.stop()
    try:
        expected, got = await setting.both(NAME, "oci")
        assert got == expected
    finally:
        setting.server.start()
    expected, got = await setting.both(NAME, "many", "--all")
    assert got == expected


async def test_image_is_pulled_while_redis_holds_garbage(setting):
    skopeo = setting.registry.skopeo
    expected = await skopeo.pull(setting.registry.reference(NAME, "oci"))  # which fails as soon as a size is wrong
    with Redis(port=setting.server.port) as redis:
        redis.flushall()
        for number, digest in enumerate(OCI.content):
            redis.sadd(membership_key(NAME), digest)
            garbage = [
                {"digest": digest, "size": 1, "mediatype": "application/octet-stream"},
                {"digest": digest, "size": "abc", "mediatype": "x\r\nSet-Cookie: y"},
                {"digest": "sha256:12", "size": 5},
            ][number % 3]
            redis.hset(descriptor_key(digest), mapping=garbage)
            redis.set(override_key(NAME, digest), "a string") if number % 2 else redis.hset(
                override_key(NAME, digest), "mediatype", "text/html"
            )
    assert await skopeo.pull(setting.served.reference(NAME, "oci")) == expected


async def test_blob_without_a_link_in_the_repository_is_unknown(setting):
    layer = ELSEWHERE.layers[0]
    assert setting.served.get(f"/v2/library/elsewhere/blobs/{layer.digest}")[0] == 200
    alone = build_image([{"etc/motd": "in one repository only\n"}])
    await setting.registry.push(alone, "library/one", "latest")
    assert setting.served.get(f"/v2/library/one/blobs/{alone.layers[0].digest}")[0] == 200
    assert setting.served.get(f"/v2/{NAME}/blobs/{alone.layers[0].digest}")[0] == 404


async def test_pull_of_an_unknown_tag_fails(setting):
    with pytest.raises(CalledProcessError):
        await setting.registry.skopeo.pull(setting.served.reference(NAME, "nothing"))
