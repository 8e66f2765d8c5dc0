"""Credentials in files: the vendor's profile, what systemd hands over; and whose such files may be."""

import configparser
import os
import stat
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from batch.errors import ConfigurationError
from batch.text import copyable
from jobs.auth.credentials.environment import OWN, SDK, Environment, found, paired, secret, unquoted
from jobs.auth.credentials.kinds import Found, Token
from jobs.auth.signing import Keys
from jobs.endpoints import iam_base

_NAMED = "HUAWEICLOUD_SDK_CREDENTIALS_FILE"
_LARGEST = 64 * 1024


def profile(environment: Environment) -> Found | None:
    """Return the keys in `~/.huaweicloud/credentials`, section `[basic]`, or None where there is none.

    Raises:
        ConfigurationError: the file cannot be read, or holds half of what it should.

    """
    named = unquoted(environment.get(_NAMED, ""))
    home = environment.get("HOME") or os.path.expanduser("~")
    path = Path(named) if named else Path(home, ".huaweicloud", "credentials")
    if not named and not (path.is_absolute() and os.path.exists(path)):
        return None
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(_read(path))
    except configparser.Error:
        # Its own text would show the line, and so perhaps a secret.
        raise ConfigurationError(f"{path}: is not of the form of an INI file") from None
    section: Mapping[str, str] = parser["basic"] if parser.has_section("basic") else {}
    parts = ("ak", "sk", "security_token")
    keys = Keys(*(secret(f"{name} in {path}", section.get(name, "")) for name in parts))
    if not paired(keys, (f"ak in {path}", "sk", "security_token")):
        if named:
            raise ConfigurationError(
                f"{path}, which {_NAMED} names, has no keys: it is to have ak and sk in a section [basic]"
            )
        return None
    about = found(f"{path}", keys, environment, SDK)
    iam = iam_base(unquoted(section.get("iam_endpoint", "")), f"iam_endpoint in {path}")
    return replace(
        about,
        project_id=unquoted(section.get("project_id", "")) or about.project_id,
        iam=iam or about.iam,
        warnings=about.warnings + warnings_of(path),
    )


def handed_over(environment: Environment) -> tuple[Found | None, tuple[str, str] | None]:
    """Return what systemd's `LoadCredential=` has handed over: keys or a token; and a password.

    The password goes with the user whom the environment names.

    Raises:
        ConfigurationError: a file cannot be read, or one half of the keys is missing.

    """
    folder = environment.get("CREDENTIALS_DIRECTORY", "").strip()
    if not folder:
        return None, None
    try:
        there = os.listdir(folder)
    except OSError as error:
        raise ConfigurationError(f"CREDENTIALS_DIRECTORY {folder}: {error.strerror}") from None
    names = ("ak", "sk", "security_token", "token", "password")
    texts = {name: _read(Path(folder, name)) for name in names if name in there}
    password = texts.pop("password", "").rstrip("\r\n")
    held = {name: secret(f"{name} in {folder}", text) for name, text in texts.items()}
    keys = Keys(held.get("ak", ""), held.get("sk", ""), held.get("security_token", ""))
    by_password = ("password in CREDENTIALS_DIRECTORY", password) if password else None
    if paired(keys, (f"ak in {folder}", "sk", "security_token")):
        return found("ak and sk in CREDENTIALS_DIRECTORY", keys, environment, OWN), by_password
    if token := held.get("token", ""):
        return found("token in CREDENTIALS_DIRECTORY", Token(token), environment, OWN), by_password
    return None, by_password


def warnings_of(path: Path) -> tuple[str, ...]:
    """Return what is to be said of a file that others may read."""
    if os.path.exists(path) and path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        return (f"{path} holds secrets and others may read it: chmod 600 {copyable(path)}",)
    return ()


def refuse_foreign(path: Path, file: int | None = None) -> None:
    """Refuse a file by which somebody else could say where secrets are sent.

    Args:
        path: of the file.
        file: descriptor of the file where it is open.

    Raises:
        ConfigurationError: it is somebody else's, or others may write to it; the text says what to do.
        OSError: there is no such file.

    """
    about = os.stat(path if file is None else file)
    for owner in (os.lstat(path).st_uid, about.st_uid):
        if owner not in (0, os.geteuid()):
            raise ConfigurationError(
                f"{path}: belongs to another user ({owner}), who could have secrets sent elsewhere: remove "
                "it, or put a file of your own in its place"
            )
    if about.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ConfigurationError(
            f"{path}: others may write to it, and could have secrets sent elsewhere: look at what it says, "
            f"then chmod go-w {copyable(path)}"
        )


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            refuse_foreign(path, file.fileno())
            return file.read(_LARGEST).decode("utf-8-sig")
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path}: is not UTF-8") from None
