"""The wire: one attempt of one request over HTTP. The only module of the runner that knows aiohttp."""

import asyncio
import ssl
from collections.abc import Mapping
from typing import Self

import aiohttp
from yarl import URL

from batch.deadline import Deadline
from batch.errors import ConfigurationError
from batch.model import Response
from batch.text import printable

BODY_LIMIT = 64 * 1024
CONTENT_TYPE = "application/json;charset=utf8"
"""Type of every body; it goes with every request, and is signed with it."""

_HEADER_LIMIT = 20 * 1024  # a token alone may have 16,384 characters
_MOST_HEADERS = 64
_CONNECT_SHARE = 0.5
_UNKNOWN_AUTHORITY = (18, 19, 20, 21)  # OpenSSL's codes for a chain that leads to nobody who is trusted


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

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._connections, limit_per_host=0, ssl=self._tls or True),
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
    ) -> Response:
        """Send a request once, follow nothing, and read the answer up to `BODY_LIMIT` bytes.

        Args:
            method: HTTP method.
            url: absolute, percent-encoded as it is to be sent.
            headers: beside the usual ones.
            body: JSON, or None.
            proxy: URL of the proxy to go through, or None to go straight.
            credential: to be told with the response.

        Raises:
            TransportError: there was no whole answer.
            ConfigurationError: the server's certificate is not to be trusted, or the proxy refuses.

        """
        assert self._session is not None
        try:
            with self._deadline:
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
                    content = b"" if answer.status == 204 else await _read(answer)
                except BaseException:
                    answer.close()
                    raise
        except aiohttp.ClientSSLError as error:
            raise _untrusted(error) from error
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            reason = "timeout" if isinstance(error, TimeoutError) else "connection"
            raise TransportError(reason, _told(error), sent=False) from error
        except aiohttp.ClientHttpProxyError as error:
            # Its own text may hold the proxy's password.
            raise _refused_by_proxy(error.status, error.message) from None
        except aiohttp.InvalidURL:
            raise ConfigurationError("the address of the service or of the proxy is no URL") from None
        except TimeoutError as error:
            told = f"no answer in {self._deadline.seconds:g} s"
            raise TransportError("timeout", told, sent=True) from error
        except aiohttp.ClientError as error:
            raise TransportError("connection", _told(error), sent=True) from error
        if answer.status < 200:
            answer.close()  # the connection speaks another protocol from here on
        return Response(answer.status, answer.headers, content, credential)


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


def _untrusted(error: aiohttp.ClientSSLError) -> TransportError | ConfigurationError:
    """Return what a failed handshake means: what it says will be said again, unless it was cut short."""
    where = f"{error.host}:{error.port}"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        failed = error.certificate_error
        told = (
            f"{where}: the server's certificate is not trusted: {getattr(failed, 'verify_message', failed)}"
        )
        hint = " (a private authority is given by --ca-file)"
        return ConfigurationError(told + hint * (getattr(failed, "verify_code", 0) in _UNKNOWN_AUTHORITY))
    if isinstance(error.os_error, ssl.SSLEOFError | ssl.SSLZeroReturnError | ssl.SSLSyscallError):
        return TransportError("connection", _told(error), sent=False)
    return ConfigurationError(f"{where}: no TLS connection can be made: {_told(error.os_error)}")


def _refused_by_proxy(status: int, message: str) -> TransportError | ConfigurationError:
    told = f"the proxy answered {status} {printable(message)}".rstrip()
    if status in (401, 403, 405, 407):
        return ConfigurationError(f"{told}: see HTTPS_PROXY and NO_PROXY")
    return TransportError("connection", told, sent=False)


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
