"""DELETE: what goes, what stays, and who is asked."""

from __future__ import annotations

import json

import pytest

from aioblobcache import CachedRegistry, ConfigurationError, RedisBlobDescriptorCache
from aioblobcache.registry_api import ForbiddenError, RegistryApi, UnauthorizedError
from tests.support.ports import free_port
from tests.support.registry_content import IMAGE, LAYER, NAME, UNKNOWN, store_manifest
from tests.support.serving import serving
from tests.support.stores import paths

pytestmark = pytest.mark.anyio

V2 = f"/v2/{NAME}"
MANIFEST = IMAGE.manifest


async def anybody(request, repository, action):
    """May do anything."""


@pytest.fixture
async def client(framework, registry):
    async with serving(framework, registry, authorize=anybody, deletes=True) as client:
        yield client


async def test_blob_delete_removes_only_the_link(client, storage):
    before = await paths(storage.store)
    assert (await client.head(f"{V2}/blobs/{LAYER.digest}")).status == 200
    assert (await client.ask("DELETE", f"{V2}/blobs/{LAYER.digest}")).status == 202
    gone = before - await paths(storage.store)
    assert gone == {storage.layout.link(storage.layout.layer_links(NAME), LAYER.digest)}
    assert (await client.head(f"{V2}/blobs/{LAYER.digest}")).status == 404
    assert (await client.ask("DELETE", f"{V2}/blobs/{LAYER.digest}")).status == 404


async def test_manifest_delete_removes_its_tags_too(client, storage):
    other = await store_manifest(storage, {"schemaVersion": 2, "config": {}, "layers": []}, "other")
    assert (await client.head(f"{V2}/manifests/{MANIFEST.digest}")).status == 200
    assert (await client.ask("DELETE", f"{V2}/manifests/{MANIFEST.digest}")).status == 202
    assert json.loads((await client.get(f"{V2}/tags/list")).body)["tags"] == ["other"]
    for reference in ("latest", MANIFEST.digest):
        assert (await client.get(f"{V2}/manifests/{reference}")).status == 404
        assert (await client.head(f"{V2}/manifests/{reference}")).status == 404
    assert (await client.get(f"{V2}/manifests/other")).headers["Docker-Content-Digest"] == other.digest
    assert (await client.get(f"{V2}/blobs/{LAYER.digest}")).status == 200
    assert (await client.ask("DELETE", f"{V2}/manifests/{MANIFEST.digest}")).status == 404


async def test_tag_delete_leaves_the_manifest(client):
    assert (await client.ask("DELETE", f"{V2}/manifests/1.0")).status == 202
    assert json.loads((await client.get(f"{V2}/tags/list")).body)["tags"] == ["1.1", "2.0", "latest"]
    assert (await client.get(f"{V2}/manifests/1.0")).status == 404
    assert (await client.get(f"{V2}/manifests/{MANIFEST.digest}")).status == 200
    assert (await client.ask("DELETE", f"{V2}/manifests/1.0")).status == 404
    assert (await client.ask("DELETE", f"{V2}/manifests/..")).status == 404


@pytest.mark.parametrize("kind", ["blobs", "manifests"])
async def test_delete_of_something_unknown_is_not_found(client, kind):
    assert (await client.ask("DELETE", f"{V2}/{kind}/{UNKNOWN}")).status == 404
    assert (await client.ask("DELETE", f"{V2}/{kind}/sha256:12")).status == 400


@pytest.mark.parametrize("path", [f"blobs/{LAYER.digest}", f"manifests/{MANIFEST.digest}"])
async def test_delete_is_refused_while_the_cache_is_down(framework, storage, path):
    cache = RedisBlobDescriptorCache.from_url(f"redis://127.0.0.1:{free_port()}")
    before = await paths(storage.store)
    async with serving(framework, CachedRegistry(cache, storage), authorize=anybody, deletes=True) as client:
        answer = await client.ask("DELETE", f"{V2}/{path}")
    assert answer.status == 503
    assert answer.headers["Retry-After"]
    assert await paths(storage.store) == before


async def test_deletes_need_an_authorization_function(registry):
    with pytest.raises(ConfigurationError, match="authorize"):
        RegistryApi(registry, deletes=True)


# --- who may do what -----------------------------------------------------------------------------

CHALLENGE = 'Bearer realm="https://auth.example/token",service="registry"'


async def test_every_request_is_authorized_before_anything_happens(framework, registry, storage):
    asked = []

    async def nobody(request, repository, action):
        asked.append((request.headers["X-Who"], repository, action))
        raise UnauthorizedError(CHALLENGE)

    before = await paths(storage.store)
    expected = []
    async with serving(framework, registry, authorize=nobody, deletes=True) as client:
        for method, path, repository, action in [
            ("GET", "/v2/", None, "base"),
            ("GET", "/v2/_catalog", None, "catalog"),
            ("GET", f"{V2}/tags/list", NAME, "pull"),
            ("GET", f"{V2}/manifests/latest", NAME, "pull"),
            ("HEAD", f"{V2}/blobs/{LAYER.digest}", NAME, "pull"),
            ("GET", f"{V2}/referrers/{MANIFEST.digest}", NAME, "pull"),
            ("DELETE", f"{V2}/blobs/{LAYER.digest}", NAME, "delete"),
            ("DELETE", f"{V2}/manifests/latest", NAME, "delete"),
            ("POST", f"{V2}/blobs/uploads/", NAME, "pull"),
        ]:
            expected.append(("me", repository, action))
            answer = await client.ask(method, path, X_Who="me")
            assert answer.status == 401
            assert answer.headers["WWW-Authenticate"] == CHALLENGE
            assert answer.headers["Docker-Distribution-Api-Version"] == "registry/2.0"
    assert asked == expected
    assert await paths(storage.store) == before


async def test_forbidden_action_is_denied(framework, registry):
    async def only_pulls(request, repository, action):
        if action != "pull":
            raise ForbiddenError

    async with serving(framework, registry, authorize=only_pulls, deletes=True) as client:
        assert (await client.get(f"{V2}/manifests/latest")).status == 200
        answer = await client.ask("DELETE", f"{V2}/manifests/latest")
        assert answer.status == 403
        assert json.loads(answer.body)["errors"][0]["code"] == "DENIED"


def test_challenge_is_kept_and_is_the_message():
    error = UnauthorizedError(CHALLENGE)
    assert (error.challenge, str(error)) == (CHALLENGE, CHALLENGE)


@pytest.mark.parametrize("challenge", ["", "Basic\r\nX-Injected: 1", "Basic realm=\u00e9"])
def test_challenge_cannot_inject_a_header(challenge):
    with pytest.raises(ValueError, match="challenge"):
        UnauthorizedError(challenge)
