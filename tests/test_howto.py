"""The how-to pages: their examples run as they stand there."""

from __future__ import annotations

import base64
import configparser
import json
import re
import runpy
import shlex
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import anyio
import pytest
import trustme
from obstore.store import LocalStore
from prometheus_client import REGISTRY
from redis.asyncio import Redis

from aioblobcache.cli.sample import store_image
from aioblobcache.contrib.prometheus import PrometheusObserver
from aioblobcache.storage import RegistryStorage
from tests.support.ports import free_port
from tests.support.registry_content import IMAGE, LAYER, NAME
from tests.support.serve_process import ServeProcess
from tests.support.servers import Server, require_program, running
from tests.support.serving import asking, by_aiohttp, by_uvicorn

pytestmark = pytest.mark.anyio

HOWTO = Path(__file__).parents[1] / "docs" / "howto"
DESCRIBED = {"digest": LAYER.digest, "size": LAYER.size, "type": "application/octet-stream"}


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", (HOWTO / page).read_text(), re.DOTALL)


@pytest.fixture
def folder(tmp_path):
    storage = RegistryStorage(LocalStore(tmp_path / "storage", mkdir=True))
    anyio.run(store_image, storage, NAME, "latest", IMAGE)
    return tmp_path / "storage"


@pytest.fixture
async def module(request, valkey_server, folder, tmp_path, monkeypatch):
    """The names that a page's examples define, read one behind the other as one module."""
    async with Redis.from_url(valkey_server.url) as client:
        await client.flushall()
    from passlib.apache import HtpasswdFile

    users = HtpasswdFile(str(tmp_path / "htpasswd"), new=True, default_scheme="bcrypt")
    users.set_password("somebody", "secret")
    users.save()
    monkeypatch.setenv("HTPASSWD", str(tmp_path / "htpasswd"))
    monkeypatch.setenv("CACHE_URL", valkey_server.url)
    monkeypatch.setenv("STORAGE_URL", folder.as_uri())
    path = tmp_path / "example.py"
    path.write_text("\n\n".join(blocks(request.param, "python")))
    return runpy.run_path(str(path))


async def assert_described_and_pulled(client):
    described = await client.get(f"/describe/{NAME}/{LAYER.digest}")
    assert (described.status, json.loads(described.body)) == (200, DESCRIBED)
    assert (await client.get(f"/describe/{NAME}/sha256:12")).status == 400
    assert (await client.get(f"/describe/UPPER/{LAYER.digest}")).status == 400
    assert (await client.get(f"/describe/library/other/{LAYER.digest}")).status == 404
    assert (await client.get(f"/v2/{NAME}/blobs/{LAYER.digest}")).body == IMAGE.content[LAYER.digest]


@pytest.mark.parametrize("module", ["starlette.md", "fastapi.md"], indirect=True)
async def test_starlette_and_fastapi_examples_serve_descriptions_and_blobs(module):
    async with by_uvicorn(module["app"]) as url, asking(url) as client:
        await assert_described_and_pulled(client)


@pytest.mark.parametrize("module", ["aiohttp.md"], indirect=True)
async def test_aiohttp_example_serves_descriptions_and_blobs(module):
    async with by_aiohttp(module["app"]) as url, asking(url) as client:
        await assert_described_and_pulled(client)


@pytest.mark.parametrize("module", ["starlette.md"], indirect=True)
async def test_composed_lifespan_example_runs(module):
    async with module["composed"].router.lifespan_context(module["composed"]) as state:
        assert state["greeting"] == "hello"
        assert state["cached_registry"] is module["registry"]


def basic(user, password):
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


@pytest.mark.parametrize("module", ["starlette.md"], indirect=True)
async def test_htpasswd_users_may_pull_and_delete(module):
    async with by_uvicorn(module["guarded"]) as url, asking(url) as client:
        strangers = [basic("somebody", "wrong"), basic("nobody", "secret"), basic("a\nb", "x"), basic("somebody", "\0")]
        for headers in ({}, *strangers, {"Authorization": "Basic *"}, {"Authorization": "Basic /w=="}):
            answer = await client.get("/v2/", **headers)
            assert answer.status == 401
            assert answer.headers["WWW-Authenticate"] == 'Basic realm="registry"'
        known = basic("somebody", "secret")
        assert (await client.get("/v2/", **known)).status == 200
        assert (await client.get(f"/v2/{NAME}/manifests/latest", **known)).status == 200
        assert (await client.ask("DELETE", f"/v2/{NAME}/manifests/latest", **known)).status == 202


# --- metrics -------------------------------------------------------------------------------------


def test_metrics_example_prints_the_metrics(valkey_server, tmp_path):
    first, second = blocks("metrics.md", "python")
    environment = {"CACHE_URL": valkey_server.url, "STORAGE_URL": tmp_path.as_uri()}
    command = [sys.executable, "-c", f"{first}\n{second}"]
    shown = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert shown.returncode == 0, shown.stderr
    assert "registry_storage_cache_requests_total 1.0" in shown.stdout


