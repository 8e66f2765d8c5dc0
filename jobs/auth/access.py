"""The way to the service: each attempt is authorised anew, and a grant is renewed by one for all."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Self

from batch.errors import BatchError, ConfigurationError, DeniedError
from batch.http.network import proxy_of
from batch.http.transport import (
    CONTENT_TYPE,
    HttpTransport,
    ScopeRefusedError,
    TransportError,
    UnknownHostError,
)
from batch.model import Request, Response
from jobs.auth import iam
from jobs.auth.clock import ServiceClock
from jobs.auth.credentials import Agency, Grant
from jobs.auth.issuer import Connect, Issuer
from jobs.auth.masking import Secrets
from jobs.auth.signing import Keys, signed
from jobs.endpoints import named, project_of

log = logging.getLogger(__name__)

# A grant is renewed when a fifth of its time is left, 40 minutes at most, as the vendor's SDK does.
_SHARE_LEFT = 0.2
_LONGEST_LEFT = 2400.0
_SHORTEST_LIFE = 1.0
_AGAIN_AFTER = 30.0
_FOR_EVER = float("inf")
_REFUSED = "the credentials have been refused"


class Access:
    """Sends requests with a grant for the project of their scope; an async context manager.

    Args:
        issuer: makes the grants.
        clock: by which requests are signed.
        connect: makes the pool of connections.
        own: scope of the run's own project; the only one if empty. A refusal of another scope concerns that
            scope alone, once this one has been granted.
        secrets: masked in what the service says.

    Attributes:
        http: the pool, while the context lasts.

    """

    http: HttpTransport

    def __init__(
        self, issuer: Issuer, clock: ServiceClock, connect: Connect, secrets: Secrets, own: str = ""
    ) -> None:
        self._issuer = issuer
        self._clock = clock
        self._connect = connect
        self._own = own
        self._secrets = secrets
        self._scopes: dict[str, _Scope] = {}
        self._alone = asyncio.Lock()
        self._proven = not isinstance(issuer.credential, Keys | Agency)
        self._refused = False
        self._judged = asyncio.Event()
        self._judged.set()

    async def __aenter__(self) -> Self:
        self.http = await self._connect(None).__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        for held in self._scopes.values():
            await held.stop_renewing()
        await self.http.__aexit__()

    async def grant(self, scope: str) -> Grant:
        """Return what a scope's requests are authorised with now.

        Raises:
            TransportError: it cannot be had just now.
            ScopeRefusedError: it cannot be had for this scope.
            BatchError: it cannot be had.

        """
        held = self._scope(scope)
        await self._refresh(held)
        assert held.grant is not None
        return held.grant

    def is_own(self, request: Request) -> bool:
        """Whether a request is for the run's own project."""
        return not self._own or request.scope == self._own

    async def _refresh(self, held: "_Scope") -> None:
        """See to it that a scope has a grant; raise the refusal that an earlier row has met."""
        if held.refusal:
            raise ScopeRefusedError("no_such_project", held.refusal)
        await held.refresh()

    async def _issue(self, scope: str, project_id: str, project_name: str) -> Grant:
        """Return a new grant for a scope; tell whose fault it is if it cannot have one.

        All rows that wait for the grant share this one call, so that a refusal is judged once.
        """
        try:
            return await self._issuer.grant(project_id, project_name, self.http)
        except (ConfigurationError, DeniedError) as error:
            held = self._scopes[scope]
            if not self._own or scope == self._own or held.grant is not None:
                raise
            # If the run's own project can be had, the credentials are good and the others' rows go on.
            await self._scope(self._own).refresh()
            if isinstance(error, UnknownHostError):  # it is the one that has just answered
                raise TransportError("connection", str(error), sent=False) from error
            held.refusal = f"project {held.project}: {error}"
            raise ScopeRefusedError("no_such_project", held.refusal) from error

    def is_ready(self, request: Request) -> bool:
        """Whether a request may be sent at once: there is a grant, and nobody is just proving the keys."""
        held = self._scopes.get(request.scope)
        if held is None or not self._proven:
            return self._proven and self._scope(request.scope).is_good(_time())
        return held.is_good(_time())

    async def prepare(self, request: Request) -> None:
        """Wait until a request may be sent.

        Raises:
            TransportError: there is no grant just now.
            ScopeRefusedError: there is none for its scope.
            BatchError: there is none for it.

        """
        while not self._proven and self._alone.locked():
            async with self._alone:
                pass
        if self._refused:
            raise DeniedError(_REFUSED)
        if self._proven:
            await self._refresh(self._scope(request.scope))

    async def send(self, request: Request) -> Response:
        """Send a request once.

        Raises:
            TransportError: there was no whole answer, or there is no grant just now.
            ScopeRefusedError: there is no grant for its scope, or no host.
            BatchError: there is no grant for it.

        """
        held = self._scopes.get(request.scope) or self._scope(request.scope)
        if not self._proven:
            # Five wrong signatures in a row lock a key, so the first goes alone and one refusal tells. An
            # answer that is lost, or may have come before the signature was looked at, tells nothing.
            async with self._alone:
                await self._judged.wait()
                if self._refused:
                    raise DeniedError(_REFUSED)
                if not self._proven:
                    return await self._send_alone(request, held)
        if _time() >= held.look_at:
            await self._refresh(held)
        return await self._send(request, held)

    async def _send_alone(self, request: Request, held: "_Scope") -> Response:
        try:
            await self._refresh(held)
        except DeniedError:
            self._refused = True
            raise
        response = await self._send(request, held)
        if response.status == 401:
            self._judged.clear()
        self._proven = response.status < 500 and response.status not in (401, 429)
        return response

    async def _send(self, request: Request, held: "_Scope") -> Response:
        grant = held.grant
        assert grant is not None
        url = request.url
        if held.placeholder:
            url = url.replace(held.placeholder, grant.project_id, 1)
        credential = grant.credential
        if isinstance(credential, Keys):
            headers = {"Content-Type": CONTENT_TYPE, "X-Project-Id": grant.project_id}
            now = self._clock.now()
            headers = signed(request.method, url, headers, request.body, credential, now)
        else:
            headers = {"X-Auth-Token": credential.secret}
        try:
            response = await self.http.send(
                request.method, url, headers, request.body, proxy=held.proxy, credential=grant
            )
        except (BatchError, TransportError) as error:
            self._secrets.error(error)
            if not isinstance(error, ConfigurationError) or self.is_own(request):
                raise
            if isinstance(error, UnknownHostError):
                raise ScopeRefusedError("no_such_host", str(error)) from error
            raise ScopeRefusedError("connection", str(error)) from error
        if response.status != 401:
            held.accepted = grant
        return self._secrets.response(response)

    async def renew(self, request: Request, response: Response) -> bool:
        """Say whether there is a newer grant than the one that the response refuses; get it if need be.

        Raises:
            TransportError: it cannot be had just now.
            BatchError: the credentials are refused.

        """
        try:
            is_renewed = await self._renewed(self._scope(request.scope), response)
            if not is_renewed and (self.is_own(request) or not self._proven):
                self._refused = True
            return is_renewed
        finally:
            self._judged.set()

    async def _renewed(self, held: "_Scope", response: Response) -> bool:
        if response.credential is not held.grant:
            return True  # another one has renewed it meanwhile
        if held.is_renewed and held.accepted is not held.grant:
            return False  # it was new and never accepted: a yet newer one would be no better
        if iam.is_out_of_time(response) and self._clock.follow(response):
            held.sign_anew()
            return True
        if not self._issuer.can_renew:
            return False
        log.info("the credentials are accepted no more: renewing them")
        await held.renew()
        return True

    def _scope(self, scope: str) -> "_Scope":
        held = self._scopes.get(scope)
        if held is None:
            held = self._scopes[scope] = _Scope(scope, partial(self._issue, scope))
        return held


