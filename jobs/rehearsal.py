"""The command `sandbox`: the stand-in service as a process of its own."""

import asyncio
import signal
import sys
from pathlib import Path

from batch.errors import ConfigurationError, InputMissingError, InputUnusableError, UsageError
from jobs.sandbox import Catalogue, Faults, Sandbox, parse_rate_limit, serve


def serve_until_stopped(
    *,
    host: str,
    port: int,
    catalogue: Path | None,
    strict: bool,
    seed: int,
    latency: float,
    rate_limit: str | None,
    retry_after: bool,
    faults: list[str],
) -> None:
    """Serve until a signal comes; print the address on standard output when ready.

    Raises:
        UsageError: a fault or rate limit is not understood.
        InputMissingError: the catalogue is not there.
        InputUnusableError: the catalogue is not understood.
        ConfigurationError: the address cannot be listened on.

    """
    try:
        limit = parse_rate_limit(rate_limit) if rate_limit else None
        drawn = Faults.parse(faults, latency=latency, rate_limit=limit, retry_after=retry_after)
    except ValueError as error:
        raise UsageError(str(error)) from None
    if catalogue and not catalogue.exists():
        raise InputMissingError(f"{catalogue}: no such file")
    try:
        declared = Catalogue.load(catalogue) if catalogue else None
    except ValueError as error:
        raise InputUnusableError(str(error)) from None
    service = Sandbox(declared, strict=strict, faults=drawn, seed=seed)
    try:
        asyncio.run(_serve(service, host, port))
    except OSError as error:
        raise ConfigurationError(f"cannot listen on {host}, port {port}: {error.strerror or error}") from None


async def _serve(service: Sandbox, host: str, port: int) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stopped.set)
    async with serve(service, host, port) as url:
        sys.stdout.write(f"{url}\n")
        sys.stdout.flush()
        await stopped.wait()
