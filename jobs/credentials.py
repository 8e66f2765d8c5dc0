"""Credentials: where they are found and how they go with a request."""

import os
from collections.abc import Callable, Mapping

from batch.errors import ConfigurationError
from batch.model import Request

_VARIABLES = ("OS_TOKEN", "OS_AUTH_TOKEN")
_LONGEST_TOKEN = 32 * 1024


def from_environment(environment: Mapping[str, str] = os.environ) -> Callable[[Request], Mapping[str, str]]:
    """Return what gives a request its credentials: a token from `OS_TOKEN` or `OS_AUTH_TOKEN`.

    Raises:
        ConfigurationError: there is none, or it cannot be a token. The text does not show it.

    """
    for variable in _VARIABLES:
        if token := environment.get(variable, "").strip():
            if not (token.isascii() and token.isprintable() and " " not in token):
                raise ConfigurationError(f"{variable} holds characters that no token has")
            if len(token) > _LONGEST_TOKEN:
                raise ConfigurationError(f"{variable} is longer than any token: {len(token):,} characters")
            headers = {"X-Auth-Token": token}
            return lambda _request: headers
    raise ConfigurationError(f"no credentials: put a token into {' or '.join(_VARIABLES)}")
