"""The server that all peers share, and what it says about itself."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
from redis import Redis

from aioblobcache.cli.embedded import embedded_valkey
from aioblobcache.redis.keys import descriptor_key, membership_key, override_key

from .corpus import MIRROR, Blob

__all__ = ["Server", "ServerCounts", "running_server"]


@attrs.frozen
class ServerCounts:
    """What a server has done since it was started."""

    cpu_seconds: float
    stats: int  # SISMEMBER commands: one for each scoped stat that reached it
    overwrites: int  # HSET commands


@attrs.frozen
class Server:
    """A running Valkey."""

    host: str
    port: int
    _client: Redis

    @property
    def address(self) -> str:
        """``host:port``."""
        return f"{self.host}:{self.port}"

    def load(self, blobs: list[Blob]) -> None:
        """Keep the blobs as Distribution does, and take no snapshots meanwhile."""
        self._client.config_set("save", "")
        lines = []
        for blob in blobs:
            descriptor = descriptor_key(blob.digest).decode()
            lines.append(f"HSET {descriptor} digest {blob.digest} size {blob.size}")
            lines.append(f"HSETNX {descriptor} mediatype {blob.media_type}")
            for name in (blob.repository, MIRROR):
                lines.append(f"HSET {override_key(name, blob.digest).decode()} mediatype {blob.media_type}")
                lines.append(f"SADD {membership_key(name).decode()} {blob.digest}")
        with socket.create_connection((self.host, self.port)) as connection:
            connection.sendall("\r\n".join([*lines, "PING", ""]).encode())
            replies = b""
            while not replies.endswith(b"+PONG\r\n"):
                replies = replies[-16:] + connection.recv(1 << 20)

    def counts(self) -> ServerCounts:
        """What it has done so far."""
        cpu = self._client.info("cpu")
        commands = self._client.info("commandstats")
        stats, overwrites = (commands.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("sismember", "hset"))
        return ServerCounts(cpu["used_cpu_user"] + cpu["used_cpu_sys"], stats, overwrites)

    def version(self) -> str:
        """What it calls itself."""
        info = self._client.info("server")
        name = info.get("server_name", "redis")
        return f"{name} {info.get(f'{name}_version', info['redis_version'])}"


@contextmanager
def running_server(folder: Path) -> Iterator[Server]:
    """Start a Valkey on a free port, and stop it."""
    with embedded_valkey(folder) as url, Redis.from_url(url) as client:
        settings = client.connection_pool.connection_kwargs
        yield Server(settings["host"], settings["port"], client)
