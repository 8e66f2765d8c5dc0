"""The way to the service that a command's options and the credentials make."""

import logging
from importlib.metadata import version
from typing import NamedTuple

from batch.errors import ConfigurationError
from batch.http.network import secrets_of_proxies, trusted
from batch.http.transport import HttpTransport
from jobs.auth.access import Access
from jobs.auth.clock import ServiceClock
from jobs.auth.credentials import Found
from jobs.auth.credentials.files import refuse_foreign
from jobs.auth.issuer import Issuer
from jobs.auth.masking import Secrets
from jobs.endpoints import Site, iam_endpoint, site
from jobs.options import PlaceOptions

log = logging.getLogger(__name__)

PROGRAM = "fpga-batch"


class Connection(NamedTuple):
    """All that requests need.

    Attributes:
        issuer: makes grants of the credentials.
        clock: the service's.
        access: sends requests.

    """

    issuer: Issuer
    clock: ServiceClock
    access: Access


def place(options: PlaceOptions, found: Found) -> Site:
    """Return where the service is: what the options say outranks what stands beside the credentials.

    Raises:
        ConfigurationError: something is missing, malformed or unsafe.

    """
    cloud_domain = options.cloud_domain or found.cloud_domain
    if not options.endpoint and found.iam and not cloud_domain:
        raise ConfigurationError(
            f"which cloud is it whose identity service is {found.iam}? set --cloud-domain or --endpoint"
        )
    where = site(
        endpoint=options.endpoint,
        region=options.region or found.region,
        cloud_domain=cloud_domain,
        project_id=options.project_id or found.project_id,
        project_name=found.project_name,
    )
    for warning in (*found.warnings, where.warning):
        if warning:
            log.warning("%s", warning)
    return where


def connection(options: PlaceOptions, found: Found, where: Site, connections: int) -> Connection:
    """Return the way to a place.

    Args:
        options: of the command.
        found: the credentials.
        where: the place.
        connections: connections at most.

    Raises:
        ConfigurationError: the authorities to trust cannot be read.

    """
    tls = None
    try:
        if options.ca_file:
            tls = trusted(options.ca_file)
            refuse_foreign(options.ca_file)
    except ConfigurationError as error:
        raise ConfigurationError(f"{error} (named by --ca-file or OS_CACERT)") from None

    def connect(timeout: float | None) -> HttpTransport:
        return HttpTransport(
            connections=connections,
            timeout=timeout or options.timeout,
            user_agent=f"{PROGRAM}/{version(PROGRAM)}",
            tls=tls,
        )

    clock = ServiceClock()
    secrets = Secrets()
    secrets.learn(*(found.credential.secrets if found.credential else ()), *secrets_of_proxies())
    issuer = Issuer(found, iam_endpoint(where), clock, connect, secrets, options.ca_file)
    return Connection(issuer, clock, Access(issuer, clock, connect, secrets, where.address()))
