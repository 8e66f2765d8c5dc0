"""Credentials in environment variables, under the names that the other tools of these clouds use."""

from collections.abc import Mapping
from typing import NamedTuple

from batch.errors import ConfigurationError
from jobs.auth.credentials.kinds import Credential, Found, Password, Token
from jobs.auth.signing import Keys
from jobs.endpoints import iam_base, place_of_iam

_LONGEST = 32 * 1024
_TOKENS = ("OS_TOKEN", "OS_AUTH_TOKEN")
_USERS = ("OS_USERNAME", "OS_USER_ID")
_UNVERIFIED = ("OS_INSECURE", "HW_INSECURE")
_PREFIXES = ("FPGA_BATCH_", "HUAWEICLOUD_", "HW_", "OS_")
_PASSWORDS = ("OS_PASSWORD",)
_QUOTATION_MARKS = "\"'"
_TRUE = ("1", "true", "yes", "on")

Environment = Mapping[str, str]


class Family(NamedTuple):
    """The variables of one tool. Of each kind the first that is set counts."""

    keys: tuple[str, str, str]
    project_ids: tuple[str, ...] = ()
    project_names: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()
    iams: tuple[str, ...] = ()


_BY_ID = ("OS_PROJECT_ID", "OS_TENANT_ID")
_BY_NAME = ("OS_PROJECT_NAME", "OS_TENANT_NAME")
_DOMAINS = ("OS_USER_DOMAIN_NAME", "OS_DOMAIN_NAME", "OS_PROJECT_DOMAIN_NAME")

OWN = Family(
    ("FPGA_BATCH_AK", "FPGA_BATCH_SK", "FPGA_BATCH_SECURITY_TOKEN"),
    ("HUAWEICLOUD_SDK_PROJECT_ID", *_BY_ID),
    ("HW_PROJECT_NAME", *_BY_NAME),
    ("HW_REGION_NAME", "OS_REGION_NAME"),
    ("HW_CLOUD",),
    ("HUAWEICLOUD_SDK_IAM_ENDPOINT", "HW_AUTH_URL", "OS_AUTH_URL"),
)
OWN_VARIABLES = frozenset({*OWN.keys, "FPGA_BATCH_TOKEN", "FPGA_BATCH_METADATA_ENDPOINT"})
"""The program's own variables that are no option's."""

SDK = OWN._replace(
    keys=("HUAWEICLOUD_SDK_AK", "HUAWEICLOUD_SDK_SK", "HUAWEICLOUD_SDK_SECURITY_TOKEN"),
    project_ids=("HUAWEICLOUD_SDK_PROJECT_ID",),
    project_names=(),
    iams=("HUAWEICLOUD_SDK_IAM_ENDPOINT",),
)
TERRAFORM = Family(
    ("HW_ACCESS_KEY", "HW_SECRET_KEY", "HW_SECURITY_TOKEN"),
    (),
    ("HW_PROJECT_NAME",),
    ("HW_REGION_NAME", "OS_REGION_NAME"),
    ("HW_CLOUD",),
    ("HW_AUTH_URL",),
)
OPENSTACK = Family(
    ("OS_ACCESS_KEY", "OS_SECRET_KEY", "OS_SECURITY_TOKEN"),
    _BY_ID,
    _BY_NAME,
    ("OS_REGION_NAME",),
    (),
    ("OS_AUTH_URL",),
)


def found(source: str, credential: Credential | None, environment: Environment, family: Family) -> Found:
    """Put what was found together with what the family says of project and place."""
    setting, iam = _set(environment, family.iams)
    iam = iam_base(iam, setting)
    region, domain = place_of_iam(iam)
    return Found(
        source,
        credential,
        project_id=_set(environment, family.project_ids)[1],
        project_name=_set(environment, family.project_names)[1],
        region=_set(environment, family.regions)[1] or region,
        cloud_domain=_set(environment, family.domains)[1] or domain,
        iam=iam,
        warnings=(*_unverified(environment), *_quoted(environment)),
    )


def _unverified(environment: Environment) -> list[str]:
    return [
        f"{name} is ignored: certificates are always verified"
        for name in _UNVERIFIED
        if environment.get(name, "").strip().lower() in _TRUE
    ]


def _quoted(environment: Environment) -> list[str]:
    """Return what is to be said of variables in quotation marks, as some readers of env files leave them."""
    return [
        f"{name} is in quotation marks: "
        + ("they count as a part of it" if name in _PASSWORDS else "they are taken off")
        for name in sorted(environment)
        if name.startswith(_PREFIXES) and (text := environment[name].strip()) != unquoted(text)
    ]


