"""Credentials: where they are found. The first complete set wins, and half a set is an error."""

import os
from dataclasses import replace

from jobs.credentials import environment as variables
from jobs.credentials import files
from jobs.credentials.environment import Environment
from jobs.credentials.kinds import Agency, Cloud, Credential, Found, Grant, Password, Token
from jobs.endpoints import checked_endpoint

__all__ = ["Agency", "Cloud", "Credential", "Found", "Grant", "Password", "Token", "find"]

_METADATA = "FPGA_BATCH_METADATA_ENDPOINT"
_METADATA_USUAL = "http://169.254.169.254"


def find(os_cloud: str | None = None, environment: Environment = os.environ) -> Found:
    """Return the first complete set of credentials, in the order that the README tells.

    Args:
        os_cloud: entry of `clouds.yaml` that was asked for; it comes before all others.
        environment: variables, and where files are found.

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
    if os_cloud := environment.get("OS_CLOUD", "").strip():
        return _cloud(os_cloud, environment)
    endpoint = environment.get(_METADATA, "").strip()
    agency = Agency(checked_endpoint(endpoint, _METADATA) if endpoint else _METADATA_USUAL)
    return variables.found("the agency of this ECS", agency, environment, variables.OWN)


def _cloud(name: str, environment: Environment) -> Found:
    from jobs.credentials import clouds  # noqa: PLC0415 - openstacksdk takes a second to import

    about = variables.found(f"clouds.yaml, {name}", Cloud(name), environment, variables.OPENSTACK)
    return replace(clouds.described(name), warnings=about.warnings)
