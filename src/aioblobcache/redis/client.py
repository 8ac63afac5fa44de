"""Clients of redis-py: those that a provider makes for itself from a URL, and the topology that is behind each."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final, TypeAlias
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.connection import SSLConnection, parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from ..errors import ConfigurationError, shorten
from .cluster import Cluster
from .lanes import LaneMaker
from .sentinel import MasterByName
from .topology import OneNode, Topology

__all__ = ["AnyClient", "client_from_url", "close_client", "topology_of"]

AnyClient: TypeAlias = Redis | RedisCluster

_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.-]{0,20}")

_SENTINEL_PORT: Final = 26379
_CLUSTER_PORT: Final = 6379

# A Sentinel that does not answer must leave time for the next one. In seconds.
_SENTINEL_TIMEOUT: Final = 0.3


def client_from_url(url: str) -> AnyClient:
    """A client for one of these, each over TLS with ``rediss`` in place of ``redis``.

    * ``redis://[user:password@]host[:port][/db]``, ``unix:///path``: one node
    * ``redis+sentinel://[user:password@]host[:port][,host[:port]…]/service[/db]``: the master of a service; the
      hosts are the Sentinels', whose own credentials are ``sentinel_username`` and ``sentinel_password`` in the query
    * ``redis+cluster://[user:password@]host[:port][,host[:port]…]``: a Cluster, of which some nodes are named

    The query may hold what redis-py takes there, for example ``ssl_ca_certs``. The client speaks RESP2, which every
    server does, unless the URL says otherwise; a lane asks for RESP3 itself.
    Nothing is retried: a script that was sent may have run, and a second run of a clear finds nothing
    to clear. That a pooled connection was closed by the server is seen before it is used.

    :raises ConfigurationError: not such a URL. The message tells the scheme and no more, since
        anything else in a malformed URL may be a part of its password.
    """
    scheme, separator, rest = url.partition("://") if isinstance(url, str) else ("", "", "")
    if not separator:
        raise ConfigurationError(f"a cache URL begins with {_schemes()}; got one without a scheme")
    make = _MAKERS.get(scheme)
    if make is None:
        # What is no scheme at all may be a password.
        named = f"not with {shorten(scheme)}" if _SCHEME.fullmatch(scheme) else "and then goes on"
        raise ConfigurationError(f"a cache URL begins with {_schemes()}, {named}")
    try:
        return make(scheme, rest)
    except (RedisError, ValueError, TypeError, AttributeError, KeyError):  # by what is wrong; some quote the URL
        raise ConfigurationError(f"malformed {scheme}:// URL: {_PARTS[make]} or a parameter is wrong") from None


def _one_node(scheme: str, rest: str) -> Redis:
    tls = _tls_defaults(rest) if scheme == "rediss" else {}
    client = Redis.from_url(f"{scheme}://{rest}", **_defaults(), **tls)
    _try_parameters(client.connection_pool)
    return client


def _master_by_name(scheme: str, rest: str) -> Redis:
    user, hosts, path, query = _split(rest)
    service, _, database = path.partition("/")
    if not service:
        raise ValueError(path)
    own = dict(parse_qsl(query, keep_blank_values=True))
    base, _, _ = scheme.partition("+")
    theirs = {name.removeprefix("sentinel_"): own.pop(name) for name in [*own] if name.startswith("sentinel_")}
    if theirs.keys() - {"username", "password"}:
        raise ValueError(theirs)
    kwargs = _parameters(f"{base}://{user}localhost/{database}?{urlencode(own)}")
    if database and "db" not in kwargs:
        raise ValueError(database)
    shared = {name: value for name, value in kwargs.items() if name.startswith(("ssl", "socket_"))}
    timeouts = {"socket_timeout": _SENTINEL_TIMEOUT, "socket_connect_timeout": _SENTINEL_TIMEOUT}
    sentinels = Sentinel(  # type: ignore[no-untyped-call]
        _endpoints(hosts, _SENTINEL_PORT), sentinel_kwargs={**_defaults(), **timeouts, **shared, **theirs}
    )
    client: Redis = sentinels.master_for(unquote(service), **kwargs)
    _try_parameters(client.connection_pool)
    return client


def _cluster(scheme: str, rest: str) -> RedisCluster:
    user, hosts, path, query = _split(rest)
    if path not in ("", "0"):
        raise ValueError(path)  # a Cluster has one database
    base, _, _ = scheme.partition("+")
    kwargs = _parameters(f"{base}://{user}localhost?{query}")
    nodes = [ClusterNode(host, port) for host, port in _endpoints(hosts, _CLUSTER_PORT)]
    client = RedisCluster(startup_nodes=nodes, **kwargs)
    [node, *_] = client.nodes_manager.startup_nodes.values()
    node.connection_class(**node.connection_kwargs)
    return client


_Maker: TypeAlias = Callable[[str, str], AnyClient]

_MAKERS: Final[dict[str, _Maker]] = {
    "redis": _one_node,
    "rediss": _one_node,
    "unix": _one_node,
    "redis+sentinel": _master_by_name,
    "rediss+sentinel": _master_by_name,
    "redis+cluster": _cluster,
    "rediss+cluster": _cluster,
}

_PARTS: Final[dict[_Maker, str]] = {
    _one_node: "host, port, database",
    _master_by_name: "a host, a port, the service, the database",
    _cluster: "a host, a port",
}


def _schemes() -> str:
    return ", ".join(f"{scheme}://" for scheme in (*_MAKERS, "memory"))


def _split(rest: str) -> tuple[str, list[str], str, str]:
    """User and password with their ``@``, the hosts, the path without its first slash, and the query."""
    rest, _, query = rest.partition("?")
    authority, _, path = rest.partition("/")
    user, at, hosts = authority.rpartition("@")
    return user + at, hosts.split(","), path.removesuffix("/"), query


def _endpoints(hosts: list[str], default: int) -> list[tuple[str, int]]:
    endpoints = []
    for host in hosts:
        parts = urlsplit(f"//{host}")
        if not parts.hostname:
            raise ValueError(host)
        endpoints.append((parts.hostname, default if parts.port is None else parts.port))
    return endpoints


def _defaults() -> dict[str, Any]:
    """What stands in a URL goes before it."""
    return {"retry": Retry(NoBackoff(), 0), "protocol": 2}


def _tls_defaults(query: str) -> dict[str, Any]:
    """The name in a certificate is checked, if the certificate is: before redis-py 6 only who asked for it got that."""
    return {"ssl_check_hostname": True} if "ssl_cert_reqs=none" not in query.lower() else {}


def _parameters(url: str) -> dict[str, Any]:
    """What redis-py reads out of a URL of one node, but for its place."""
    kwargs: dict[str, Any] = {**_defaults(), **parse_url(url)}
    del kwargs["host"]
    if kwargs.pop("connection_class", None) is SSLConnection:
        kwargs = {"ssl": True, **_tls_defaults(url), **kwargs}
    return kwargs


def _try_parameters(pool: ConnectionPool) -> None:
    """redis-py looks at the names of parameters only when it makes a connection."""
    pool.connection_class(**pool.connection_kwargs)


async def close_client(client: AnyClient) -> None:
    """Close a client that was made here, and what it needs to find its server."""
    await client.aclose()
    if isinstance(client, Redis) and isinstance(client.connection_pool, SentinelConnectionPool):
        for sentinel in client.connection_pool.sentinel_manager.sentinels:
            await sentinel.aclose()


def topology_of(client: AnyClient, maker: LaneMaker) -> Topology:
    """The topology that a client of redis-py is for.

    :raises ConfigurationError: it is no such client, or is for reading only.
    """
    if isinstance(client, RedisCluster):
        return Cluster(client, maker)
    if isinstance(client, Sentinel):
        raise ConfigurationError("client is one of a service: sentinel.master_for(name), not the Sentinel itself")
    if not isinstance(client, Redis):
        raise ConfigurationError(f"client is a redis.asyncio.Redis or RedisCluster, not a {type(client).__name__}")
    if not isinstance(client.connection_pool, SentinelConnectionPool):
        return OneNode(client, maker)
    if not client.connection_pool.is_master:
        raise ConfigurationError("client is for a replica: sentinel.master_for(name), not slave_for")
    return MasterByName(client, maker)
