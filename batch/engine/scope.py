"""A scope: what the service counts a rate limit by, and what its answers have said of it."""

from dataclasses import dataclass

from batch.engine.pace import Pace
from batch.model import Verdict

_SEVERAL = 2


@dataclass(slots=True, eq=False)
class Scope:
    """One project at one endpoint, or whatever else a job calls a scope.

    Attributes:
        name: of the scope.
        pace: its permits.
        is_own: whether the run itself goes there, and not only some of its rows.
        answers: how many have come that were neither failures nor throttled.
        throttled_since: when the first of its requests was throttled, without another answer since, or None.
        throttled: two of the rows at most that have been throttled since.
        is_repeated: whether one of them was throttled twice since.
        failure: the last one, or None.
        serves: whether the service has done something there, or refused to for the row's own sake.
        refusal: why all of its rows fail without being sent, or None.
        writes: whether something has been written there.
        look_at: when an answer is looked at again for the limit that it may show, by the loop's clock.

    """

    name: str
    pace: Pace
    is_own: bool
    answers: int = 0
    throttled_since: float | None = None
    throttled: frozenset[int] = frozenset()
    is_repeated: bool = False
    failure: Verdict | None = None
    serves: bool = False
    refusal: Verdict | None = None
    writes: bool = False
    look_at: float = 0.0

    def note_answer(self) -> None:
        """Note an answer that is neither a failure nor a throttled one."""
        self.answers += 1
        self.end_throttling()

    def end_throttling(self) -> None:
        """Note that something else than being throttled has come."""
        self.throttled_since, self.throttled, self.is_repeated = None, frozenset(), False

    def note_throttling(self, row: int, sent_at: float, *, is_repeated: bool) -> float:
        """Note that a row was throttled; return for how many seconds nothing else has happened."""
        if self.throttled_since is None:
            self.throttled_since = sent_at
        if len(self.throttled) < _SEVERAL:
            self.throttled |= {row}
        self.is_repeated = self.is_repeated or is_repeated
        return sent_at - self.throttled_since

    @property
    def throttles_all(self) -> bool:
        """Whether being throttled now is no matter of one row: several are, or nothing has ever passed."""
        return len(self.throttled) >= _SEVERAL or not self.answers
