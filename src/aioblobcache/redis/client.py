"""The redis-py client that a provider makes for itself from a URL."""

from __future__ import annotations

import re
from typing import Final

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from ..errors import ConfigurationError, shorten

__all__ = ["URL_SCHEMES", "client_from_url"]

URL_SCHEMES: Final = ("redis", "rediss", "unix")
_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.-]{0,20}")


def client_from_url(url: str) -> Redis:
    """A client for ``redis://``, ``rediss://`` or ``unix://``.

    It speaks RESP2, which every server does, unless the URL says otherwise; a lane asks for RESP3 itself.
    Nothing is retried: a script that was sent may have run, and a second run of a clear finds nothing
    to clear. That a pooled connection was closed by the server is seen before it is used.

    :raises ConfigurationError: not such a URL. The message tells the scheme and no more, since
        anything else in a malformed URL may be a part of its password.
    """
    scheme, separator, _ = url.partition("://") if isinstance(url, str) else ("", "", "")
    if not separator:
        raise ConfigurationError(f"a cache URL begins with {_schemes()}; got one without a scheme")
    if scheme not in URL_SCHEMES:
        # What is no scheme at all may be a password.
        named = f"not with {shorten(scheme)}" if _SCHEME.fullmatch(scheme) else "and then goes on"
        raise ConfigurationError(f"a cache URL begins with {_schemes()}, {named}")
    try:
        # What stands in the URL's query goes before what is passed here.
        client = Redis.from_url(url, retry=Retry(NoBackoff(), 0), protocol=2)
        # redis-py looks at the names of parameters only when it makes a connection.
        client.connection_pool.connection_class(**client.connection_pool.connection_kwargs)
    except (RedisError, ValueError, TypeError, AttributeError, KeyError):  # by what is wrong; some quote the URL
        raise ConfigurationError(f"malformed {scheme}:// URL: host, port, database or a parameter is wrong") from None
    return client


def _schemes() -> str:
    return ", ".join(f"{scheme}://" for scheme in (*URL_SCHEMES, "memory"))
