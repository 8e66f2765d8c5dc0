"""`SDK-HMAC-SHA256`: how a request is signed with an access key and its secret. Pure.

Source: the vendor's API Request Signing Guide. The canonical path ends in a slash that the request itself is
sent without, and its query is sorted before it is encoded; what a document leaves open was settled with
examples made by the vendor's own signer.
"""

import hashlib
import hmac
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from urllib.parse import quote, unquote

ALGORITHM = "SDK-HMAC-SHA256"
DATE_FORM = "%Y%m%dT%H%M%SZ"
UNSIGNED = "UNSIGNED-PAYLOAD"
"""Stands for the digest of a body that is not signed, and in the header that says so."""

_NOTHING = hashlib.sha256(b"").hexdigest()
_HASHED_TYPES = ("application/json", "application/bson")
_is_plain_path = re.compile(r"/[A-Za-z0-9._~/-]*").fullmatch


@dataclass(frozen=True, slots=True)
class Keys:
    """An access key.

    Attributes:
        access: its id.
        secret: what it signs with.
        security_token: goes with a temporary key; empty for a permanent one.

    """

    access: str
    secret: str = field(repr=False)
    security_token: str = field(default="", repr=False)

    @property
    def secrets(self) -> tuple[str, ...]:
        """What nobody may see; the id of a key is none."""
        return (self.secret, self.security_token)


def signed(
    method: str, url: str, headers: Mapping[str, str], body: bytes | None, keys: Keys, now: float
) -> dict[str, str]:
    """Return the headers with those added that sign the request at this moment.

    Args:
        method: HTTP method.
        url: absolute, percent-encoded as it is sent.
        headers: to be sent; all are signed whose names have no underscore.
        body: as it is sent, or None.
        keys: to sign with.
        now: seconds since the epoch; the gateway refuses what is more than 15 minutes off.

    """
    place, _, query = url.partition("?")
    host, slash, path = place.partition("://")[2].partition("/")
    sent = {name: value.strip() for name, value in headers.items()}
    sent["Host"] = host
    sent["X-Sdk-Date"] = date = _written(int(now))
    if keys.security_token:
        sent["X-Security-Token"] = keys.security_token
    if not sent.get("Content-Type", _HASHED_TYPES[0]).startswith(_HASHED_TYPES):
        sent["X-Sdk-Content-Sha256"] = UNSIGNED
    names = sorted([(name.lower(), value) for name, value in sent.items() if "_" not in name])
    digest = sent.get("X-Sdk-Content-Sha256") or (hashlib.sha256(body).hexdigest() if body else _NOTHING)
    request = canonical_request(method, slash + path, query, names, digest)
    signature = signature_of(keys.secret, text_to_sign(date, request))
    listed = ";".join([name for name, _ in names])
    sent["Authorization"] = f"{ALGORITHM} Access={keys.access}, SignedHeaders={listed}, Signature={signature}"
    return sent


def canonical_request(
    method: str, path: str, query: str, headers: Sequence[tuple[str, str]], digest: str
) -> str:
    """Return a request in the one form in which both sides see it.

    Args:
        method: HTTP method.
        path: as sent.
        query: as sent, without the question mark.
        headers: the signed ones, their names in lower case and in order.
        digest: of the body, in hex.

    """
    lines = "".join([f"{name}:{value.strip()}\n" for name, value in headers])
    names = ";".join([name for name, _ in headers])
    return f"{method}\n{_canonical_path(path)}\n{canonical_query(query)}\n{lines}\n{names}\n{digest}"


def canonical_query(query: str) -> str:
    """Return a query sorted as its names and values read, each encoded in the one way that is signed."""
    if not query:
        return ""
    pairs = [each.partition("=") for each in query.split("&")]
    decoded = sorted((unquote(name), unquote(value)) for name, _, value in pairs)
    return "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in decoded)


def text_to_sign(date: str, request: str, scope: str = "") -> str:
    """Return what is signed of a canonical request; a scope stands in it in the older form only."""
    digest = hashlib.sha256(request.encode()).hexdigest()
    return f"{ALGORITHM}\n{date}\n{scope}\n{digest}" if scope else f"{ALGORITHM}\n{date}\n{digest}"


def signature_of(secret: str | bytes, text: str) -> str:
    """Return the signature of a text, in hex."""
    key = secret.encode() if isinstance(secret, str) else secret
    return hmac.digest(key, text.encode(), "sha256").hex()


@lru_cache(maxsize=2)
def _written(second: int) -> str:
    return time.strftime(DATE_FORM, time.gmtime(second))


def _canonical_path(path: str) -> str:
    if not _is_plain_path(path):
        path = "/".join(quote(segment, safe="") for segment in unquote(path).split("/"))
    return path if path.endswith("/") else f"{path}/"
