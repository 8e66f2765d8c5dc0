"""What is said to the identity service, and how its answers read. Pure: generators of calls.

Sources: the IAM API reference, and a real Keystone where the two differ: IAM's examples name a project
without its domain, which Keystone refuses, so the domain is always sent.
"""

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any
from urllib.parse import quote, urlsplit

import orjson

from batch.errors import BatchError, ConfigurationError, DeniedError
from batch.http.transport import TransportError
from batch.model import Response
from batch.text import printable, quoted
from jobs.auth.clock import date_of
from jobs.auth.credentials import Grant, Password, Token
from jobs.auth.credentials.environment import secret as checked
from jobs.auth.signing import Keys
from jobs.dates import iso_date
from jobs.endpoints import is_project_id
from jobs.error_body import ServiceError, parse_error

ANSWER_LIMIT = 1024 * 1024
"""Bytes of an answer that are read: an account may have hundreds of projects, and a token a catalogue."""

_MOST_PAGES = 100
_MOST_LISTED = 20


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the identity or metadata service.

    Attributes:
        method: HTTP method.
        url: absolute.
        headers: beside the usual ones; they may hold a token.
        body: JSON, or None. It may hold a password.
        keys: to sign it with, or None.
        secrets: what else in it nobody may see.

    """

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes | None = field(default=None, repr=False)
    keys: Keys | None = None
    secrets: tuple[str, ...] = field(default=(), repr=False)


Exchange = Generator[Call, Response, Grant]
"""Yields calls, is sent their responses, and returns what they come to.

