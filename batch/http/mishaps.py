"""What it means that a request got no whole answer. Pure, but for one look at this process's descriptors."""

import errno
import socket
import ssl
from collections.abc import Container
from urllib.parse import urlsplit

import aiohttp

from batch.errors import ConfigurationError
from batch.http.exchange import SpokeFirstError
from batch.text import printable, quoted

_STARVED = (errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.ENOBUFS, errno.ENOMEM)
_NO_SUCH_NAME = (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME))
# Alerts by which a server refuses a client for its certificate, or for having none. With TLS 1.3 they come
# after the handshake, when the request has left already.
_REFUSES_CLIENT = (
    "CERTIFICATE_REQUIRED",
    "ALERT_BAD_CERTIFICATE",
    "ALERT_CERTIFICATE_",
    "ALERT_UNKNOWN_CA",
    "ALERT_ACCESS_DENIED",
    "ALERT_HANDSHAKE_FAILURE",
)
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


class StarvedError(TransportError):
    """No connection for want of a descriptor, a port or memory on this machine: not the service's fault."""

    def __init__(self, message: str) -> None:
        super().__init__("connection", message, sent=False)


class ScopeRefusedError(Exception):
    """What a request's scope stands for cannot be had, so that its rows fail; the others are not concerned.

    Attributes:
        reason: the report's word for the cause.

    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class UnknownHostError(ConfigurationError):
    """The resolver says that a host does not exist, and none of that name has ever answered."""


def meaning(
    error: aiohttp.ClientError, url: str, known: Container[str]
) -> TransportError | ConfigurationError:
    """Return what an error of aiohttp means.

    Args:
        error: what was raised.
        url: of the request.
        known: hosts that have answered before.

    """
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return _refused_by_proxy(error.status, error.message)
    if isinstance(error, aiohttp.InvalidURL):
        return ConfigurationError("the address of the service or of the proxy is no URL")
    if isinstance(error, aiohttp.ClientSSLError):
        return _untrusted(error)
    if isinstance(error, aiohttp.ClientConnectorError):
        return _unconnected(error, known)
    if alert := _refuses_client(error):
        return ConfigurationError(f"{urlsplit(url).netloc}: the server demands a client certificate: {alert}")
    if isinstance(error, aiohttp.ConnectionTimeoutError | SpokeFirstError):
        reason = "timeout" if isinstance(error, TimeoutError) else "connection"
        return TransportError(reason, _told(error), sent=False)
    return TransportError("connection", _told(error), sent=True)


def _unconnected(
    error: aiohttp.ClientConnectorError, known: Container[str]
) -> TransportError | ConfigurationError:
    """Return what it means that no connection could be made."""
    number = error.os_error.errno
    if number in _STARVED or not _has_descriptors():
        return StarvedError(_told(error))
    is_unknown = isinstance(error, aiohttp.ClientConnectorDNSError) and number in _NO_SUCH_NAME
    if is_unknown and error.host not in known:
        return UnknownHostError(f"there is no host named {quoted(error.host)}, says the resolver")
    return TransportError("connection", _told(error), sent=False)


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


def _refuses_client(error: BaseException | None) -> str:
    """Return the alert by which a server has refused a client for its certificate, or nothing."""
    while error is not None:
        reason = getattr(error, "reason", None) if isinstance(error, ssl.SSLError) else None
        if reason and "ALERT" in reason and any(each in reason for each in _REFUSES_CLIENT):
            return printable(reason.lower().replace("_", " "))
        error = error.__cause__ or error.__context__
    return ""


def _has_descriptors() -> bool:
    """Whether this process may open another file. A resolver that may not says that there is no such host."""
    try:
        socket.socket().close()
    except OSError:
        return False
    return True


def _refused_by_proxy(status: int, message: str) -> TransportError | ConfigurationError:
    told = f"the proxy answered {status} {printable(message)}".rstrip()
    if status in (401, 403, 405, 407):
        return ConfigurationError(f"{told}: see HTTPS_PROXY, ALL_PROXY and NO_PROXY")
    return TransportError("connection", told, sent=False)


def _told(error: Exception) -> str:
    return printable(str(error)) or type(error).__name__
