"""The command `login`: whose the credentials are, what they are for, until when, and whether they suffice."""

import asyncio
from contextlib import suppress

from batch.errors import BatchError, DeniedError, ServiceUnavailableError
from batch.http.transport import TransportError
from batch.model import Kind, Request, Response
from batch.results.summary import duration
from jobs import ecs
from jobs import log as logs
from jobs.auth.credentials import Found, find
from jobs.commands.connection import Connection, connection, place
from jobs.commands.stopping import interruptible
from jobs.endpoints import Site
from jobs.options import LoginOptions

_WIDTH = 14
_TOLERATED = 1.5
"""Seconds by which clocks count as equal: an answer's date has whole seconds."""


def log_in(options: LoginOptions) -> list[str]:
    """Return in lines what there is to say of the credentials; no secret is in it.

    Raises:
        DeniedError: they are refused, or may not list associations.
        ServiceUnavailableError: nobody answers, or not as this API does.
        ConfigurationError: something is missing or wrong.

    """
    logs.configure(options.verbose, options.log_format, quiet=False)
    found = find(options.os_cloud)
    where = place(options, found)
    made = connection(options, found, where, 1)
    try:
        return asyncio.run(interruptible(_proved(made, found, where)))
    except TransportError as error:
        raise ServiceUnavailableError(str(error)) from None


async def _proved(made: Connection, found: Found, where: Site) -> list[str]:
    async with made.access as access:
        # Without an id this call lists nothing, whoever asks: it only shows whether it may be made.
        scope = where.address()
        request = Request("GET", f"{scope}/associations?page=1&size=1", None, scope)
        response = await access.send(request)
        verdict = ecs.classify(response)
        if verdict.kind is Kind.UNAUTHENTICATED and await access.renew(request, response):
            response = await access.send(request)
            verdict = ecs.classify(response)
        grant = await access.grant(scope)
        is_done = verdict.kind is Kind.DONE and not verdict.foreign
        if is_done:
            with suppress(BatchError, TransportError):  # the service has spoken: nobody else is needed
                grant = await made.issuer.about(access.http) or grant
    told = " ".join(filter(None, (str(response.status), verdict.code, verdict.message)))
    lines = {
        "credentials": found.source,
        "who": grant.who,
        "project": grant.project_id + (f" ({grant.project_name})" if grant.project_name else ""),
        "region": where.region or "not known, the endpoint is given",
        "endpoint": scope.partition("/v1/")[0],
        "valid until": grant.expires_at or "no end is known",
        "clock": _clock(made, response),
    }
    if is_done:
        lines["associations"] = "may be listed"
        return _as_text(lines)
    error: BatchError
    if verdict.kind in (Kind.UNAUTHENTICATED, Kind.DENIED):
        error = DeniedError(f"the service refuses them: {told}")
    else:
        error = ServiceUnavailableError(f"the service answered {told}")
    for line in _as_text(lines):
        error.add_note(line)
    raise error


def _clock(made: Connection, response: Response) -> str:
    ahead = made.clock.seen(response)
    if ahead is None:
        return "the service does not tell its time"
    if abs(ahead) <= _TOLERATED:
        return "as the service's"
    return f"{duration(abs(ahead))} {'slow' if ahead > 0 else 'fast'}"


def _as_text(lines: dict[str, str]) -> list[str]:
    return [f"{name + ':':<{_WIDTH}}{text}" for name, text in lines.items()]
