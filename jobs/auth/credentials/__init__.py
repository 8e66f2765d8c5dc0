"""Credentials: where they are found. The first complete set wins, and half a set is an error."""

import os
from dataclasses import replace
from pathlib import Path

from jobs.auth.credentials import environment as variables
from jobs.auth.credentials import files
from jobs.auth.credentials.environment import OWN_VARIABLES, Environment
from jobs.auth.credentials.kinds import Agency, Cloud, Credential, Found, Grant, Password, Token
from jobs.auth.credentials.machine import FIRMWARE, is_instance
from jobs.endpoints import checked_endpoint

__all__ = [
    "NO_CREDENTIALS",
    "OWN_VARIABLES",
    "Agency",
    "Cloud",
    "Credential",
    "Found",
    "Grant",
    "Password",
    "Token",
    "find",
]

_METADATA = "FPGA_BATCH_METADATA_ENDPOINT"
_METADATA_USUAL = "http://169.254.169.254"

NO_CREDENTIALS = (
    "no credentials: set HUAWEICLOUD_SDK_AK and HUAWEICLOUD_SDK_SK, or OS_TOKEN, or OS_AUTH_URL, OS_USERNAME "
    "and OS_PASSWORD"
)


def find(
    os_cloud: str | None = None, environment: Environment = os.environ, *, firmware: Path = FIRMWARE
) -> Found:
    """Return the first complete set of credentials, in the order that the README tells.

    Args:
        os_cloud: entry of `clouds.yaml` that was asked for; it comes before all others.
        environment: variables, and where files are found.
        firmware: folder that tells whether this machine is an ECS, whose agency has credentials.

    Raises:
        ConfigurationError: half a set, or something that cannot be a credential. No text shows a secret.

    """
    if os_cloud:
        return _cloud(os_cloud, environment)
    handed_over, password = files.handed_over(environment)
    found = (
        variables.own(environment)
        or handed_over
        or variables.keys_of(environment, variables.SDK)
        or variables.keys_of(environment, variables.TERRAFORM)
        or variables.keys_of(environment, variables.OPENSTACK)
        or variables.token(environment)
        or variables.user(environment, password)
        or files.profile(environment)
    )
    if found:
        return found
    if os_cloud := variables.unquoted(environment.get("OS_CLOUD", "")):
        return _cloud(os_cloud, environment)
    if endpoint := variables.unquoted(environment.get(_METADATA, "")):
        agency: Agency | None = Agency(checked_endpoint(endpoint, _METADATA))
    else:
        agency = Agency(_METADATA_USUAL) if is_instance(firmware) else None
    source = "the agency of this ECS" if agency else "none"
    return variables.found(source, agency, environment, variables.OWN)


def _cloud(name: str, environment: Environment) -> Found:
    from jobs.auth.credentials import clouds  # noqa: PLC0415 - openstacksdk takes a second to import

    about = variables.found(f"clouds.yaml, {name}", Cloud(name), environment, variables.OPENSTACK)
    return replace(clouds.described(name), warnings=about.warnings)
