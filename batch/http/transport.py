"""The wire: one attempt of one request over HTTP.

With `exchange` and `mishaps` beside it this is all of the runner that knows aiohttp.
"""

import asyncio
import ssl
from collections.abc import Mapping
from typing import Self

import aiohttp
from yarl import URL

from batch.http.deadline import Deadline
from batch.http.exchange import Connector, SpokeFirstError
from batch.http.mishaps import ScopeRefusedError, StarvedError, TransportError, UnknownHostError, meaning
from batch.http.unpacking import UnpackingError, unpacked
from batch.model import Response
from batch.text import printable

BODY_LIMIT = 64 * 1024
"""Bytes of an answer that are read and kept, unpacked, unless the caller says otherwise."""
CONTENT_TYPE = "application/json;charset=utf8"
"""Type of every body; it goes with every request, and is signed with it."""

_HEADER_LIMIT = 20 * 1024  # a token alone may have 16,384 characters
_MOST_HEADERS = 64
_CONNECT_SHARE = 0.5
_WITH_ADDRESS = (aiohttp.ClientHttpProxyError, aiohttp.InvalidURL)  # errors that may hold a proxy's password

__all__ = [
    "BODY_LIMIT",
    "CONTENT_TYPE",
    "HttpTransport",
    "ScopeRefusedError",
    "StarvedError",
    "TransportError",
    "UnknownHostError",
]


class HttpTransport:
    """A pool of connections; an async context manager.

    Args:
        connections: connections at most.
        timeout: seconds an exchange may take, connecting and reading included.
        user_agent: how the program names itself.
        tls: whom to trust, None trusts whom the system trusts.

    """

    def __init__(
        self, *, connections: int, timeout: float, user_agent: str, tls: ssl.SSLContext | None = None
    ) -> None:
        self._connections = connections
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=timeout * _CONNECT_SHARE)
        self._deadline = Deadline(timeout)
        self._headers = {
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "Content-Type": CONTENT_TYPE,
            "User-Agent": user_agent,
        }
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None
        self._known: set[str] = set()

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=Connector(limit=self._connections, limit_per_host=0, ssl=self._tls or True),
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

    async def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None = None,
        *,
        proxy: str | None = None,
        credential: object = None,
        limit: int = BODY_LIMIT,
    ) -> Response:
        """Send a request once, follow nothing, and read the answer up to `limit` bytes.

        A body that comes packed is unpacked. One that cannot be unpacked makes a response that says so.

        Args:
            method: HTTP method.
            url: absolute, percent-encoded as it is to be sent.
            headers: beside the usual ones.
            body: JSON, or None.
            proxy: URL of the proxy to go through, or None to go straight.
            credential: to be told with the response.
            limit: bytes of the unpacked body to keep; what is beyond is not read.

        Raises:
            TransportError: there was no whole answer.
            ConfigurationError: the server's certificate is not to be trusted, or the proxy refuses.

        """
        try:
            with self._deadline:
                answer, content, is_cut = await self._exchange(method, url, headers, body, proxy, limit)
        except aiohttp.ClientError as error:
            mishap = meaning(error, url, self._known)
            # The proxy's own text may hold its password.
            raise mishap from None if isinstance(error, _WITH_ADDRESS) else error
        except TimeoutError as error:
            told = f"no answer in {self._deadline.seconds:g} s"
            raise TransportError("timeout", told, sent=True) from error
        self._known.add((URL(proxy) if proxy else answer.url).raw_host or "")
        if answer.status < 200:
            answer.close()  # the connection speaks another protocol from here on
        if content and (codings := answer.headers.get("Content-Encoding")):
            try:
                content = unpacked(content, codings, limit, is_cut=is_cut)
            except UnpackingError as error:
                return Response(answer.status, answer.headers, b"", credential, printable(str(error)))
        return Response(answer.status, answer.headers, content, credential)

    async def _exchange(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
        proxy: str | None,
        limit: int,
    ) -> tuple[aiohttp.ClientResponse, bytes, bool]:
        """Send a request and read the answer; see `send` and `_read`."""
        assert self._session is not None
        answer = await self._session.request(
            method,
            URL(url, encoded=True),
            data=body,
            headers=headers,
            allow_redirects=False,
            proxy=proxy,
            middlewares=() if method == "POST" else (_send_once,),
        )
        try:
            content, is_cut = (b"", False) if answer.status == 204 else await _read(answer, limit)
        except BaseException:
            answer.close()
            raise
        return answer, content, is_cut


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
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, SpokeFirstError):
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise _ConnectionLostError(str(error)) from error


async def _read(answer: aiohttp.ClientResponse, limit: int) -> tuple[bytes, bool]:
    """Return an answer's body up to a limit, and whether its end was left unread."""
    parts: list[bytes] = []
    left = limit
    while left > 0 and (part := await answer.content.read(left)):
        parts.append(part)
        left -= len(part)
    is_cut = left <= 0 and not answer.content.at_eof()
    if is_cut:
        answer.close()  # the rest is not wanted, so the connection cannot serve again
    return b"".join(parts), is_cut
