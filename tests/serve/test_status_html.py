"""The status page's HTML: markup in what it shows is escaped, and credentials of the storage URL are left out."""

from __future__ import annotations

import re
from html import unescape

import pytest
from obstore.store import LocalStore
from prometheus_client import CollectorRegistry

from aioblobcache.serve.app import make_app
from aioblobcache.serve.health import Health
from aioblobcache.serve.options import ServeOptions
from aioblobcache.serve.status import StatusPage
from aioblobcache.serve.witness import Witness
from aioblobcache.storage import RegistryStorage
from tests.support.ports import free_port
from tests.support.registry_content import LAYER, NAME, store
from tests.support.serving import asking, by_uvicorn
from tests.support.stores import KEY_ID, SECRET, S3Server

pytestmark = pytest.mark.anyio

INFO = {
    "address": "127.0.0.1:6379",
    "in_flight": 0,
    "lanes": 1,
    "lanes_open": 1,
    "near_cache": None,
    "reconnects": 0,
    "road": "lane",
    "topology": "single node",
    "waiting": 0,
}
NEAR = {
    "entries": 0,
    "flushes": 0,
    "hits": 0,
    "invalidations": 0,
    "lease_age": None,
    "misses": 0,
    "why_off": None,
}


def markup(place):
    """Text that would be an element, and would end an attribute, if it was not escaped."""
    return f"""<script>{place}</script>"'&amp;"""


def html(*, storage="file:///tree", events=(), health=None, info=None):
    witness = Witness(CollectorRegistry())
    for event in events:
        witness.remember(event)
    page = StatusPage(storage, 0.0, 1, witness, INFO if info is None else info, health or Health(None, None, 0.001))
    return page.html()


@pytest.mark.parametrize(
    "shown",
    [
        {"storage": markup("here")},
        {"events": [markup("here")]},
        {"events": [markup("here")] * 3},
        {"health": Health(markup("here"), None, None)},
        {"health": Health(None, markup("here"), None)},
        {"info": {**INFO, "address": markup("here")}},
        {"info": {**INFO, "near_cache": {**NEAR, "why_off": markup("here")}}},
    ],
    ids=["storage", "event", "repeated event", "storage error", "cache error", "address", "near cache"],
)
def test_status_page_escapes_whatever_it_shows(shown):
    page = html(**shown)
    assert "<script" not in page
    # A browser shows the very text: it is escaped once.
    assert markup("here") in unescape(page)
    assert f"&lt;script&gt;here&lt;/script&gt;{'&quot;&#x27;&amp;amp;'}" in page


def test_status_page_counts_an_error_met_several_times():
    page = html(events=["first", "again", "again", "again"])
    listed = re.findall(r"UTC</th><td>(.*?)</td>", page)
    assert listed == ["again (3 times)", "first"]


async def test_status_page_escapes_the_error_of_a_real_cache(tmp_path):
    await store(RegistryStorage(LocalStore(tmp_path / "tree", mkdir=True)))
    options = ServeOptions(storage=(tmp_path / "tree").as_uri(), cache=f"unix://{tmp_path}/<b>no<i>.sock")
    async with by_uvicorn(make_app(options)) as url, asking(url) as client:
        assert (await client.get(f"/v2/{NAME}/blobs/{LAYER.digest}")).status == 200
        page = (await client.get("/")).body.decode()
    assert "<b>" not in page
    assert "&lt;b&gt;no&lt;i&gt;.sock" in page


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("s3://{bucket}/a/prefix", "s3://{bucket}/a/prefix"),
        ("s3://somebody:hush-pass@{bucket}/a/prefix", "s3://{bucket}/a/prefix"),
        ("s3://{bucket}/a/prefix?token=hush-query", "s3://{bucket}/a/prefix"),
        ("s3://somebody:hush-pass@{bucket}/a/prefix?token=hush-query", "s3://{bucket}/a/prefix"),
    ],
)
async def test_status_page_hides_credentials_of_the_storage_url(monkeypatch, url, shown):
    with S3Server() as s3:
        bucket = s3.make_bucket()
        environment = {
            "AWS_ENDPOINT": s3.endpoint,
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": KEY_ID,
            "AWS_SECRET_ACCESS_KEY": SECRET,
        }
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        options = ServeOptions(storage=url.format(bucket=bucket))
        async with by_uvicorn(make_app(options)) as served, asking(served) as client:
            page = (await client.get("/")).body.decode()
            ready = (await client.get("/readyz")).body.decode()
    assert f"<h1>aioblobcache serves {shown.format(bucket=bucket)}</h1>" in page
    for secret in ("hush", "somebody", "token", KEY_ID, SECRET):
        assert secret not in page + ready


async def test_status_page_hides_the_password_of_the_cache_url(tmp_path):
    await store(RegistryStorage(LocalStore(tmp_path / "tree", mkdir=True)))
    cache = f"redis://somebody:hush-pass@127.0.0.1:{free_port()}"
    options = ServeOptions(storage=(tmp_path / "tree").as_uri(), cache=cache)
    async with by_uvicorn(make_app(options)) as url, asking(url) as client:
        assert (await client.get(f"/v2/{NAME}/blobs/{LAYER.digest}")).status == 200
        page = (await client.get("/")).body.decode()
    assert "is unavailable" in page
    assert "hush-pass" not in page
