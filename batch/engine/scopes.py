"""What the service's answers say of each scope, of the service as a whole, and of how the run goes on."""

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from batch.engine.pace import Pace
from batch.engine.presence import Presence
from batch.engine.rate import Auto, Rate
from batch.engine.retry import RetryPolicy, asked_too_long
from batch.engine.scope import Scope
from batch.engine.task import End, Task
from batch.errors import BatchError, DeniedError, ServiceUnavailableError
from batch.job import Job, Transport
from batch.model import Kind, Request, Response, Verdict, Window
from batch.results.summary import duration

log = logging.getLogger(__name__)

_PASSED_BY = 2
"""Times that a row is throttled after others have been answered: then it is throttled for its own sake."""

_LOOK_EVERY = 0.1  # seconds between two looks for a limit that answers may show


class Stop(Protocol):
    """Ends the run early."""

    def __call__(self, error: BatchError, *, finish: bool) -> None:
        """Stop because of `error`; `finish` says whether rows under way may still send."""
        ...


class Scopes:
    """Keeps what the answers say.

    Args:
        job: says what an answer shows of the service's limit.
        transport: says whose request is whose.
        rate: requests that a scope may send.
        policy: when to try again.
        max_outage: seconds for which the service may be down, or throttle everything.
        stop: called when an answer ends the run.
        judged: told of each scope whose service turns out to be down, or not to be after all.
        found: called at the first answer that is the service's own.
        opened: called when a scope is open again that was closed.
        draw: random numbers in [0, 1).

    Attributes:
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
        stop: Stop,
        judged: Callable[[str, bool], None],
        found: Callable[[], None],
        opened: Callable[[], None],
        draw: Callable[[], float],
    ) -> None:
        self.throttled = 0
        self._job = job
        self._transport = transport
        self._rate = rate
        self._policy = policy
        self._max_outage = max_outage
        self._stop = stop
        self._judged = judged
        self._found = found
        self._opened = opened
        self._draw = draw
        self._scopes: dict[str, Scope] = {}
        self._presence = Presence()

    @property
    def down(self) -> bool:
        """Whether the service is down now, in one of the places at least."""
        return any(
            scope.pace.outage.since is not None for scope in self._scopes.values() if not scope.refusal
        )

    def suspects(self, scope: str) -> bool:
        """Whether it may be that the service of a scope is going down, or refuses only some of its rows."""
        held = self._scopes.get(scope)
        return held is not None and (held.pace.outage.is_suspected or held.is_repeated)

    @property
    def found_rate(self) -> float | None:
        """Requests a second that have been found to pass, in all places together; None at the ceiling."""
        rates = [scope.pace.rate for scope in self._scopes.values()]
        return (
            sum(each.per_second for each in rates) if any(each.is_below_ceiling for each in rates) else None
        )

    def is_shut(self, scope: str) -> bool:
        """Whether a scope is closed, and somebody waits for it to open already."""
        held = self._scopes.get(scope)
        return held is not None and not held.refusal and held.pace.is_shut

    def is_busy(self, scope: str) -> bool:
        """Whether a row of a scope waits already for its request to leave."""
        held = self._scopes.get(scope)
        return held is not None and not held.refusal and held.pace.is_busy

    def is_in_question(self, verdict: Verdict) -> bool:
        """Whether an answer has nothing of the service in it, like all others so far."""
        return self._presence.is_in_question(verdict)

    def stop_as_absent(self) -> None:
        """Stop, as no answer has had anything of the service in it."""
        seen = self._presence.last_seen
        message = f"there is no such API at this endpoint: no answer had anything of it; the last one: {seen}"
        self._stop(ServiceUnavailableError(message), finish=False)

    def _scope(self, request: Request) -> Scope:
        scope = self._scopes.get(request.scope)
        if scope is None:
            scope = Scope(request.scope, Pace(self._rate, self._policy), self._transport.is_own(request))
            scope.pace.outage.on_judged = partial(self._note_judgement, scope)
            scope.pace.on_open = self._opened
            self._scopes[request.scope] = scope
        return scope

    def _refused(self, scope: Scope, verdict: Verdict) -> End:
        """Return a refusal that concerns all rows of a scope: they need not be sent to hear it again."""
        if not scope.refusal:
            scope.refusal = verdict
            log.warning("%s: its rows fail: %s", scope.name, told(verdict))
        return verdict, None

    def _concerns_scope(self, verdict: Verdict, response: Response | None, scope: Scope) -> bool:
        """Whether a refusal concerns a place of some rows' own, where nothing has ever been allowed.

        Only a 401 may mean that the credentials are wrong altogether, and only before any are accepted.
        """
        if scope.serves or scope.is_own:
            return False
        is_known = verdict.code and response is not None and response.status != 401
        return self._presence.lets_in or bool(is_known)

    def _note_failure(self, task: Task, verdict: Verdict, scope: Scope, sent_at: float) -> None:
        """Keep what it means for row and scope that the service did not answer, or only with an error."""
        task.end_throttling()
        scope.end_throttling()
        scope.failure = verdict
        message = told(verdict)
        task.attempts += scope.pace.outage.failed(sent_at, task.row, message, reached=verdict.maybe_applied)

    def _note_judgement(self, scope: Scope, down: bool) -> None:
        """Keep what it means for a scope and the run that failures are an outage, or are none."""
        outage = scope.pace.outage
        if (since := outage.since) is not None:
            log.info("%s is down (%s): asking now and then until it answers", scope.name, outage.cause)
            asyncio.get_running_loop().call_at(since + self._max_outage, self._give_up, scope, since)
        self._judged(scope.name, down)

    def _give_up(self, scope: Scope, since: float) -> None:
        """Give a scope up if an outage is still the one that it was."""
        outage = scope.pace.outage
        if outage.since == since and scope.failure and not scope.refusal:
            lasted = duration(asyncio.get_running_loop().time() - since)
            self._end_scope(scope, scope.failure, f"has been down for {lasted}: {outage.cause}")

    def _end_scope(self, scope: Scope, verdict: Verdict, problem: str) -> None:
        """Stop, as a scope cannot be used; where it is a place of some rows' own, only these fail."""
        others_go_on = any(each.serves for each in self._scopes.values() if each is not scope)
        if scope.is_own or not others_go_on:
            self._stop(ServiceUnavailableError(f"the service {problem}"), finish=False)
            return
        self._refused(scope, Verdict(Kind.REFUSED, verdict.reason, message=f"the service {problem}"))
        self._opened()

    def _note_answer(
        self, task: Task, verdict: Verdict, response: Response | None, scope: Scope, sent_at: float
    ) -> None:
        """Keep what an answer means for the row, its scope and the run."""
        pace, kind = scope.pace, verdict.kind
        if pace.outage.answered():
            log.info("%s answers again", scope.name)
            scope.end_throttling()
            self._opened()
        if kind is Kind.THROTTLED:
            self._note_throttling(task, verdict, scope, sent_at)
            return
        now = asyncio.get_running_loop().time()
        pace.answered(sent_at, now, self._shown_limit(task, response, scope, now))
        task.end_throttling()
        scope.note_answer()
        if kind is Kind.UNAUTHENTICATED:
            return
        task.attempts += 1
        task.refusals = 0
        if kind is Kind.DONE and not verdict.foreign:
            scope.serves = scope.serves or not scope.refusal
        elif kind is Kind.DENIED:
            self._stop(DeniedError(f"row {task.row}: the service answered: {told(verdict)}"), finish=False)
        elif self._presence.is_absent:
            self.stop_as_absent()
        elif kind is Kind.NO_SERVICE and not verdict.foreign:
            self._stop(ServiceUnavailableError(f"the service answered: {told(verdict)}"), finish=False)
        elif kind in (Kind.DONE, Kind.REFUSED):
            scope.serves = scope.serves or not (verdict.foreign or scope.refusal)

    def _shown_limit(self, task: Task, response: Response | None, scope: Scope, now: float) -> Window | None:
        """Return the limit that an answer shows, if it is looked at and the rate is to be found.

        Reading may have another limit than writing, which is what most requests do once one does.
        """
        scope.writes = scope.writes or task.request.writes
        is_worth_it = now >= scope.look_at and task.request.writes == scope.writes
        if response is None or not is_worth_it or not isinstance(self._rate, Auto):
            return None
        scope.look_at = now + _LOOK_EVERY
        return self._job.shown_limit(response)

    def _note_throttling(self, task: Task, verdict: Verdict, scope: Scope, sent_at: float) -> None:
        """Pause, and keep how long the row and all of its scope have been throttled; stop if too long.

        A row that is throttled again and again while others pass is throttled for a reason of its own.
        """
        is_repeated = task.note_throttling(sent_at, scope.answers)
        if task.passed_by < _PASSED_BY:
            lasted = self._pause_scope(task, verdict, scope, sent_at, is_repeated=is_repeated)
            if lasted >= self._max_outage > 0 and scope.throttles_all:
                asked = f", and asks to wait {duration(verdict.pause)}" if verdict.pause else ""
                problem = f"has throttled every request for {duration(lasted)}{asked}: {told(verdict)}"
                self._end_scope(scope, verdict, problem)
                return
        assert task.throttled_since is not None
        task.attempts += sent_at - task.throttled_since >= self._policy.patience

    def _pause_scope(
        self, task: Task, verdict: Verdict, scope: Scope, sent_at: float, *, is_repeated: bool
    ) -> float:
        """Pause; return for how many seconds all of the scope has been throttled."""
        if pause := scope.pace.throttled(sent_at, verdict.pause, self._draw(), verdict.limit):
            self.throttled += 1
            too_long = asked_too_long(self._policy, verdict)
            more = f", though {duration(too_long)} are asked for" if too_long else ""
            level = logging.WARNING if too_long else logging.INFO
            log.log(level, "throttled: pausing %.1f s%s (%s)", pause, more, verdict.message or verdict.code)
        return scope.note_throttling(task.row, sent_at, is_repeated=is_repeated)


def told(verdict: Verdict) -> str:
    """Return what an answer says, for people."""
    return " ".join(filter(None, (verdict.code, verdict.message))) or verdict.reason or verdict.kind.value
