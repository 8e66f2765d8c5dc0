"""Who may come in: users, projects, access keys and tokens of one account. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2s
from typing import Any, Self

from jobs.auth.signing import Keys
from jobs.sandbox.reading import HEX_DIGITS, entries, identifier, known_keys

is_project_id = re.compile("[0-9a-f]{32}").fullmatch

# What can stand in a header and in an `Authorization`.
_is_access = re.compile(r"[!-+.0-~-]+").fullmatch
_is_token = re.compile("[!-~]+").fullmatch
_PARTS = ("domain", "users", "projects", "access_keys", "tokens")


@dataclass(frozen=True, slots=True)
class Named:
    """A domain or a project.

    Attributes:
        id: 32 lower-case hex digits.
        name: a project's is normally the region's.

    """

    id: str
    name: str


@dataclass(frozen=True, slots=True)
class User:
    """A user of the account's domain."""

    id: str
    name: str
    password: str = field(repr=False)


def _id_of(name: str) -> str:
    return blake2s(name.encode(), digest_size=16).hexdigest()


_DOMAIN = Named(_id_of("sandbox"), "sandbox")
_USERS = (User(_id_of("rehearsal"), "rehearsal", "rehearsal"),)
_PROJECTS = (
    Named("0123456789abcdef0123456789abcdef", "cn-north-1"),
    Named("fedcba9876543210fedcba9876543210", "eu-de"),
)
_ACCESS_KEYS = (Keys("SANDBOXACCESSKEY0000", "sandbox-secret-key"),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Accounts:
    """An account: what is not said is as in the default one.

    Attributes:
        domain: the account's own name; its users and projects belong to it.
        users: who can ask for a token; at least one.
        projects: at least one.
        access_keys: that may sign, permanent and temporary ones.
        tokens: that are there from the start and never end, each with the id of its project, or None for
            whichever project asks.

    """

    domain: Named = _DOMAIN
    users: tuple[User, ...] = _USERS
    projects: tuple[Named, ...] = _PROJECTS
    access_keys: tuple[Keys, ...] = _ACCESS_KEYS
    tokens: Mapping[str, str | None] = field(default_factory=dict, repr=False)

    @classmethod
    def from_json(cls, content: Any) -> Self:
        """Build from the decoded `accounts` of a catalogue.

        Raises:
            ValueError: something in it is wrong; the message names the key.

        """
        given = known_keys("accounts", content, _PARTS)
        projects = _projects(given["projects"]) if "projects" in given else _PROJECTS
        return cls(
            domain=_domain(given["domain"]) if "domain" in given else _DOMAIN,
            users=_users(given["users"]) if "users" in given else _USERS,
            projects=projects,
            access_keys=_access_keys(given["access_keys"]) if "access_keys" in given else _ACCESS_KEYS,
            tokens=_tokens(given.get("tokens", []), [each.id for each in projects]),
        )


DEFAULT_ACCOUNTS = Accounts()


def _domain(content: Any) -> Named:
    known_keys("accounts.domain", content, ("id", "name"))
    name = _text("accounts.domain.name", content.get("name"))
    return Named(_text("accounts.domain.id", content.get("id", _id_of(name))), name)


def _users(listed: Any) -> tuple[User, ...]:
    users: dict[str, User] = {}
    for place, entry in entries("accounts.users", listed, ("id", "name", "password")):
        name = identifier(place, entry, bool, "a text", users, "name")
        ids = [each.id for each in users.values()]
        user_id = identifier(place, {"id": _id_of(name), **entry}, bool, "a text", ids)
        users[name] = User(user_id, name, _text(f"{place}.password", entry.get("password")))
    if not users:
        raise ValueError("accounts.users: must not be empty")
    return tuple(users.values())


def _projects(listed: Any) -> tuple[Named, ...]:
    projects: dict[str, Named] = {}
    for place, entry in entries("accounts.projects", listed, ("id", "name")):
        project_id = identifier(place, entry, is_project_id, HEX_DIGITS, projects)
        names = [each.name for each in projects.values()]
        projects[project_id] = Named(project_id, identifier(place, entry, bool, "a text", names, "name"))
    if not projects:
        raise ValueError("accounts.projects: must not be empty")
    return tuple(projects.values())


def _access_keys(listed: Any) -> tuple[Keys, ...]:
    keys: dict[str, Keys] = {}
    for place, entry in entries("accounts.access_keys", listed, ("ak", "sk", "security_token")):
        access = identifier(place, entry, _is_access, "an access key", keys, "ak")
        secret = _text(f"{place}.sk", entry.get("sk"))
        token = entry.get("security_token")
        keys[access] = Keys(access, secret, "" if token is None else _text(f"{place}.security_token", token))
    return tuple(keys.values())


def _tokens(listed: Any, projects: list[str]) -> dict[str, str | None]:
    tokens: dict[str, str | None] = {}
    for place, entry in entries("accounts.tokens", listed, ("token", "project")):
        token = identifier(place, entry, _is_token, "a token", tokens, "token", is_secret=True)
        project = entry.get("project")
        if project is not None and project not in projects:
            raise ValueError(f"{place}.project: {project!r} is neither one of the projects' ids nor null")
        tokens[token] = project
    return tokens


def _text(place: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{place}: must be a text, and not empty")
    return value
