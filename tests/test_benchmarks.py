"""The benchmarks do what they say: every peer answers, every answer is verified, and the page is of the results."""

from __future__ import annotations

import asyncio
import io
import subprocess
import sys
import time
from pathlib import Path

import pytest
from obstore.store import LocalStore
from redis import Redis
from rich.console import Console

from aioblobcache.maintenance import StorageTruth
from aioblobcache.redis.keys import descriptor_key, membership_key, override_key
from aioblobcache.storage import RegistryStorage
from benchmarks.caretaker import AUDIT, FILL, FIND, take_care
from benchmarks.contest import PeerProcess, Settings, run_contest
from benchmarks.corpus import Corpus, write_corpus
from benchmarks.footprint import measure_footprint
from benchmarks.jobs import (
    BARE,
    HIT,
    MISS,
    MIXED,
    NEAR_JOBS,
    NEAR_SPREAD,
    NINE_IN_TEN,
    ON_CLUSTER,
    PEEK,
    PEEK_UNIFORM,
    Job,
    many,
)
from benchmarks.layers import LAYERS, Layers, layers_table, measure_layers
from benchmarks.page import Kept, page, with_summary
from benchmarks.peers import PEERS
from benchmarks.picture import draw, draw_pulls
from benchmarks.registries import DISTRIBUTION, LARGE, NEAR, SERVE, SMALL, Pulls, measure_pulls, pulls_table
from benchmarks.results import Results
from benchmarks.server import running_server
from benchmarks.storm import storm
from benchmarks.table import show
from benchmarks.targets import OURS
from benchmarks.tree import (
    NAMES,
    MemoryStorage,
    MemoryTruth,
    blob,
    cache_of,
    described,
    planted,
    repository_of,
    require_cached,
    write_tree,
)
from benchmarks.upkeep import ALONE, AUDITED, ELSEWHERE, Upkeep, measure_upkeep, require_room, upkeep_figures
from benchmarks.window import measure_window
from tests.support.servers import require_program

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """A server that keeps the whole corpus."""
    folder = tmp_path_factory.mktemp("benchmarks")
    write_corpus(folder)
    corpus = Corpus.read(folder)
    with running_server(folder / "valkey") as server:
        server.load(corpus.blobs)
        yield server, folder, corpus


slow = pytest.mark.slow


def slow_by_itself(test):
    """Mark a test that shares nothing with others here, so that another worker may run it."""
    return pytest.mark.slow(pytest.mark.xdist_group(test.__name__)(test))


@pytest.fixture(params=[OURS, *(pytest.param(name, marks=slow) for name in PEERS if name != OURS)])
def peer(request, loaded):
    if request.param.startswith("Distribution"):
        require_program("go")
    server, folder, _ = loaded
    return PeerProcess(request.param, PEERS[request.param], server, folder, "asyncio")


@pytest.mark.parametrize(
    "workload", [HIT, *(pytest.param(workload, marks=slow) for workload in (MISS, MIXED, many(10)))]
)
def test_every_peer_does_every_job(peer, workload, loaded):
    server, _, _ = loaded
    job = Job(workload, 4, 0.05)
    if not peer.does(job):
        assert PEERS[peer.name].has_stat_many is False
        return
    with peer:
        before = server.counts()
        measured = peer.do(job)
        after = server.counts()
    assert measured.operations >= 4 * job.batch
    assert 0 < measured.p50_us <= measured.p99_us <= measured.p999_us
    assert measured.cpu_seconds > 0
    assert measured.memory_bytes > 1_000_000
    assert after.cpu_seconds >= before.cpu_seconds
    if job.batch == 1 and workload != MIXED:
        assert after.stats > before.stats


def test_a_wrong_answer_fails_the_run(peer, loaded, capfd):
    server, _, corpus = loaded
    popular = corpus.blobs[0]
    key = descriptor_key(popular.digest)
    with Redis(host=server.host, port=server.port) as client, peer:
        client.hset(key, "size", popular.size + 1)
        try:
            with pytest.raises(SystemExit, match="failed at"):
                peer.do(Job(HIT, 4, 0.2))
        finally:
            client.hset(key, "size", popular.size)
    assert popular.digest in capfd.readouterr().err


NEARBY = {workload: Job(workload, callers, 0.05, kept) for workload, callers, kept in NEAR_JOBS}


@slow
def test_aioblobcache_does_the_near_cache_jobs(loaded):
    server, folder, _ = loaded
    with PeerProcess(OURS, PEERS[OURS], server, folder, "asyncio") as peer:
        for job in [*NEARBY.values()][:-2]:
            assert peer.does(job)
            measured = peer.do(job)
            assert measured.operations > 0
            assert measured.seconds > 0


