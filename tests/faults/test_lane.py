"""The lane between a provider and its server: replies cut, delayed, damaged or missing, and callers that go."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import shutil
import signal
import subprocess
import time
from contextlib import ExitStack
from importlib.util import find_spec

import pytest
from redis.asyncio import Connection, ConnectionPool, Redis

from aioblobcache import BlobUnknownError, CacheUnavailableError, RedisBlobDescriptorCache
from aioblobcache.conformance import descriptor_of
from tests.support.numbered_blobs import assert_same
from tests.support.ports import free_port
from tests.support.providers import (
    FIRST,
    NAME,
    SECOND,
    SOME,
    THIRD,
    assert_right_or_unavailable,
    fill,
    outcomes_of,
    provider,
    until_it_answers,
    until_set,
)
from tests.support.proxy import Proxy
from tests.support.servers import REDIS, VALKEY, RedisServer, running
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

# --- replies cut and split -----------------------------------------------------------------------


async def test_a_cut_reply_is_never_a_wrong_answer(own_server):
    await fill(own_server.url, [FIRST, SECOND])

    async def cut_at(count):
        async with Proxy(own_server.port) as proxy, provider(proxy.url) as cache:
            repository = cache.repository_scoped(NAME)
            await repository.stat(FIRST.digest)
            before = proxy.replied
            await repository.stat(FIRST.digest)
            length = proxy.replied - before
            proxy.cut_after(count)
            outcomes = await outcomes_of(repository, [FIRST, SECOND])
            assert_right_or_unavailable(outcomes, [FIRST, SECOND])
            assert (outcomes[0] == FIRST) is (count >= length)
            await until_it_answers(repository, SECOND)
            assert cache.info()["reconnects"] == 1
            return length

    length = await cut_at(0)
    for start in range(1, length + 1, 20):
        await asyncio.gather(*(cut_at(count) for count in range(start, min(start + 20, length + 1))))


async def test_replies_that_arrive_byte_by_byte_are_correct(own_server, proxy):
    await fill(own_server.url, SOME[:50])
    async with provider(proxy.url) as cache:
        proxy.bytewise = True
        repository = cache.repository_scoped(NAME)
        assert await outcomes_of(repository, SOME[:50]) == SOME[:50]
        assert cache.info()["reconnects"] == 0


# --- replies that cannot be ----------------------------------------------------------------------

IMPOSSIBLE = {
    "a number": b":1\r\n",
    "a status": b"+OK\r\n",
    "an empty array": b"*0\r\n",
    "a string": b"$5\r\nhello\r\n",
    "a map": b"%1\r\n+a\r\n:1\r\n",
    "a null": b"_\r\n",
    "another protocol": b"HTTP/1.1 400\r\n\r\n",
}
impossible = pytest.mark.parametrize("reply", IMPOSSIBLE.values(), ids=IMPOSSIBLE.keys())


@impossible
async def test_an_unsolicited_reply_replaces_the_connection(own_server, proxy, reply):
    await fill(own_server.url, SOME[:10])
    async with provider(proxy.url) as cache:
        repository = cache.repository_scoped(NAME)
        await until_it_answers(repository, FIRST)
        proxy.inject(reply)
        await until(lambda: cache.info()["reconnects"] == 1)
        await until_it_answers(repository, FIRST)
        assert await outcomes_of(repository, SOME[:10]) == SOME[:10]


@impossible
@pytest.mark.parametrize("scope", ["global", "scoped"])
async def test_an_extra_reply_before_others_is_never_a_wrong_answer(own_server, proxy, reply, scope):
    await fill(own_server.url, SOME[:10])
    async with provider(proxy.url) as cache:
        service = cache if scope == "global" else cache.repository_scoped(NAME)
        await until_it_answers(service, FIRST)
        proxy.put_in_front(reply)
        assert_right_or_unavailable(await outcomes_of(service, SOME[:10]), SOME[:10])
        await until(lambda: cache.info()["reconnects"] == 1)
        await until_it_answers(service, FIRST)
        assert await outcomes_of(service, SOME[:10]) == SOME[:10]


async def test_a_push_between_replies_is_skipped(own_server, proxy):
    await fill(own_server.url, SOME[:10])
    async with provider(proxy.url) as cache:
        repository = cache.repository_scoped(NAME)
        await until_it_answers(repository, FIRST)
        proxy.inject(b">2\r\n+unknown\r\n+x\r\n")
        assert await repository.stat(FIRST.digest) == FIRST
        proxy.put_in_front(b">2\r\n+unknown\r\n+x\r\n" * 3)
        assert await outcomes_of(repository, SOME[:10]) == SOME[:10]
        assert cache.info()["reconnects"] == 0


async def test_an_endless_reply_replaces_the_connection(own_server, proxy):
    await fill(own_server.url, [FIRST])
    async with provider(proxy.url) as cache:
        repository = cache.repository_scoped(NAME)
        await until_it_answers(repository, FIRST)
        proxy.inject(b"$100000000000\r\n" + bytes(20 * 1024 * 1024))
        await until(lambda: cache.info()["reconnects"] == 1)
        await until_it_answers(repository, FIRST)


# --- servers that hang or go ---------------------------------------------------------------------


async def test_no_late_reply_of_a_hung_server_reaches_another_call(own_server):
    await fill(own_server.url, SOME)
    async with provider(own_server.url, timeout=0.5) as cache:
        repository = cache.repository_scoped(NAME)
        await until_it_answers(repository, FIRST)
        os.kill(own_server.pid, signal.SIGSTOP)
        try:
            wanted = random.Random(5).choices(SOME, k=2000)
            outcomes = await outcomes_of(repository, wanted)
        finally:
            os.kill(own_server.pid, signal.SIGCONT)
        assert all(isinstance(outcome, CacheUnavailableError) for outcome in outcomes)
        await until_it_answers(repository, FIRST)
        later = SOME[::-1]
        assert_right_or_unavailable(await outcomes_of(repository, later), later)
        assert cache.info()["in_flight"] == cache.info()["waiting"] == 0


async def test_a_restarted_server_leaves_no_task_and_no_lost_exception(own_server, caplog):
    before = asyncio.all_tasks()
    async with provider(own_server.url) as cache:
        repository = cache.repository_scoped(NAME)
        await repository.set_descriptor(FIRST.digest, FIRST)
        os.kill(own_server.pid, signal.SIGSTOP)
        stats = [asyncio.create_task(repository.stat(one.digest)) for one in SOME]
        writes = [asyncio.create_task(repository.set_descriptor(one.digest, one)) for one in SOME]
        await until(lambda: cache.info()["in_flight"] >= len(stats) + len(writes))
        for task in stats[::3]:
            task.cancel()
        own_server.stop()
        outcomes = await asyncio.gather(*stats, *writes, return_exceptions=True)
        assert all(isinstance(one, CacheUnavailableError | asyncio.CancelledError) for one in outcomes)
        own_server.start()
        await until_set(repository, FIRST)
        assert await repository.stat(FIRST.digest) == FIRST
    gc.collect()
    assert asyncio.all_tasks() == before
    assert "never retrieved" not in caplog.text


# --- sharing, bounds, cancellation ---------------------------------------------------------------


async def test_equal_stats_of_one_tick_are_sent_once(own_server, proxy):
    await fill(own_server.url, [FIRST])
    async with provider(proxy.url) as cache:
        repository = cache.repository_scoped(NAME)
        await until_it_answers(repository, FIRST)
        before = proxy.count(b"SISMEMBER")
        assert await outcomes_of(repository, [FIRST] * 100) == [FIRST] * 100
        assert proxy.count(b"SISMEMBER") == before + 1
        os.kill(own_server.pid, signal.SIGSTOP)
        try:
            first = asyncio.create_task(repository.stat(FIRST.digest))
            await until(lambda: cache.info()["in_flight"] == 1)
            second = asyncio.create_task(repository.stat(FIRST.digest))
            await until(lambda: cache.info()["in_flight"] == 2)
        finally:
            os.kill(own_server.pid, signal.SIGCONT)
        assert await asyncio.gather(first, second) == [FIRST, FIRST]
        assert proxy.count(b"SISMEMBER") == before + 3


async def test_requests_in_flight_never_exceed_max_in_flight(own_server):
    wanted = [SOME[number % 300] for number in range(500)]
    await fill(own_server.url, SOME)
    async with provider(own_server.url, max_in_flight=8) as cache:
        repository = cache.repository_scoped(NAME)
        await until_it_answers(repository, FIRST)
        seen = []

        async def ask(descriptor):
            answer = await repository.stat(descriptor.digest)
            seen.append(cache.info()["in_flight"])
            return answer

        asked = [asyncio.create_task(ask(descriptor)) for descriptor in wanted]
        while not all(task.done() for task in asked):
            seen.append(cache.info()["in_flight"])
            await asyncio.sleep(0)
        assert [task.result() for task in asked] == wanted
        assert max(seen) == 8
        assert cache.info()["reconnects"] == 0


async def test_callers_that_time_out_in_the_backlog_keep_the_connection(own_server, proxy):
    """The server is slow, yet each request that was sent is answered in time."""
    await fill(own_server.url, SOME)
    async with provider(proxy.url, max_in_flight=8, timeout=2.0) as cache:
        repository = cache.repository_scoped(NAME)
        await until_it_answers(repository, FIRST)
        proxy.delay = 0.5
        outcomes = await outcomes_of(repository, SOME)
        assert_right_or_unavailable(outcomes, SOME)
        assert outcomes[:8] == SOME[:8]
        assert isinstance(outcomes[-1], CacheUnavailableError)
        proxy.delay = 0.0
        assert await repository.stat(FIRST.digest) == FIRST
        assert cache.info()["reconnects"] == 0


async def test_a_caller_cancelled_before_its_write_sends_nothing(own_server, proxy):
    await fill(own_server.url, [FIRST, SECOND])
    async with provider(proxy.url) as cache:
        repository = cache.repository_scoped(NAME)
        await until_it_answers(repository, FIRST)
        before = bytes(proxy.requests)
        stat = asyncio.create_task(repository.stat(SECOND.digest))
        write = asyncio.create_task(repository.set_descriptor(THIRD.digest, THIRD))
        # The tasks run when the test lets go, and what cancels them behind them, before the tick's write.
        cancelled = asyncio.get_running_loop().create_future()

        def cancel():
            stat.cancel()
            write.cancel()
            cancelled.set_result(cache.info()["waiting"])

        asyncio.get_running_loop().call_soon(cancel)
        assert await cancelled == 2
        await asyncio.wait([stat, write])
        assert stat.cancelled()
        assert write.cancelled()
        assert await repository.stat(FIRST.digest) == FIRST
        sent = bytes(proxy.requests).removeprefix(before)
        assert sent.count(b"SISMEMBER") == 1
        assert SECOND.digest.encode() not in sent
        assert THIRD.digest.encode() not in sent


async def test_callers_cancelled_at_any_moment_leave_others_correct_answers(own_server):
    await fill(own_server.url, SOME)
    chance = random.Random(9)
    others = [descriptor_of(f"other {number}") for number in range(50)]
    async with provider(own_server.url, timeout=60.0) as cache:
        repository = cache.repository_scoped(NAME)
        await until_it_answers(repository, FIRST)
        for _ in range(20):
            wanted = chance.choices(SOME, k=1000)
            stats, doomed, noise = [], [], []
            for descriptor in wanted:
                task = asyncio.create_task(repository.stat(descriptor.digest))
                stats.append(task)
                if chance.random() < 1 / 3:
                    doomed.append(task)
                if chance.random() < 0.05:
                    other = chance.choice(others)
                    noise.append(asyncio.create_task(repository.set_descriptor(other.digest, other)))
                    noise.append(asyncio.create_task(repository.clear(chance.choice(others).digest)))
                if chance.random() < 0.02:
                    await asyncio.sleep(0)
                if doomed and chance.random() < 0.3:
                    doomed.pop(chance.randrange(len(doomed))).cancel()
            for task in doomed:
                task.cancel()
                if chance.random() < 0.1:
                    await asyncio.sleep(0)
            for outcome, descriptor in zip(await asyncio.gather(*stats, return_exceptions=True), wanted, strict=True):
                assert isinstance(outcome, asyncio.CancelledError) or outcome == descriptor
            for outcome in await asyncio.gather(*noise, return_exceptions=True):
                assert outcome is None or isinstance(outcome, BlobUnknownError)
        assert cache.info()["reconnects"] == 0
        assert cache.info()["in_flight"] == cache.info()["waiting"] == 0


async def test_a_blocked_event_loop_keeps_the_connection(own_server):
    await fill(own_server.url, SOME[:10])
    async with provider(own_server.url, timeout=0.2) as cache:
        repository = cache.repository_scoped(NAME)
        await until_it_answers(repository, FIRST)
        stats = [asyncio.create_task(repository.stat(one.digest)) for one in SOME[:10]]
        await until(lambda: cache.info()["in_flight"] == 10)
        time.sleep(0.5)  # noqa: ASYNC251
        assert_right_or_unavailable(await asyncio.gather(*stats, return_exceptions=True), SOME[:10])
        await until(lambda: cache.info()["in_flight"] == 0)
        assert await outcomes_of(repository, SOME[:10]) == SOME[:10]
        assert cache.info()["reconnects"] == 0


# --- kinds of connections ------------------------------------------------------------------------


async def assert_serves(cache, road):
    repository = cache.repository_scoped(NAME)
    for service in (cache, repository):
        with pytest.raises(BlobUnknownError):
            await service.stat(FIRST.digest)
    await repository.set_descriptor(FIRST.digest, FIRST)
    for service in (cache, repository):
        assert await service.stat(FIRST.digest) == FIRST
        assert await service.stat_many([FIRST.digest, SECOND.digest]) == {FIRST.digest: FIRST}
    token = await repository.take_token(SECOND.digest)
    assert await repository.fill(SECOND.digest, SECOND, token)
    assert await outcomes_of(repository, [FIRST, SECOND] * 50) == [FIRST, SECOND] * 50
    await repository.clear(FIRST.digest)
    with pytest.raises(BlobUnknownError):
        await repository.stat(FIRST.digest)
    assert not await repository.fill(FIRST.digest, FIRST, await repository.take_token(FIRST.digest))
    info = cache.info()
    assert info["road"] == road, info["why_no_lane"]
    assert (info["why_no_lane"] is None) is (road == "lane")
    assert info["lanes_open"] == (1 if road == "lane" else 0)


@pytest.fixture
def tls_server(tmp_path):
    """Debian's Redis, speaking TLS on a port of its own, with a certificate made for the test."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed: apt-get install openssl")
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    made = ["-newkey", "rsa:2048", "-nodes", "-days", "1", "-keyout", "key.pem", "-out", "cert.pem"]
    subprocess.run([openssl, "req", "-x509", *made, *subject], cwd=tmp_path, check=True, capture_output=True)
    files = ["--tls-cert-file", "cert.pem", "--tls-key-file", "key.pem", "--tls-ca-cert-file", "cert.pem"]
    port = free_port()
    server = RedisServer(REDIS, tmp_path, "--tls-port", str(port), *files, "--tls-auth-clients", "no")
    with running(server):
        yield f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={tmp_path}/cert.pem"