class _Scope:
    """The grant of one scope.

    Attributes:
        grant: what its requests are authorised with, or None before the first is needed.
        accepted: the grant that the service has accepted last.
        is_renewed: whether the grant has taken another one's place.
        refusal: why there will be none, or empty.
        project: what names the project, for people.
        look_at: when something is to be done about the grant, by the clock that does not jump.
        placeholder: what stands in the scope's URLs for a project's id that is not known; else empty.
        proxy: URL of the proxy to go through, or None.

    """

    def __init__(self, scope: str, issue: Callable[[str, str], Awaitable[Grant]]) -> None:
        self.grant: Grant | None = None
        self.accepted: Grant | None = None
        self.refusal = ""
        self.is_renewed = False
        self.look_at = 0.0
        self._project = project_of(scope)
        self.project = self._project[0] or self._project[1]
        self.placeholder = "" if self._project[0] else named(self._project[1])
        self.proxy = proxy_of(scope)
        self._issue = issue
        self._ends_at = 0.0
        self._renewing: asyncio.Task[None] | None = None

    def is_good(self, now: float) -> bool:
        """Whether there is a grant that has not ended."""
        return self.grant is not None and now < self._ends_at

    async def refresh(self) -> None:
        """See to it that there is a grant that has not ended; renew one early beside the work."""
        now = _time()
        if self.grant is None or now >= self._ends_at:
            await self.renew()
        elif now >= self.look_at:
            self.look_at = self._ends_at
            self._start_renewing().add_done_callback(self._look_again)

    async def renew(self) -> None:
        """Get another grant; whoever asks meanwhile waits for the same one.

        Raises:
            TransportError: it cannot be had just now.
            BatchError: it cannot be had.

        """
        renewing = self._start_renewing()
        await asyncio.wait({renewing})  # one who is cancelled leaves it to the others
        renewing.result()

    def sign_anew(self) -> None:
        """Count what is held as another grant: it goes with another signature."""
        assert self.grant is not None
        self.grant, self.is_renewed = replace(self.grant), True

    async def stop_renewing(self) -> None:
        """Leave nothing behind when the loop ends."""
        if self._renewing:
            self._renewing.cancel()
            await asyncio.wait({self._renewing})

    def _start_renewing(self) -> "asyncio.Task[None]":
        if self._renewing is None:
            self._renewing = asyncio.get_running_loop().create_task(self._renew())
            self._renewing.add_done_callback(_retrieve)
        return self._renewing

    async def _renew(self) -> None:
        try:
            grant = await self._issue(*self._project)
        except ConfigurationError as error:
            if self.grant is None:
                raise
            # It has worked before, so that this is a fault of the other side, and passes.
            raise TransportError("connection", str(error), sent=False) from error
        finally:
            self._renewing = None
        self.is_renewed = self.grant is not None
        self.grant = grant
        self.look_at = self._ends_at = _FOR_EVER
        if grant.lifetime is not None:
            lifetime = max(grant.lifetime, _SHORTEST_LIFE)
            self._ends_at = _time() + lifetime
            self.look_at = self._ends_at - min(lifetime * _SHARE_LEFT, _LONGEST_LEFT)

    def _look_again(self, renewing: "asyncio.Task[None]") -> None:
        """Note that an early renewal has failed; it is tried again while the old grant still holds."""
        if renewing.cancelled():
            return
        error = renewing.exception()
        if isinstance(error, TransportError | BatchError):
            log.info("the credentials could not be renewed yet: %s", error)
            self.look_at = min(_time() + _AGAIN_AFTER, self._ends_at)


def _retrieve(ended: "asyncio.Task[None]") -> None:
    """Take note of an error: all who have waited for it may have been cancelled."""
    if not ended.cancelled():
        ended.exception()


def _time() -> float:
    return asyncio.get_running_loop().time()
