"""The program's variables as env files and orchestrators really set them. Pure."""

from collections.abc import Collection, Mapping

from jobs.advice import is_link, on_variable
from jobs.auth.credentials.environment import unquoted


def as_meant(environment: Mapping[str, str], options: Collection[str]) -> dict[str, str]:
    """Return the variables of options that mean something else than they hold, with what they mean.

    White space and quotation marks around a value are no part of it. What Kubernetes puts into
    `FPGA_BATCH_PORT` for a service of this name is no setting.
    """
    meant = {name: unquoted(environment[name]) for name in options if name in environment}
    meant = {name: "" if is_link(value) else value for name, value in meant.items()}
    return {name: value for name, value in meant.items() if value != environment[name]}


def warnings(environment: Mapping[str, str], known: Collection[str]) -> list[str]:
    """Return what is to be said of variables that look like the program's and are not."""
    said = [on_variable(name, environment[name], known) for name in sorted(environment)]
    return [each for each in said if each]