async def test_a_multiplexed_connection_speaks_tls(tls_server):
    async with provider(tls_server) as cache:
        await assert_serves(cache, "lane")


async def test_replies_that_span_many_tls_records_are_read_whole(tls_server):
    """asyncio reads all records that are there before it tells the protocol of any."""
    await fill(tls_server, SOME)
    async with provider(tls_server) as cache:
        repository = cache.repository_scoped(NAME)
        for _ in range(20):
            assert_same(await outcomes_of(repository, SOME * 5), SOME * 5)
            assert len(await repository.stat_many([one.digest for one in SOME])) == len(SOME)
        assert cache.info()["reconnects"] == 0


async def test_a_multiplexed_connection_uses_a_unix_socket(tmp_path):
    path = tmp_path / "s"
    with running(RedisServer(VALKEY, tmp_path, "--unixsocket", str(path))):
        async with provider(f"unix://{path}") as cache:
            await assert_serves(cache, "lane")


@pytest.mark.skipif(find_spec("uvloop") is None, reason="uvloop is not installed")
@pytest.mark.parametrize("anyio_backend", [pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop")])
@pytest.mark.parametrize("transport", ["tcp", "tls", "unix"])
async def test_a_multiplexed_connection_runs_on_uvloop(request, tmp_path, transport):
    assert type(asyncio.get_running_loop()).__module__.startswith("uvloop")
    if transport == "tls":
        url = request.getfixturevalue("tls_server")
    else:
        server = RedisServer(VALKEY, tmp_path, "--unixsocket", str(tmp_path / "s"))
        request.getfixturevalue("stack").enter_context(running(server))
        url = server.url if transport == "tcp" else f"unix://{tmp_path}/s"
    async with provider(url) as cache:
        await assert_serves(cache, "lane")


@pytest.fixture
def stack():
    with ExitStack() as stack:
        yield stack


class HiddenReader:
    """Reads as a stream does, and is none of asyncio's."""

    def __init__(self, reader):
        self._wrapped = reader

    def __getattr__(self, name):
        return getattr(self._wrapped, name)


class OpaqueConnection(Connection):
    """A connection that cannot be taken over: its reader is not a stream of asyncio."""

    async def _connect(self):
        await super()._connect()
        self._reader = HiddenReader(self._reader)


async def test_a_connection_that_cannot_be_adopted_uses_the_fallback(own_server):
    pool = ConnectionPool(connection_class=OpaqueConnection, host="127.0.0.1", port=own_server.port, protocol=3)
    client = Redis(connection_pool=pool)
    async with RedisBlobDescriptorCache(client, timeout=10.0) as cache:
        await assert_serves(cache, "pipeline")
    await client.aclose(close_connection_pool=True)


@pytest.mark.parametrize("kind", [VALKEY, REDIS])
async def test_a_server_without_resp3_uses_the_fallback(tmp_path, caplog, kind):
    server = RedisServer(kind, tmp_path, "--rename-command", "HELLO", "")
    with running(server):
        async with provider(server.url) as cache:
            await assert_serves(cache, "pipeline")
            assert "RESP3" in cache.info()["why_no_lane"]
        async with Redis.from_url(server.url, protocol=2) as client:
            await client.flushall()
            async with RedisBlobDescriptorCache(client, timeout=10.0) as cache:
                await assert_serves(cache, "pipeline")
    said = [record.getMessage() for record in caplog.records if "own connections" in record.getMessage()]
    assert len(said) == 2  # once by each provider


# --- refusals, and the end -----------------------------------------------------------------------


async def test_a_server_turned_replica_refuses_writes_and_answers_stats(own_server):
    async with provider(own_server.url, timeout=2.0) as cache, Redis.from_url(own_server.url) as client:
        repository = cache.repository_scoped(NAME)
        await until_set(repository, FIRST)
        await client.replicaof("127.0.0.1", str(free_port()))
        async with asyncio.timeout(8.0):
            for write in (
                repository.set_descriptor(SECOND.digest, SECOND),
                repository.clear(FIRST.digest),
                repository.take_token(SECOND.digest),
            ):
                with pytest.raises(CacheUnavailableError, match=r"(?i)readonly"):
                    await write
        assert await repository.stat(FIRST.digest) == FIRST
        await client.replicaof("NO", "ONE")
        await repository.set_descriptor(SECOND.digest, SECOND)
        assert await repository.stat(SECOND.digest) == SECOND
        assert cache.info()["reconnects"] == 0


async def test_writes_continue_after_script_flush(own_server):
    async with provider(own_server.url) as cache, Redis.from_url(own_server.url) as client:
        repository = cache.repository_scoped(NAME)
        await until_set(repository, FIRST)
        await client.script_flush()
        await asyncio.gather(*(repository.set_descriptor(one.digest, one) for one in SOME[:20]))
        assert await outcomes_of(repository, SOME[:20]) == SOME[:20]
        await client.script_flush()
        await asyncio.gather(*(repository.clear(one.digest) for one in SOME[:20]))
        await client.script_flush()
        token = await repository.take_token(SOME[20].digest)
        assert await repository.fill(SOME[20].digest, SOME[20], token)
        assert cache.info()["reconnects"] == 0


async def test_a_closed_provider_leaves_no_open_connection(own_server, proxy):
    async with Redis.from_url(own_server.url) as client:
        [own] = await client.client_list()
        async with provider(proxy.url, lanes=3) as cache:
            repository = cache.repository_scoped(NAME)
            await until_set(repository, FIRST)
            await until(lambda: cache.info()["lanes_open"] == 3)
            assert len(await client.client_list()) == 4
            proxy.inject(b":1\r\n")
            await until(lambda: cache.info()["reconnects"] == 3 and cache.info()["lanes_open"] == 3)
            os.kill(own_server.pid, signal.SIGSTOP)
            left = [asyncio.create_task(repository.stat(one.digest)) for one in SOME]
            await until(lambda: cache.info()["in_flight"] >= len(SOME))
        os.kill(own_server.pid, signal.SIGCONT)
        outcomes = await asyncio.gather(*left, return_exceptions=True)
        assert all(isinstance(outcome, CacheUnavailableError) for outcome in outcomes)
        while [one["id"] for one in await client.client_list()] != [own["id"]]:
            pass
    gc.collect()
