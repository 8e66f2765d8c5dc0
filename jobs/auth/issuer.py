"""Where grants come from: the kinds of credentials, each taken to what requests are authorised with."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from batch.errors import BatchError, ConfigurationError
from batch.http.network import proxy_of
from batch.http.transport import CONTENT_TYPE, HttpTransport, TransportError
from batch.model import Response
from jobs.auth import iam, metadata
from jobs.auth.clock import ServiceClock
from jobs.auth.credentials import NO_CREDENTIALS, Agency, Cloud, Credential, Found, Grant, Password, Token
from jobs.auth.masking import Secrets
from jobs.auth.signing import Keys, signed

Connect = Callable[[float | None], HttpTransport]
"""Makes a pool of connections; with a number, one that waits so many seconds for an answer at most."""


class Issuer:
    """Makes grants of the credentials that were found.

    Args:
        found: the credentials.
        identity: base URL of the identity service, or empty if it is not known.
        clock: by which calls are signed.
        connect: makes pools of connections.
        secrets: learns every secret that comes to be held.
        authorities: whom to trust where the connections are not made by `connect`.

    """

    def __init__(
        self,
        found: Found,
        identity: str,
        clock: ServiceClock,
        connect: Connect,
        secrets: Secrets,
        authorities: Path | None = None,
    ) -> None:
        self._found = found
        self._identity = found.iam or identity
        self._clock = clock
        self._connect = connect
        self._secrets = secrets
        self._authorities = authorities

    @property
    def credential(self) -> Credential | None:
        """The credentials that grants are made of, or None where there are none."""
        return self._found.credential

    @property
    def can_renew(self) -> bool:
        """Whether another grant may be good where one is refused."""
        return isinstance(self.credential, Password | Cloud | Agency)

    async def grant(self, project_id: str, project_name: str, http: HttpTransport) -> Grant:
        """Return a new grant for a project, given by its id or else its name.

        Raises:
            TransportError: it cannot be had just now.
            DeniedError: the credentials are refused.
            ConfigurationError: something is missing or wrong.

        """
        return await self._masked(self._made(project_id, project_name, http))

    async def about(self, http: HttpTransport) -> Grant | None:
        """Return what the identity service says of a token that was given, or None if it cannot be asked."""
        if not isinstance(self.credential, Token) or not self._identity:
            return None
        return await self._masked(self._ask(iam.about(self.credential, self._identity), http))

    async def _masked(self, making: Awaitable[Grant]) -> Grant:
        """Return a grant with every secret masked in what is shown of it, or in the error that it ends in."""
        try:
            grant = await making
        except (BatchError, TransportError) as error:
            self._secrets.error(error)
            raise
        self._secrets.learn(*grant.credential.secrets)
        return replace(
            grant,
            who=self._secrets.masked(grant.who),
            project_name=self._secrets.masked(grant.project_name),
            expires_at=self._secrets.masked(grant.expires_at),
        )

    async def _made(self, project_id: str, project_name: str, http: HttpTransport) -> Grant:
        match self.credential:
            case None:
                raise ConfigurationError(
                    f"{NO_CREDENTIALS} (no metadata service is asked: this machine's firmware does not say "
                    "that it is an ECS, and FPGA_BATCH_METADATA_ENDPOINT names none)"
                )
            case Cloud() as cloud:
                from jobs.auth.credentials import clouds  # noqa: PLC0415 - openstacksdk takes a second to import

                return await _beside(
                    lambda: clouds.token_for(
                        cloud, project_id, project_name, self._authorities, self._secrets.learn
                    )
                )
            case Password() as password:
                call = iam.token_for(password, self._iam("a user"), project_id, project_name)
                return await self._ask(call, http)
            case Agency(endpoint):
                async with self._connect(metadata.TIMEOUT) as own:
                    temporary = await self._drive(metadata.temporary_keys(endpoint), own, proxy=None)
                return await self._of_keys(temporary, project_id, project_name, http)
            case Keys() as keys:
                return await self._of_keys(
                    Grant(keys, "", who=iam.holder(keys)), project_id, project_name, http
                )
            case token if project_id:
                return Grant(token, project_id, who=self._found.source)
            case token:
                grant = await self._ask(iam.about(token, self._iam("a token's project")), http)
        if project_name != grant.project_name:
            raise ConfigurationError(
                f"{self._found.source} holds a token for project {grant.project_name}, not for "
                f"{project_name}: set --project-id, or use keys or a user"
            )
        return replace(grant, lifetime=None)  # nobody can renew it, so that its end is not waited for

    async def _of_keys(self, held: Grant, project_id: str, project_name: str, http: HttpTransport) -> Grant:
        assert isinstance(held.credential, Keys)
        if not project_id:
            look_up = iam.project_named(held.credential, self._iam("a project's id"), project_name)
            project_id = (await self._ask(look_up, http)).project_id
        return replace(held, project_id=project_id, project_name=project_name)

    def _iam(self, what: str) -> str:
        if not self._identity:
            raise ConfigurationError(f"where is the identity service? for {what} set OS_AUTH_URL")
        return self._identity

    async def _ask(self, exchange: iam.Exchange, http: HttpTransport) -> Grant:
        return await self._drive(exchange, http, proxy=proxy_of(self._identity))

    async def _drive(self, exchange: iam.Exchange, http: HttpTransport, *, proxy: str | None) -> Grant:
        """Send an exchange's calls until it ends. A signature found out of time is made anew once."""
        call = next(exchange)
        while True:
            end: Response | TransportError
            try:
                end = await self._send(call, http, proxy)
                if call.keys and iam.is_out_of_time(end) and self._clock.follow(end):
                    end = await self._send(call, http, proxy)
            except TransportError as error:
                end = error
            try:
                call = exchange.throw(end) if isinstance(end, TransportError) else exchange.send(end)
            except StopIteration as stop:
                grant: Grant = stop.value
                self._secrets.learn(*grant.credential.secrets)
                return grant

    async def _send(self, call: iam.Call, http: HttpTransport, proxy: str | None) -> Response:
        headers = call.headers
        self._secrets.learn(*call.secrets)
        if call.keys:
            kind = {"Content-Type": CONTENT_TYPE}
            headers = signed(call.method, call.url, kind, call.body, call.keys, self._clock.now())
        # A refusal is masked before it is read; a success may hold new secrets, so what is shown of it is.
        response = await http.send(
            call.method, call.url, headers, call.body, proxy=proxy, limit=iam.ANSWER_LIMIT
        )
        if response.unreadable:
            raise TransportError(
                "connection", f"{urlsplit(call.url).netloc}: {response.unreadable}", sent=True
            )
        return response if response.status < 300 else self._secrets.response(response)


async def _beside(work: Callable[[], Grant]) -> Grant:
    """Do what blocks in a thread that nobody waits for when the program ends."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Grant] = loop.create_future()

    def settle(grant: Grant | None, error: BaseException | None) -> None:
        if done.done():  # nobody waits any more
            return
        if grant:
            done.set_result(grant)
        elif error:
            done.set_exception(error)

    def run() -> None:
        grant, failure = None, None
        try:
            grant = work()
        except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
            failure = error
        with suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(settle, grant, failure)

    threading.Thread(target=run, daemon=True).start()
    return await done
