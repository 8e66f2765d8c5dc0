"""How keystoneauth reaches a service: as the rest of the program does."""

from typing import Any
from urllib.parse import urlsplit

from requests import PreparedRequest, Response, Session

from batch.errors import ConfigurationError
from batch.http.loopback import is_loopback
from batch.http.network import proxy_of
from batch.text import quoted


class DirectSession(Session):
    """A session that takes nothing from the environment by itself: no password from `.netrc`, no proxy."""

    def __init__(self) -> None:
        super().__init__()
        self.trust_env = False

    def send(self, request: PreparedRequest, **settings: Any) -> Response:
        """Send a request, but none in plain text to another machine, of which an entry may name several.

        Raises:
            ConfigurationError: this would be one, or its proxy is none.

        """
        url = urlsplit(str(request.url))
        if url.scheme != "https" and not is_loopback(url.hostname or ""):
            host = quoted(url.hostname or "")
            raise ConfigurationError(
                f"{host}: plain http would show the credentials to the network; use https"
            )
        proxy = proxy_of(url.geturl())
        return super().send(request, **settings | {"proxies": {url.scheme: proxy} if proxy else {}})
