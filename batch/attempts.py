"""One attempt of one request: permit, sending, and what its end means for the row, its scope and the run."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from batch.errors import BatchError, DeniedError, ServiceUnavailableError
from batch.job import Conversation, Job
from batch.model import Kind, Request, Response, Verdict
from batch.pace import Auto, Pace, Rate
from batch.retry import RetryPolicy, next_wait
from batch.summary import duration
from batch.transport import TransportError

log = logging.getLogger(__name__)


class Transport(Protocol):
    """Sends one request once."""

    async def send(self, request: Request) -> Response:
        """Return the response.

        Raises:
            TransportError: there was no whole answer.

        """
        ...


@dataclass(slots=True, eq=False)
class Task:
    """A row on its way.

    Attributes:
        row: its number.
        conversation: the job's generator.
        request: what the conversation asks for now.
        attempts: attempts of that request, throttled ones not counted.
        throttled_since: when that request was first throttled, without another answer since.
        in_doubt: whether a write of this row may have been applied unseen.
        begun: whether a write has been announced.
        sent: requests of this row on the wire so far.
        in_flight: whether one of them is there now.
        cut_short: whether a stop has taken attempts from it.
        started_at: first of them, seconds since the epoch.
        started: the same, by the loop's clock.

    """

    row: int
    conversation: Conversation
    request: Request
    attempts: int = 0
    throttled_since: float | None = None
    in_doubt: bool = False
    begun: bool = False
    sent: int = 0
    in_flight: bool = False
    cut_short: bool = False
    started_at: float = 0.0
    started: float = 0.0


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
        max_outage: seconds for which the service may be down.
        begin: told of each row before the first request that is meant to change something is sent for it.
        stop: called when an answer ends the run.
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
        self._draw = draw
        self._clock = clock
        self._paces: dict[str, Pace] = {}

    @property
    def down(self) -> bool:
        """Whether the service is down now, in one of the places at least."""
        return any(pace.outage.since is not None for pace in self._paces.values())

    @property
    def failing(self) -> bool:
        """Whether the last answers were failures, in one of the places at least, and it is not yet down."""
        return any(pace.outage.is_suspected for pace in self._paces.values())

    @property
    def found_rate(self) -> float | None:
        """Requests a second that have been found to pass, in all places together; None where fixed."""
        found = [pace.adaptive.per_second for pace in self._paces.values() if pace.adaptive]
        return sum(found) if found else None

    async def send(self, task: Task) -> tuple[Verdict, Response | None]:
        """Send a row's request once, as soon as it may leave; return what the job makes of the end.

        Raises:
            BatchError: it cannot be sent.

        """
        request = task.request
        pace = self._pace(request)
        await pace.permit()
        if request.writes and not task.begun:
            self._begin(task.row)
            task.begun = True
        sent_at = asyncio.get_running_loop().time()
        if not task.sent:
            task.started, task.started_at = sent_at, self._clock()
        task.sent += 1
        self.sent += 1
        response = None
        task.in_flight = True
        try:
            response = await self._transport.send(request)
        except TransportError as error:
            verdict = Verdict(Kind.TRANSIENT, error.reason, maybe_applied=error.sent, message=str(error))
        except asyncio.CancelledError:
            task.in_doubt = task.in_doubt or request.writes
            raise
        else:
            verdict = self._job.classify(response)
        finally:
            task.in_flight = False
        log.debug("row %d: %s %s: %s", task.row, request.method, request.url, _told(verdict))
        task.in_doubt = task.in_doubt or (verdict.maybe_applied and request.writes)
        if _is_failure(verdict, response):
            self._note_failure(task, verdict, pace, sent_at)
        else:
            self._note_answer(task, verdict, pace, sent_at)
        return verdict, response

    def wait_after(self, task: Task, verdict: Verdict) -> float | None:
        """Return seconds to wait before a row's next attempt, or None when the answer is final."""
        throttled_for = 0.0
        if task.throttled_since is not None:
            throttled_for = asyncio.get_running_loop().time() - task.throttled_since
        wait = next_wait(self._policy, verdict, task.attempts, throttled_for, self._draw())
        if wait is not None:
            log.info(
                "row %d: %s: attempt %d, the next in %.1f s (%s)",
                *(task.row, verdict.reason, task.attempts, wait, verdict.message or verdict.code),
            )
        return wait

    def _pace(self, request: Request) -> Pace:
        pace = self._paces.get(request.scope)
        if pace is None:
            pace = self._paces[request.scope] = Pace(self._rate, self._policy)
        return pace

    def _note_failure(self, task: Task, verdict: Verdict, pace: Pace, sent_at: float) -> None:
        """Keep what it means for row and scope that the service did not answer, or only with an error."""
        task.throttled_since = None
        was_up = pace.outage.since is None
        task.attempts += pace.outage.failed(sent_at, task.row, reached=verdict.maybe_applied)
        if (since := pace.outage.since) is None:
            return
        if was_up:
            told = _told(verdict)
            log.info("%s is down (%s): asking now and then until it answers", task.request.scope, told)
            left = self._max_outage - (asyncio.get_running_loop().time() - since)
            asyncio.get_running_loop().call_later(left, self._give_up, pace, since, told)

    def _give_up(self, pace: Pace, since: float, told: str) -> None:
        """Stop if an outage is still the one that it was."""
        if pace.outage.since == since:
            lasted = duration(asyncio.get_running_loop().time() - since)
            self._stop(
                ServiceUnavailableError(f"the service has been down for {lasted}: {told}"), finish=False
            )

    def _note_answer(self, task: Task, verdict: Verdict, pace: Pace, sent_at: float) -> None:
        """Keep what an answer means for the row, its scope and the run."""
        if pace.outage.answered():
            log.info("%s answers again", task.request.scope)
        if verdict.kind is Kind.THROTTLED:
            if pause := pace.throttled(sent_at, verdict.pause, self._draw(), verdict.limit):
                self.throttled += 1
                log.info("throttled: pausing %.1f s (%s)", pause, verdict.message or verdict.code)
            task.throttled_since = task.throttled_since or sent_at
            task.attempts += sent_at - task.throttled_since >= self._policy.patience
        else:
            pace.answered(sent_at, verdict.limit)
            task.throttled_since = None
            task.attempts += 1
        if verdict.kind is Kind.DENIED:
            self._stop(DeniedError(f"the service answered: {_told(verdict)}"), finish=False)
        elif verdict.kind is Kind.NO_SERVICE:
            self._stop(ServiceUnavailableError(f"the service answered: {_told(verdict)}"), finish=False)


def _is_failure(verdict: Verdict, response: Response | None) -> bool:
    """Whether the service did not answer, or only that something is wrong with it."""
    return response is None or (response.status >= 500 and verdict.kind is Kind.TRANSIENT)


def _told(verdict: Verdict) -> str:
    return " ".join(filter(None, (verdict.code, verdict.message))) or verdict.reason or verdict.kind.value