@slow
def test_coredis_does_near_cache_jobs_with_its_own_cache(loaded):
    server, folder, _ = loaded
    peer = PeerProcess("coredis", PEERS["coredis"], server, folder, "asyncio")
    assert [workload for workload, job in NEARBY.items() if not peer.does(job)] == [PEEK, PEEK_UNIFORM, *BARE]
    with peer:
        before = server.counts()
        assert peer.do(NEARBY[NEAR_SPREAD]).operations > 0
        assert server.counts().stats > before.stats  # to warm it


@slow
@pytest.mark.parametrize(
    ("name", "workload"),
    [(OURS, NEAR_SPREAD), (OURS, NINE_IN_TEN), ("coredis", NEAR_SPREAD)],
)
def test_a_wrong_near_cache_answer_fails_the_run(name, workload, loaded, capfd):
    server, folder, corpus = loaded
    popular = corpus.blobs[0]
    key = descriptor_key(popular.digest)
    process = PeerProcess(name, PEERS[name], server, folder, "asyncio")
    with Redis(host=server.host, port=server.port) as client, process as peer:
        client.hset(key, "size", popular.size + 1)
        try:
            with pytest.raises(SystemExit, match="failed at"):
                peer.do(NEARBY[workload])
        finally:
            client.hset(key, "size", popular.size)
    assert popular.digest in capfd.readouterr().err


def test_other_peers_do_no_near_cache_job(loaded):
    server, folder, _ = loaded
    for name in set(PEERS) - {OURS, "coredis"}:
        if not name.startswith("Distribution"):
            peer = PeerProcess(name, PEERS[name], server, folder, "asyncio")
            assert not any(peer.does(job) for job in NEARBY.values())


@slow
def test_a_storm_overwrites_without_changing_values(loaded):
    server, folder, corpus = loaded
    key = descriptor_key(corpus.blobs[0].digest)
    with Redis(host=server.host, port=server.port) as client:
        kept = client.hgetall(key)
        before = server.counts().overwrites
        with storm(server.address, folder):
            while server.counts().overwrites < before + 10_000:
                time.sleep(0.01)
        assert client.hgetall(key) == kept


@slow
def test_entry_memory_and_invalidation_window_are_measured(loaded):
    footprint = measure_footprint(20_000)
    assert 100 < footprint.bytes_each < 1_000
    server, folder, corpus = loaded
    window = measure_window(server.address, folder, corpus)
    server.load(corpus.blobs)
    assert 0 <= window.p50_us <= window.p99_us


def test_a_known_blob_that_should_be_unknown_fails_the_run(peer, loaded):
    server, _, corpus = loaded
    popular = corpus.blobs[0]
    membership = membership_key(popular.repository)
    with Redis(host=server.host, port=server.port) as client, peer:
        client.sadd(membership, popular.absent)
        client.hset(descriptor_key(popular.absent), mapping={"digest": popular.absent, "size": 1, "mediatype": "a/b"})
        client.hset(override_key(popular.repository, popular.absent), "mediatype", "a/b")
        try:
            with pytest.raises(SystemExit, match="failed at"):
                peer.do(Job(MISS, 4, 0.2))
        finally:
            client.srem(membership, popular.absent)


