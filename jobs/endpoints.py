"""Where the service is: from region and cloud, or as given. Pure."""

import re
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

from batch.errors import ConfigurationError
from batch.text import quoted

HUAWEI_CLOUD = "myhuaweicloud.com"
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
# No user, no query, no fragment: what is refused is not shown, as it may hold a password.
_URL = re.compile(r"(?i:(https?)://)([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(/[A-Za-z0-9._~/-]*)?")
_PROJECT = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class Site:
    """Where a run's requests go.

    Attributes:
        project_id: project of the rows that name none.
        endpoint: base URL of the ECS API for every row, or None to build it from the region.
        region: region of the rows that name none.
        cloud_domain: domain of the cloud, as `myhuaweicloud.com` or `otc.t-systems.com`.

    """

    project_id: str
    endpoint: str | None = None
    region: str | None = None
    cloud_domain: str = HUAWEI_CLOUD

    @property
    def is_fixed(self) -> bool:
        """Whether the endpoint serves one region only; one on this machine stands in for all."""
        return self.endpoint is not None and not _is_loopback(urlsplit(self.endpoint).hostname or "localhost")

    def address(self, project_id: str = "", region: str = "") -> str:
        """Return the URL under which a project's FPGA images are, without a slash at the end."""
        base = self.endpoint or f"https://ecs.{region or self.region}.{self.cloud_domain}"
        return f"{base}/v1/{project_id or self.project_id}/cloudservers/fpga_image"


def site(
    *, endpoint: str | None, region: str | None, cloud_domain: str | None, project_id: str | None
) -> Site:
    """Check what was configured and put it together.

    Raises:
        ConfigurationError: something is missing, malformed or unsafe; the text says what to set.

    """
    if not endpoint and not region:
        raise ConfigurationError(
            "where is the service? set --region (as cn-north-1) or --endpoint (as https://ecs.example.com)"
        )
    if not project_id:
        raise ConfigurationError("which project? set --project-id")
    if not is_project_id(project_id):
        raise ConfigurationError(f"--project-id {project_id!r}: letters, digits, - and _ only")
    if region and not is_region(region):
        raise ConfigurationError(f"--region {region!r}: a region is written as cn-north-1 or eu-de")
    domain = (cloud_domain or HUAWEI_CLOUD).strip(".").lower()
    if not all(_LABEL.fullmatch(label) for label in domain.split(".")):
        raise ConfigurationError(f"--cloud-domain {cloud_domain!r}: a domain is written as otc.t-systems.com")
    return Site(project_id.lower(), checked_endpoint(endpoint) if endpoint else None, region, domain)


def checked_endpoint(url: str) -> str:
    """Return an endpoint's base URL without a slash at the end.

    Raises:
        ConfigurationError: it is no URL of a host, or plain HTTP to another machine.

    """
    wanted = "--endpoint: write it as https://ecs.cn-north-1.myhuaweicloud.com"
    match = _URL.fullmatch(url)
    if match is None:
        raise ConfigurationError(f"{wanted}, with only scheme, host, port and path")
    try:
        host, port = urlsplit(url).hostname or "", urlsplit(url).port
    except ValueError as error:
        raise ConfigurationError(f"{wanted} ({error})") from None
    if port == 0 or not _is_host(host):
        raise ConfigurationError(f"{wanted}; {quoted(url)} names no host")
    if match[1].lower() == "http" and not _is_loopback(host):
        raise ConfigurationError(
            f"--endpoint {quoted(url)}: plain http would show the credentials to the network; use https "
            "(http is for this machine only)"
        )
    return url.rstrip("/")


def is_region(text: str) -> bool:
    """Whether this is one label of a host name, as regions are."""
    return _LABEL.fullmatch(text) is not None


def is_project_id(text: str) -> bool:
    """Whether this may stand in a path as a project's id (the clouds' own are 32 hexadecimal digits)."""
    return _PROJECT.fullmatch(text) is not None


def _is_host(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return all(_LABEL.fullmatch(label) for label in text.lower().removesuffix(".").split("."))
    return True


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
