"""Where the service is: from region and cloud, or as given. Pure."""

import re
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

from batch.errors import ConfigurationError
from batch.http.loopback import is_loopback
from batch.text import quoted

HUAWEI_CLOUD = "myhuaweicloud.com"
OPEN_TELEKOM_CLOUD = "otc.t-systems.com"
FLEXIBLE_ENGINE = "prod-cloud-ocb.orange-business.com"
_WITH_FPGA_IMAGES = {
    # The documents restrict the calls to these on Huawei Cloud, and to none elsewhere; the others' regions
    # are those that have an ECS API at all.
    HUAWEI_CLOUD: ("cn-north-1", "cn-east-2", "cn-south-1"),
    OPEN_TELEKOM_CLOUD: ("eu-de", "eu-nl"),
    FLEXIBLE_ENGINE: ("eu-west-0",),
}
_REGION = re.compile(r"[a-z]{2}(?:-[a-z]+[0-9]{0,3}){1,3}(?:-[0-9]{1,3})?")
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
# No user, no query, no fragment: what is refused is not shown, as it may hold a password.
_URL = re.compile(r"(?i:(https?)://)([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(/[A-Za-z0-9._~/-]*)?")
_LONGEST_REGION = 40
_PROJECT = re.compile(r"[A-Za-z0-9_-]{1,64}")
_PROJECT_NAME = re.compile(r"[^{}/?#\s]([^{}/?#\r\n]{0,62}[^{}/?#\s])?")
_ZONE = re.compile(r"([a-z]+(?:-[a-z]+)+-[0-9]+)[a-z]|(eu-(?:de|nl))-0[0-9]")
_VERSION = re.compile(r"/v[0-9]+(?:\.[0-9]+)?(?:/|$)", re.IGNORECASE)
_IAM_CALL = re.compile(r"/v3(?:/auth/tokens|/projects)?/*$", re.IGNORECASE)
_HOST = re.compile(r"(ecs|iam|iam-pub)\.([a-z0-9-]+)\.((?:[a-z0-9-]+\.)+[a-z]+)")


@dataclass(frozen=True, slots=True)
class Site:
    """Where a run's requests go.

    Attributes:
        project: project of the rows that name none: its id, or its name in braces.
        endpoint: base URL of the ECS API for every row, or None to build it from the region.
        region: region of the rows that name none.
        cloud_domain: domain of the cloud, as `myhuaweicloud.com` or `otc.t-systems.com`.

    """

    project: str
    endpoint: str | None = None
    region: str | None = None
    cloud_domain: str = HUAWEI_CLOUD

    @property
    def is_fixed(self) -> bool:
        """Whether the endpoint serves one region only; one on this machine stands in for all."""
        return self.endpoint is not None and not is_loopback(urlsplit(self.endpoint).hostname or "localhost")

    def address(self, project_id: str = "", region: str = "") -> str:
        """Return the URL under which a project's FPGA images are, without a slash at the end.

        A project belongs to one region. A row that names another region and no project means the project that
        each region has under its own name; its id is not known here, so its name stands for it in braces.
        """
        elsewhere = region not in ("", self.region)
        project = project_id or (named(region) if elsewhere else self.project)
        base = self.endpoint or f"https://ecs.{region or self.region}.{self.cloud_domain}"
        return f"{base}/v1/{project}/cloudservers/fpga_image"

    @property
    def warning(self) -> str:
        """What is to be said against the place: that its region is not known to have the API; else empty."""
        known = _WITH_FPGA_IMAGES.get(self.cloud_domain, ())
        if self.endpoint or self.region in known:
            return ""
        return (
            f"region {self.region} of {self.cloud_domain} is not known to have the FPGA image API"
            f"{'; known are ' * bool(known)}{', '.join(known)}"
        )


def named(project_name: str) -> str:
    """Return what stands for a project of which only the name is known."""
    return f"{{{project_name}}}"


def project_of(address: str) -> tuple[str, str]:
    """Return id and name of the project in an address that a site has made; one of them is empty."""
    project = address.rsplit("/", 3)[1]
    return ("", project[1:-1]) if project.startswith("{") else (project, "")


