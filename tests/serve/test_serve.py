"""The program around the registry: its options, its end, what it logs, and what operators ask it."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from pathlib import Path

import anyio
import pytest
from obstore.store import LocalStore
from prometheus_client.parser import text_string_to_metric_families

from aioblobcache.errors import ConfigurationError
from aioblobcache.serve.options import listen_address
from aioblobcache.storage import RegistryStorage
from tests.support.groups import wait_until
from tests.support.ports import free_port
from tests.support.registry_content import IMAGE, LAYER, NAME, store, store_blob
from tests.support.serve_process import ServeProcess, ServingProcess, run
from tests.support.servers import VALKEY, RedisServer, running
from tests.support.stores import KEY_ID, SECRET, S3Server

V2 = f"/v2/{NAME}"
DATA = IMAGE.content[LAYER.digest]


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A storage folder."""
    folder = tmp_path_factory.mktemp("tree")
    anyio.run(store, RegistryStorage(LocalStore(folder)))
    return folder


@pytest.fixture
def server(tmp_path):
    server = RedisServer(VALKEY, tmp_path)
    with running(server):
        yield server


def metrics(served):
    status, body = served.get("/metrics")
    assert status == 200
    families = text_string_to_metric_families(body.decode())
    return {sample.name: sample.value for family in families for sample in family.samples if not sample.labels}


@pytest.mark.parametrize("workers", [1, 2])
def test_program_serves_counts_logs_and_ends_cleanly(tree, server, tmp_path, workers):
    served = ServeProcess(
        tmp_path / "served", tree, "--cache", server.url, "--near-cache", "100", "--workers", str(workers)
    )
    with running(served):
        for _ in range(20):
            assert served.get(f"{V2}/blobs/{LAYER.digest}") == (200, DATA)
        assert served.get("/healthz") == (200, b"ok\n")
        status, body = served.get("/readyz")
        assert (status, json.loads(body)) == (200, {"status": "ok", "storage": "ok", "cache": "ok"})
        counted = metrics(served)
        assert counted["registry_storage_cache_requests_total"] == 20
        assert counted["registry_storage_cache_hits_total"] == 19  # the workers share what the first request filled
        assert 1 <= counted["aioblobcache_lanes_open"] <= workers
        assert served.end() == 0
    lines = served.lines()
    requests = [line for line in lines if line["logger"] == "aioblobcache.serve.access"]
    blob = next(line for line in requests if line["path"] == f"{V2}/blobs/{LAYER.digest}")
    assert (blob["method"], blob["status"], blob["bytes"], blob["remote"]) == ("GET", 200, len(DATA), "127.0.0.1")
    assert blob["agent"].startswith("Python-urllib")
    assert blob["seconds"] > 0
    assert all(line["level"] == "info" for line in lines)


def test_connections_of_a_killed_worker_are_not_counted(tree, server, tmp_path):
    served = ServeProcess(tmp_path / "served", tree, "--cache", server.url, "--workers", "2")

    def lanes_open():
        return metrics(served)["aioblobcache_lanes_open"]

    def both_have_asked():
        assert served.get(f"{V2}/blobs/{LAYER.digest}") == (200, DATA)
        return lanes_open() == 2

    with running(served):
        wait_until(both_have_asked, "both workers to have asked")
        started = [line["message"] for line in served.lines() if "Started server process" in line.get("message", "")]
        os.kill(int(started[0].partition("[")[2].partition("]")[0]), signal.SIGKILL)
        wait_until(lambda: lanes_open() == 1, "the other one alone to be counted")
        wait_until(both_have_asked, "another worker to have asked")
        assert served.end() == 0


