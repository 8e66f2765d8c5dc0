"""How a host is reached: through which proxy, and whom to trust."""

import ssl
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies_environment, proxy_bypass

from batch.errors import ConfigurationError
from batch.loopback import is_loopback


def proxy_of(url: str) -> str | None:
    """Return the proxy that the environment names for a URL, or None. This machine is reached directly.

    Raises:
        ConfigurationError: it is no HTTP proxy's URL. The text does not show it, as it may hold a password.

    """
    parts = urlsplit(url)
    proxies = getproxies_environment()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or is_loopback(parts.hostname or "") or proxy_bypass(parts.netloc):
        return None
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    if not _is_proxy(proxy):
        raise ConfigurationError(
            f"{parts.scheme.upper()}_PROXY: write it as http://user:password@host:port, with what is special "
            "in user and password percent-encoded"
        )
    return proxy


def _is_proxy(url: str) -> bool:
    try:
        parts = urlsplit(url)
        has_port = parts.port is None or parts.port > 0
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and has_port and not parts.fragment


def trusted(authorities: Path) -> ssl.SSLContext:
    """Return what trusts the authorities in a PEM file and nobody else. TLS 1.2 is the least.

    Raises:
        ConfigurationError: the file cannot be read, or holds no certificate.

    """
    try:
        context = ssl.create_default_context(cafile=authorities)
    except ssl.SSLError:
        raise ConfigurationError(f"{authorities}: holds no certificate in PEM form") from None
    except OSError as error:
        raise ConfigurationError(f"{authorities}: cannot be read: {error.strerror}") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
