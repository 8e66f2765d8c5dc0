"""The command `sandbox`: the stand-in service as a process of its own."""

import asyncio
import errno
import os
import ssl
import sys
from pathlib import Path

from batch.errors import ConfigurationError, InputMissingError, InputUnusableError, OutputError, UsageError
from batch.folder import Folder
from batch.results.report import followed
from batch.text import copyable
from jobs.commands.stopping import awaited
from jobs.commands.streams import say
from jobs.sandbox import Accounts, Catalogue, Faults, Sandbox, issue_certificate, parse_rate_limit, serve


def serve_until_stopped(
    *,
    host: str,
    port: int,
    tls: Path | None,
    catalogue: Path | None,
    strict: bool,
    seed: int,
    latency: float,
    rate_limit: str | None,
    retry_after: bool,
    faults: list[str],
    token_lifetime: float,
    token_uses: int | None,
) -> None:
    """Serve until a signal comes; when ready print the address, and on standard error how to go there.

    Raises:
        UsageError: a fault or rate limit is not understood.
        InputMissingError: the catalogue is not there.
        InputUnusableError: the catalogue is not understood.
        ConfigurationError: the address cannot be listened on, or not with TLS.
        OutputError: the file for the certificate cannot be written, or standard output.

    """
    try:
        limit = parse_rate_limit(rate_limit) if rate_limit else None
        drawn = Faults.parse(faults, latency=latency, rate_limit=limit, retry_after=retry_after)
    except ValueError as error:
        raise UsageError(str(error)) from None
    if catalogue and not os.path.exists(catalogue):
        raise InputMissingError(f"{catalogue}: no such file")
    try:
        declared = Catalogue.load(catalogue) if catalogue else Catalogue()
    except ValueError as error:
        raise InputUnusableError(str(error)) from None
    service = Sandbox(
        declared,
        strict=strict,
        faults=drawn,
        seed=seed,
        token_lifetime=token_lifetime,
        token_uses=token_uses,
    )
    variables = _variables(declared.accounts)
    context = None
    if tls:
        context = _secured(host, tls)
        variables["FPGA_BATCH_CA_FILE"] = str(tls.resolve())
    try:
        asyncio.run(_serve(service, host, port, context, variables))
    except OSError as error:
        raise ConfigurationError(f"cannot listen on {host}, port {port}: {error.strerror or error}") from None
    except UnicodeError:
        raise ConfigurationError(f"cannot listen on {host}: this is not a valid host name") from None


def _secured(host: str, authority: Path) -> ssl.SSLContext:
    """Return what it takes to serve TLS once the file holds the certificate that a client has to trust."""
    try:
        context, certificate = issue_certificate(host)
        # Whoever could change it would be trusted in place of the sandbox.
        place = followed(authority)
        if place.is_symlink():
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))  # noqa: TRY301 - told below with the others
        Folder(place.parent).write(place.name, certificate, 0o644)
    except ImportError:
        raise ConfigurationError("--tls needs more: pip install 'fpga-batch[tls]'") from None
    except ValueError as error:
        raise ConfigurationError(f"no certificate can name the host {host!r}: {error}") from None
    except OSError as error:
        raise OutputError(f"{authority}: cannot be written: {error.strerror}") from None
    return context


def _variables(accounts: Accounts) -> dict[str, str]:
    """Return whose name a run takes on here; the password in a catalogue may be a real one."""
    user = accounts.users[0]
    known = {"OS_PASSWORD": user.password} if user in Accounts().users else {}
    return {
        "OS_USERNAME": user.name,
        **known,
        "OS_USER_DOMAIN_NAME": accounts.domain.name,
        "OS_PROJECT_NAME": accounts.projects[0].name,
    }


async def _serve(
    service: Sandbox, host: str, port: int, context: ssl.SSLContext | None, variables: dict[str, str]
) -> None:
    stopped = awaited()
    async with serve(service, host, port, ssl_context=context) as url:
        sys.stdout.write(f"{url}\n")
        sys.stdout.flush()
        places = {"FPGA_BATCH_ENDPOINT": url, "OS_AUTH_URL": f"{url}/v3"}
        settings = " ".join(f"{name}={copyable(value)}" for name, value in (places | variables).items())
        say(f"export {settings}")
        if "OS_PASSWORD" not in variables:
            say(f"# and OS_PASSWORD, which the catalogue has for {variables['OS_USERNAME']}")
        await stopped.wait()
