"""One attempt of one request: permit, sending, and what its end means for the row, its scope and the run."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from batch.engine.pace import Permit
from batch.engine.retry import asked_too_long, next_wait
from batch.engine.scope import Scope
from batch.engine.scopes import Scopes, told
from batch.engine.task import End, Task
from batch.errors import ConfigurationError
from batch.http.transport import ScopeRefusedError, StarvedError, TransportError
from batch.job import Job, Transport
from batch.model import Kind, Response, Verdict
from batch.results.summary import duration

log = logging.getLogger(__name__)


_MOST_REFUSALS = 10
"""Credentials that one request may be refused with: one renewal suffices, unless they end very early."""


class Attempts(Scopes):
    """Sends attempts.

    Args:
        job: says what an answer means.
        transport: where requests go.
        begin: told of each row before the first request that is meant to change something is sent for it.
        clock: seconds since the epoch, for the report's times.
        scopes: the other arguments of `Scopes`.

    Attributes:
        sent: requests sent so far.

    """

    def __init__(
        self,
        job: Job[Any],
        transport: Transport,
        *,
        begin: Callable[[int], None],
        clock: Callable[[], float],
        **scopes: Any,
    ) -> None:
        super().__init__(job, transport, **scopes)
        self.sent = 0
        self._begin = begin
        self._clock = clock
        self._starved_since: float | None = None

    async def send(self, task: Task) -> End | None:
        """Send a row's request once, as soon as it may leave; return what the job makes of the end.

        Return None at once where the scope is closed and another row waits already for it to open.

        Raises:
            BatchError: it cannot be sent.

        """
        request = task.request
        scope = self._scope(request)
        if scope.refusal:
            return scope.refusal, None
        if (permit := await scope.pace.permit()) is None:
            return None
        if scope.refusal:  # since this row has waited for it to open
            scope.pace.pass_on(permit)
            return scope.refusal, None
        sent_at = asyncio.get_running_loop().time()
        try:
            if not self._transport.is_ready(request):
                await self._transport.prepare(request)
                if (permit := await scope.pace.permit(permit)) is None:
                    return None  # what waited together must not leave together
            sent_at = self._note_sending(task)
            response = await self._transport.send(request)
            verdict = self._job.classify(request, response)
        except TransportError as error:
            if isinstance(error, StarvedError):
                self._note_unsent(task, scope, permit)
                return self._starved(error)
            verdict, response = _lost(error), None
        except ScopeRefusedError as error:
            self._note_unsent(task, scope, permit)
            return self._refused(scope, Verdict(Kind.REFUSED, error.reason, message=str(error)))
        except asyncio.CancelledError:
            task.in_doubt = task.in_doubt or (task.in_flight and request.writes)
            scope.pace.pass_on(permit)
            raise
        finally:
            task.in_flight = False
        return await self._judged_end(task, verdict, response, scope, sent_at)

    async def _judged_end(
        self, task: Task, verdict: Verdict, response: Response | None, scope: Scope, sent_at: float
    ) -> End:
        """Return what the end of an attempt comes to, and keep what it says of row, scope and service."""
        self._starved_since = None
        if log.isEnabledFor(logging.DEBUG):
            request = task.request
            log.debug("row %d: %s %s: %s", task.row, request.method, request.url, told(verdict))
        if response and verdict.kind is Kind.UNAUTHENTICATED:
            verdict, response = await self._renewed(task, verdict, response)
        verdict = self._presence.meaning(verdict)
        if verdict.kind is Kind.DENIED and self._concerns_scope(verdict, response, scope):
            verdict, _ = self._refused(scope, replace(verdict, kind=Kind.REFUSED))
        if verdict.maybe_applied or verdict.maybe_later or verdict.foreign:
            self._note_doubt(task, verdict, response)
        if response and self._presence.note(verdict, response.status):
            self._found()
        if verdict.kind is Kind.TRANSIENT and (response is None or response.status >= 500):
            self._note_failure(task, verdict, scope, sent_at)
        else:
            self._note_answer(task, verdict, response, scope, sent_at)
        return verdict, response

    def take(self, task: Task, end: End) -> None:
        """Keep what an answer means for its row that was in question until the service was found."""
        self._note_doubt(task, *end)

    def _starved(self, error: StarvedError) -> End:
        """Return what it means that this machine could not make a connection; stop when that lasts."""
        now = asyncio.get_running_loop().time()
        if self._starved_since is None:
            self._starved_since = now
            log.warning("no connection can be made on this machine: %s", error)
        if now - self._starved_since > self._max_outage:
            message = (
                f"no connection can be made on this machine: {error}; lower --concurrency, or raise ulimit -n"
            )
            self._stop(ConfigurationError(message), finish=False)
        return Verdict(Kind.TRANSIENT, error.reason, message=str(error)), None

    def _note_sending(self, task: Task) -> float:
        """Note that a row's request is about to leave; return the time."""
        if task.request.writes and not task.begun:
            self._begin(task.row)
            task.begun = True
        sent_at = asyncio.get_running_loop().time()
        if not task.sent:
            task.started, task.started_at = sent_at, self._clock()
        task.sent += 1
        self.sent += 1
        task.in_flight = True
        return sent_at

    def _note_unsent(self, task: Task, scope: Scope, permit: Permit | None) -> None:
        """Take back that a request was to leave."""
        scope.pace.pass_on(permit)
        if task.in_flight:
            task.sent -= 1
            self.sent -= 1

    async def _renewed(
        self, task: Task, verdict: Verdict, response: Response
    ) -> tuple[Verdict, Response | None]:
        """Return what a refusal of credentials comes to after they have been renewed."""
        task.refusals += 1
        try:
            if task.refusals < _MOST_REFUSALS and await self._transport.renew(task.request, response):
                return verdict, response
        except TransportError as error:
            return _lost(error), None
        return replace(verdict, kind=Kind.DENIED), response

    def wait_after(self, task: Task, verdict: Verdict) -> float | None:
        """Return seconds to wait before a row's next attempt, or None when the answer is final."""
        throttled_for = 0.0
        if task.throttled_since is not None:
            throttled_for = asyncio.get_running_loop().time() - task.throttled_since
        put_off, draw = task.put_off, self._draw()
        wait = next_wait(
            self._policy,
            verdict,
            task.attempts,
            throttled_for,
            draw,
            is_put_off=put_off,
            passed_by=task.passed_by,
        )
        if wait is not None and self._scope(task.request).pace.outage.since is not None:
            return 0.0  # the gate of its scope is the wait
        if wait and (asked := asked_too_long(self._policy, verdict)):
            task.put_off = True
            log.warning(
                "row %d: the service asks to wait %s (%s): trying once more after %s, as --max-outage says",
                *(task.row, duration(asked), told(verdict), duration(wait)),
            )
        elif wait is not None and verdict.kind is not Kind.THROTTLED:
            log.info(
                "row %d: %s: attempt %d, the next in %.1f s (%s)",
                *(task.row, verdict.reason, task.attempts, wait, verdict.message or verdict.code),
            )
        return wait

    def is_undecided(self, task: Task, verdict: Verdict) -> bool:
        """Whether a row's failure may yet turn out to be an outage; then `judged` will tell."""
        return verdict.kind is Kind.TRANSIENT and self._scope(task.request).pace.outage.is_undecided

    def cool_down(self, task: Task) -> float:
        """Return the seconds left of the cool-down that a row's next attempt would have to wait for."""
        return self._scope(task.request).pace.cool_down

    def _note_doubt(self, task: Task, verdict: Verdict, response: Response | None) -> None:
        """Keep that a write may have its effect although the service does not say so."""
        if task.request.writes and not self.is_in_question(verdict):
            task.hidden |= verdict.foreign and verdict.kind in (Kind.NO_SERVICE, Kind.TRANSIENT)
            task.in_doubt |= verdict.maybe_applied
            task.maybe_later |= verdict.maybe_later
            task.unanswered |= verdict.maybe_applied and not _is_own_answer(response)


def _is_own_answer(response: Response | None) -> bool:
    """Whether the service itself has ended a request: not nobody, nor a gateway that did not wait for it."""
    return response is not None and response.status <= 501 and response.status != 408


def _lost(error: TransportError) -> Verdict:
    return Verdict(Kind.TRANSIENT, error.reason, maybe_applied=error.sent, message=str(error))
