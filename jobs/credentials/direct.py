"""How keystoneauth reaches the identity service: as the rest of the program does."""

from typing import Any
from urllib.parse import urlsplit

from requests import PreparedRequest, Response, Session

from batch.errors import ConfigurationError
from batch.loopback import is_loopback
from batch.network import proxy_of
from batch.text import quoted


class DirectSession(Session):
    """A session that takes nothing from the environment: no password from `.netrc`, and no proxy of its own.

    Args:
        url: of the service; the proxy that the program takes for it is the session's.

    """

    def __init__(self, url: str) -> None:
        super().__init__()
        self.trust_env = False
        if proxy := proxy_of(url):
            self.proxies = {"http": proxy, "https": proxy}

    def send(self, request: PreparedRequest, **settings: Any) -> Response:
        """Send a request, but none in plain text to another machine: the service may name such an address.

        Raises:
            ConfigurationError: it has named one.

        """
        parts = urlsplit(request.url or "")
        if parts.scheme != "https" and not is_loopback(parts.hostname or ""):
            raise ConfigurationError(
                f"the identity service names {quoted(str(request.url))} as its own address: plain http would "
                "show the credentials to the network"
            )
        return super().send(request, **settings)
