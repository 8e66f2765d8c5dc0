"""A row on its way: what the parts of the engine know of it together."""

from dataclasses import dataclass, field
from typing import Any, Self

from batch.job import Conversation, Job
from batch.model import Outcome, Request, Response, Result, Row, Verdict

End = tuple[Verdict, Response | None]
"""How an attempt ended: what the job makes of it, and the response if there is one."""


@dataclass(eq=False)
class Task:
    """A row on its way.

    Attributes:
        row: its number.
        conversation: the job's generator.
        request: what the conversation asks for now.
        attempts: attempts of that request, throttled ones not counted.
        throttled_since: when that request was first throttled, without another answer since, or None.
        passed_by: how often it was throttled though others had been answered since it was throttled before.
        answers: that its scope had when it was throttled last, or None.
        put_off: whether it has waited for as long as a wait may be, as the service asked for longer.
        refusals: credentials that were refused for that request.
        in_doubt: whether a write of this row may have been applied unseen.
        maybe_later: whether one was taken to be done later.
        unanswered: whether one ended without the service's own answer, or an earlier run left it in doubt.
        hidden: whether the answer to one may have been hidden by somebody else's page.
        begun: whether a write has been announced.
        sent: requests of this row on the wire so far.
        in_flight: whether one of them is there now.
        held: how its last attempt ended, until it is known whether that counts.
        cut_short: whether a stop has taken attempts from it.
        started_at: first of them, seconds since the epoch.
        started: the same, by the loop's clock.

    """

    row: int
    conversation: Conversation
    request: Request
    in_doubt: bool = False
    unanswered: bool = False
    attempts: int = field(default=0, init=False)
    throttled_since: float | None = field(default=None, init=False)
    passed_by: int = field(default=0, init=False)
    answers: int | None = field(default=None, init=False)
    put_off: bool = field(default=False, init=False)
    refusals: int = field(default=0, init=False)
    maybe_later: bool = field(default=False, init=False)
    hidden: bool = field(default=False, init=False)
    begun: bool = field(default=False, init=False)
    sent: int = field(default=0, init=False)
    in_flight: bool = field(default=False, init=False)
    held: End | None = field(default=None, init=False)
    cut_short: bool = field(default=False, init=False)
    started_at: float = field(default=0.0, init=False)
    started: float = field(default=0.0, init=False)

    @classmethod
    def of(cls, row: Row, job: Job[Any], *, in_doubt: bool) -> Self:
        """Open the conversation of a row; an earlier run may have left it in doubt."""
        conversation = job.conversation(job.parse(row.cells))
        return cls(row.number, conversation, next(conversation), in_doubt, in_doubt)

    def note_throttling(self, sent_at: float, answers: int) -> bool:
        """Note that its request was throttled; return whether it was the time before as well."""
        is_repeated = self.answers is not None
        self.passed_by += is_repeated and answers > (self.answers or 0)
        self.answers = answers
        if self.throttled_since is None:
            self.throttled_since = sent_at
        return is_repeated

    def end_throttling(self) -> None:
        """Note that something else than being throttled has come of its request."""
        self.throttled_since, self.answers, self.passed_by = None, None, 0

    def outcome(self, result: Result, now: float) -> Outcome:
        """Return the row's outcome, if it ends now by the loop's clock."""
        if not self.sent:
            return Outcome(result)
        took = now - self.started
        return Outcome(result, self.sent, self.started_at, self.started_at + took, round(took * 1000))
