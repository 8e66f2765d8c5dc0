"""Connections that carry one exchange at a time: bytes that nobody has asked for end them.

HTTP/1.1 ties an answer to its request by nothing but their order. A gateway that has answered 504 may pass on
the late answer of the service behind it, and a load balancer answers 408 to a connection that idles. On a
connection that is used again such an answer would be taken for the next request's. So a connection is used
again only if nothing has come since its last answer, and never after an answer that is a gateway's own.
"""

import asyncio
import functools
import select
from typing import TYPE_CHECKING, Any

import aiohttp
from aiohttp.client_proto import ResponseHandler

if TYPE_CHECKING:
    from aiohttp import ClientRequest, ClientTimeout
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace

_GATEWAYS_OWN = (408, 502, 503, 504)
"""Statuses with which a gateway may answer while the service behind it is still at work."""


_MOST_LOOKS = 8


class SpokeFirstError(aiohttp.ClientConnectionError):
    """A new connection could not be used: the server spoke before it was asked, or hung up."""


class Connector(aiohttp.TCPConnector):
    """A pool that hands out only connections on which nothing has come since the last answer."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        factory: functools.partial[Any] = functools.partial(_Exchange, loop=self._loop)
        self._factory = factory

    async def connect(
        self,
        req: "ClientRequest",
        traces: "list[Trace]",
        timeout: "ClientTimeout",  # noqa: ASYNC109 - as aiohttp has it
    ) -> "Connection":
        """Get a connection from the pool, or make one.

        Raises:
            SpokeFirstError: a new connection was not quiet, so that another one would be no better.

        """
        while True:
            connection = await super().connect(req, traces, timeout)
            exchange = connection.protocol
            assert isinstance(exchange, _Exchange)
            if not exchange.is_new and not exchange.has_unread():
                return connection
            if exchange.has_unread():
                try:
                    await exchange.catch_up()
                except BaseException:
                    connection.close()
                    raise
            if exchange.is_connected():
                return connection
            connection.close()
            if exchange.is_new:
                raise SpokeFirstError(
                    "the server spoke before it was asked, or hung up at once"
                ) from exchange.lost


class _Exchange(ResponseHandler):
    """One connection, and the exchange that is under way on it.

    Attributes:
        is_new: whether nothing has been asked on it yet.
        lost: what has ended the connection, or None.

    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.is_new = True
        self.lost: BaseException | None = None
        self._is_asked = False
        self._arrivals = select.poll()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note where bytes arrive."""
        super().connection_made(transport)
        self._arrivals.register(transport.get_extra_info("socket").fileno(), select.POLLIN)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Note why."""
        self.lost = exc
        super().connection_lost(exc)

    def has_unread(self) -> bool:
        """Whether something has come that the loop has not read yet, be it only the connection's end."""
        return bool(self._arrivals.poll(0))

    async def catch_up(self) -> None:
        """Let the loop read what has come. Over TLS this may be something of TLS itself, and no answer."""
        for _ in range(_MOST_LOOKS):
            # In the first turn the loop finds out what can be read, and in the second it reads that.
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            if self.transport is None or not (self.transport.is_closing() or self.has_unread()):
                return  # it is quiet, or it has ended and why is known
        self._end()

    def start_timeout(self) -> None:
        """Expect an answer: aiohttp calls this when the request has been written."""
        self._is_asked, self.is_new = True, False
        ResponseHandler.start_timeout(self)

    def data_received(self, data: bytes) -> None:
        """Read an answer, or end the connection if none is due. No data means: go on with what was held."""
        if data and not self._is_asked:
            self._end()
            return
        ResponseHandler.data_received(self, data)
        # The answer is whole: what has begun behind it was not asked for.
        if not self._is_asked and self._parser is not None and self._has_begun():
            self._end()

    def feed_data(self, data: Any, size: int = 0) -> None:
        """Take the head of an answer, and a reader of its body."""
        if not self._is_asked:
            self._end()
            return
        head, body = data
        if head.code >= 200 or head.code == 101:
            if head.code in _GATEWAYS_OWN:
                self.force_close()
            body.on_eof(self._answered)
        ResponseHandler.feed_data(self, data, size)

    def _answered(self) -> None:
        self._is_asked = False

    def _has_begun(self) -> bool:
        """Whether the parser has read the beginning of another answer."""
        assert self._parser is not None
        try:
            return self._parser.feed_eof() is not None
        except Exception:  # noqa: BLE001 - whatever it is, it is no end of an answer
            return True

    def _end(self) -> None:
        self.force_close()
        if self.transport is not None:
            self.transport.abort()
