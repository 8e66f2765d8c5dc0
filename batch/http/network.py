"""How a host is reached: through which proxy, and whom to trust."""

import os
import re
import ssl
from collections.abc import Mapping
from fnmatch import fnmatchcase
from ipaddress import ip_address, ip_network
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from batch.errors import ConfigurationError
from batch.http.loopback import is_loopback

Environment = Mapping[str, str]

_PORTS = {"http": 80, "https": 443}


def proxy_of(url: str, environment: Environment = os.environ) -> str | None:
    """Return the proxy that the environment names for a URL, or None. This machine is reached directly.

    Raises:
        ConfigurationError: it is no HTTP proxy's URL. The text does not show it, as it may hold a password.

    """
    parts = urlsplit(url)
    name, proxy = _set(environment, f"{parts.scheme}_proxy")
    if not proxy:
        name, proxy = _set(environment, "all_proxy")
    if not proxy or is_loopback(parts.hostname or "") or is_excepted(parts, _set(environment, "no_proxy")[1]):
        return None
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    if proxy.lower().startswith("socks"):
        raise ConfigurationError(
            f"{name}: names a SOCKS proxy, and this program speaks to HTTP proxies only: name one, or except "
            "the host by NO_PROXY"
        )
    if not _is_proxy(proxy):
        raise ConfigurationError(
            f"{name}: write it as http://user:password@host:port, with what is special in user and password "
            "percent-encoded"
        )
    return proxy


def is_excepted(url: SplitResult, exceptions: str) -> bool:
    """Whether `NO_PROXY` names the host of a URL.

    It is a list, with commas or spaces, of `*` for all, host names, which stand for the names below them as
    well (`example.com`, `.example.com`, `*.example.com`), addresses and networks (`10.0.0.0/8`, `fd00::/8`);
    names and addresses may have a port.
    """
    host = (url.hostname or "").rstrip(".")
    port = url.port or _PORTS.get(url.scheme)
    return any(_names(each.lower(), host, port) for each in exceptions.replace(",", " ").split())


def secrets_of_proxies(environment: Environment = os.environ) -> tuple[str, ...]:
    """Return the passwords in the URLs of the proxies that the environment names, as they may be repeated."""
    secrets: list[str] = []
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        _, proxy = _set(environment, name)
        user, colon, password = proxy.rpartition("@")[0].rpartition("://")[2].partition(":")
        if colon and password:
            plain = unquote(password)
            secrets += [password, plain, f"{unquote(user)}:{plain}"]
    return tuple(secrets)


def trusted(authorities: Path) -> ssl.SSLContext:
    """Return what trusts the authorities in a PEM file and nobody else. TLS 1.2 is the least.

    Raises:
        ConfigurationError: the file cannot be read, or holds no certificate.

    """
    try:
        text = authorities.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{authorities}: cannot be read: {error.strerror}") from None
    if not _BEGIN.search(text):
        raise ConfigurationError(f"{authorities}: {_in_place_of_a_certificate(text)}")
    damaged = f"{authorities}: a certificate in it is cut off or damaged: get the file again"
    if len(_BEGIN.findall(text)) != len(_END.findall(text)):
        raise ConfigurationError(damaged)
    try:
        context = ssl.create_default_context(cafile=authorities)
    except (ssl.SSLError, OSError):
        raise ConfigurationError(damaged) from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


_BEGIN = re.compile(b"-----BEGIN (?:TRUSTED |X509 )?CERTIFICATE-----")
_END = re.compile(b"-----END (?:TRUSTED |X509 )?CERTIFICATE-----")


def _in_place_of_a_certificate(text: bytes) -> str:
    """Say what is in a file that holds no certificate in PEM form."""
    if not text.strip():
        return "is empty: it is to hold certificates in PEM form"
    if b"PRIVATE KEY-----" in text:
        return "holds a private key and no certificate: give the certificate of the authority"
    if text.startswith(b"\x30"):
        return "is in DER form: convert it by openssl x509 -inform der -in FILE -out FILE.pem"
    return "holds no certificate in PEM form"


def _set(environment: Environment, name: str) -> tuple[str, str]:
    """Return name and value of a variable; in lower case it comes first, and if it is empty there is none."""
    spelling = name if name in environment else name.upper()
    return spelling, environment.get(spelling, "").strip()


def _names(exception: str, host: str, port: int | None) -> bool:
    """Whether one entry of `NO_PROXY` stands for a host and port."""
    address = exception[1:-1] if exception.startswith("[") and exception.endswith("]") else exception
    try:
        return ip_address(host) in ip_network(address, strict=False)
    except ValueError:
        pass  # one of them is a name, or has a port
    name, colon, number = exception.rpartition(":")
    if colon and number.isdecimal():
        return int(number) == port and _names(name, host, port)
    if "*" in exception and fnmatchcase(host, exception):
        return True
    name = exception.removeprefix("*").strip(".")
    return bool(name) and (host == name or host.endswith(f".{name}"))


def _is_proxy(url: str) -> bool:
    try:
        parts = urlsplit(url)
        has_port = parts.port is None or parts.port > 0
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and has_port and not parts.fragment
