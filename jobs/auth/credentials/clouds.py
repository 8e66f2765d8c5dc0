"""Credentials in `clouds.yaml` and `secure.yaml`, read by openstacksdk and used by keystoneauth.

Both are in the extra `openstack`. They are synchronous, so a token is fetched in a thread.
"""

import os
import ssl
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batch.errors import BatchError, ConfigurationError, DeniedError
from batch.http.transport import TransportError
from batch.text import printable, quoted
from jobs.auth.credentials.environment import secret
from jobs.auth.credentials.files import refuse_foreign, warnings_of
from jobs.auth.credentials.kinds import Cloud, Found, Grant, Token
from jobs.endpoints import iam_base, is_project_id, place_of_iam

if TYPE_CHECKING:
    from openstack.config import OpenStackConfig
    from openstack.config.cloud_region import CloudRegion

_TIMEOUT = 30.0
_SECRET_WORDS = ("password", "secret", "token", "passcode")
"""What is in the names of an entry's members that nobody may see."""

_MISREAD = (AttributeError, LookupError, TypeError, ValueError)
"""What the libraries make of entries of the wrong form; the texts may show what stands there."""


def described(name: str) -> Found:
    """Return what an entry says beside its secrets.

    Raises:
        ConfigurationError: there is no such entry, or the extra is not installed.

    """
    region, files = _read(name)
    auth = region.config.get("auth") or {}
    iam = iam_base(str(auth.get("auth_url") or ""), f"auth_url of {name} in clouds.yaml")
    place = place_of_iam(iam)
    return Found(
        f"clouds.yaml, {name}",
        Cloud(name),
        project_id=str(auth.get("project_id") or ""),
        project_name=str(auth.get("project_name") or ""),
        region=str(region.region_name or "") or place[0],
        cloud_domain=place[1],
        iam=iam,
        warnings=tuple(warning for each in files for warning in warnings_of(each)),
    )


def token_for(
    cloud: Cloud,
    project_id: str,
    project_name: str,
    authorities: Path | None,
    learn: Callable[..., None],
) -> Grant:
    """Fetch a token for the entry, scoped to a project where the entry's own is another one. Blocks.

    Args:
        cloud: the entry.
        project_id: of the project, or empty.
        project_name: of the project where its id is not known, or empty.
        authorities: whom to trust if the entry does not say, or None for those whom the system trusts.
        learn: is called with the entry's secrets before anybody hears them.

    Raises:
        ConfigurationError: the entry cannot be used for that.
        DeniedError: the identity service refuses it.
        TransportError: the identity service cannot be reached.

    """
    region, _ = _read(cloud.name)
    auth = region.config.get("auth", {})
    learn(*(str(text) for name, text in auth.items() if text and _is_secret(name)))
    # An entry that names no project, as one of an application credential, is bound to its own.
    is_bound = not (auth.get("project_id") or auth.get("project_name"))
    asked, own = (project_id, project_name), (auth.get("project_id"), auth.get("project_name"))
    if not is_bound and any(one not in ("", other) for one, other in zip(asked, own, strict=True)):
        scope = {"project_id": project_id} if project_id else {"project_name": project_name}
        region, _ = _read(cloud.name, **scope)
    verify, _ = region.get_requests_verify_args()
    if not verify:
        raise ConfigurationError(
            f"clouds.yaml, {cloud.name}: switches the check of certificates off; give the authority by cacert"
        )
    if verify is True:  # requests would trust a list of its own, not the system's
        verify = str(authorities) if authorities else ssl.get_default_verify_paths().cafile or True
    if isinstance(verify, str) and os.path.exists(verify):
        refuse_foreign(Path(verify))
    access = _asked(region, cloud.name, verify)
    told = _Told(access)
    if not (own_id := told.text("project_id")):
        raise ConfigurationError(f"clouds.yaml, {cloud.name}: its token is for no project")
    if not is_project_id(own_id):
        raise ConfigurationError(
            f"clouds.yaml, {cloud.name}: its token is for {quoted(own_id)}, which is no id"
        )
    own_name = told.text("project_name")
    if project_id not in ("", own_id) or project_name not in ("", own_name):
        raise ConfigurationError(
            f"clouds.yaml, {cloud.name}: is for project {own_id} ({own_name}), not for "
            f"{project_id or project_name}: see --project-id"
        )
    expires, issued = told.date("expires"), told.date("issued")
    return Grant(
        Token(secret(f"the token for clouds.yaml, {cloud.name},", access.auth_token)),
        own_id,
        (expires - issued).total_seconds() if expires and issued else None,
        f"user {told.text('username')} of {told.text('user_domain_name')}",
        own_name,
        expires.isoformat() if expires else "",
    )


