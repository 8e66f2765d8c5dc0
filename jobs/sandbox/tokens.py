"""Tokens: issued for so long and so many calls, or there from the start. Pure."""

import math
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jobs.sandbox.accounts import Accounts, Named, User

NOT_FOUND, UNREADABLE, EXPIRED = "x-auth-token not found", "decrypt token fail", "token expires"
_END_OF_TIME = 253402300799.0
_TIME_FORM = "%Y-%m-%dT%H:%M:%S.000000Z"


@dataclass(slots=True, kw_only=True)
class Token:
    """What is known of a token.

    Attributes:
        user: whom it speaks for.
        project: that it is good for; None for one without a scope.
        methods: how it was asked for.
        issued_at: seconds since the epoch.
        expires_at: seconds since the epoch.
        uses: calls of the service that it is still good for.
        everywhere: whether it is good for whichever project asks.

    """

    user: User
    project: Named | None
    methods: tuple[str, ...]
    issued_at: float
    expires_at: float
    uses: float = math.inf
    everywhere: bool = False

    def description(self, domain: Named) -> dict[str, Any]:
        """Return the token as IAM tells of it."""
        told: dict[str, Any] = {
            "methods": list(self.methods),
            "issued_at": _written(self.issued_at),
            "expires_at": _written(self.expires_at),
            "user": {"id": self.user.id, "name": self.user.name, "domain": _named(domain)},
            "roles": [{"id": "0", "name": "te_admin"}],
        }
        if self.project:
            told["project"] = {**_named(self.project), "domain": _named(domain)}
        return told


class Tokens:
    """All tokens that were issued.

    Args:
        accounts: whose standing tokens are there from the start.
        lifetime: seconds for which a token is good.
        uses: calls of the service that a token is good for, or None for any number.
        length: characters of a token.
        now: tells the seconds since the epoch.

    Attributes:
        issued: how many were.

    """

    def __init__(
        self,
        accounts: Accounts,
        *,
        lifetime: float,
        uses: int | None,
        length: int,
        now: Callable[[], float],
    ) -> None:
        self.issued = 0
        self._lifetime = lifetime
        self._uses = math.inf if uses is None else uses
        self._length = length
        self._now = now
        projects = {each.id: each for each in accounts.projects}
        self._tokens = {
            text: Token(
                user=accounts.users[0],
                project=projects[project] if project else None,
                methods=("password",),
                issued_at=now(),
                expires_at=_END_OF_TIME,
                everywhere=project is None,
            )
            for text, project in accounts.tokens.items()
        }

    def issue(self, user: User, project: Named | None, earlier: Token | None = None) -> tuple[str, Token]:
        """Make a new token; one that is asked for with an earlier one ends with it."""
        now = self._now()
        token = Token(
            user=user,
            project=project,
            methods=tuple(dict.fromkeys(("token", *earlier.methods))) if earlier else ("password",),
            issued_at=now,
            expires_at=earlier.expires_at if earlier else now + self._lifetime,
            uses=self._uses,
        )
        text = f"MII{secrets.token_urlsafe(self._length)}"[: self._length]
        self._tokens[text] = token
        self.issued += 1
        return text, token

    def look_up(self, text: str | None) -> Token | str:
        """Return the token that is good, or what the gateway says of one that is not."""
        if not text:
            return NOT_FOUND
        token = self._tokens.get(text)
        if token is None:
            return UNREADABLE
        if token.uses <= 0 or self._now() >= token.expires_at:
            return EXPIRED
        return token


def _named(thing: Named) -> dict[str, str]:
    return {"id": thing.id, "name": thing.name}


def _written(moment: float) -> str:
    return time.strftime(_TIME_FORM, time.gmtime(moment))