def test_bucket_is_served_with_credentials_from_the_environment(server, tmp_path, monkeypatch):
    with S3Server() as s3:
        bucket = s3.make_bucket()
        anyio.run(store, RegistryStorage(s3.open(bucket), "registry"))
        for name, value in {
            "AWS_ENDPOINT": s3.endpoint,
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": KEY_ID,
            "AWS_SECRET_ACCESS_KEY": SECRET,
        }.items():
            monkeypatch.setenv(name, value)
        for more in ((), ("--redirect",)):  # urllib goes where it is sent
            served = ServeProcess(
                tmp_path / f"served{len(more)}", f"s3://{bucket}", "--root", "registry", "--cache", server.url, *more
            )
            with running(served):
                s3.reset()
                assert served.get(f"{V2}/blobs/{LAYER.digest}") == (200, DATA)
                assert any("X-Amz-Signature" in request.args for request in s3.requests) is bool(more)
                assert json.loads(served.get("/readyz")[1])["status"] == "ok"
                s3.refuse(lambda request: True)
                assert served.get(f"{V2}/blobs/{LAYER.digest}")[0] == 503
                assert json.loads(served.get("/readyz")[1])["status"] == "down"
                assert SECRET not in served.get("/")[1].decode()
            assert SECRET not in served.log()