def _asked(region: "CloudRegion", name: str, verify: bool | str) -> Any:
    """Return what the identity service answers to the request for a token."""
    from keystoneauth1 import exceptions as refusals  # noqa: PLC0415
    from keystoneauth1.session import Session  # noqa: PLC0415

    from jobs.auth.credentials.direct import DirectSession  # noqa: PLC0415

    try:
        plugin: Any = region.get_auth()
        return plugin.get_access(
            Session(session=DirectSession(), verify=verify, timeout=_TIMEOUT, redirect=False)
        )
    except refusals.Unauthorized as error:
        raise DeniedError(f"clouds.yaml, {name}: {printable(error.message)}") from None
    except refusals.MissingAuthPlugin:  # what can be asked without credentials was answered by 401
        raise DeniedError(
            f"clouds.yaml, {name}: its identity service answered 401 before any credentials were sent"
        ) from None
    except (refusals.ConnectFailure, refusals.HttpServerError, refusals.TooManyRequests) as error:
        raise TransportError("connection", printable(str(error)), sent=False) from None
    except refusals.ClientException as error:
        raise _unusable(name, error) from None
    except _MISREAD as error:
        raise _unusable(name, type(error).__name__) from None


class _Told:
    """What a token's answer tells beside the token; what it tells in no proper form counts as not told."""

    def __init__(self, access: Any) -> None:
        self._access = access

    def text(self, name: str) -> str:
        value = self._value(name)
        return printable(value, 80) if isinstance(value, str) else ""

    def date(self, name: str) -> datetime | None:
        value = self._value(name)
        return value if isinstance(value, datetime) else None

    def _value(self, name: str) -> Any:
        try:
            return getattr(self._access, name)
        except _MISREAD:
            return None


def _read(name: str, **scope: Any) -> "tuple[CloudRegion, list[Path]]":
    """Return an entry, with another project where one is named, and the files it was read from."""
    try:
        from openstack.config import OpenStackConfig, loader  # noqa: PLC0415
        from openstack.exceptions import ConfigException  # noqa: PLC0415
    except ModuleNotFoundError:
        raise ConfigurationError(
            "clouds.yaml is read by openstacksdk, which is not installed: pip install 'fpga-batch[openstack]'"
        ) from None
    entries = _there(os.environ.get("OS_CLIENT_CONFIG_FILE", ""), *loader.CONFIG_FILES)
    secrets = _there(os.environ.get("OS_CLIENT_SECURE_FILE", ""), *loader.SECURE_FILES)
    # It looks into the current folder first, where anybody may have put them.
    for path in (*entries, *secrets, *_there(*loader.VENDOR_FILES)):
        _refuse_foreign(path)
    try:
        config = OpenStackConfig()
        _refuse_remote_profile(config, name)
        region = config.get_one(name, **scope)
    except ConfigException as error:
        raise _unusable(name, f"{error} Is there such an entry, and is the file YAML?") from None
    except _MISREAD as error:
        raise _unusable(name, type(error).__name__) from None
    return region, [*entries[:1], *secrets[:1]]


def _there(*paths: str) -> list[Path]:
    return [Path(path) for path in paths if os.path.exists(path)]


def _refuse_foreign(path: Path) -> None:
    try:
        refuse_foreign(path)
    except ConfigurationError as error:
        if path.parent != Path.cwd():
            raise
        raise ConfigurationError(f"{error}; or run this in another folder") from None


def _refuse_remote_profile(config: "OpenStackConfig", name: str) -> None:
    """Refuse an entry that has its settings fetched: over plain http anybody could answer."""
    entry = config.cloud_config["clouds"].get(name) or {}
    profile = str(entry.get("profile") or entry.get("cloud") or "")
    if "://" in profile:
        raise ConfigurationError(
            f"clouds.yaml, {name}: profile {quoted(profile)} is fetched from elsewhere: write what it says "
            "into the entry"
        )


def _is_secret(name: str) -> bool:
    return any(word in name for word in _SECRET_WORDS)


def _unusable(name: str, error: Exception | str) -> BatchError:
    return ConfigurationError(f"clouds.yaml, {name}: {printable(str(error))}")
