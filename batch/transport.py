"""The wire: one attempt of one request over HTTP. The only module of the runner that knows aiohttp."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Self

import aiohttp
from yarl import URL

from batch.errors import ConfigurationError
from batch.model import Request, Response
from batch.text import printable

BODY_LIMIT = 64 * 1024
_HEADER_LIMIT = 20 * 1024  # a token alone may have 16,384 characters
_MOST_HEADERS = 64
_CONNECT_SHARE = 0.5

Authorize = Callable[[Request], Mapping[str, str]]
"""Returns the headers that carry the credentials of this one attempt."""


class TransportError(Exception):
    """An attempt that ended without a whole answer.

    Attributes:
        reason: `connection` or `timeout`.
        sent: whether the service may have received the request.

    """

    def __init__(self, reason: str, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.reason = reason
        self.sent = sent


class HttpTransport:
    """A pool of connections; an async context manager.

    Args:
        authorize: gives the credentials' headers, anew for each attempt.
        connections: connections at most.
        timeout: seconds an attempt may take, connecting and reading included.
        user_agent: how the program names itself.

    """

    def __init__(self, authorize: Authorize, *, connections: int, timeout: float, user_agent: str) -> None:
        self._authorize = authorize
        self._connections = connections
        self._timeout = aiohttp.ClientTimeout(total=timeout, sock_connect=timeout * _CONNECT_SHARE)
        self._headers = {
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "Content-Type": "application/json;charset=utf8",
            "User-Agent": user_agent,
        }
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._connections, limit_per_host=0),
            headers=self._headers,
            timeout=self._timeout,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,  # a small answer cannot unfold into a large one
            max_line_size=_HEADER_LIMIT,
            max_field_size=_HEADER_LIMIT,
            max_headers=_MOST_HEADERS,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._session is not None
        await self._session.close()
        # aiohttp closes TLS connections in callbacks of the loop's next turn.
        await asyncio.sleep(0)

    async def send(self, request: Request) -> Response:
        """Send the request once, follow nothing, and read the answer up to `BODY_LIMIT` bytes.

        Raises:
            TransportError: there was no whole answer.
            ConfigurationError: the server's certificate is not to be trusted.

        """
        assert self._session is not None
        try:
            answer = await self._session.request(
                request.method,
                URL(request.url, encoded=True),
                data=request.body,
                headers=self._authorize(request),
                allow_redirects=False,
                middlewares=() if request.method == "POST" else (_send_once,),
            )
            try:
                body = b"" if answer.status == 204 else await _read(answer)
            except BaseException:
                answer.close()
                raise
        except aiohttp.ClientConnectorCertificateError as error:
            where = f"{error.host}:{error.port}"
            raise ConfigurationError(
                f"{where}: the server's certificate is not trusted: {error.certificate_error}"
            ) from error
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            reason = "timeout" if isinstance(error, TimeoutError) else "connection"
            raise TransportError(reason, _told(error), sent=False) from error
        except TimeoutError as error:
            raise TransportError("timeout", f"no answer in {self._timeout.total:g} s", sent=True) from error
        except aiohttp.ClientError as error:
            raise TransportError("connection", _told(error), sent=True) from error
        if answer.status < 200:
            answer.close()  # the connection speaks another protocol from here on
        return Response(answer.status, answer.headers, body)


class _ConnectionLostError(aiohttp.ClientError):
    """The connection went away after it had been made."""


async def _send_once(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Keep aiohttp from sending an idempotent request a second time by itself.

    It does so on these two errors, unseen by limiter and retry count; under another name they pass.
    """
    try:
        return await handler(request)
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise _ConnectionLostError(str(error)) from error


def _told(error: Exception) -> str:
    return printable(str(error)) or type(error).__name__


async def _read(answer: aiohttp.ClientResponse) -> bytes:
    parts: list[bytes] = []
    left = BODY_LIMIT
    while left > 0 and (part := await answer.content.read(left)):
        parts.append(part)
        left -= len(part)
    if left <= 0 and not answer.content.at_eof():
        answer.close()  # the rest is not wanted, so the connection cannot serve again
    return b"".join(parts)
