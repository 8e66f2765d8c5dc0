"""IAM: issues tokens and tells of them and of projects, in Keystone's words. Pure."""

import secrets
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any, TypeVar

import orjson

from jobs.sandbox.accounts import Accounts, Named, User
from jobs.sandbox.gateway import Gateway
from jobs.sandbox.messages import Call, Refusal, Reply, json_reply
from jobs.sandbox.tokens import Token, Tokens

N = TypeVar("N", Named, User)

_UNAUTHORIZED = "The request you have made requires authentication."
_MALFORMED = (
    "The server could not comply with the request since it is either malformed or otherwise incorrect."
    " The client is assumed to be in error."
)


class _Fault(Refusal):
    """IAM refuses a call; its code is the status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(status, str(status), message)

    def reply(self) -> Reply:
        """Return the answer that tells it."""
        title = HTTPStatus(self.status).phrase
        return json_reply(
            self.status, {"error": {"code": self.status, "message": self.message, "title": title}}
        )


class Identity:
    """The calls of IAM that a client needs to come in.

    Args:
        accounts: who may come in.
        tokens: that are issued.
        gateway: checks signatures.

    """

    def __init__(self, accounts: Accounts, tokens: Tokens, gateway: Gateway) -> None:
        self._domain = accounts.domain
        self._projects = accounts.projects
        self._users = accounts.users
        self._tokens = tokens
        self._gateway = gateway

    def reply(self, call: Call) -> Reply:
        """Take a call to its end."""
        try:
            reply = self._answer(call)
        except Refusal as refusal:
            reply = refusal.reply()
        reply.headers["X-IAM-Trace-Id"] = f"token_sandbox_null_{secrets.token_hex(16)}"
        return reply

    def _answer(self, call: Call) -> Reply:
        match call.method, call.path:
            case "GET", "/v3" | "/v3/":
                return json_reply(200, {"version": _version()})
            case "POST", "/v3/auth/tokens":
                return self._issue(call)
            case "GET", "/v3/auth/tokens":
                self._caller(call)
                subject = call.headers.get("X-Subject-Token", "")
                return self._told(200, subject, self._found(subject, 404, "Could not find token."))
            case "GET", "/v3/auth/projects":
                self._caller(call)
                return self._list_projects(call)
            case "GET", "/v3/projects":
                if call.is_signed:
                    self._gateway.check_signature(call)
                else:
                    self._caller(call)
                return self._list_projects(call)
        raise _Fault(404, "The resource could not be found.")

    def _issue(self, call: Call) -> Reply:
        try:
            content = orjson.loads(call.body)
        except orjson.JSONDecodeError:
            content = None
        auth = _object(content, "auth", "request body")
        identity = _object(auth, "identity", "auth")
        project = None
        if "scope" in auth:
            scope = _object(auth, "scope", "auth")
            project = self._named(_object(scope, "project", "scope"), "project", self._projects)
        match identity.get("methods"):
            case ["password"]:
                password = _object(identity, "password", "identity")
                return self._told(201, *self._tokens.issue(self._user(password), project))
            case ["token"]:
                text = _text(_object(identity, "token", "identity"), "id", "token")
                earlier = self._found(text, 401, _UNAUTHORIZED)
                return self._told(201, *self._tokens.issue(earlier.user, project, earlier))
            case [_, *_]:
                raise _Fault(401, "Attempted to authenticate with an unsupported method.")
        raise _missing("methods", "identity")

    def _user(self, password: dict[str, Any]) -> User:
        given = _object(password, "user", "password")
        secret = _text(given, "password", "user")
        user = self._named(given, "user", self._users)
        if user.password != secret:
            raise _Fault(401, _UNAUTHORIZED)
        return user

    def _named(self, given: dict[str, Any], kind: str, known: Iterable[N]) -> N:
        """Return the one that is named by its id, or by its name together with its domain."""
        if "id" in given:
            wanted = _text(given, "id", kind)
            found = [each for each in known if each.id == wanted]
        else:
            wanted = _text(given, "name", kind)
            domain = _object(given, "domain", kind)
            key = "id" if "id" in domain else "name"
            own = _text(domain, key, "domain") == getattr(self._domain, key)
            found = [each for each in known if own and each.name == wanted]
        if not found:
            raise _Fault(401, _UNAUTHORIZED)
        return found[0]

    def _caller(self, call: Call) -> Token:
        return self._found(call.headers.get("X-Auth-Token", ""), 401, _UNAUTHORIZED)

    def _found(self, text: str, status: int, message: str) -> Token:
        token = self._tokens.look_up(text)
        if isinstance(token, str):
            raise _Fault(status, message)
        return token

    def _told(self, status: int, text: str, token: Token) -> Reply:
        reply = json_reply(status, {"token": token.description(self._domain)})
        reply.headers["X-Subject-Token"] = text
        return reply

    def _list_projects(self, call: Call) -> Reply:
        name = call.parameters.get("name")
        listed = [
            {
                "id": each.id,
                "name": each.name,
                "domain_id": self._domain.id,
                "parent_id": self._domain.id,
                "is_domain": False,
                "enabled": True,
                "description": "",
                "links": {"self": f"/v3/projects/{each.id}"},
            }
            for each in self._projects
            if name in (None, each.name)
        ]
        links = {"self": call.path, "next": None, "previous": None}
        return json_reply(200, {"projects": listed, "links": links})


def _version() -> dict[str, Any]:
    """Return what a client that looks for the right version of the API is told."""
    links = [{"rel": "self", "href": "/v3/"}]
    return {"id": "v3.6", "status": "stable", "updated": "2016-04-04T00:00:00Z", "links": links}


def _object(parent: Any, key: str, place: str) -> dict[str, Any]:
    value = parent.get(key) if isinstance(parent, dict) else None
    if not isinstance(value, dict):
        raise _missing(key, place)
    return value


def _text(parent: dict[str, Any], key: str, place: str) -> str:
    value = parent.get(key)
    if not isinstance(value, str):
        raise _missing(key, place)
    return value


def _missing(key: str, place: str) -> _Fault:
    return _Fault(400, f"Expecting to find {key} in {place}. {_MALFORMED}")
