"""The worker pool: takes each row to its outcome.

One row's way: a worker takes it and opens its conversation; each request waits for a permit, is sent, and
the job says what the end of the attempt means. Final answers go back into the conversation; for the others
the row is set aside until its next attempt is due, and holds neither worker nor permit meanwhile.
"""

import asyncio
import logging
import random
import time
from collections import Counter, deque
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from batch.errors import (
    BatchError,
    DeniedError,
    InternalError,
    ServiceUnavailableError,
    StoppedEarlyError,
)
from batch.halt import NO_LIMITS, Limits
from batch.job import Conversation, Job
from batch.model import Answer, Kind, Outcome, Request, Response, Result, Row, Status, Verdict
from batch.pace import Pace, Rate
from batch.retry import RetryPolicy, next_wait
from batch.summary import counted, duration
from batch.transport import TransportError

log = logging.getLogger(__name__)

MOST_WAITING = 1_000
"""Rows set aside at once; past it no new row is taken, so that memory does not grow in an outage."""

_STOPPING = (Kind.DENIED, Kind.NO_SERVICE)

GRACE = 10.0
"""Seconds that requests in flight get to end when a run is stopped."""


class Transport(Protocol):
    """Sends one request once."""

    async def send(self, request: Request) -> Response:
        """Return the response.

        Raises:
            TransportError: there was no whole answer.

        """
        ...


@dataclass(slots=True, eq=False)
class _Task:
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


