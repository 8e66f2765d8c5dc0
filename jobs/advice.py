"""What somebody means who writes a name that the program does not know. Pure."""

import re
from collections.abc import Collection
from difflib import get_close_matches

_PREFIX = "FPGA_BATCH_"

_OPTIONS = {
    # Names that other tools have, and what they are called here; each without dashes in front.
    "retries": "max-attempts",
    "retry": "max-attempts",
    "max-retries": "max-attempts",
    "attempts": "max-attempts",
    "tries": "max-attempts",
    "workers": "concurrency",
    "max-workers": "concurrency",
    "parallel": "concurrency",
    "parallelism": "concurrency",
    "threads": "concurrency",
    "jobs": "concurrency",
    "connections": "concurrency",
    "j": "concurrency",
    "output": "report",
    "out": "report",
    "output-file": "report",
    "o": "report",
    "dry": "dry-run",
    "simulate": "dry-run",
    "n": "dry-run",
    "qps": "rate",
    "rps": "rate",
    "rate-limit": "rate",
    "limit": "rate",
    "throttle": "rate",
    "url": "endpoint",
    "host": "endpoint",
    "api": "endpoint",
    "project": "project-id",
    "tenant-id": "project-id",
    "project-name": "project-id",
    "cloud": "os-cloud",
    "profile": "os-cloud",
    "domain": "cloud-domain",
    "cacert": "ca-file",
    "ca-bundle": "ca-file",
    "ca-cert": "ca-file",
    "max-errors": "max-failures",
    "fail-fast": "max-failures",
    "deadline": "max-duration",
    "max-time": "max-duration",
    "duration": "max-duration",
    "outage": "max-outage",
    "request-timeout": "timeout",
    "reason": "only",
    "reasons": "only",
    "force": "restart",
    "fresh": "restart",
    "silent": "quiet",
    "debug": "verbose",
    "failed": "failures",
    "errors": "failures",
    "log": "log-format",
    "bind": "host",
    "lifetime": "token-lifetime",
}

_VARIABLES = {
    # What is never an option, and the variable that holds it.
    "token": "OS_TOKEN",
    "auth-token": "OS_TOKEN",
    "os-token": "OS_TOKEN",
    "x-auth-token": "OS_TOKEN",
    "ak": "FPGA_BATCH_AK and FPGA_BATCH_SK",
    "sk": "FPGA_BATCH_AK and FPGA_BATCH_SK",
    "access-key": "FPGA_BATCH_AK and FPGA_BATCH_SK",
    "access-key-id": "FPGA_BATCH_AK and FPGA_BATCH_SK",
    "secret-key": "FPGA_BATCH_AK and FPGA_BATCH_SK",
    "secret-access-key": "FPGA_BATCH_AK and FPGA_BATCH_SK",
    "secret": "FPGA_BATCH_AK and FPGA_BATCH_SK",
    "security-token": "FPGA_BATCH_SECURITY_TOKEN",
    "session-token": "FPGA_BATCH_SECURITY_TOKEN",
    "password": "OS_PASSWORD",
    "os-password": "OS_PASSWORD",
    "pass": "OS_PASSWORD",
    "user": "OS_USERNAME",
    "username": "OS_USERNAME",
    "os-username": "OS_USERNAME",
    "proxy": "HTTPS_PROXY",
    "https-proxy": "HTTPS_PROXY",
}

_INPUTS = ("input", "input-file", "file", "pairs", "in", "i", "f", "csv", "from")

_COMMANDS = {
    "add": "associate",
    "apply": "associate",
    "attach": "associate",
    "create": "associate",
    "relate": "associate",
    "run": "associate",
    "send": "associate",
    "start": "associate",
    "upload": "associate",
    "delete": "disassociate",
    "detach": "disassociate",
    "remove": "disassociate",
    "unrelate": "disassociate",
    "lint": "check",
    "validate": "check",
    "auth": "login",
    "whoami": "login",
    "status": "report",
    "summary": "report",
    "show": "report",
    "continue": "resume",
    "retry": "resume",
    "rerun": "resume",
    "revert": "undo",
    "rollback": "undo",
    "mock": "sandbox",
    "serve": "sandbox",
    "server": "sandbox",
    "test": "verify",
}

# What Kubernetes puts into each container for a service whose name begins with this program's.
_OF_KUBERNETES = re.compile(
    r"(?:.*_)?SERVICE_(?:HOST|PORT(?:_.+)?)|(?:.*_)?PORT_[0-9]+_(?:TCP|UDP|SCTP)(?:_(?:ADDR|PORT|PROTO))?"
)
_LINK_OF_KUBERNETES = re.compile(r"(?:tcp|udp|sctp)://.*")


def on_option(written: str, known: Collection[str]) -> str:
    """Return what to say to somebody who has written an option that there is not; empty if nothing fits.

    Args:
        written: with dashes in front.
        known: options that there are, likewise.

    """
    name = written.partition("=")[0].lstrip("-").lower().replace("_", "-")
    if likely := _likely(name, [each for each in known if each.startswith("--")]):
        return f"Did you mean {likely}?"
    if close := get_close_matches(name, _VARIABLES, n=1, cutoff=0.8):
        variable = _VARIABLES[close[0]]
        return f"What is secret, or goes with it, is never an option: set {variable}."
    if name in _INPUTS:
        return "The file is given without an option: fpga-batch COMMAND FILE"
    return ""


def on_command(written: str, known: Collection[str]) -> str:
    """Return what to say to somebody who has written a command that there is not; empty if nothing fits."""
    meant = _COMMANDS.get(written.lower(), "")
    if meant not in known:
        meant = next(iter(get_close_matches(written.lower(), sorted(known), n=1)), "")
    if meant:
        return f"Did you mean {meant}?"
    if re.search(r"\.(csv|json|jsonl|tsv|gz)$", written.lower()):
        return "Name a command before the file: fpga-batch associate FILE"
    return ""


def on_variable(name: str, value: str, known: Collection[str]) -> str:
    """Return what to say of a variable that looks like one of the program's and is not; empty if nothing is.

    Args:
        name: of the variable.
        value: of the variable.
        known: variables that there are.

    """
    rest = name.removeprefix(_PREFIX)
    if rest == name or name in known or not value or _OF_KUBERNETES.fullmatch(rest) or is_link(value):
        return ""
    written = rest.lower().replace("_", "-")
    options = {each.removeprefix(_PREFIX).lower().replace("_", "-"): each for each in known}
    likely = options.get(_OPTIONS.get(written, "")) or _VARIABLES.get(written)
    if not likely:
        likely = next((options[each] for each in get_close_matches(written, options, n=1, cutoff=0.7)), "")
    return f"{name} is not known, and is ignored" + (f": did you mean {likely}?" if likely else "")


def is_link(value: str) -> bool:
    """Whether a value is what Kubernetes says of the place of a service: `tcp://10.0.0.1:80`."""
    return _LINK_OF_KUBERNETES.fullmatch(value) is not None


def _likely(name: str, known: Collection[str]) -> str:
    if (meant := f"--{_OPTIONS.get(name, '')}") in known:
        return meant
    if name in _VARIABLES or name in _INPUTS:
        return ""
    return next(iter(get_close_matches(f"--{name}", sorted(known), n=1, cutoff=0.75)), "")