It raises `DeniedError` for refused credentials, `ConfigurationError` for wrong settings, and `TransportError`
for what may be different in a while.
"""


def token_for(password: Password, iam: str, project_id: str, project_name: str) -> Exchange:
    """Get a token for a user, scoped to a project by its id or else by its name."""
    user: dict[str, Any] = {"password": password.secret}
    if password.id:
        user["id"] = password.id
    else:
        user |= {"name": password.name, "domain": _domain(password.domain_id, password.domain_name)}
    if project_id:
        project: dict[str, Any] = {"id": project_id}
    else:
        domain = _domain(
            password.project_domain_id or (not password.project_domain_name and password.domain_id) or "",
            password.project_domain_name or password.domain_name,
        )
        if not any(domain.values()):
            raise ConfigurationError(
                "OS_PROJECT_DOMAIN_NAME is missing: a project is named with its domain; or set OS_PROJECT_ID"
            )
        project = {"name": project_name, "domain": domain}
    identity = {"methods": ["password"], "password": {"user": user}}
    body = orjson.dumps({"auth": {"identity": identity, "scope": {"project": project}}})
    response = yield Call("POST", f"{iam}/v3/auth/tokens?nocatalog=true", body=body)
    if response.status != 201:
        raise _refusal(iam, response, "user name, password or project is wrong")
    return _granted(iam, response, response.headers.get("X-Subject-Token", ""))


def about(token: Token, iam: str) -> Exchange:
    """Ask what a token is for, and until when."""
    headers = {"X-Auth-Token": token.secret, "X-Subject-Token": token.secret}
    response = yield Call("GET", f"{iam}/v3/auth/tokens?nocatalog=true", headers)
    if response.status != 200:
        raise _refusal(iam, response, "the token is not valid, or no more")
    return _granted(iam, response, token.secret)


def project_named(keys: Keys, iam: str, name: str) -> Exchange:
    """Look up the id of the project of a name: on these clouds each region's own has the region's."""
    listed = yield from _projects(keys, iam, f"?name={quote(name, safe='')}")
    found = [each for each in listed if each.get("name") == name and _is_id(each.get("id"))]
    if len(found) == 1:
        return Grant(keys, found[0]["id"], who=holder(keys), project_name=name)
    if not found:
        found = yield from _projects(keys, iam, "")
        problem = f"no project is named {quoted(name)}; there are: "
    else:
        problem = f"{len(found)} projects are named {quoted(name)}: "
    raise ConfigurationError(f"{problem}{_listed(found, name)}. Set --project-id")


def holder(keys: Keys) -> str:
    """Return whom keys belong to, for people: a key is told by its end."""
    kind = "temporary access key" if keys.security_token else "access key"
    return f"{kind} ...{printable(keys.access[-4:])}"


def is_out_of_time(response: Response) -> bool:
    """Whether a response refuses a signature for the time it was made at."""
    error = parse_error(response.body) if response.status in (400, 401, 403) else None
    return error is not None and "signature expired" in error.message.lower()


def seconds_until(end: str, now: float) -> float | None:
    """Return the seconds left until a time as the services write it, or None if it is none.

    Args:
        end: RFC 3339; without a zone it is in UTC.
        now: seconds since the epoch, by the service's own clock.

    """
    date = iso_date(end)
    return date.timestamp() - now if date else None


def _granted(iam: str, response: Response, secret: str) -> Grant:
    """Read the answer that describes a token. Only its project must be there beside the token itself."""
    try:
        token = orjson.loads(response.body)["token"]
        project = token.get("project")
    except (ValueError, LookupError, TypeError, AttributeError):
        raise _unreadable(iam, response) from None
    if not secret or (isinstance(project, dict) and not _is_id(project.get("id"))):
        raise _unreadable(iam, response)
    if not isinstance(project, dict):
        raise ConfigurationError(f"the token from {iam} is for no project: set --project-id")
    expires = _text(token, "expires_at")
    # Counted by the service's own clock: this machine's may be wrong.
    now = date_of(response)
    if now is None and (issued := iso_date(_text(token, "issued_at"))):
        now = issued.timestamp()
    return Grant(
        Token(checked(f"the token from {iam}", secret)),
        project["id"],
        None if now is None else seconds_until(expires, now),
        _holder_of(token),
        _shown(_text(project, "name")),
        _shown(expires),
    )


def _holder_of(token: Mapping[str, Any]) -> str:
    """Return whom a token belongs to, for people; empty where it does not say."""
    user = token.get("user")
    name, domain = _text(user, "name") or _text(user, "id"), _text(user, "domain", "name")
    if not name:
        return ""
    return f"user {_shown(name)} of {_shown(domain)}" if domain else f"user {_shown(name)}"


def _text(value: Any, *path: str) -> str:
    """Return the text at a place inside JSON objects, or an empty one."""
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, str) else ""


def _projects(keys: Keys, iam: str, query: str) -> Generator[Call, Response, list[dict[str, Any]]]:
    """Read a list of projects, page by page."""
    found: list[dict[str, Any]] = []
    for _ in range(_MOST_PAGES):
        response = yield Call("GET", f"{iam}/v3/projects{query}", keys=keys)
        if response.status != 200:
            raise _refusal(iam, response, "projects cannot be listed: set --project-id, or check the keys")
        try:
            content = orjson.loads(response.body)
            page = [each for each in content["projects"] if isinstance(each, dict)]
        except (orjson.JSONDecodeError, LookupError, TypeError):
            raise _unreadable(iam, response) from None
        found += page
        following = urlsplit(_text(content, "links", "next")).query  # the place is ours, whatever a link says
        if not page or not following or f"?{following}" == query:
            break
        query = f"?{following}"
    return found


def _listed(projects: list[dict[str, Any]], wanted: str) -> str:
    """Return projects for a message, those with a name like the wanted one first, and not too many."""
    names = [_text(each, "name") for each in projects]
    like = set(get_close_matches(wanted, names, n=_MOST_LISTED, cutoff=0.5))
    ordered = sorted(projects, key=lambda each: _text(each, "name") not in like)
    shown = [f"{_shown(each.get('id'))} ({_shown(each.get('name'))})" for each in ordered[:_MOST_LISTED]]
    if (more := len(projects) - _MOST_LISTED) > 0:
        shown.append(f"and {more:,} more")
    return ", ".join(shown) or "none"


def _domain(id: str, name: str) -> dict[str, str]:  # noqa: A002
    return {"id": id} if id else {"name": name}


def _refusal(iam: str, response: Response, cause: str) -> Exception:
    """Return what an answer comes to that is not the one that was asked for."""
    error = parse_error(response.body) or ServiceError()
    code = error.code if error.code != str(response.status) else ""  # Keystone's is the status
    told = " ".join(filter(None, (str(response.status), code, error.message)))
    host = urlsplit(iam).netloc
    if response.status == 429 or response.status >= 500:
        return TransportError("connection", f"{host} answered {told}", sent=False)
    if response.status in (401, 403):
        return DeniedError(f"{host} refuses the credentials ({cause}): {told}")
    if response.status == 404 and not error.is_json:
        return ConfigurationError(f"there is no identity service at {iam}: set OS_AUTH_URL")
    return ConfigurationError(f"{host} answered {told}")


def _unreadable(iam: str, response: Response) -> BatchError:
    return ConfigurationError(
        f"{urlsplit(iam).netloc} answered {response.status} with what is no identity service's answer: is "
        "OS_AUTH_URL right?"
    )


def _is_id(value: object) -> bool:
    return isinstance(value, str) and is_project_id(value)


def _shown(value: object) -> str:
    return printable(str(value), 80)