class Engine:
    """Runs the rows of one job through a pool of workers.

    Args:
        job: what to do with a row.
        transport: where requests go.
        rate: requests that a scope may send.
        concurrency: requests in flight at most.
        policy: when to try again.
        limits: when to stop before the end.
        begin: told of each row before the first request that is meant to change something is sent for it.
        record: takes each outcome with its row's number, as it happens.
        in_doubt: rows that an earlier run may have had an effect on unseen.
        draw: random numbers in [0, 1).
        clock: seconds since the epoch, for the report's times.

    Attributes:
        outcomes: rows ended so far, by status.
        requests: requests sent so far.
        throttled: how often all had to pause so far.
        stopped: why the run stopped before its end, or None.
        unsettled: outcomes of rows that the stop cut short, by row: true now, and worth another run.

    """

    def __init__(
        self,
        job: Job[Any],
        transport: Transport,
        *,
        rate: Rate,
        concurrency: int,
        policy: RetryPolicy,
        record: Callable[[int, Outcome], None],
        begin: Callable[[int], None] = lambda _row: None,
        limits: Limits = NO_LIMITS,
        in_doubt: Container[int] = (),
        draw: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.outcomes: Counter[Status] = Counter()
        self.requests = 0
        self.throttled = 0
        self.stopped: BatchError | None = None
        self.unsettled: dict[int, Outcome] = {}
        self._job = job
        self._transport = transport
        self._rate = rate
        self._concurrency = concurrency
        self._policy = policy
        self._limits = limits
        self._begin = begin
        self._record = record
        self._in_doubt = in_doubt
        self._draw = draw
        self._clock = clock
        self._rows: Iterator[Row] = iter(())
        self._paces: dict[str, Pace] = {}
        self._workers: dict[asyncio.Task[None], _Task | None] = {}
        self._ready: deque[_Task] = deque()
        self._waiting: dict[_Task, asyncio.TimerHandle] = {}
        self._unfinished = 0
        self._changed = asyncio.Event()
        self._finishing = True

    @property
    def down(self) -> bool:
        """Whether the service is down now, in one of the places at least."""
        return any(pace.outage.since is not None for pace in self._paces.values())

    async def run(self, rows: Iterator[Row]) -> None:
        """Take every row to its outcome, or as far as it gets before the run is stopped.

        A row without an outcome afterwards had no effect; one whose effect is unknown has an outcome that
        says so.
        """
        self._rows = rows
        self._loop = asyncio.get_running_loop()
        self._workers = {self._loop.create_task(self._work()): None for _ in range(self._concurrency)}
        deadline = None
        if (longest := self._limits.max_duration) is not None:
            end = StoppedEarlyError(f"stopped after {duration(longest)}, as --max-duration says")
            deadline = self._loop.call_later(longest, self.stop, end)
        try:
            await asyncio.wait(self._workers)
        except asyncio.CancelledError:
            self._finishing = False
            for worker in self._workers:
                worker.cancel()
            await asyncio.wait(self._workers)
            raise
        finally:
            if deadline:
                deadline.cancel()
            for timer in self._waiting.values():
                timer.cancel()
            for task in (*self._ready, *self._waiting):
                self._abandon(task)

    def stop(self, error: BatchError, *, grace: float = GRACE, finish: bool = True) -> None:
        """Take no new rows, let requests in flight end within `grace` seconds, abort the others.

        The first call's error is the one that stands; a later call can only shorten the grace.

        Args:
            error: why.
            grace: seconds; 0 aborts at once.
            finish: whether rows under way may still send what they need to be settled.

        """
        if self.stopped is None:
            self.stopped = error
            log.info("stopping: %s", error)
            self._loop.call_later(grace, self._abort)
        if grace <= 0:
            self._abort()
            return
        self._finishing = self._finishing and finish
        for waiting in [each for each in self._waiting if each.in_doubt]:
            self._waiting.pop(waiting).cancel()
            self._ready.append(waiting)
        for worker, task in self._workers.items():
            under_way = task is not None and (task.in_flight or (self._finishing and task.sent))
            if task is not None and not under_way and worker is not asyncio.current_task():
                worker.cancel()
        self._changed.set()

    def _abort(self) -> None:
        self._finishing = False
        for worker in self._workers:
            if worker is not asyncio.current_task():
                worker.cancel()

    async def _work(self) -> None:
        me = asyncio.current_task()
        assert me is not None
        is_at_end = False
        while not is_at_end:
            try:
                is_at_end = await self._work_on_next(me)
            except asyncio.CancelledError:
                if not self.stopped:
                    raise
                # One that only waited may still settle another row while there is time.
                is_at_end = not self._finishing
            except BatchError as error:
                self.stop(error, grace=0)
                is_at_end = True
            except Exception as error:
                log.debug("unexpected", exc_info=True)
                bug = InternalError(f"unexpected {type(error).__name__}: {error}")
                bug.__cause__ = error
                self.stop(bug, grace=0)
                is_at_end = True

    async def _work_on_next(self, me: asyncio.Task[None]) -> bool:
        """Carry one row on; return whether there was none. A row that is left in its midst is let go."""
        task = await self._next()
        if task is None:
            return True
        self._workers[me] = task
        try:
            await self._advance(task)
        except BaseException:
            self._abandon(task)
            raise
        finally:
            self._workers[me] = None
        return False

    async def _next(self) -> _Task | None:
        """Return the next row to work on: one that is due again, else a new one; None at the end."""
        while not self.stopped:
            if self._ready:
                return self._ready.popleft()
            if len(self._waiting) < MOST_WAITING and (row := next(self._rows, None)) is not None:
                conversation = self._job.conversation(self._job.parse(row.cells))
                self._unfinished += 1
                return _Task(
                    row.number, conversation, next(conversation), in_doubt=row.number in self._in_doubt
                )
            if not self._unfinished:
                return None
            self._changed.clear()
            await self._changed.wait()
        while self._ready and self._finishing:
            if (task := self._ready.popleft()).in_doubt:
                return task
            self._abandon(task)
        return None

    async def _advance(self, task: _Task) -> None:
        """Carry a row's conversation on until it ends or has to wait."""
        while True:
            verdict, response = await self._attempt(task)
            wait = self._wait_after(task, verdict)
            if wait is not None:
                if not self.stopped:
                    self._set_aside(task, wait)
                    return
                if not task.in_doubt:
                    self._abandon(task)
                    return
                task.cut_short = True
            try:
                task.request = task.conversation.send(Answer(verdict, response, task.in_doubt))
            except StopIteration as end:
                result = end.value
                final = verdict.kind not in _STOPPING and not task.cut_short
                self._finish(task, result, settled=final or result.status.is_through)
                return
            if not self._finishing:
                self._abandon(task)
                return
            task.attempts = 0

    def _pace(self, request: Request) -> Pace:
        pace = self._paces.get(request.scope)
        if pace is None:
            pace = self._paces[request.scope] = Pace(self._rate, self._policy)
        return pace

    async def _attempt(self, task: _Task) -> tuple[Verdict, Response | None]:
        request = task.request
        pace = self._pace(request)
        await pace.permit()
        if request.writes and not task.begun:
            self._begin(task.row)
            task.begun = True
        sent_at = self._loop.time()
        if not task.sent:
            task.started, task.started_at = sent_at, self._clock()
        task.sent += 1
        self.requests += 1
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

    def _note_failure(self, task: _Task, verdict: Verdict, pace: Pace, sent_at: float) -> None:
        """Keep what it means for row and scope that the service did not answer, or only with an error."""
        task.throttled_since = None
        was_up = pace.outage.since is None
        task.attempts += pace.outage.failed(sent_at, task.row, reached=verdict.maybe_applied)
        if (since := pace.outage.since) is None:
            return
        if was_up:
            told = _told(verdict)
            log.info("%s is down (%s): asking now and then until it answers", task.request.scope, told)
            left = self._limits.max_outage - (self._loop.time() - since)
            self._loop.call_later(left, self._give_up, pace, since, told)

    def _give_up(self, pace: Pace, since: float, told: str) -> None:
        """Stop if an outage is still the one that it was."""
        if pace.outage.since == since and self._unfinished:
            lasted = duration(self._loop.time() - since)
            self.stop(
                ServiceUnavailableError(f"the service has been down for {lasted}: {told}"), finish=False
            )

    def _note_answer(self, task: _Task, verdict: Verdict, pace: Pace, sent_at: float) -> None:
        """Keep what an answer means for the row, its scope and the run."""
        if pace.outage.answered():
            log.info("%s answers again", task.request.scope)
        if verdict.kind is Kind.THROTTLED:
            if pause := pace.throttled(sent_at, verdict.pause, self._draw()):
                self.throttled += 1
                log.info("throttled: pausing %.1f s (%s)", pause, verdict.message or verdict.code)
            task.throttled_since = task.throttled_since or sent_at
            task.attempts += sent_at - task.throttled_since >= self._policy.patience
        else:
            pace.answered(sent_at)
            task.throttled_since = None
            task.attempts += 1
        if verdict.kind is Kind.DENIED:
            self.stop(DeniedError(f"the service answered: {_told(verdict)}"), finish=False)
        elif verdict.kind is Kind.NO_SERVICE:
            self.stop(ServiceUnavailableError(f"the service answered: {_told(verdict)}"), finish=False)

    def _wait_after(self, task: _Task, verdict: Verdict) -> float | None:
        throttled_for = 0.0
        if task.throttled_since is not None:
            throttled_for = self._loop.time() - task.throttled_since
        wait = next_wait(self._policy, verdict, task.attempts, throttled_for, self._draw())
        if wait is not None:
            log.info(
                "row %d: %s: attempt %d, the next in %.1f s (%s)",
                *(task.row, verdict.reason, task.attempts, wait, verdict.message or verdict.code),
            )
        return wait

    def _set_aside(self, task: _Task, wait: float) -> None:
        if wait > 0:
            self._waiting[task] = self._loop.call_later(wait, self._due, task)
        else:
            self._ready.append(task)
            self._changed.set()

    def _due(self, task: _Task) -> None:
        del self._waiting[task]
        self._ready.append(task)
        self._changed.set()

    def _abandon(self, task: _Task) -> None:
        """Let go of a row when the run stops. Without an outcome it stays pending."""
        task.conversation.close()
        if task.in_doubt:
            self._finish(task, Result(Status.UNCONFIRMED, "interrupted"), settled=False)
        else:
            self._unfinished -= 1

    def _finish(self, task: _Task, result: Result, *, settled: bool) -> None:
        outcome = Outcome(result)
        if task.sent:
            took = self._loop.time() - task.started
            outcome = Outcome(result, task.sent, task.started_at, task.started_at + took, round(took * 1000))
        if settled:
            self._record(task.row, outcome)
        else:
            self.unsettled[task.row] = outcome
        self.outcomes[result.status] += 1
        self._unfinished -= 1
        if not self._unfinished:
            self._changed.set()
        limit = self._limits.max_failures
        if limit and not self.stopped and not result.status.is_through:
            failed = self.outcomes[Status.FAILED] + self.outcomes[Status.UNCONFIRMED]
            if limit.is_reached(failed, self.outcomes.total()):
                self.stop(StoppedEarlyError(f"{counted(failed, 'row')} failed: --max-failures {limit}"))


def _is_failure(verdict: Verdict, response: Response | None) -> bool:
    """Whether the service did not answer, or only that something is wrong with it."""
    return response is None or (response.status >= 500 and verdict.kind is Kind.TRANSIENT)


def _told(verdict: Verdict) -> str:
    return " ".join(filter(None, (verdict.code, verdict.message))) or verdict.reason or verdict.kind.value
