"""One attempt of one request: permit, sending, and what its end means for the row, its scope and the run."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

from batch.errors import BatchError, DeniedError, ServiceUnavailableError
from batch.halt import after_throttled
from batch.job import Job, Transport
from batch.model import Kind, Request, Response, Verdict
from batch.outage import Outage
from batch.pace import Pace
from batch.rate import Auto, Rate
from batch.retry import RetryPolicy, hint, next_wait
from batch.scope import Scope
from batch.summary import duration
from batch.task import End, Task
from batch.transport import TransportError

log = logging.getLogger(__name__)


_MOST_REFUSALS = 10
"""Credentials that one request may be refused with: one renewal suffices, unless they end very early."""

_IN_QUESTION = (Kind.NO_SERVICE, Kind.UNAUTHENTICATED)


class Stop(Protocol):
    """Ends the run early."""

    def __call__(self, error: BatchError, *, finish: bool) -> None:
        """Stop because of `error`; `finish` says whether rows under way may still send."""
        ...


class Attempts:
    """Sends attempts, and keeps what the service's answers say of each scope.

    Args:
        job: says what an answer means.
        transport: where requests go.
        rate: requests that a scope may send.
        policy: when to try again.
        max_outage: seconds for which the service may be down, or throttle everything.
        begin: told of each row before the first request that is meant to change something is sent for it.
        stop: called when an answer ends the run.
        judged: told of each scope whose service turns out to be down, or not to be after all.
        opened: called when a scope is open again that was closed.
        draw: random numbers in [0, 1).
        clock: seconds since the epoch, for the report's times.

    Attributes:
        sent: requests sent so far.
        throttled: how often all had to pause so far.

    """

    def __init__(
        self,
        job: Job[Any],
        transport: Transport,
        *,
        rate: Rate | Auto,
        policy: RetryPolicy,
        max_outage: float,
        begin: Callable[[int], None],
        stop: Stop,
        judged: Callable[[str, bool], None],
        opened: Callable[[], None],
        draw: Callable[[], float],
        clock: Callable[[], float],
    ) -> None:
        self.sent = 0
        self.throttled = 0
        self._job = job
        self._transport = transport
        self._rate = rate
        self._policy = policy
        self._max_outage = max_outage
        self._begin = begin
        self._stop = stop
        self._judged = judged
        self._opened = opened
        self._draw = draw
        self._clock = clock
        self._scopes: dict[str, Scope] = {}

    @property
    def down(self) -> bool:
        """Whether the service is down now, in one of the places at least."""
        return any(scope.pace.outage.since is not None for scope in self._scopes.values())

    def suspects(self, scope: str) -> bool:
        """Whether it may be that the service of a scope is going down, and it is not yet known."""
        return scope in self._scopes and self._scopes[scope].pace.outage.is_suspected

    @property
    def found_rate(self) -> float | None:
        """Requests a second that have been found to pass, in all places together; None where fixed."""
        adaptive = [each for scope in self._scopes.values() if (each := scope.pace.adaptive)]
        return sum(each.per_second for each in adaptive) if adaptive else None

    def is_shut(self, scope: str) -> bool:
        """Whether a scope is closed, and somebody waits for it to open already."""
        return scope in self._scopes and self._scopes[scope].pace.is_shut

    def is_busy(self, scope: str) -> bool:
        """Whether a row of a scope waits already for its request to leave."""
        return scope in self._scopes and self._scopes[scope].pace.is_busy

    async def send(self, task: Task) -> End | None:
        """Send a row's request once, as soon as it may leave; return what the job makes of the end.

        Return None at once where the scope is closed and another row waits already for it to open.

        Raises:
            BatchError: it cannot be sent.

        """
        request = task.request
        scope = self._scope(request)
        if (permit := await scope.pace.permit()) is None:
            return None
        response = None
        sent_at = asyncio.get_running_loop().time()
        try:
            if not self._transport.is_ready(request):
                await self._transport.prepare(request)
                if (permit := await scope.pace.permit(permit)) is None:
                    return None  # what waited together must not leave together
            sent_at = self._note_sending(task)
            response = await self._transport.send(request)
            verdict = self._job.classify(response)
        except TransportError as error:
            verdict = _lost(error)
        except asyncio.CancelledError:
            task.in_doubt = task.in_doubt or (task.in_flight and request.writes)
            scope.pace.pass_on(permit)
            raise
        finally:
            task.in_flight = False
        if log.isEnabledFor(logging.DEBUG):
            log.debug("row %d: %s %s: %s", task.row, request.method, request.url, _told(verdict))
        if verdict.maybe_applied or verdict.maybe_later:
            self._note_doubt(task, verdict, response)
        if verdict.kind in _IN_QUESTION and response:
            verdict, response = await self._reconsidered(task, verdict, response, scope)
        if verdict.kind is Kind.TRANSIENT and (response is None or response.status >= 500):
            self._note_failure(task, verdict, scope, sent_at)
        else:
            self._note_answer(task, verdict, response, scope, sent_at)
        return verdict, response

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

    async def _reconsidered(
        self, task: Task, verdict: Verdict, response: Response, scope: Scope
    ) -> tuple[Verdict, Response | None]:
        """Return what a refusal comes to: of the API after it has served, of credentials after renewal."""
        if verdict.kind is Kind.NO_SERVICE:
            is_there = scope.serves and not verdict.code
            return replace(verdict, kind=Kind.REFUSED) if is_there else verdict, response
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
        if task.throttling:
            throttled_for = asyncio.get_running_loop().time() - task.throttling.since
        wait = next_wait(self._policy, verdict, task.attempts, throttled_for, self._draw())
        if wait is not None and self._scope(task.request).pace.outage.since is not None:
            return 0.0  # the gate of its scope is the wait
        if wait is not None and verdict.kind is not Kind.THROTTLED:
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

    def _scope(self, request: Request) -> Scope:
        scope = self._scopes.get(request.scope)
        if scope is None:
            scope = Scope(request.scope, Pace(self._rate, self._policy))
            scope.pace.outage.on_judged = partial(self._note_judgement, scope)
            scope.pace.on_open = self._opened
            self._scopes[request.scope] = scope
        return scope

    @staticmethod
    def _note_doubt(task: Task, verdict: Verdict, response: Response | None) -> None:
        """Keep that a write may have its effect although the service does not say so."""
        if task.request.writes:
            task.in_doubt |= verdict.maybe_applied
            task.maybe_later |= verdict.maybe_later
            task.unanswered |= verdict.maybe_applied and not _is_own_answer(response)

    def _note_failure(self, task: Task, verdict: Verdict, scope: Scope, sent_at: float) -> None:
        """Keep what it means for row and scope that the service did not answer, or only with an error."""
        task.throttling = scope.throttling = None
        told = _told(verdict)
        task.attempts += scope.pace.outage.failed(sent_at, task.row, told, reached=verdict.maybe_applied)

    def _note_judgement(self, scope: Scope, down: bool) -> None:
        """Keep what it means for a scope and the run that failures are an outage, or are none."""
        outage = scope.pace.outage
        if (since := outage.since) is not None:
            log.info("%s is down (%s): asking now and then until it answers", scope.name, outage.cause)
            asyncio.get_running_loop().call_at(since + self._max_outage, self._give_up, outage, since)
        self._judged(scope.name, down)

    def _give_up(self, outage: Outage, since: float) -> None:
        """Stop if an outage is still the one that it was."""
        if outage.since == since:
            lasted = duration(asyncio.get_running_loop().time() - since)
            told = f"the service has been down for {lasted}: {outage.cause}"
            self._stop(ServiceUnavailableError(told), finish=False)

    def _note_answer(
        self, task: Task, verdict: Verdict, response: Response | None, scope: Scope, sent_at: float
    ) -> None:
        """Keep what an answer means for the row, its scope and the run."""
        pace, kind = scope.pace, verdict.kind
        if pace.outage.answered():
            log.info("%s answers again", scope.name)
            scope.throttling = None
            self._opened()
        if kind is Kind.THROTTLED:
            if pause := pace.throttled(sent_at, verdict.pause, self._draw(), verdict.limit):
                self.throttled += 1
                log.info("throttled: pausing %.1f s (%s)", pause, verdict.message or verdict.code)
            self._note_throttling(task, verdict, scope, sent_at)
            return
        shown = self._job.shown_limit(response) if pace.adaptive and response else None
        pace.answered(sent_at, shown)
        task.throttling = scope.throttling = None
        if kind is Kind.UNAUTHENTICATED:
            return
        task.attempts += 1
        task.refusals = 0
        if kind is Kind.DONE:
            scope.serves = True
        elif kind is Kind.DENIED:
            self._stop(DeniedError(f"row {task.row}: the service answered: {_told(verdict)}"), finish=False)
        elif kind is Kind.NO_SERVICE:
            self._stop(ServiceUnavailableError(f"the service answered: {_told(verdict)}"), finish=False)

    def _note_throttling(self, task: Task, verdict: Verdict, scope: Scope, sent_at: float) -> None:
        """Keep how long the row and all of its scope have been throttled; stop when that is too long."""
        now = asyncio.get_running_loop().time()
        asked, patience = hint(self._policy, verdict.pause), self._policy.patience
        task.throttling = after_throttled(task.throttling, sent_at, now, asked, patience)
        scope.throttling = of_all = after_throttled(scope.throttling, sent_at, now, asked, self._max_outage)
        if (lasted := sent_at - of_all.since) > self._max_outage:
            told = f"the service has throttled every request for {duration(lasted)}: {_told(verdict)}"
            self._stop(ServiceUnavailableError(told), finish=False)
        else:
            task.attempts += sent_at - task.throttling.since >= patience


def _is_own_answer(response: Response | None) -> bool:
    """Whether the service itself has ended a request: not nobody, nor a gateway that did not wait for it."""
    return response is not None and response.status <= 501 and response.status != 408


def _lost(error: TransportError) -> Verdict:
    return Verdict(Kind.TRANSIENT, error.reason, maybe_applied=error.sent, message=str(error))


def _told(verdict: Verdict) -> str:
    return " ".join(filter(None, (verdict.code, verdict.message))) or verdict.reason or verdict.kind.value
