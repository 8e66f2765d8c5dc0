"""The gateway: judges what a call brings to prove who sends it. Pure.

Source: the vendor's API Request Signing Guide and its lists of error texts. What no document tells is a
guess, and marked as one.
"""

import hashlib
import hmac
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import reduce

from jobs.auth.signing import ALGORITHM, DATE_FORM, UNSIGNED, canonical_request, signature_of, text_to_sign
from jobs.sandbox.accounts import Accounts
from jobs.sandbox.messages import Call, Refusal, Reply, gateway_error
from jobs.sandbox.tokens import Tokens

_FARTHEST_OFF = 15 * 60
_WRONG_IN_A_ROW = 5
_LOCKED_FOR = 5 * 60

_read_authorization = re.compile(
    rf"{ALGORITHM} (?:Access=([!-+.0-~-]+)|"
    r"Credential=([!-+.0-~-]+)/([0-9]{8}/[^,/\s]+/[^,/\s]+/sdk_request)),"
    r"\s*SignedHeaders=([^,\s]+),\s*Signature=([^,\s]+)"
).fullmatch
_is_date = re.compile(r"[0-9]{8}T[0-9]{6}Z").fullmatch

# How the gateway words this is a guess.
_MALFORMED = "authorization format is incorrect"
_WRONG = "verify aksk signature fail"
_LOCKED = "AK access failed to reach the limit,forbidden"


class Denied(Refusal):
    """A call is refused for its credentials, in the gateway's words."""

    def __init__(self, reason: str) -> None:
        super().__init__(401, "APIGW.0301", f"Incorrect IAM authentication information: {reason}")

    def reply(self) -> Reply:
        """Return the answer that tells it."""
        return gateway_error(self.status, self.code, self.message)


class WrongProject(Refusal):
    """A call is refused as its credentials are another project's. How the service words it is a guess."""

    def __init__(self) -> None:
        super().__init__(400, "Common.0018", "The project ID in the URL is not that of the credentials.")


@dataclass(slots=True)
class _Record:
    """Of an access key: wrong signatures since the last right one, and until when it is locked."""

    wrong: int = 0
    locked_until: float = 0.0


class Gateway:
    """Lets calls in.

    Args:
        accounts: whose calls are let in.
        tokens: that let calls in.
        now: tells the seconds since the epoch.

    Attributes:
        access_keys: keys that may sign, by their ids; may be changed at any time.

    """

    def __init__(self, accounts: Accounts, tokens: Tokens, now: Callable[[], float]) -> None:
        self.access_keys = {each.access: each for each in accounts.access_keys}
        self._projects = {each.id for each in accounts.projects}
        self._tokens = tokens
        self._now = now
        self._records: dict[str, _Record] = {}

    def admit(self, call: Call, project: str) -> None:
        """Let a call in that concerns a project.

        Raises:
            Denied: its credentials are wrong.
            WrongProject: they are another project's.

        """
        if call.is_signed:
            self.check_signature(call)
            if project not in self._projects:
                raise WrongProject
        else:
            token = self._tokens.look_up(call.headers.get("X-Auth-Token"))
            if isinstance(token, str):
                raise Denied(token)
            if not token.everywhere and (token.project is None or token.project.id != project):
                raise WrongProject
            token.uses -= 1
        if call.headers.get("X-Project-Id", project) != project:
            raise WrongProject

    def check_signature(self, call: Call) -> None:
        """Check that a call is signed with one of the access keys, over the headers that it names as signed.

        Raises:
            Denied: it is not, or too long ago, or the key is locked.

        """
        match = _read_authorization(call.headers["Authorization"])
        if match is None:
            raise Denied(_MALFORMED)
        access, scope, signature = match[1] or match[2], match[3] or "", match[5]
        listed = match[4].split(";")
        keys = self.access_keys.get(access)
        if keys is None or (keys.security_token and "X-Security-Token" not in call.headers):
            raise Denied(f"Get secretKey failed,ak:{access},err:ak not exist")
        if keys.security_token != call.headers.get("X-Security-Token", ""):
            raise Denied(f"ak {access} not exist")
        record = self._records.setdefault(access, _Record())
        if self._now() < record.locked_until:
            raise Denied(_LOCKED)
        date = self._date_of(call, listed)
        if _signature(call, keys.secret, date, scope, listed) == signature:
            record.wrong = 0
            return
        record.wrong += 1
        if record.wrong >= _WRONG_IN_A_ROW:
            self._records[access] = _Record(locked_until=self._now() + _LOCKED_FOR)
        raise Denied(_WRONG)

    def _date_of(self, call: Call, listed: list[str]) -> str:
        date = call.headers.get("X-Sdk-Date", "")
        if "x-sdk-date" not in listed or not _is_date(date):
            raise Denied(_MALFORMED)
        try:
            signed_at = datetime.fromisoformat(date).timestamp()
        except ValueError:
            raise Denied(_MALFORMED) from None
        if abs(signed_at - self._now()) > _FARTHEST_OFF:
            here = time.strftime(DATE_FORM, time.gmtime(self._now()))
            raise Denied(f"signature expired, signature time:{date},server time:{here}")
        return date


def _signature(call: Call, secret: str, date: str, scope: str, listed: list[str]) -> str | None:
    """Return the signature that the call should have, or None if none would do."""
    if any(name not in call.headers for name in listed) or (scope and scope[:8] != date[:8]):
        return None
    headers = [(name, call.headers[name]) for name in listed]
    digest = call.headers.get("X-Sdk-Content-Sha256")
    if digest != UNSIGNED:
        digest = hashlib.sha256(call.body).hexdigest()
    try:
        key = _scoped_key(secret, scope) if scope else secret
        request = canonical_request(call.method, call.path, call.query, headers, digest)
        return signature_of(key, text_to_sign(date, request, scope))
    except UnicodeEncodeError:
        return None


def _scoped_key(secret: str, scope: str) -> bytes:
    """Return the key of the older form, which is good for one day, region and service."""
    return reduce(
        lambda key, part: hmac.digest(key, part.encode(), "sha256"), scope.split("/"), f"SDK{secret}".encode()
    )
