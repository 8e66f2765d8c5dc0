"""When a run stops by itself, and when a service counts as down: nothing but arithmetic."""

from collections.abc import Iterable
from functools import reduce
from itertools import pairwise, takewhile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch.engine.halt import (
    FailureLimit,
    Streak,
    after_failure,
    parse_failure_limit,
    probe_pause,
)
from batch.errors import UsageError

LONGEST_PAUSE = 30.0

Failure = tuple[float, int, bool]
"""When a request failed, for which row, and whether it may have reached the service."""

failures = st.lists(
    st.tuples(st.floats(0, 1e6), st.integers(1, 10**6), st.booleans()), min_size=1, max_size=30
).map(sorted)


def streak_of(happened: Iterable[Failure]) -> Streak:
    streak: Streak | None = None
    for now, row, reached in happened:
        streak = after_failure(streak, now, row, reached=reached, probe=False)
    assert streak is not None
    return streak


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("50", FailureLimit(50)),
        ("1", FailureLimit(1)),
        (" 50 ", FailureLimit(50)),
        ("050", FailureLimit(50)),
        ("3.0", FailureLimit(3)),
        ("999999999", FailureLimit(999_999_999)),
        ("5%", FailureLimit(5, per_cent=True)),
        ("2.5%", FailureLimit(2.5, per_cent=True)),
        ("0.001%", FailureLimit(0.001, per_cent=True)),
        ("5 %", FailureLimit(5, per_cent=True)),
        ("100%", FailureLimit(100, per_cent=True)),
    ],
)
def test_a_failure_limit_is_a_number_of_rows_or_per_cent_of_them(text: str, limit: FailureLimit) -> None:
    assert parse_failure_limit(text) == limit


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "%", "0", "0%", "0.0%", "-1", "+5", "-5%", "2.5", "100.001%", "101%", "5%%", "%5", "5 0"),
        *(
            "5.%",
            ".5%",
            "1e3",
            "1_000",
            "1,5%",
            "nan",
            "inf",
            "50 rows",
            "50\n%5",
            "\u0665",
            "\xb2",
            "9" * 10,
        ),
    ],
)
def test_anything_else_is_wrong_usage_and_the_message_quotes_it(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_failure_limit(text)
    assert repr(text) in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("text", ["50", "5%", "2.5%", "0.125%", "100%"])
def test_a_failure_limit_is_written_as_it_is_read(text: str) -> None:
    assert str(parse_failure_limit(text)) == text


@pytest.mark.parametrize("number", [1_000_000, 1_234_567, 999_999_999])
def test_a_large_failure_limit_is_written_out_in_full(number: int) -> None:
    assert str(parse_failure_limit(str(number))) == str(number)


@given(st.text(alphabet="0123456789.% -+e", max_size=8))
def test_whatever_is_taken_for_a_failure_limit_is_above_zero_and_can_be_reached(text: str) -> None:
    try:
        limit = parse_failure_limit(text)
    except UsageError:
        return
    assert limit.amount > 0
    rows = max(100, int(limit.amount))
    assert limit.is_reached(rows, rows)
    assert not limit.is_reached(0, rows)


@given(st.integers(1, 10**9), st.integers(0, 10**9), st.integers(0, 10**9))
def test_a_number_of_failures_is_reached_by_so_many_whatever_number_of_rows_has_ended(
    most: int, failed: int, more: int
) -> None:
    assert FailureLimit(most).is_reached(failed, failed + more) == (failed >= most)


@given(st.floats(0.001, 100), st.integers(0, 99), st.data())
def test_per_cent_do_not_count_before_100_rows_have_ended(
    per_cent: float, ended: int, data: st.DataObject
) -> None:
    failed = data.draw(st.integers(0, ended))
    assert not FailureLimit(per_cent, per_cent=True).is_reached(failed, ended)


@pytest.mark.parametrize(
    ("failed", "ended", "reached"),
    [(4, 100, False), (5, 100, True), (49, 1000, False), (50, 1000, True), (100, 100, True)],
)
def test_per_cent_are_those_of_the_rows_that_have_ended(failed: int, ended: int, *, reached: bool) -> None:
    assert FailureLimit(5, per_cent=True).is_reached(failed, ended) is reached


@pytest.mark.parametrize("per_cent", [0.1, 0.7, 1.1, 5.7, 14.3, 28.6])
def test_exactly_so_many_per_cent_are_reached_whatever_a_float_makes_of_them(per_cent: float) -> None:
    failed = round(per_cent * 10)
    assert FailureLimit(per_cent, per_cent=True).is_reached(failed, 1000)


@given(failures, st.floats(0, 1e6))
def test_a_streak_is_no_outage_before_three_failures_and_two_seconds(
    happened: list[Failure], later: float
) -> None:
    streak = streak_of(happened)
    if len(happened) < 3 or later < 2:
        now = streak.since + min(later, 1.9 if len(happened) >= 3 else later)
        assert not streak.is_outage(now)


@given(st.integers(3, 200), st.floats(0, 1e6))
def test_one_row_that_the_service_always_fails_on_is_never_an_outage(times: int, later: float) -> None:
    streak = streak_of((float(n), 7, True) for n in range(times))
    assert not streak.is_outage(times + later)


@given(st.lists(st.sampled_from([7, 8]), min_size=3, max_size=50), st.floats(2, 1e6))
def test_two_such_rows_are_none_either(rows: list[int], later: float) -> None:
    streak = streak_of((float(n), row, True) for n, row in enumerate(rows))
    assert not streak.is_outage(len(rows) + later)


@given(st.lists(st.integers(1, 5), min_size=3, max_size=50), st.floats(2, 1e6))
def test_it_is_an_outage_when_nothing_reaches_the_service_even_for_one_row(
    rows: list[int], later: float
) -> None:
    streak = streak_of((0.0, row, False) for row in rows)
    assert streak.is_outage(later)


@given(st.lists(st.sampled_from([7, 8]), max_size=50), st.integers(3, 9), st.floats(2, 1e6))
def test_that_it_was_reached_before_does_not_hide_that_nothing_reaches_it_any_more(
    before: list[int], last: int, later: float
) -> None:
    reached = [(float(n), row, True) for n, row in enumerate(before)]
    died = float(len(before))
    streak = streak_of([*reached, *[(died, 7, False)] * last])
    assert streak.is_outage(died + later)
    assert not streak.is_outage(died + 1.9)


@given(failures)
def test_three_rows_without_an_answer_are_an_outage_in_whatever_order_they_fail(
    happened: list[Failure],
) -> None:
    streak = streak_of(happened)
    if len({row for _, row, _ in happened}) >= 3:
        assert streak.is_outage(streak.since + 2.001)


@given(failures)
def test_a_streak_counts_from_its_first_failure_and_keeps_three_rows_at_most(happened: list[Failure]) -> None:
    streak = streak_of(happened)
    assert streak.since == happened[0][0]
    last = list(takewhile(lambda failure: not failure[2], reversed(happened)))
    assert streak.unreached == len(last)
    assert not last or streak.unreached_since == last[-1][0]
    assert len(streak.rows) == min(len({row for _, row, _ in happened}), 3)


@given(failures)
def test_a_streak_is_judged_whenever_time_alone_may_make_it_an_outage(happened: list[Failure]) -> None:
    streak = streak_of(happened)
    now = happened[-1][0]
    judged_at = [now]
    while (due := streak.next_judgement(judged_at[-1])) is not None:
        assert judged_at[-1] < due <= now + 2
        judged_at.append(due)
    assert len(judged_at) <= 3
    if streak.is_outage(now + 1e9):
        assert streak.is_outage(judged_at[-1])


@given(failures)
def test_what_has_become_an_outage_stays_one_unless_a_request_gets_through_for_few_rows(
    happened: list[Failure],
) -> None:
    def grown(streak: Streak, failure: Failure) -> Streak:
        now, row, reached = failure
        longer = after_failure(streak, now, row, reached=reached, probe=True)
        if streak.is_outage(now) and not reached:
            assert longer.is_outage(now)
        return longer

    first, *others = happened
    streak = reduce(grown, others, streak_of([first]))
    assert streak.probes == len(others)


def test_pauses_between_probes_double_from_one_second_to_thirty() -> None:
    assert [probe_pause(n) for n in range(7)] == [1, 2, 4, 8, 16, 30, 30]


@given(st.integers(0, 10**12))
def test_pauses_between_probes_never_shrink_and_never_exceed_their_bound(probes: int) -> None:
    assert 0 < probe_pause(probes) <= probe_pause(probes + 1) <= LONGEST_PAUSE


def test_a_day_of_outage_is_asked_about_a_few_thousand_times_at_most() -> None:
    moments = [0.0]
    while moments[-1] < 86_400:
        moments.append(moments[-1] + probe_pause(len(moments) - 1))
    assert len(moments) < 2_900
    assert all(later > earlier for earlier, later in pairwise(moments))