@pytest.fixture(scope="module")
def exported():
    """The names of all that is exported."""
    from prometheus_client import CollectorRegistry

    registry = CollectorRegistry()
    metrics = PrometheusObserver(registry)
    metrics.redis_seconds.labels("Stat").observe(1)
    return {sample.name for metric in registry.collect() for sample in metric.samples} - {
        sample.name for metric in REGISTRY.collect() for sample in metric.samples if "aioblobcache" not in sample.name
    }


def test_dashboard_queries_only_exported_metrics(exported):
    dashboard = json.loads((HOWTO / "grafana.json").read_text())
    asked = set(re.findall(r"(?:registry_storage_cache|aioblobcache)_\w+", json.dumps(dashboard["panels"])))
    assert asked
    assert asked <= exported
    assert {name for name in exported if name.startswith("aioblobcache") and not name.endswith("_created")} <= asked


def test_metrics_page_names_every_exported_metric(exported):
    page = (HOWTO / "metrics.md").read_text()
    for name in exported:
        short = name.removesuffix("_bucket").removesuffix("_count").removesuffix("_sum")
        if not name.endswith("_created"):
            assert short in page or f"…{short.removeprefix('aioblobcache')}" in page


# --- serve ---------------------------------------------------------------------------------------


def test_serve_command_of_the_page_starts(valkey_server, folder, tmp_path):
    [command] = blocks("serve.md", "sh")
    program, verb, _, *options = shlex.split(command)
    assert (program, verb) == ("aioblobcache", "serve")
    options[options.index("redis://localhost:6379/0")] = valkey_server.url
    with running(ServeProcess(tmp_path / "served", folder, *options)) as _:
        pass


def test_nginx_site_terminates_tls(folder, tmp_path):
    nginx = require_program("nginx")
    [site] = blocks("serve.md", "nginx")
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    certificate.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "both.pem"))
    port = free_port()
    served = ServeProcess(tmp_path / "served", folder)
    for written, real in {
        "/etc/aioblobcache/tls.crt": tmp_path / "both.pem",
        "/etc/aioblobcache/tls.key": tmp_path / "both.pem",
        "listen 8443 ssl": f"listen 127.0.0.1:{port} ssl",
        "127.0.0.1:5000": f"127.0.0.1:{served.port}",
    }.items():
        assert written in site
        site = site.replace(written, str(real))
    main = (
        f"daemon off; master_process off; pid {tmp_path}/pid; error_log {tmp_path}/error.log; events {{}} "
        f"http {{ access_log off; client_body_temp_path {tmp_path}/b; proxy_temp_path {tmp_path}/p; "
        f"fastcgi_temp_path {tmp_path}/f; uwsgi_temp_path {tmp_path}/u; scgi_temp_path {tmp_path}/s; {site} }}"
    )
    (tmp_path / "nginx.conf").write_text(main)
    proxy = Server(tmp_path, [nginx, "-c", str(tmp_path / "nginx.conf"), "-p", str(tmp_path)], port)
    context = ssl.create_default_context()
    authority.configure_trust(context)

    def get(path):
        request = urllib.request.Request(f"https://localhost:{port}{path}", headers={"Accept-Encoding": "gzip"})
        with urllib.request.urlopen(request, context=context, timeout=10) as response:
            return response.headers, response.read()

    with running(served), running(proxy):
        headers, body = get(f"/v2/{NAME}/blobs/{LAYER.digest}")
        assert body == IMAGE.content[LAYER.digest]
        assert headers["Docker-Content-Digest"] == LAYER.digest
        assert json.loads(get(f"/v2/{NAME}/tags/list")[1])["tags"] == ["latest"]
        with pytest.raises(urllib.error.HTTPError, match="404") as caught:
            get("/metrics")
        caught.value.close()


def test_systemd_unit_starts_the_program(folder, tmp_path):
    [unit] = blocks("serve.md", "ini")
    parsed = configparser.ConfigParser(strict=False, interpolation=None)
    parsed.optionxform = str
    parsed.read_string(unit)
    program, *arguments = shlex.split(parsed["Service"]["ExecStart"])
    assert program.endswith("/aioblobcache")
    assert int(parsed["Service"]["TimeoutStopSec"]) > 30
    assert arguments[:2] == ["serve", "file:///var/lib/registry"]
    served = ServeProcess(tmp_path / "served", folder, *arguments[4:])
    assert arguments[2] == "--listen"
    with running(served):
        assert served.get(f"/v2/{NAME}/blobs/{LAYER.digest}")[0] == 200
        assert served.end() == 0


def test_dockerfile_command_and_health_check_work(folder, tmp_path):
    """There is no container runtime here: its command and its health check are run as they are."""
    [file] = blocks("serve.md", "dockerfile")
    steps = dict(line.split(" ", 1) for line in file.splitlines())
    entry, command = json.loads(steps["ENTRYPOINT"]), json.loads(steps["CMD"])
    assert entry == ["aioblobcache", "serve"]
    assert "aioblobcache[serve]" in steps["RUN"]
    assert command[0] == "file:///var/lib/registry"
    served = ServeProcess(tmp_path / "served", folder, *command[3:])
    check = json.loads(steps["HEALTHCHECK"].removeprefix("CMD "))
    with running(served):
        script = check[2].replace("127.0.0.1:5000", f"127.0.0.1:{served.port}")
        assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, check=False).returncode != 0
