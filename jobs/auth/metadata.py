"""The metadata service of an ECS: temporary keys for what the machine's agency may do. Pure.

Source: the vendor's SDK, which asks for a session first and falls back to the older form without one.
"""

import orjson

from batch.errors import ConfigurationError
from batch.http.transport import TransportError
from jobs.auth import iam
from jobs.auth.clock import date_of
from jobs.auth.credentials import NO_CREDENTIALS, Grant
from jobs.auth.credentials.environment import paired, secret
from jobs.auth.signing import Keys
from jobs.dates import iso_date

TIMEOUT = 3.0
"""Seconds for an answer: on a machine that is no ECS there may be none."""

_WITHOUT_SESSIONS = (404, 405, 503)
_PARTS = ("access", "secret", "securitytoken")


def temporary_keys(base: str) -> iam.Exchange:
    """Get temporary keys from the machine that the program runs on; they belong to no project yet.

    Args:
        base: URL of the metadata service.

    """
    token, headers = "", {}
    try:
        session = yield iam.Call(
            "PUT", f"{base}/meta-data/latest/api/token", {"X-Metadata-Token-Ttl-Seconds": "21600"}
        )
        if session.status == 200:
            token = secret("the session of the metadata service", session.body.decode("ascii", "replace"))
            headers["X-Metadata-Token"] = token
        elif session.status not in _WITHOUT_SESSIONS:
            raise ConfigurationError(f"{NO_CREDENTIALS} (the metadata service answered {session.status})")
        response = yield iam.Call("GET", f"{base}/openstack/latest/securitykey", headers, secrets=(token,))
    except TransportError:
        raise ConfigurationError(f"{NO_CREDENTIALS} (this machine has no metadata service)") from None
    if response.status >= 500:
        raise TransportError("connection", f"the metadata service answered {response.status}", sent=False)
    try:
        found = orjson.loads(response.body)["credential"]
        parts = [found[name] for name in _PARTS]
        if not all(isinstance(part, str) and part for part in parts):
            raise TypeError("keys")  # noqa: TRY301 - told below like all that is no answer
        names = [f"{name} from the metadata service" for name in _PARTS]
        keys, expires = Keys(*map(secret, names, parts)), str(found["expires_at"])
        paired(keys, (names[0], names[1], names[2]))
    except (orjson.JSONDecodeError, LookupError, TypeError):
        raise ConfigurationError(f"{NO_CREDENTIALS} (this ECS has no agency)") from None
    now = date_of(response)
    lifetime = None if now is None else iam.seconds_until(expires, now)
    return Grant(keys, "", lifetime, iam.holder(keys), expires_at=expires if iso_date(expires) else "")
