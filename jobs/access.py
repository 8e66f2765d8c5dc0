"""The way to the service: each attempt is authorised anew, and a grant is renewed by one for all."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Self

from batch.errors import BatchError, DeniedError
from batch.model import Request, Response
from batch.network import proxy_of
from batch.transport import CONTENT_TYPE, HttpTransport, TransportError
from jobs import iam
from jobs.clock import ServiceClock
from jobs.credentials import Agency, Grant
from jobs.endpoints import named, project_of
from jobs.issuer import Connect, Issuer
from jobs.signing import Keys, signed

log = logging.getLogger(__name__)

# A grant is renewed when a fifth of its time is left, 40 minutes at most, as the vendor's SDK does.
_SHARE_LEFT = 0.2
_LONGEST_LEFT = 2400.0
_SHORTEST_LIFE = 1.0
_AGAIN_AFTER = 30.0
_FOR_EVER = float("inf")


class Access:
    """Sends requests with a grant for the project of their scope; an async context manager.

    Args:
        issuer: makes the grants.
        clock: by which requests are signed.
        connect: makes the pool of connections.

    Attributes:
        http: the pool, while the context lasts.

    """

    http: HttpTransport

    def __init__(self, issuer: Issuer, clock: ServiceClock, connect: Connect) -> None:
        self._issuer = issuer
        self._clock = clock
        self._connect = connect
        self._scopes: dict[str, _Scope] = {}
        self._alone = asyncio.Lock()
        self._proven = not isinstance(issuer.credential, Keys | Agency)
        self._refused = False

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
            BatchError: it cannot be had.

        """
        held = self._scope(scope)
        await held.refresh()
        assert held.grant is not None
        return held.grant

    async def send(self, request: Request) -> Response:
        """Send a request once.

        Raises:
            TransportError: there was no whole answer, or there is no grant just now.
            BatchError: there is no grant for it.

        """
        held = self._scopes.get(request.scope) or self._scope(request.scope)
        if _time() >= held.look_at:
            await held.refresh()
        if not self._proven:
            # Five wrong signatures in a row lock a key, so the first goes alone and one refusal tells.
            async with self._alone:
                if self._refused:
                    raise DeniedError("the access key has been refused")
                if not self._proven:
                    return await self._send_first(request, held)
        return await self._send(request, held)

    async def _send_first(self, request: Request, held: "_Scope") -> Response:
        try:
            response = await self._send(request, held)
        except TransportError:
            self._proven = True  # nothing was refused
            raise
        self._proven = response.status != 401
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
        response = await self.http.send(
            request.method, url, headers, request.body, proxy=held.proxy, credential=grant
        )
        if response.status != 401:
            held.accepted = grant
        return response

    async def renew(self, request: Request, response: Response) -> bool:
        """Say whether there is a newer grant than the one that the response refuses; get it if need be.

        Raises:
            TransportError: it cannot be had just now.
            BatchError: the credentials are refused.

        """
        held = self._scope(request.scope)
        if response.credential is not held.grant:
            return True  # another one has renewed it meanwhile
        if held.is_renewed and held.accepted is not held.grant:
            self._refused = True  # it was new and never accepted: a yet newer one would be no better
            return False
        if iam.is_out_of_time(response) and self._clock.follow(response):
            held.sign_anew()
            return True
        if not self._issuer.can_renew:
            self._refused = True
            return False
        log.info("%s: the credentials are accepted no more: renewing them", request.scope)
        await held.renew()
        return True

    def _scope(self, scope: str) -> "_Scope":
        held = self._scopes.get(scope)
        if held is None:
            held = self._scopes[scope] = _Scope(
                scope, lambda project_id, name: self._issuer.grant(project_id, name, self.http)
            )
        return held


class _Scope:
    """The grant of one scope.

    Attributes:
        grant: what its requests are authorised with, or None before the first is needed.
        accepted: the grant that the service has accepted last.
        is_renewed: whether the grant has taken another one's place.
        look_at: when something is to be done about the grant, by the clock that does not jump.
        placeholder: what stands in the scope's URLs for a project's id that is not known; else empty.
        proxy: URL of the proxy to go through, or None.

    """

    def __init__(self, scope: str, issue: Callable[[str, str], Awaitable[Grant]]) -> None:
        self.grant: Grant | None = None
        self.accepted: Grant | None = None
        self.is_renewed = False
        self.look_at = 0.0
        self._project = project_of(scope)
        self.placeholder = "" if self._project[0] else named(self._project[1])
        self.proxy = proxy_of(scope)
        self._issue = issue
        self._ends_at = 0.0
        self._renewing: asyncio.Task[None] | None = None

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
        return self._renewing

    async def _renew(self) -> None:
        try:
            grant = await self._issue(*self._project)
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


def _time() -> float:
    return asyncio.get_running_loop().time()
