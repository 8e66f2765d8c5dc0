"""A row on its way: what the parts of the engine know of it together."""

from dataclasses import dataclass

from batch.halt import Throttling
from batch.job import Conversation
from batch.model import Request, Response, Verdict

End = tuple[Verdict, Response | None]
"""How an attempt ended: what the job makes of it, and the response if there is one."""


@dataclass(slots=True, eq=False)
class Task:
    """A row on its way.

    Attributes:
        row: its number.
        conversation: the job's generator.
        request: what the conversation asks for now.
        attempts: attempts of that request, throttled ones not counted.
        throttling: how long that request has been throttled, without another answer since.
        refusals: credentials that were refused for that request.
        in_doubt: whether a write of this row may have been applied unseen.
        maybe_later: whether one was taken to be done later.
        unanswered: whether one ended without the service's own answer, or an earlier run left it in doubt.
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
    attempts: int = 0
    throttling: Throttling | None = None
    refusals: int = 0
    in_doubt: bool = False
    maybe_later: bool = False
    unanswered: bool = False
    begun: bool = False
    sent: int = 0
    in_flight: bool = False
    held: End | None = None
    cut_short: bool = False
    started_at: float = 0.0
    started: float = 0.0
