"""Pure: given what an attempt came to, wait so long and go again, or take it as final."""

from dataclasses import dataclass
from math import isfinite

from batch.model import Kind, Verdict

_MOST_DOUBLINGS = 32  # keeps the power finite whatever the number of attempts
_SHORTEST_HINT = 0.1
_NOT_FINAL = (Kind.TRANSIENT, Kind.THROTTLED, Kind.UNAUTHENTICATED)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how long a request is tried.

    Attributes:
        max_attempts: attempts a request, the first included; throttled ones are not counted.
        first_wait: upper bound of the first wait, in seconds; it doubles with each attempt.
        longest_wait: upper bound of any wait that the service did not ask for, in seconds.
        longest_hint: upper bound of a wait that the service asks for, in seconds; one that is asked for
            longer waits so long once, and ends at the next such answer.
        patience: seconds for which a request may be throttled without using up attempts.

    """

    max_attempts: int = 6
    first_wait: float = 0.5
    longest_wait: float = 30.0
    longest_hint: float = 3600.0
    patience: float = 300.0


def back_off(policy: RetryPolicy, failures: int, draw: float) -> float:
    """Return a wait in seconds with full jitter after so many failures in a row.

    Args:
        policy: bounds of the wait.
        failures: failures so far, at least 1.
        draw: a random number in [0, 1).

    """
    ceiling = policy.first_wait * 2.0 ** min(failures - 1, _MOST_DOUBLINGS)
    return draw * min(ceiling, policy.longest_wait)


def hint(policy: RetryPolicy, seconds: float | None) -> float:
    """Return how long to wait as the service asks, `longest_hint` at most; 0 for what is no pause."""
    if seconds is None or not isfinite(seconds) or seconds < _SHORTEST_HINT:
        return 0.0
    return min(seconds, policy.longest_hint)


def asked_too_long(policy: RetryPolicy, verdict: Verdict) -> float | None:
    """Return the seconds that the service asks to wait if they are more than it gets, else None."""
    pause = verdict.pause
    return pause if pause is not None and isfinite(pause) and pause > policy.longest_hint else None


def next_wait(
    policy: RetryPolicy,
    verdict: Verdict,
    attempts: int,
    throttled_for: float,
    draw: float,
    *,
    is_put_off: bool = False,
    passed_by: int = 0,
) -> float | None:
    """Return seconds to wait before the next attempt, or None when the answer is final.

    Args:
        policy: bounds of attempts and waits.
        verdict: what the last attempt came to.
        attempts: attempts of this request that were not throttled away.
        throttled_for: seconds since the request was first throttled, without another answer between.
        draw: a random number in [0, 1).
        is_put_off: whether it has waited already for as long as a wait may be.
        passed_by: how often it was throttled for its own sake, as others have been answered.

    """
    if verdict.kind not in _NOT_FINAL:
        return None
    if verdict.kind is Kind.THROTTLED and throttled_for < policy.patience:
        if not passed_by:
            return 0.0  # the cool-down of its scope is the wait
        return max(back_off(policy, passed_by, (1 + draw) / 2), hint(policy, verdict.pause))
    if verdict.kind is Kind.UNAUTHENTICATED:
        return 0.0  # the credentials have been renewed
    most = policy.max_attempts
    if verdict.max_attempts is not None:
        most = min(most, verdict.max_attempts)
    if attempts >= most or (is_put_off and asked_too_long(policy, verdict)):
        return None
    return max(back_off(policy, max(attempts, 1), draw), hint(policy, verdict.pause))
