"""The cache opened with an application of aiohttp."""

from __future__ import annotations

import pytest
from aiohttp import web

from aioblobcache import ConfigurationError, LifecycleError
from aioblobcache.contrib.aiohttp import REGISTRY, add_registry, cache_context
from tests.registry_api.content import LAYER, NAME
from tests.registry_api.serving import asking, by_aiohttp

pytestmark = pytest.mark.anyio


async def test_the_cache_is_open_while_the_application_runs_and_closed_afterwards(registry):
    async def size(request: web.Request) -> web.Response:
        found = await request.config_dict[REGISTRY].blobs(NAME).stat(LAYER.digest)
        return web.json_response(found.size)

    inner = web.Application()
    inner.router.add_get("/size", size)
    app = web.Application()
    app.cleanup_ctx.append(cache_context(registry))
    app.add_subapp("/inner", inner)
    async with by_aiohttp(app) as url, asking(url) as client:
        assert (await client.get("/inner/size")).body == b"%d" % LAYER.size
    with pytest.raises(LifecycleError, match="had ended"):
        await registry.cache.stat(LAYER.digest)


async def test_links_and_paths_are_right_wherever_it_is_added(registry):
    inner = web.Application()
    add_registry(inner, registry, prefix="/down/v2")
    app = web.Application()
    app.cleanup_ctx.append(cache_context(registry))
    app.add_subapp("/deep", inner)
    async with by_aiohttp(app) as url, asking(url) as client:
        answer = await client.get(f"/deep/down/v2/{NAME}/tags/list?n=1")
        assert answer.headers["Link"] == f'</deep/down/v2/{NAME}/tags/list?n=1&last=1.0>; rel="next"'
        assert (await client.get("/deep/down/v2")).status == 200
        assert (await client.get("/deep/down/v2/")).status == 200
        assert (await client.get("/deep/down/v2x/")).status == 404


@pytest.mark.parametrize("prefix", ["v2", "/v2/", "/{x}/v2", ""])
async def test_a_prefix_that_is_none_is_refused(registry, prefix):
    with pytest.raises(ConfigurationError, match="prefix"):
        add_registry(web.Application(), registry, prefix=prefix)
