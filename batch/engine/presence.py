"""Pure: whether the service is at its endpoint at all, and lets us in, as far as its answers tell."""

from dataclasses import dataclass, replace

from batch.model import Kind, Verdict

_MOST_STRANGERS = 20
"""Answers with nothing of the service in them, before any other: then it is not there."""

_TRIES_AT_A_WALL = 2
"""Attempts at a request that something before the service denies, while the service serves others."""


@dataclass(slots=True)
class Presence:
    """What the answers so far have shown.

    Attributes:
        is_there: whether one of them was the service's own.
        lets_in: whether one of them shows that it accepts the credentials.
        strangers: how many had nothing of the service in them, before any that had.
        last_seen: what the last of these was.

    """

    is_there: bool = False
    lets_in: bool = False
    strangers: int = 0
    last_seen: str = ""

    @property
    def is_absent(self) -> bool:
        """Whether the service is not there."""
        return self.strangers >= _MOST_STRANGERS

    def is_in_question(self, verdict: Verdict) -> bool:
        """Whether what an answer means has to wait until it is known that the service is there."""
        return verdict.foreign and verdict.kind is not Kind.DENIED and not self.is_there

    def meaning(self, verdict: Verdict) -> Verdict:
        """Return what an answer means: a stranger's concerns its row alone once others are the service's."""
        if not verdict.foreign:
            return verdict
        if verdict.kind is Kind.NO_SERVICE and self.is_there:
            return replace(verdict, kind=Kind.TRANSIENT)
        if verdict.kind is Kind.DENIED and self.lets_in:
            return replace(verdict, kind=Kind.TRANSIENT, max_attempts=_TRIES_AT_A_WALL)
        return verdict

    def note(self, verdict: Verdict, status: int) -> bool:
        """Note an answer; return whether it is the first of the service's own."""
        if verdict.foreign:
            self.strangers += not self.is_there
            self.last_seen = f"{status} {verdict.message or verdict.reason}"
            return False
        if self.is_there and self.lets_in:
            return False
        is_own = verdict.kind in (Kind.DONE, Kind.REFUSED) and not verdict.maybe_applied
        self.lets_in = self.lets_in or is_own
        if self.is_there or not (is_own or verdict.code or verdict.kind is Kind.THROTTLED):
            return False
        self.is_there = True
        self.strangers = 0
        return True