@pytest.mark.parametrize("workers", [1, 2])
def test_response_under_way_finishes_before_shutdown(tree, tmp_path, workers):
    large = anyio.run(store_blob, RegistryStorage(LocalStore(tree)), bytes(64 * 1024 * 1024))
    served = ServeProcess(tmp_path / "served", tree, "--workers", str(workers))
    with running(served), socket.create_connection(("127.0.0.1", served.port)) as connection:
        connection.sendall(f"GET {V2}/blobs/{large.digest} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        received = len(connection.recv(1000))
        ended = []
        ending = threading.Thread(target=lambda: ended.append(served.end()))
        ending.start()
        wait_until(lambda: "Shutting down" in served.log(), "the end to begin")
        while chunk := connection.recv(1 << 20):
            received += len(chunk)
        ending.join()
    assert received > large.size
    assert ended == [0]


def test_large_blob_is_never_whole_in_memory(tree, tmp_path):
    large = anyio.run(store_blob, RegistryStorage(LocalStore(tree)), bytes(256 * 1024 * 1024))
    served = ServeProcess(tmp_path / "served", tree)
    with running(served):
        served.get(f"{V2}/blobs/{LAYER.digest}")
        before = served.memory()
        with socket.create_connection(("127.0.0.1", served.port), timeout=60) as connection:
            connection.sendall(f"GET {V2}/blobs/{large.digest} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            answer = bytearray()
            while b"\r\n\r\n" not in answer:
                answer += connection.recv(1000)
            time.sleep(1.0)  # for as much as it would take in while the client takes nothing
            while_waiting = served.memory()
            received = len(answer.partition(b"\r\n\r\n")[2])  # the head may come with some of the body
            while received < large.size:
                piece = connection.recv(1 << 20)
                assert piece, f"the connection ended after {received:,} bytes: {served.log()}"
                received += len(piece)
            most = served.memory()
    assert while_waiting - before < 32 * 1024 * 1024
    assert most - before < 32 * 1024 * 1024


def test_leaving_client_closes_the_blob_file(tree, tmp_path):
    storage = RegistryStorage(LocalStore(tree))
    large = anyio.run(store_blob, storage, b"the beginning of a blob that takes long to read to its end")
    os.truncate(tree / storage.layout.data(large.digest), 64 * 1024**3)  # nearly nothing of it on the disk
    served = ServeProcess(tmp_path / "served", tree)
    with running(served):
        for _ in range(3):
            with socket.create_connection(("127.0.0.1", served.port)) as connection:
                connection.sendall(f"GET {V2}/blobs/{large.digest} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                connection.recv(1000)
        open_files = Path(f"/proc/{served.pid}/fd")

        def closed():
            return not any("blobs" in str(link.readlink()) for link in open_files.iterdir() if link.is_symlink())

        wait_until(closed, "the blob to be closed", seconds=5)
        assert served.get("/healthz")[0] == 200


def test_program_stays_ready_and_reports_redis_as_down(tree, tmp_path):
    port = free_port()
    served = ServeProcess(tmp_path / "served", tree, "--cache", f"redis://:hush-hush@127.0.0.1:{port}")
    with running(served):
        assert served.get(f"{V2}/blobs/{LAYER.digest}") == (200, DATA)
        status, body = served.get("/readyz")
        said = json.loads(body)
        assert (status, said["status"], said["storage"]) == (200, "degraded", "ok")
        assert str(port) in said["cache"]
        assert metrics(served)["registry_storage_cache_errors_total"] == 1
        assert "hush-hush" not in served.get("/")[1].decode() + body.decode()
    assert "hush-hush" not in served.log()
    said = [line["message"] for line in served.lines() if line["logger"] == "aioblobcache.readthrough"]
    assert len(said) == 1


def test_program_is_not_ready_without_repositories(tmp_path):
    (tmp_path / "empty").mkdir()
    served = ServeProcess(tmp_path / "served", tmp_path / "empty")
    with running(served):
        status, body = served.get("/readyz")
        assert (status, json.loads(body)["status"]) == (503, "down")
        assert "no repository" in json.loads(body)["storage"]
        assert served.get("/healthz")[0] == 200


def test_embedded_cache_stops_with_the_program(tree, tmp_path):
    served = ServeProcess(tmp_path / "served", tree, "--cache", "embedded")
    with running(served):
        served.get(f"{V2}/blobs/{LAYER.digest}")
        assert served.get(f"{V2}/blobs/{LAYER.digest}") == (200, DATA)
        assert metrics(served)["registry_storage_cache_hits_total"] == 1
        children = Path(f"/proc/{served.pid}/task/{served.pid}/children").read_text().split()
        assert len(children) == 1
        assert served.end(signal.SIGINT) == 0
    assert not Path(f"/proc/{children[0]}").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nonsense://x"], "cannot open storage"),
        (["{tree}", "--cache", "gopher://x"], "gopher"),
        (["{tree}", "--cache", "redis://:hush@host:port"], "port"),
        (["{tree}", "--listen", "nowhere"], "HOST:PORT"),
        (["{tree}", "--redirect"], "LocalStore"),
        (["{tree}", "--root", "../.."], "root"),
        (["{tree}", "--cache", "redis://x", "--near-cache", "-1"], "near_cache"),
        (["{tree}", "--near-cache", "10"], "memory://"),
        (["{tree}", "--workers", "0"], "workers"),
        (["{tree}", "--cache", "redis://x", "--near-cache", "1", "--max-staleness", "0.001"], "max_staleness"),
    ],
)
def test_unusable_arguments_are_reported_in_one_line(tree, arguments, said):
    done = run("serve", *(argument.format(tree=tree.as_uri()) for argument in arguments))
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert "hush" not in done.stderr


def test_cache_url_is_read_from_the_environment(tree):
    done = run("serve", tree.as_uri(), AIOBLOBCACHE_URL="gopher://x")
    assert (done.returncode, "gopher" in done.stderr) == (2, True)


def test_demo_continues_as_a_registry(tmp_path):
    served = ServingProcess(tmp_path, "demo", "--serve")
    with running(served):
        assert json.loads(served.get("/v2/library/demo/tags/list")[1])["tags"] == ["latest"]
        assert served.get("/v2/library/demo/manifests/latest")[0] == 200
        assert served.end() == 0
    assert f"skopeo inspect --tls-verify=false docker://127.0.0.1:{served.port}/library/demo:latest" in served.log()


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:80", ("127.0.0.1", 80)),
        ("[::1]:80", ("::1", 80)),
        (":5000", ("0.0.0.0", 5000)),
        ("a.b:1", ("a.b", 1)),
    ],
)
def test_listen_address_is_parsed(text, address):
    assert listen_address(text) == address


@pytest.mark.parametrize("text", ["", "host", "host:", "host:x", "host:65536", "::1:80", "host:٣"])
def test_invalid_listen_address_is_refused(text):
    with pytest.raises(ConfigurationError, match="HOST:PORT"):
        listen_address(text)
