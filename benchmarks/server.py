"""The server that all peers share, and what it says about itself."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Final

import attrs
from redis import Redis

from aioblobcache.cli.embedded import embedded_valkey
from aioblobcache.redis.keys import descriptor_key, membership_key, override_key, slot_of
from aioblobcache.redis.resp import Request, encode
from aioblobcache.redis.slotmap import SLOTS

from .corpus import MIRROR, Blob

__all__ = ["Server", "ServerCounts", "entry", "free_port", "running_cluster", "running_server"]

# Requests that are sent before their replies are read, and what comes after them.
_PIECE: Final = 4_000
_END: Final = b"no more"


@attrs.frozen
class ServerCounts:
    """What a server has done since it was started."""

    cpu_seconds: float
    stats: int  # SISMEMBER commands: one for each scoped stat that reached it
    overwrites: int  # HSET commands


@attrs.frozen
class Server:
    """A running Valkey, or several that share the slots of a Cluster."""

    nodes: tuple[Redis, ...]

    @property
    def port(self) -> int:
        """That of the first node."""
        return int(self.nodes[0].connection_pool.connection_kwargs["port"])

    @property
    def host(self) -> str:
        """That of all nodes."""
        return str(self.nodes[0].connection_pool.connection_kwargs["host"])

    @property
    def address(self) -> str:
        """``host:port`` of the first node."""
        return f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """What a provider is made from."""
        return f"redis://{self.address}/0" if len(self.nodes) == 1 else f"redis+cluster://{self.address}"

    def load(self, blobs: list[Blob]) -> None:
        """Keep the blobs as Distribution does."""
        self.send(
            request
            for blob in blobs
            for name in (blob.repository, MIRROR)
            for request in entry(name, blob.digest, blob.size, blob.media_type)
        )

    def send(self, requests: Iterable[Request]) -> None:
        """Send requests that are each answered by a number to the nodes of their keys, and take no snapshots."""
        pending = iter(requests)
        with ExitStack() as stack:
            connections = []
            for node in self.nodes:
                node.config_set("save", "")
                settings = node.connection_pool.connection_kwargs
                address = settings["host"], settings["port"]
                connections.append(stack.enter_context(socket.create_connection(address)))
            while piece := list(islice(pending, _PIECE)):
                for connection, own in zip(connections, self._by_node(piece), strict=True):
                    _send(connection, own)

    def _by_node(self, requests: list[Request]) -> list[list[Request]]:
        if len(self.nodes) == 1:
            return [requests]
        of_nodes: list[list[Request]] = [[] for _ in self.nodes]
        for request in requests:
            of_nodes[slot_of(request[1]) * len(self.nodes) // SLOTS].append(request)
        return of_nodes

    def counts(self) -> ServerCounts:
        """What it has done so far."""
        cpu = [node.info("cpu") for node in self.nodes]
        stats, overwrites = self.calls("sismember", "hset")
        return ServerCounts(sum(own["used_cpu_user"] + own["used_cpu_sys"] for own in cpu), stats, overwrites)

    def calls(self, *names: str) -> list[int]:
        """How often each of these commands has been executed so far, those that scripts call included."""
        commands = [node.info("commandstats") for node in self.nodes]
        return [sum(own.get(f"cmdstat_{name}", {"calls": 0})["calls"] for own in commands) for name in names]

    def version(self) -> str:
        """What it calls itself."""
        info = self.nodes[0].info("server")
        name = info.get("server_name", "redis")
        return f"{name} {info.get(f'{name}_version', info['redis_version'])}"


def entry(name: str, digest: str, size: int, media_type: str) -> Iterator[Request]:
    """The requests by which a Go registry keeps a blob of a repository."""
    key = descriptor_key(digest)
    yield (b"SADD", membership_key(name), digest.encode())
    yield (b"HSET", key, b"digest", digest.encode(), b"size", b"%d" % size)
    yield (b"HSETNX", key, b"mediatype", media_type.encode())
    yield (b"HSET", override_key(name, digest), b"mediatype", media_type.encode())


def _send(connection: socket.socket, requests: list[Request]) -> None:
    connection.sendall(encode([*requests, (b"ECHO", _END)]))
    replies = b""
    while not replies.endswith(_END + b"\r\n"):
        replies += connection.recv(1 << 20)
    if replies.count(b":") != len(requests):
        raise AssertionError(f"not every reply is a number: {replies[:200]!r}")


@contextmanager
def running_server(folder: Path) -> Iterator[Server]:
    """Start a Valkey on a free port, and stop it."""
    with embedded_valkey(folder) as url, Redis.from_url(url) as client:
        yield Server((client,))


@contextmanager
def running_cluster(folder: Path, nodes: int = 3) -> Iterator[Server]:
    """Start a Cluster of primaries that share the slots evenly, and stop it."""
    with ExitStack() as stack:
        clients = []
        for number in range(nodes):
            config = {"cluster-enabled": "yes", "cluster-port": str(free_port()), "cluster-node-timeout": "5000"}
            url = stack.enter_context(embedded_valkey(folder / str(number), config))
            clients.append(stack.enter_context(Redis.from_url(url)))
        _join(clients)
        yield Server(tuple(clients))


def _join(clients: list[Any]) -> None:  # untyped: their execute_command is
    first = clients[0]
    settings = first.connection_pool.connection_kwargs
    bus = first.config_get("cluster-port")["cluster-port"]
    for number, client in enumerate(clients):
        # As `Server.load` has it: slot * nodes // SLOTS.
        begins, ends = (-(-edge * SLOTS // len(clients)) for edge in (number, number + 1))
        client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", begins, ends - 1)
        if client is not first:
            client.execute_command("CLUSTER", "MEET", settings["host"], settings["port"], bus)
    deadline = time.monotonic() + 30.0
    while not all(_is_complete(client) for client in clients):
        if time.monotonic() > deadline:
            sys.exit("the nodes of the cluster did not find each other")
        time.sleep(0.05)


def _is_complete(client: Any) -> bool:
    served = sum(last - first + 1 for first, last, *_ in client.execute_command("CLUSTER", "SLOTS"))
    return bool(client.cluster("INFO")["cluster_state"] == "ok") and served == SLOTS


def free_port() -> int:
    """A port that nothing uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