def site(
    *,
    endpoint: str | None,
    region: str | None,
    cloud_domain: str | None,
    project_id: str | None,
    project_name: str | None = None,
) -> Site:
    """Check what was configured and put it together.

    Raises:
        ConfigurationError: something is missing, malformed or unsafe; the text says what to set.

    """
    if not endpoint and not region:
        raise ConfigurationError(
            "where is the service? set --region (as cn-north-1) or --endpoint (as https://ecs.example.com)"
        )
    region = region.lower() if region else region
    if region and (zone := _ZONE.fullmatch(region)):
        raise ConfigurationError(
            f"--region {region}: this is an availability zone, its region is {zone[1] or zone[2]}"
        )
    if region and not (_LABEL.fullmatch(region) if endpoint else is_region(region)):
        raise ConfigurationError(f"--region {quoted(region)}: a region is written as cn-north-1 or eu-de")
    project_name = project_name or region
    if not project_id and not project_name:
        raise ConfigurationError("which project? set --project-id, or --region to take the region's own")
    if project_id and not is_project_id(project_id):
        raise ConfigurationError(f"--project-id {quoted(project_id)}: letters, digits, - and _ only")
    if project_name and not _PROJECT_NAME.fullmatch(project_name):
        raise ConfigurationError(f"{quoted(project_name)} is no name of a project")
    domain = (cloud_domain or HUAWEI_CLOUD).strip(".").lower()
    if not all(_LABEL.fullmatch(label) for label in domain.split(".")):
        raise ConfigurationError(
            f"--cloud-domain {quoted(domain)}: a domain is written as {OPEN_TELEKOM_CLOUD}"
        )
    project = project_id.lower() if project_id else named(project_name or "")
    return Site(project, _ecs_endpoint(endpoint) if endpoint else None, region, domain)


def _ecs_endpoint(url: str) -> str:
    """Return the base URL of the ECS API, to which the program adds version and project."""
    base = checked_endpoint(url)
    if version := _VERSION.search(urlsplit(base).path):
        raise ConfigurationError(
            f"--endpoint {quoted(base)}: leave out {version[0].rstrip('/')} and what follows it: the program "
            "adds /v1 and the project"
        )
    return base


def iam_base(url: str, setting: str) -> str:
    """Return the base URL of an identity service, which is named with its version or without; or nothing.

    Raises:
        ConfigurationError: it is no URL, or that of an older version.

    """
    base = checked_endpoint(_IAM_CALL.sub("", url.strip()), setting) if url.strip() else ""
    if version := _VERSION.search(urlsplit(base).path):
        raise ConfigurationError(
            f"{setting} {quoted(base)}: write /v3 in place of {version[0].rstrip('/')}, the identity API is "
            "spoken in version 3"
        )
    return base


def checked_endpoint(url: str, setting: str = "--endpoint") -> str:
    """Return an endpoint's base URL without a slash at the end.

    Args:
        url: as it was given.
        setting: by which it was given.

    Raises:
        ConfigurationError: it is no URL of a host, or plain HTTP to another machine.

    """
    service = "ecs" if setting == "--endpoint" else "iam"
    wanted = f"{setting}: write it as https://{service}.cn-north-1.myhuaweicloud.com"
    match = _URL.fullmatch(url)
    if match is None:
        raise ConfigurationError(f"{wanted}, with only scheme, host, port and path")
    try:
        host, port = urlsplit(url).hostname or "", urlsplit(url).port
    except ValueError as error:
        raise ConfigurationError(f"{wanted} ({error})") from None
    if port == 0 or not _is_host(host):
        raise ConfigurationError(f"{wanted}; {quoted(url)} names no host")
    if match[1].lower() == "http" and not is_loopback(host):
        raise ConfigurationError(
            f"{setting} {quoted(url)}: plain http would show the credentials to the network; use https "
            "(http is for this machine only)"
        )
    return url.rstrip("/")


def is_region(text: str) -> bool:
    """Whether this is written as regions are: it becomes a part of a host's name.

    So it must not be another service's name, as `obs`, nor that of an availability zone.
    """
    return len(text) <= _LONGEST_REGION and bool(_REGION.fullmatch(text)) and not _ZONE.fullmatch(text)


def is_project_id(text: str) -> bool:
    """Whether this may stand in a path as a project's id (the clouds' own are 32 hexadecimal digits)."""
    return _PROJECT.fullmatch(text) is not None


def _is_host(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return all(_LABEL.fullmatch(label) for label in text.lower().removesuffix(".").split("."))
    return True


def iam_endpoint(site: Site) -> str:
    """Return the base URL of the identity service that belongs to a place; empty where it is not known.

    A stand-in on this machine is that too. No secret goes to a cloud that the endpoint does not name.
    """
    if not site.endpoint:
        return f"https://iam.{site.region}.{site.cloud_domain}"
    if not site.is_fixed:
        return site.endpoint
    match = _HOST.fullmatch(urlsplit(site.endpoint).hostname or "")
    return f"https://iam.{match[2]}.{match[3]}" if match and match[1] == "ecs" else ""


def place_of_iam(url: str) -> tuple[str, str]:
    """Return region and cloud domain that an identity service's address names; empty where it does not."""
    host = urlsplit(url).hostname or ""
    for domain in _WITH_FPGA_IMAGES:
        if host == f"iam.{domain}":
            return "", domain  # the one for all regions
    match = _HOST.fullmatch(host)
    is_told = match and match[1].startswith("iam") and is_region(match[2])
    return (match[2], match[3]) if match and is_told else ("", "")
