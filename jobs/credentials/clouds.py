"""Credentials in `clouds.yaml` and `secure.yaml`, read by openstacksdk and used by keystoneauth.

Both are in the extra `openstack`. They are synchronous, so a token is fetched in a thread.
"""

import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batch.errors import BatchError, ConfigurationError, DeniedError
from batch.text import printable
from batch.transport import TransportError
from jobs.credentials.files import warnings_of
from jobs.credentials.kinds import Cloud, Found, Grant, Token
from jobs.endpoints import checked_endpoint, place_of_iam

if TYPE_CHECKING:
    from openstack.config.cloud_region import CloudRegion

_TIMEOUT = 30.0
_MISREAD = (AttributeError, LookupError, TypeError, ValueError)
"""What the libraries make of entries of the wrong form; the texts may show what stands there."""


def described(name: str) -> Found:
    """Return what an entry says beside its secrets.

    Raises:
        ConfigurationError: there is no such entry, or the extra is not installed.

    """
    region, files = _read(name)
    auth = region.config.get("auth") or {}
    iam = str(auth.get("auth_url") or "").rstrip("/").removesuffix("/v3")
    iam = checked_endpoint(iam, f"auth_url of {name} in clouds.yaml") if iam else ""
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


def token_for(cloud: Cloud, project_id: str, project_name: str, authorities: Path | None) -> Grant:
    """Fetch a token for the entry, scoped to a project where the entry's own is another one. Blocks.

    Args:
        cloud: the entry.
        project_id: of the project, or empty.
        project_name: of the project where its id is not known, or empty.
        authorities: whom to trust if the entry does not say, or None for those whom the system trusts.

    Raises:
        ConfigurationError: the entry cannot be used for that.
        DeniedError: the identity service refuses it.
        TransportError: the identity service cannot be reached.

    """
    from keystoneauth1 import exceptions as refusals  # noqa: PLC0415
    from keystoneauth1.session import Session  # noqa: PLC0415

    region, _ = _read(cloud.name)
    auth = region.config.get("auth", {})
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
    try:
        plugin: Any = region.get_auth()
        access = plugin.get_access(Session(verify=verify, timeout=_TIMEOUT, redirect=False))
    except refusals.Unauthorized as error:
        raise DeniedError(f"clouds.yaml, {cloud.name}: {printable(error.message)}") from None
    except (refusals.ConnectFailure, refusals.HttpServerError, refusals.TooManyRequests) as error:
        raise TransportError("connection", printable(str(error)), sent=False) from None
    except refusals.ClientException as error:
        raise _unusable(cloud.name, error) from None
    except _MISREAD as error:
        raise _unusable(cloud.name, type(error).__name__) from None
    if not access.project_id:
        raise ConfigurationError(f"clouds.yaml, {cloud.name}: its token is for no project")
    if project_id not in ("", access.project_id) or project_name not in ("", access.project_name):
        raise ConfigurationError(
            f"clouds.yaml, {cloud.name}: is for project {access.project_id} ({access.project_name}), not for "
            f"{project_id or project_name}: see --project-id"
        )
    return Grant(
        Token(access.auth_token),
        access.project_id,
        (access.expires - access.issued).total_seconds() if access.issued else None,
        f"user {printable(access.username or '')} of {printable(access.user_domain_name or '')}",
        printable(access.project_name or ""),
        access.expires.isoformat() if access.expires else "",
    )


def _read(name: str, **scope: Any) -> "tuple[CloudRegion, list[Path]]":
    """Return an entry, with another project where one is named, and the files it was read from."""
    try:
        from openstack.config import OpenStackConfig  # noqa: PLC0415
        from openstack.exceptions import ConfigException  # noqa: PLC0415
    except ModuleNotFoundError:
        raise ConfigurationError(
            "clouds.yaml is read by openstacksdk, which is not installed: pip install 'fpga-batch[openstack]'"
        ) from None
    try:
        config = OpenStackConfig()
        region = config.get_one(name, **scope)
    except ConfigException as error:
        raise _unusable(name, f"{error} Is there such an entry, and is the file YAML?") from None
    except _MISREAD as error:
        raise _unusable(name, type(error).__name__) from None
    files = (config.config_filename, config.secure_config_filename)
    return region, [Path(each) for each in files if each]


def _unusable(name: str, error: Exception | str) -> BatchError:
    return ConfigurationError(f"clouds.yaml, {name}: {printable(str(error))}")