def unquoted(text: str) -> str:
    """Return a setting without the white space and the pair of quotation marks around it."""
    text = text.strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in _QUOTATION_MARKS:
        return text[1:-1].strip()
    return text


def own(environment: Environment) -> Found | None:
    """Return what the program's own variables hold."""
    if keys := keys_of(environment, OWN):
        return keys
    if token := unquoted(environment.get("FPGA_BATCH_TOKEN", "")):
        return found("FPGA_BATCH_TOKEN", Token(secret("FPGA_BATCH_TOKEN", token)), environment, OWN)
    return None


def keys_of(environment: Environment, family: Family) -> Found | None:
    """Return the access key of a family, or None where neither half of it is set.

    Raises:
        ConfigurationError: one half is missing.

    """
    access_name, secret_name, token_name = family.keys
    pair = Keys(
        secret(access_name, environment.get(access_name, "")),
        secret(secret_name, environment.get(secret_name, "")),
        secret(token_name, environment.get(token_name, "")),
    )
    return found(source, pair, environment, family) if (source := paired(pair, family.keys)) else None


def token(environment: Environment) -> Found | None:
    """Return a token, or None where there is none."""
    name, text = _set(environment, _TOKENS)
    return found(name, Token(secret(name, text)), environment, OPENSTACK) if text else None


def user(environment: Environment, password: tuple[str, str] | None = None) -> Found | None:
    """Return a user with password, or None where neither is set.

    Args:
        environment: where to look.
        password: source and text of a password found elsewhere.

    Raises:
        ConfigurationError: something is missing.

    """

    def of(*names: str) -> str:
        return _set(environment, names)[1]

    user_name, user = _set(environment, _USERS)
    password_name, text = password or ("OS_PASSWORD", environment.get("OS_PASSWORD", ""))
    source = complete({user_name or _USERS[0]: user, password_name: text})
    if not source:
        return None
    is_id = user_name == "OS_USER_ID"
    credential = Password(
        "" if is_id else user,
        user if is_id else "",
        text,
        domain_name=of("OS_USER_DOMAIN_NAME", "OS_DOMAIN_NAME"),
        domain_id=of("OS_USER_DOMAIN_ID", "OS_DOMAIN_ID"),
        project_domain_name=of("OS_PROJECT_DOMAIN_NAME"),
        project_domain_id=of("OS_PROJECT_DOMAIN_ID"),
    )
    for name in (*_USERS, *_DOMAINS, *_BY_NAME, password_name):
        try:
            (text if name == password_name else environment.get(name, "")).encode()
        except UnicodeEncodeError:
            raise ConfigurationError(f"{name} is not UTF-8") from None
    if not is_id and not (credential.domain_name or credential.domain_id):
        raise ConfigurationError(
            f"{source} are set, OS_USER_DOMAIN_NAME is missing: the name of the account that the user is in"
        )
    return found(source, credential, environment, OPENSTACK)


def paired(keys: Keys, names: tuple[str, str, str]) -> str:
    """Return the names of an access key's parts if it is there, nothing if none of them is.

    Raises:
        ConfigurationError: a part is missing, or cannot be one.

    """
    access_name, secret_name, token_name = names
    if "," in keys.access:
        raise ConfigurationError(f"{access_name} holds characters that no key has")
    source = complete({access_name: keys.access, secret_name: keys.secret})
    if keys.security_token and not source:
        raise ConfigurationError(f"{token_name} is set, {access_name} and {secret_name} are missing")
    return source


def complete(parts: Mapping[str, str]) -> str:
    """Return the names of the parts if all are there, nothing if none is.

    Raises:
        ConfigurationError: some are missing.

    """
    missing = [name for name, text in parts.items() if not text]
    if not missing:
        return " and ".join(parts)
    if len(missing) < len(parts):
        there = " and ".join(name for name in parts if name not in missing)
        raise ConfigurationError(f"{there} is set, {' and '.join(missing)} is missing")
    return ""


def secret(name: str, text: str) -> str:
    """Return a key or token fit to go into a header, without quotation marks around it.

    Raises:
        ConfigurationError: it cannot be one. The text does not show it.

    """
    text = unquoted(text)
    if not (text.isascii() and text.isprintable() and " " not in text):
        raise ConfigurationError(f"{name} holds characters that no key and no token has")
    if len(text) > _LONGEST:
        raise ConfigurationError(f"{name} is longer than any key or token: {len(text):,} characters")
    return text


def _set(environment: Environment, names: tuple[str, ...]) -> tuple[str, str]:
    """Return name and value of the first variable that is set, or two empty texts."""
    for name in names:
        if value := unquoted(environment.get(name, "")):
            return name, value
    return "", ""
