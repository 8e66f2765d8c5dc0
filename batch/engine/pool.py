"""The worker pool: takes each row to its outcome.

One row's way: a worker takes it and opens its conversation; each request waits for a permit, is sent, and
the job says what the end of the attempt means. Final answers go back into the conversation; for the others
the row is set aside until its next attempt is due, and holds neither worker nor permit meanwhile. While a
scope is down or paused one row waits for it to open, and the others are set aside: the workers go on with
the rows of other scopes.
"""

import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Container, Iterator
from typing import Any

from batch.engine.aside import Aside
from batch.engine.attempts import Attempts
from batch.engine.halt import NO_LIMITS, Limits
from batch.engine.rate import Auto, Rate
from batch.engine.retry import RetryPolicy
from batch.engine.task import End, Task
from batch.errors import BatchError, InternalError, OutputError, StoppedEarlyError, TooManyFailuresError
from batch.job import Job, Transport
from batch.model import Answer, Kind, Outcome, Result, Row, Status
from batch.results.summary import counted, duration

log = logging.getLogger(__name__)

_STOPPING = (Kind.DENIED, Kind.NO_SERVICE)

GRACE = 8.0
"""Seconds that requests in flight get to end when a run is stopped."""


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
        attempts: what sends the requests, and counts them.
        stopped: why the run stopped before its end, or None.
        unsettled: outcomes of rows that the stop cut short, by row: true now, and worth another run.

    """

    def __init__(
        self,
        job: Job[Any],
        transport: Transport,
        *,
        rate: Rate | Auto,
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
        self.stopped: BatchError | None = None
        self.unsettled: dict[int, Outcome] = {}
        self._changed = asyncio.Event()
        self._aside = Aside(self._changed.set)
        self.attempts = Attempts(
            job,
            transport,
            rate=rate,
            policy=policy,
            max_outage=limits.max_outage,
            begin=begin,
            stop=self.stop,
            judged=self._aside.judged,
            found=self._found,
            opened=self._aside.opened,
            draw=draw,
            clock=clock,
        )
        self._job = job
        self._concurrency = concurrency
        self._limits = limits
        self._record = record
        self._in_doubt = in_doubt
        self._rows: Iterator[Row] = iter(())
        self._workers: dict[asyncio.Task[None], Task | None] = {}
        self._unfinished = 0
        self._finishing = True
        self._abort_at = 0.0

    async def run(self, rows: Iterator[Row]) -> None:
        """Take every row to its outcome, or as far as it gets before the run is stopped.

        A row without an outcome afterwards was never sent; one whose effect is unknown has one that says so.
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
            self._abort()
            await asyncio.wait(self._workers)
            raise
        finally:
            if deadline:
                deadline.cancel()
            for task in self._aside.clear():
                self._abandon(task)

    def stop(self, error: BatchError, *, grace: float = GRACE, finish: bool = True) -> None:
        """Take no new rows, let requests in flight end within `grace` seconds, abort the others.

        The first call's error is the one that stands; a later call without grace ends the first one's.

        Args:
            error: why.
            grace: seconds; 0 aborts at once.
            finish: whether rows under way may still send what they need to be settled.

        """
        if self.stopped is None:
            self.stopped = error
            log.info("stopping: %s", error)
            self._abort_at = self._loop.time() + grace
            self._loop.call_at(self._abort_at, self._abort)
        if grace <= 0:
            self._abort()
            return
        self._finishing = self._finishing and finish
        for task in list(self._aside.keep_doubtful()):
            self._abandon(task)
        self._free_workers()
        self._changed.set()

    def _free_workers(self) -> None:
        """Take the workers from rows that wait for what will not come in time any more."""
        for worker, task in self._workers.items():
            is_under_way = task is None or task.in_flight or self._may_go_on(task)
            if not is_under_way and worker is not asyncio.current_task():
                worker.cancel()

    def _may_go_on(self, task: Task) -> bool:
        """Whether a row may still send after a stop: one under way, while there is time."""
        is_in_time = self.attempts.cool_down(task) < self._abort_at - self._loop.time()
        return self._finishing and task.sent > 0 and is_in_time

    def _abort(self) -> None:
        self._finishing = False
        for worker in self._workers:
            if worker is not asyncio.current_task():
                worker.cancel()

    async def _work(self) -> None:
        me = asyncio.current_task()
        assert me is not None
        while True:
            try:
                await self._work_on_rows(me)
            except asyncio.CancelledError:
                if not self.stopped:
                    raise
                # One that only waited may still settle another row while there is time.
                if self._finishing:
                    continue
            except OutputError as error:
                self.stop(error, grace=0)
            except BatchError as error:
                self.stop(error, finish=False)
            except Exception as error:
                log.debug("unexpected", exc_info=True)
                bug = InternalError(f"unexpected {type(error).__name__}: {error}")
                bug.__cause__ = error
                self.stop(bug, grace=0)
            return

    async def _work_on_rows(self, me: asyncio.Task[None]) -> None:
        """Carry on one row after the other to the end. One that is left in its midst is let go."""
        while True:
            while (task := self._next()) is None:
                if self._is_at_end():
                    self._changed.set()
                    return
                if self._all_in_question():
                    self.attempts.stop_as_absent()
                    continue
                self._changed.clear()
                await self._changed.wait()
            self._workers[me] = task
            try:
                may_leave = await self._advance(task)
            except BaseException:
                self._abandon(task)
                raise
            finally:
                self._workers[me] = None
            if not may_leave:
                if self.stopped and not task.in_doubt:
                    self._abandon(task)
                else:
                    self._aside.park(task)
                await asyncio.sleep(0)  # whoever looks for a row that may leave holds up no answers

    def _next(self) -> Task | None:
        """Return the next row to work on; None if there is none now."""
        if not self.stopped:
            return self._aside.next(self.attempts, self._new)
        return self._aside.due.first(self.attempts.is_shut) if self._finishing else None

    def _new(self) -> Task | None:
        """Take a row of the input."""
        if (row := next(self._rows, None)) is None:
            return None
        self._unfinished += 1
        return Task.of(row, self._job, in_doubt=row.number in self._in_doubt)

    def _is_at_end(self) -> bool:
        """Whether no row will come, if there is none now."""
        may_come = self._finishing and self._aside.due if self.stopped else self._unfinished
        return not may_come

    def _all_in_question(self) -> bool:
        """Whether every row that has not ended waits for a sign that the service is there."""
        return not self.stopped and 0 < len(self._aside.in_question) == self._unfinished

    def _found(self) -> None:
        """Let rows go on that waited for a sign that the service is there."""
        for task, end in self._aside.found():
            self.attempts.take(task, end)

    async def _advance(self, task: Task) -> bool:
        """Carry a row's conversation on until it ends or has to wait; return False if its scope is shut."""
        while True:
            if (end := task.held) is None:
                if self.stopped and not self._may_go_on(task):
                    self._abandon(task)
                    return True
                end = await self.attempts.send(task)
                if end is None:
                    return False
                if not self._is_final(task, end):
                    return True
            task.held = None
            verdict, response = end
            answer = Answer(verdict, response, task.in_doubt, task.maybe_later, task.unanswered, task.hidden)
            try:
                task.request = task.conversation.send(answer)
            except StopIteration as finished:
                settled = verdict.kind not in _STOPPING and not task.cut_short
                self._finish(task, finished.value, settled=settled or finished.value.status.is_through)
                return True
            task.attempts = 0

    def _is_final(self, task: Task, end: End) -> bool:
        """Whether a row's request is not to be sent again; if it is, the row is let go of."""
        if self.attempts.is_in_question(end[0]):
            if self.stopped:
                self._abandon(task)
            else:
                self._aside.in_question[task] = end
            return False
        wait = self.attempts.wait_after(task, end[0])
        if self.stopped:
            self._free_workers()
            task.cut_short |= wait is not None
            if wait is None or task.in_doubt:
                return True
            self._abandon(task)
        elif wait is not None:
            self._aside.wait(task, wait)
        elif self.attempts.is_undecided(task, end[0]):
            self._aside.hold(task, end)
        else:
            return True
        return False

    def _abandon(self, task: Task) -> None:
        """Let go of a row when the run stops. One that was never sent has no outcome."""
        task.conversation.close()
        if task.in_doubt or task.sent or task.begun:
            status = Status.UNCONFIRMED if task.in_doubt or task.hidden else Status.PENDING
            self._finish(task, Result(status, "interrupted"), settled=False)
        else:
            self._unfinished -= 1

    def _finish(self, task: Task, result: Result, *, settled: bool) -> None:
        outcome = task.outcome(result, self._loop.time())
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
                self.stop(TooManyFailuresError(f"{counted(failed, 'row')} failed: --max-failures {limit}"))