@slow_by_itself
def test_a_run_is_recorded_shown_and_made_into_a_page(tmp_path):
    said = []
    peers = [OURS, "redis-py pipeline"]
    near = NEAR_JOBS[-2:]  # those of which one is done in a storm
    settings = Settings(peers, [1, 8], 0.05, 2, (HIT,), (10,), near=near, near_rounds=1, entries=10_000)
    require_program("redis-benchmark")
    results = run_contest(settings, said.append)
    assert said == ["round 1 of 2", "round 2 of 2", "the near cache's memory, and how soon it hears of a clear"]
    assert results.peers() == peers
    in_near = [(workload, callers) for workload, callers, _ in near]
    on_cluster = [(ON_CLUSTER, 1), (ON_CLUSTER, 128)]
    assert sorted(results.jobs()) == sorted([(HIT, 1), (HIT, 8), (many(10), 16), *in_near, *on_cluster])
    assert len(results.samples) == 2 * 2 * (3 + len(on_cluster)) + len(near)
    assert len(results.ceilings) == 2
    assert results.ratio(OURS, "redis-py pipeline", HIT, 8, lambda sample: sample.rate) > 1

    results.write(tmp_path / "results.json")
    kept = Results.read(tmp_path / "results.json")
    assert kept.samples == results.samples
    assert kept.ceilings == results.ceilings
    assert (kept.footprint, kept.window) == (results.footprint, results.window)

    shown = io.StringIO()
    show(kept, Console(file=shown, width=200))
    assert "hit, 8 callers" in shown.getvalue()
    assert "not measured" in shown.getvalue()  # of the peers who were not there

    draw(kept, tmp_path / "picture")
    assert tmp_path.joinpath("picture.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in tmp_path.joinpath("picture.svg").read_text()
    assert "### stat_many(10), 16 callers" in page(Kept([kept, kept]), "picture.svg")


def benchmarks(*arguments):
    command = [sys.executable, "-m", "benchmarks", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)


@slow_by_itself
def test_the_quick_run_prints_the_ratios(tmp_path):
    output = tmp_path / "results.json"
    peers = ["--peers", OURS, "redis-py pipeline", "--callers", "16"]
    ran = benchmarks("--quick", *peers, "--output", str(output))
    assert ran.returncode == 0, ran.stderr
    assert "ours is" in ran.stdout
    assert Results.read(output).settings["rounds"] == 2


def test_an_unknown_peer_is_refused_with_the_known_peers():
    ran = benchmarks("--peers", "memcached")
    assert ran.returncode == 1
    assert "no peer is called 'memcached'; they are: aioblobcache, redis-py pipeline" in ran.stderr


def test_the_page_and_readme_match_the_recorded_results():
    all_kept = Kept.read(ROOT / "benchmarks" / "results")
    assert len(all_kept.runs) >= 3
    assert ROOT.joinpath("docs/performance.md").read_text() == page(all_kept, "performance.svg")
    readme = ROOT.joinpath("README.md").read_text()
    assert readme == with_summary(readme, all_kept.runs)


@slow_by_itself
def test_a_missing_peer_is_skipped_with_its_install_command(monkeypatch):
    monkeypatch.setattr("benchmarks.peers.distribution.shutil.which", lambda _: None)
    monkeypatch.setattr("benchmarks.ceiling.shutil.which", lambda _: None)
    said = []
    peers = [OURS, "Distribution (Go)"]
    settings = Settings(peers, [2], 0.02, 1, workloads=(HIT,), batches=(), near_rounds=0, cluster_callers=[])
    results = run_contest(settings, said.append)
    assert results.peers() == [OURS]
    assert said[0] == ("without Distribution (Go): apt-get install golang-go golang-github-docker-distribution-dev")
    assert said[1] == "without the server's ceiling: apt-get install redis-tools"


@slow_by_itself
def test_every_registry_is_pulled_from(tmp_path):
    for program in ("wrk", "docker-registry"):
        require_program(program)
    said = []
    pulls = measure_pulls(1, 1.0, [1], said.append)
    assert said == ["round 1 of 1"]
    assert {(one.server, one.blob) for one in pulls.pulls} == {
        (server, blob) for server in (DISTRIBUTION, SERVE, NEAR) for blob in (SMALL, LARGE)
    }
    assert all(one.requests > 0 and one.cpu_seconds > 0 for one in pulls.pulls)
    assert pulls.ratio(NEAR, 1, SMALL) > 1
    pulls.write(tmp_path / "pulls.json")
    assert Pulls.read(tmp_path / "pulls.json") == pulls
    assert pulls_table(pulls).count("\n") == 2 + len(pulls.pulls)
    draw_pulls(pulls, tmp_path / "picture")
    assert tmp_path.joinpath("picture.png").read_bytes().startswith(b"\x89PNG")


@slow_by_itself
def test_every_layer_is_measured(tmp_path):
    said = []
    layers = measure_layers(2, 0.2, said.append)
    assert said == ["round 1 of 2", "round 2 of 2"]
    assert sorted(run.layer for run in layers.runs) == sorted(LAYERS * 2)
    assert all(run.stats > 0 for run in layers.runs)
    layers.write(tmp_path / "layers.json")
    assert Layers.read(tmp_path / "layers.json") == layers
    assert layers_table(layers).count("\n") == 2 + len(LAYERS)


def test_the_written_tree_matches_the_storage_in_memory(tmp_path):
    numbers = range(300)
    write_tree(tmp_path, numbers)
    storage = RegistryStorage(LocalStore(tmp_path))
    in_memory = MemoryStorage(len(numbers))
    faults = planted(len(numbers))
    digests = [*map(blob, numbers), *faults.absent]
    names = {repository_of(digest) for digest in digests[: len(numbers)]}
    assert NAMES[0] in names

    async def compare():
        assert {name async for name in storage.repositories()} == names
        assert [name async for name in in_memory.repositories(after="team-9")] == sorted(
            name for name in NAMES if name > "team-9"
        )
        for name in names:
            for lies, said in (
                (storage.blobs(name), in_memory.blobs(name)),
                (storage.manifests(name), in_memory.manifests(name)),
            ):
                links = {digest async for digest in lies.links()}
                assert links == {digest async for digest in said.links()}
                for digest in links:
                    assert await lies.stat(digest) == await said.stat(digest) == described(digest)
        files, truth = StorageTruth(storage), MemoryTruth(faults.absent)
        assert await files.sizes(digests) == await truth.sizes(digests)
        for name in NAMES[:2]:
            assert await files.in_repository(name, digests) == await truth.in_repository(name, digests)

    asyncio.run(compare())


@pytest.fixture
def kept_by_go(tmp_path):
    """A server that keeps a thousand blobs as a Go registry does."""
    with running_server(tmp_path / "valkey") as server:
        server.send(request for number in range(1_000) for request in cache_of(blob(number)))
        yield server


@slow
def test_an_unplanted_fault_fails_the_audit_run(kept_by_go, capfd):
    care = take_care(0, AUDIT, kept_by_go.address, 1_000)
    assert (care.entries, care.in_memory) == (2_000, True)
    faults = planted(1_000)
    kept_by_go.send(faults.requests)
    assert take_care(0, FIND, kept_by_go.address, 1_000).entries == 2_000 + faults.entries
    with pytest.raises(SystemExit, match="audit failed"):
        take_care(0, AUDIT, kept_by_go.address, 1_000)
    assert "2,009 of 2,000 entries, 12 faults" in capfd.readouterr().err


def test_a_wrongly_filled_cache_fails_the_run(kept_by_go):
    [client] = kept_by_go.nodes
    require_cached(client, 1_000)
    with pytest.raises(SystemExit, match="warm failed"):  # all of them are known
        take_care(0, FILL, kept_by_go.address, 1_000)
    with pytest.raises(AssertionError, match="1,000 memberships, and not 999"):
        require_cached(client, 999)
    client.hset(descriptor_key(blob(0)), "size", 1)
    with pytest.raises(AssertionError, match=str(blob(0))):
        require_cached(client, 1_000)
    with pytest.raises(AssertionError, match="not every reply is a number"):
        kept_by_go.send([(b"GET", b"nothing")])


def test_a_tree_without_disk_space_is_not_started(tmp_path):
    require_room(tmp_path, 2)
    with pytest.raises(SystemExit, match=r"the tree needs 4,096,000,000,000.0 GB and .* see --folder and --entries"):
        require_room(tmp_path, 10**18)


@slow_by_itself
def test_upkeep_is_measured_and_shown(tmp_path):
    said = []
    folder = tmp_path / "tree"
    folder.mkdir()
    measured = measure_upkeep(4_000, 2, 0.3, folder, said.append)
    assert list(folder.iterdir()) == []
    assert said[-1] == "removing the tree"
    for job, in_memory, rounds in ((AUDIT, True, 2), (FILL, True, 2), (AUDIT, False, 1), (FILL, False, 1)):
        cares = measured.of(job, in_memory=in_memory)
        assert [care.entries for care in cares] == rounds * [2_000 if job == FILL else 4_000]
        assert all(care.rate > 0 and care.cpu_us > 0 and care.peak_bytes > 10_000_000 for care in cares)
    assert [care.entries for care in measured.of(AUDIT, in_full=False)] == [400]
    assert [one.beside for one in measured.stretches] == 2 * [ALONE, ELSEWHERE, AUDITED]
    assert all(one.answers == 60 and 0 < one.p50_us <= one.p99_us for one in measured.stretches)

    measured.write(tmp_path / "upkeep.json")
    kept = Upkeep.read(tmp_path / "upkeep.json")
    assert kept == measured
    all_kept = Kept.read(ROOT / "benchmarks" / "results")
    shown = page(Kept(all_kept.runs, upkeep=[kept, kept]), "performance.svg")
    assert "## Looking after a cache" in shown
    assert upkeep_figures([kept, kept]) in shown
    assert "| planted faults, all found and no others |  | 18 | 18 |" in shown
    assert "## Looking after a cache" not in page(Kept(all_kept.runs), "performance.svg")
