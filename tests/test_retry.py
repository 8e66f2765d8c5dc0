"""Waits and attempts: bounded, finite and never negative, whatever comes in."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch.engine.retry import RetryPolicy, back_off, hint, next_wait
from batch.model import Kind, Verdict

POLICY = RetryPolicy()
POLICIES = st.builds(
    RetryPolicy,
    max_attempts=st.integers(1, 1_000),
    first_wait=st.floats(0.001, 100),
    longest_wait=st.floats(0.001, 10_000),
    patience=st.floats(0.001, 100_000),
)
DRAWS = st.floats(0, 1, exclude_max=True)
COUNTS = st.integers(1, 100) | st.integers(1, 10**400)
FINAL = [Kind.DONE, Kind.REFUSED, Kind.DENIED, Kind.NO_SERVICE]
TRANSIENT = Verdict(Kind.TRANSIENT, "server_error")
THROTTLED = Verdict(Kind.THROTTLED, "throttled")


@given(POLICIES, COUNTS, DRAWS)
def test_a_back_off_is_never_negative_and_never_past_the_longest_wait(
    policy: RetryPolicy, failures: int, draw: float
) -> None:
    assert 0 <= back_off(policy, failures, draw) <= policy.longest_wait


@given(POLICIES, COUNTS, DRAWS)
def test_a_back_off_never_passes_its_doubled_first_wait(
    policy: RetryPolicy, failures: int, draw: float
) -> None:
    assert back_off(policy, failures, draw) <= policy.first_wait * 2.0 ** min(failures - 1, 900)


@given(POLICIES, st.integers(1, 10**6), DRAWS)
def test_a_later_back_off_is_never_shorter_for_the_same_draw(
    policy: RetryPolicy, failures: int, draw: float
) -> None:
    assert back_off(policy, failures, draw) <= back_off(policy, failures + 1, draw)


@pytest.mark.parametrize(
    ("failures", "ceiling"), [(1, 0.5), (2, 1), (3, 2), (6, 16), (7, 30), (8, 30), (10**100, 30)]
)
def test_the_jitter_is_full_from_nothing_to_the_doubling_ceiling(failures: int, ceiling: float) -> None:
    assert back_off(POLICY, failures, 0.0) == 0
    assert back_off(POLICY, failures, 0.5) == ceiling / 2


@pytest.mark.parametrize("seconds", [None, 0.0, -0.0, 1e-6, 0.099, -1.0, -math.inf, math.inf, math.nan])
def test_no_tiny_negative_or_senseless_hint_is_honoured(seconds: float | None) -> None:
    assert hint(POLICY, seconds) == 0


@given(POLICIES, st.floats(min_value=0.1, allow_infinity=False))
def test_a_hint_is_honoured_up_to_an_hour(policy: RetryPolicy, seconds: float) -> None:
    assert hint(policy, seconds) == min(seconds, policy.longest_hint)


@pytest.mark.parametrize("kind", FINAL)
@given(attempts=st.integers(0, 10), pause=st.none() | st.floats(0, 100))
def test_an_answer_that_settles_the_matter_is_final(kind: Kind, attempts: int, pause: float | None) -> None:
    assert next_wait(POLICY, Verdict(kind, pause=pause), attempts, 0.0, 0.5) is None


@pytest.mark.parametrize("attempts", range(1, 6))
def test_a_transient_failure_is_tried_again_until_attempts_are_used_up(attempts: int) -> None:
    assert next_wait(POLICY, TRANSIENT, attempts, 0.0, 0.5) == back_off(POLICY, attempts, 0.5)


@pytest.mark.parametrize("verdict", [TRANSIENT, THROTTLED])
@given(attempts=st.integers(6, 10**400))
def test_no_request_is_tried_more_often_than_allowed(verdict: Verdict, attempts: int) -> None:
    assert next_wait(POLICY, verdict, attempts, POLICY.patience, 0.5) is None


def test_one_attempt_allowed_means_no_second_one() -> None:
    assert next_wait(RetryPolicy(max_attempts=1), TRANSIENT, 1, 0.0, 0.5) is None


@pytest.mark.parametrize(
    ("bound", "attempts", "again"),
    [(0, 1, False), (1, 1, False), (2, 1, True), (2, 2, False), (99, 5, True), (99, 6, False)],
)
def test_a_causes_own_bound_can_only_lower_the_runs(bound: int, attempts: int, again: bool) -> None:
    verdict = Verdict(Kind.TRANSIENT, "server_error", max_attempts=bound)
    assert (next_wait(POLICY, verdict, attempts, 0.0, 0.5) is not None) is again


@given(st.integers(0, 10**400), st.floats(0, POLICY.patience, exclude_max=True), DRAWS)
def test_a_throttled_request_waits_with_its_scope_and_uses_up_no_attempt(
    attempts: int, throttled_for: float, draw: float
) -> None:
    assert next_wait(POLICY, THROTTLED, attempts, throttled_for, draw) == 0


@given(st.integers(0, 5), st.floats(POLICY.patience, 1e300), DRAWS)
def test_a_request_throttled_past_all_patience_is_like_any_that_fails(
    attempts: int, throttled_for: float, draw: float
) -> None:
    wait = next_wait(POLICY, THROTTLED, attempts, throttled_for, draw)
    assert wait == back_off(POLICY, max(attempts, 1), draw)


@pytest.mark.parametrize(
    ("pause", "wait"),
    [(None, 0.25), (0.1, 0.25), (7.0, 7.0), (1e9, 3600.0), (-7.0, 0.25), (math.nan, 0.25), (math.inf, 0.25)],
)
def test_the_longer_of_back_off_and_hint_is_waited(pause: float | None, wait: float) -> None:
    verdict = Verdict(Kind.TRANSIENT, "server_error", pause=pause)
    assert next_wait(POLICY, verdict, 1, 0.0, 0.5) == wait


@given(
    POLICIES,
    st.sampled_from([Kind.TRANSIENT, Kind.THROTTLED]),
    st.none() | st.floats(),
    st.none() | st.integers(0, 100),
    st.integers(0, 10**400),
    st.floats(0, 1e300),
    DRAWS,
)
def test_every_wait_is_finite_not_negative_and_within_bounds(
    policy: RetryPolicy,
    kind: Kind,
    pause: float | None,
    bound: int | None,
    attempts: int,
    throttled_for: float,
    draw: float,
) -> None:
    wait = next_wait(policy, Verdict(kind, pause=pause, max_attempts=bound), attempts, throttled_for, draw)
    if wait is None:
        assert attempts >= min(policy.max_attempts, policy.max_attempts if bound is None else bound)
    else:
        assert math.isfinite(wait)
        assert 0 <= wait <= max(policy.longest_wait, policy.longest_hint)
