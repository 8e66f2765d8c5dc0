"""The sum of a run, as text and as JSON."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch.model import Record, Status
from batch.results.summary import Summary, counted, duration

T0 = "2024-05-06T07:08:09.000Z"
T1 = "2024-05-06T07:08:09.400Z"
T2 = "2024-05-06T09:18:09.000Z"


def record(status: Status, reason: str, attempts: int, started_at: str, finished_at: str) -> Record:
    return Record(
        1,
        status,
        reason,
        attempts=attempts,
        started_at=started_at or None,
        finished_at=finished_at or None,
    )


def summed(*rows: tuple[Status, str, int, str, str], job: str = "associate") -> Summary:
    summary = Summary(job=job)
    for row in rows:
        summary.add(record(*row))
    return summary


MIXED = (
    (Status.SUCCEEDED, "", 1, T1, T2),
    (Status.SUCCEEDED, "", 1, T0, T1),
    (Status.UNCHANGED, "", 2, T1, T1),
    (Status.FAILED, "not_private", 1, T1, T1),
    (Status.FAILED, "image_full", 2, T1, T1),
    (Status.FAILED, "image_full", 2, T1, T1),
    (Status.FAILED, "denied", 1, T1, T1),
    (Status.UNCONFIRMED, "timeout", 6, T1, T1),
    (Status.INVALID, "invalid", 0, "", ""),
    (Status.DUPLICATE, "", 0, "", ""),
    (Status.PENDING, "", 0, "", ""),
)


def test_a_fresh_summary_counts_nothing() -> None:
    summary = Summary()
    assert (summary.rows, summary.not_through, summary.attempts, summary.seconds) == (0, 0, 0, None)


def test_rows_attempts_and_what_is_left_to_do_are_counted() -> None:
    summary = summed(*MIXED)
    assert (summary.rows, summary.attempts, summary.not_through) == (11, 16, 7)


@pytest.mark.parametrize("status", Status)
def test_only_succeeded_unchanged_and_duplicate_rows_are_through(status: Status) -> None:
    left = summed((status, "", 0, "", "")).not_through
    assert left == (status.value not in ("succeeded", "unchanged", "duplicate"))


def test_the_run_lasts_from_the_earliest_start_to_the_latest_end_in_any_order_of_rows() -> None:
    for rows in (MIXED, MIXED[::-1]):
        summary = summed(*rows)
        assert (summary.started_at, summary.finished_at, summary.seconds) == (T0, T2, 7800.0)


def test_rows_that_were_never_sent_have_no_times() -> None:
    summary = summed((Status.INVALID, "invalid", 0, "", ""), (Status.PENDING, "", 0, "", ""))
    assert (summary.started_at, summary.finished_at, summary.seconds) == ("", "", None)


def test_one_sent_row_among_others_gives_the_times() -> None:
    summary = summed((Status.PENDING, "", 0, "", ""), (Status.SUCCEEDED, "", 1, T0, T1), MIXED[-1])
    assert summary.seconds == pytest.approx(0.4)


def test_json_names_every_outcome_and_orders_reasons_by_outcome_number_and_name() -> None:
    document = summed(*MIXED).as_json()
    assert json.loads(json.dumps(document)) == document
    assert document == {
        "job": "associate",
        "rows": 11,
        "outcomes": {
            "succeeded": 2,
            "unchanged": 1,
            "failed": 4,
            "unconfirmed": 1,
            "invalid": 1,
            "duplicate": 1,
            "pending": 1,
        },
        "reasons": [
            {"outcome": "failed", "reason": "image_full", "rows": 2},
            {"outcome": "failed", "reason": "denied", "rows": 1},
            {"outcome": "failed", "reason": "not_private", "rows": 1},
            {"outcome": "unconfirmed", "reason": "timeout", "rows": 1},
            {"outcome": "invalid", "reason": "invalid", "rows": 1},
        ],
        "attempts": 16,
        "started_at": T0,
        "finished_at": T2,
        "seconds": 7800.0,
    }


def test_json_of_nothing_has_nulls_for_times() -> None:
    document = Summary().as_json()
    assert (document["started_at"], document["finished_at"], document["seconds"]) == (None, None, None)
    assert set(document["outcomes"].values()) == {0}


def test_text_tells_rows_requests_time_and_reasons() -> None:
    assert summed(*MIXED).as_text().splitlines() == [
        "associate: 11 rows, 16 requests in 2 h 10 min",
        "  2 succeeded",
        "  1 unchanged",
        "  4 failed (image_full 2, denied 1, not_private 1)",
        "  1 unconfirmed (timeout 1)",
        "  1 invalid (invalid 1)",
        "  1 duplicate",
        "  1 pending",
    ]


def test_text_of_a_run_that_sent_nothing_names_no_requests() -> None:
    assert summed((Status.PENDING, "", 0, "", "")).as_text() == "associate: 1 row\n  1 pending"


def test_text_lines_large_numbers_up() -> None:
    summary = Summary(job="verify")
    summary.outcomes.update({Status.UNCHANGED: 1_234_567, Status.FAILED: 9})
    assert summary.as_text().splitlines() == [
        "verify: 1,234,576 rows",
        "  1,234,567 unchanged",
        "          9 failed",
    ]


def test_one_reason_under_two_outcomes_is_told_apart() -> None:
    summary = summed((Status.FAILED, "timeout", 1, T0, T1), (Status.UNCONFIRMED, "timeout", 1, T0, T1))
    assert summary.as_text().count("(timeout 1)") == 2


def test_asking_changes_no_count() -> None:
    summary = summed(*MIXED)
    before = (summary.rows, dict(summary.outcomes), dict(summary.reasons))
    summary.as_json()
    summary.as_text()
    assert (summary.rows, dict(summary.outcomes), dict(summary.reasons)) == before


@given(st.lists(st.tuples(st.sampled_from(Status), st.sampled_from(["", "a", "b"]), st.integers(0, 9))))
def test_the_parts_always_make_the_whole(rows: list[tuple[Status, str, int]]) -> None:
    summary = summed(*[(status, reason, attempts, "", "") for status, reason, attempts in rows])
    document = summary.as_json()
    assert sum(document["outcomes"].values()) == summary.rows == len(rows)
    assert sum(entry["rows"] for entry in document["reasons"]) == sum(bool(row[1]) for row in rows)
    assert document["attempts"] == sum(row[2] for row in rows)
    assert summary.not_through == sum(not row[0].is_through for row in rows)


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 rows"), (1, "1 row"), (2, "2 rows"), (2_000, "2,000 rows")]
)
def test_a_number_takes_its_noun_in_the_right_form(number: int, text: str) -> None:
    assert counted(number, "row") == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0.0 s"),
        (0.4, "0.4 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (12.0, "12 s"),
        (59.4, "59 s"),
        (59.5, "1 min 0 s"),
        (59.99, "1 min 0 s"),
        (60.0, "1 min 0 s"),
        (185.0, "3 min 5 s"),
        (3599.4, "59 min 59 s"),
        (3599.6, "1 h 0 min"),
        (7800.0, "2 h 10 min"),
        (360_000_000.0, "100,000 h 0 min"),
    ],
)
def test_a_duration_is_told_in_its_two_greatest_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@given(st.floats(0, 100) | st.floats(60, 1e12))
def test_no_duration_tells_sixty_of_a_smaller_unit_or_a_tenth_of_ten_seconds(seconds: float) -> None:
    text = duration(seconds)
    assert " 60 " not in f" {text} "
    assert text != "10.0 s"
