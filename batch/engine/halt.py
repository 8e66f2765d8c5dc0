"""Pure: when to stop a run before its end, and when to call the service down."""

import re
from dataclasses import dataclass

from batch.errors import UsageError

_LEAST_ROWS = 100
_LIMIT = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)\s*(%?)")

# One broken row is no outage, nor is one hiccup of the network.
_SHORTEST_OUTAGE = 2.0
_LEAST_FAILURES = 3
_LEAST_ROWS_FAILED = 3

_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 30.0
_MOST_DOUBLINGS = 16


@dataclass(frozen=True, slots=True)
class FailureLimit:
    """How many rows may fail: a number, or per cent of those that have ended."""

    amount: float
    per_cent: bool = False

    def is_reached(self, failed: int, ended: int) -> bool:
        """Whether so many failures of so many rows are too many; per cent count from 100 rows on."""
        if self.per_cent:
            return ended >= _LEAST_ROWS and failed * 100 >= self.amount * ended
        return failed >= self.amount

    def __str__(self) -> str:
        return f"{self.amount:.12g}{'%' * self.per_cent}"


def parse_failure_limit(text: str) -> FailureLimit:
    """Read `50` or `2.5%`.

    Raises:
        UsageError: it is neither, or zero.

    """
    match = _LIMIT.fullmatch(text.strip())
    limit = FailureLimit(float(match[1]), bool(match[2])) if match else FailureLimit(0)
    if (
        limit.amount <= 0
        or (limit.per_cent and limit.amount > 100)
        or not (limit.per_cent or limit.amount % 1 == 0)
    ):
        raise UsageError(
            f"--max-failures {text!r}: write a number of rows above zero, as 50, or per cent, as 5%"
        )
    return limit


@dataclass(frozen=True, slots=True)
class Limits:
    """When a run stops by itself.

    Attributes:
        max_failures: how many rows may fail, or None.
        max_outage: seconds for which the service may be down, or throttle everything.
        max_duration: seconds after which no row is taken, or None.

    """

    max_failures: FailureLimit | None = None
    max_outage: float = 300.0
    max_duration: float | None = None


NO_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Streak:
    """Failures of the service without any other answer between: lost connections, time-outs, 5xx.

    Attributes:
        since: time of the first.
        rows: some of the rows they happened to.
        unreached: how many of the last ones never got through to the service.
        unreached_since: time of the first of these.
        probes: probes among them, sent after the service had been found to be down.

    """

    since: float
    rows: frozenset[int] = frozenset()
    unreached: int = 0
    unreached_since: float = 0.0
    probes: int = 0

    def is_outage(self, now: float) -> bool:
        """Whether it looks as if the service is down.

        One row that the service always fails on is no outage: either several rows have failed, or of late
        nothing gets through to the service at all.
        """
        several = len(self.rows) >= _LEAST_ROWS_FAILED and now >= self.since + _SHORTEST_OUTAGE
        nothing = self.unreached >= _LEAST_FAILURES and now >= self.unreached_since + _SHORTEST_OUTAGE
        return several or nothing

    def next_judgement(self, now: float) -> float | None:
        """Return when time alone may make it an outage, or None if it cannot any more."""
        begun = [self.since, self.unreached_since] if self.unreached else [self.since]
        return min((due for each in begun if (due := each + _SHORTEST_OUTAGE) > now), default=None)


def after_failure(streak: Streak | None, now: float, row: int, *, reached: bool, probe: bool) -> Streak:
    """Return the streak with one more failure.

    Args:
        streak: as it was, or None where the last answer was none of these.
        now: time of the failure.
        row: to which it happened.
        reached: whether the service may have received the request.
        probe: whether the request was a probe.

    """
    if streak is None:
        streak = Streak(now)
    rows = streak.rows if len(streak.rows) >= _LEAST_ROWS_FAILED else streak.rows | {row}
    unreached = 0 if reached else streak.unreached + 1
    unreached_since = streak.unreached_since if unreached > 1 else now
    return Streak(streak.since, rows, unreached, unreached_since, streak.probes + probe)


def probe_pause(probes: int) -> float:
    """Return seconds to wait before the next probe, after so many without an answer: 1 doubling to 30."""
    return min(_FIRST_PAUSE * 2.0 ** min(probes, _MOST_DOUBLINGS), _LONGEST_PAUSE)
