"""Taking a connection over from redis-py: the one place that relies on its internals.

redis-py resolves the address, speaks TLS, authenticates and switches to RESP3; what it has opened
is then read and written by a protocol of ours. Seen to work from redis-py 5.0.8 to 8.1, over TCP,
TLS and unix sockets, on asyncio's event loop and on uvloop.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import attrs
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ResponseError

from .cancellation import keep_cancellation

__all__ = ["Prepare", "Taken", "TakeoverError", "take_over"]


class TakeoverError(Exception):
    """This client's connections cannot be taken over, now or later; the reason is for an operator."""


@attrs.frozen
class Taken:
    """A transport that is ours, and redis-py's connection, which would close it when it is collected.

    Of the connection nothing may be called: its ``disconnect`` would wait for ever for its reader.
    """

    transport: asyncio.Transport
    connection: AbstractConnection

    @property
    def peer(self) -> tuple[str, int] | None:
        """Host and port that it was opened to, as the client has them; of a unix socket nothing."""
        host, port = getattr(self.connection, "host", None), getattr(self.connection, "port", None)
        return None if host is None or port is None else (str(host), int(port))

    def abort(self) -> None:
        """End the transport at once, sending nothing of what it still holds, and let the connection go."""
        _abandon(self.connection)


Prepare = Callable[[AbstractConnection], Awaitable[None]]


async def take_over(
    connection_class: type[AbstractConnection],
    connection_kwargs: Mapping[str, Any],
    protocol: asyncio.BaseProtocol,
    *,
    prepare: Prepare | None = None,
) -> Taken:
    """Open a connection as a pool of redis-py would, and let ``protocol`` have its transport.

    ``prepare`` may send something and read the reply before. Raises what redis-py raises when it cannot connect.

    :raises TakeoverError: the connection is of a make that cannot be taken over.
    """
    options = {**connection_kwargs, "protocol": 3, "retry": Retry(NoBackoff(), 0)}
    try:
        connection = connection_class(**options)
    except TypeError as error:
        raise TakeoverError(f"{connection_class.__name__} takes other options: {error}") from error
    try:
        await keep_cancellation(connection.connect())  # type: ignore[no-untyped-call]
        if prepare is not None:
            await keep_cancellation(prepare(connection))
    except BaseException as error:
        _abandon(connection)  # cancelled, perhaps: redis-py leaves open what it had opened so far
        if isinstance(error, ResponseError) and ("HELLO" in str(error) or "NOPROTO" in str(error)):
            raise TakeoverError("the server does not speak RESP3") from error
        raise
    reader, writer = getattr(connection, "_reader", None), getattr(connection, "_writer", None)
    transport = getattr(writer, "transport", None)
    if not isinstance(reader, asyncio.StreamReader) or transport is None or not hasattr(transport, "set_protocol"):
        _abandon(connection)
        raise TakeoverError(f"{type(connection).__name__} does not hold a stream of asyncio")
    # An end of the stream or bytes that came behind the handshake would be lost with the old reader.
    if reader.at_eof() or reader.exception() or transport.is_closing() or vars(reader).get("_buffer"):
        _abandon(connection)
        raise ConnectionResetError("the connection ended, or the server sent more than the handshake")
    transport.set_protocol(protocol)
    # A reader whose buffer was full has told the transport to stop.
    if not transport.is_reading():
        transport.resume_reading()
    return Taken(transport, connection)


def _abandon(connection: AbstractConnection) -> None:
    """Abort what the connection has open, and leave it nothing to close: else it complains when collected."""
    writer = getattr(connection, "_writer", None)
    if writer is not None:
        transport = getattr(writer, "transport", None)
        (writer.close if transport is None else transport.abort)()
    with contextlib.suppress(AttributeError):  # a make of its own may forbid it
        connection._reader = connection._writer = None
