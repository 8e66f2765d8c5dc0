"""A run that is cut short, wherever its workers are just then: what it leaves behind."""

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from support import ABSENT, BUSY, FOUND, LOST, NO, OK, UNSENT, Run, Service

from batch.engine.rate import Rate
from batch.engine.retry import RetryPolicy
from batch.model import Result, Status

SUCCEEDED = Result(Status.SUCCEEDED)
MOMENT = 5.0
SLOW = Rate(1, 60.0)
SELDOM = RetryPolicy(first_wait=100, longest_wait=100)

WAYS: dict[str, dict[str, float]] = {
    "at once": {"stop_after": MOMENT, "grace": 0.0},
    "with grace": {"stop_after": MOMENT, "grace": 10.0},
    "from outside": {"cancel_after": MOMENT},
}


class Place(NamedTuple):
    """Where workers are when the run is cut short.

    Attributes:
        run: makes a run that is there after `MOMENT` seconds.
        before: results recorded until then.
        settled: results that are recorded in the end if there is a grace.
        in_doubt: rows whose effect is unknown if there is none.
        still_in_doubt: rows whose effect is unknown although there was a grace.

    """

    run: Callable[[], Run]
    before: dict[int, Result]
    settled: dict[int, Result]
    in_doubt: set[int]
    still_in_doubt: set[int]


def place(
    run: Callable[[], Run],
    *,
    before: dict[int, Result] | None = None,
    settled: dict[int, Result] | None = None,
    in_doubt: frozenset[int] | set[int] = frozenset(),
    still_in_doubt: frozenset[int] | set[int] = frozenset(),
) -> Place:
    before = before or {}
    return Place(run, before, before | (settled or {}), set(in_doubt), set(still_in_doubt))


def outage(**others: Any) -> Run:
    """Return a run whose service has been down for almost `MOMENT` seconds, with the next probe at 7 s."""
    return Run(service=Service(0.0, **others), rows=9, concurrency=3, policy=RetryPolicy(max_attempts=20))


PLACES = {
    "waiting for a permit": place(
        lambda: Run(*[OK] * 9, rows=9, concurrency=4, rate=SLOW), before={1: SUCCEEDED}
    ),
    "waiting for a permit for another attempt": place(
        lambda: Run(LOST, OK, rows=1, concurrency=4, rate=SLOW), in_doubt={1}, still_in_doubt={1}
    ),
    "in a cool-down": place(
        lambda: Run(BUSY, *[OK] * 9, rows=9, concurrency=4, takes=0.1, policy=SELDOM),
        before=dict.fromkeys((2, 3, 4), SUCCEEDED),
    ),
    "in a cool-down and in doubt": place(
        lambda: Run(LOST, BUSY, OK, OK, takes=0.1, policy=RetryPolicy(first_wait=8)),
        settled={1: SUCCEEDED},
        in_doubt={1},
    ),
    "waiting as prober and behind it": place(outage),
    "waiting as prober and behind it, in doubt": place(
        lambda: outage(failing=LOST), in_doubt=set(range(1, 10)), still_in_doubt=set(range(1, 10))
    ),
    "probing": place(
        lambda: outage(fails_after=1.1, failing=LOST),
        in_doubt=set(range(1, 10)),
        still_in_doubt=set(range(1, 10)),
    ),
    "a request is in flight": place(
        lambda: Run(*[OK] * 9, rows=9, concurrency=3, takes=8.0),
        settled=dict.fromkeys((1, 2, 3), SUCCEEDED),
        in_doubt={1, 2, 3},
    ),
    "a request is in flight for longer than the grace": place(
        lambda: Run(*[OK] * 9, rows=9, concurrency=3, takes=80.0),
        in_doubt={1, 2, 3},
        still_in_doubt={1, 2, 3},
    ),
    "reading back is in flight": place(
        lambda: Run(NO, FOUND, OK, rows=2, takes=3.0, in_doubt={1}),
        settled={1: SUCCEEDED},
        in_doubt={1},
    ),
    "a row without effect is set aside": place(lambda: Run(UNSENT, OK, policy=SELDOM)),
    "a row in doubt is set aside": place(
        lambda: Run(LOST, NO, FOUND, OK, policy=SELDOM), settled={1: SUCCEEDED}, in_doubt={1}
    ),
    "a row in doubt is set aside while all workers wait for permits": place(
        lambda: Run(
            *(OK, LOST, NO, FOUND, *[OK] * 9), rows=9, concurrency=2, rate=Rate(1, 4.0), policy=SELDOM
        ),
        before={1: SUCCEEDED},
        settled={2: SUCCEEDED},
        in_doubt={2},
    ),
    "idle": place(lambda: Run(OK, rows=1, concurrency=8, takes=8.0), settled={1: SUCCEEDED}, in_doubt={1}),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("where", PLACES)
def test_a_run_that_is_cut_short_leaves_no_task_and_says_what_is_known_of_each_row(
    where: str, way: str
) -> None:
    there = PLACES[where]
    run = there.run().go(**WAYS[way])
    with_grace = way == "with grace"
    assert run.took == pytest.approx(MOMENT, abs=0.01) or (with_grace and MOMENT < run.took <= MOMENT + 10)

    assert (run.tasks_left, run.script.in_flight, run.sent_afterwards, run.broken) == (0, 0, 0, [])
    assert {row: outcome.result for row, outcome in run.recorded} == (
        there.settled if with_grace else there.before
    )
    in_doubt = there.still_in_doubt if with_grace else there.in_doubt
    unsettled = {row: outcome.result.status for row, outcome in run.engine.unsettled.items()}
    asked = {int(request.url[1:]) for request in run.script.requests}
    without_effect = asked - in_doubt - set(run.settled)
    assert unsettled == {
        **dict.fromkeys(in_doubt, Status.UNCONFIRMED),
        **dict.fromkeys(without_effect, Status.PENDING),
    }
    assert all(run.engine.unsettled[row].attempts for row in without_effect)
    assert run.results.keys() == run.engine.unsettled.keys() | set(run.settled)

    first_writes: dict[int, int] = {}
    for number, request in enumerate(run.script.requests):
        if request.writes:
            first_writes.setdefault(int(request.url[1:]), number)
    assert len(run.begun) == len(first_writes)
    assert dict(run.begun) == first_writes


@pytest.mark.parametrize("reading", [ABSENT, LOST], ids=["absent", "unreadable"])
def test_a_row_whose_attempts_a_stop_cut_short_is_worth_another_run(reading: Any) -> None:
    run = Run(LOST, *[reading] * 9, takes=2.0).go(stop_after=1.0)
    assert run.methods == "POST GET"
    assert run.settled == [], "five more attempts would have been due"
    assert run.engine.unsettled.keys() == {1}


def test_a_row_whose_attempts_were_used_up_before_the_stop_is_settled_by_its_reading_back() -> None:
    policy = RetryPolicy(max_attempts=1)
    run = Run(LOST, ABSENT, takes=2.0, policy=policy).go(stop_after=1.0)
    assert run.methods == "POST GET"
    assert run.results == {1: Result(Status.FAILED, "connection")}
    assert run.settled == [1]


@pytest.mark.parametrize("second", [0.0, 3.0])
def test_a_second_stop_only_ever_shortens_the_grace(second: float) -> None:
    run = Run(*[OK] * 9, rows=9, concurrency=3, takes=80.0)
    engine, send = run.engine, run.script.send

    async def stopping_again(request: Any) -> Any:
        if not run.script.requests:
            loop = engine._loop
            loop.call_later(MOMENT + second, lambda: engine.stop(engine.stopped, grace=0))
        return await send(request)

    run.script.send = stopping_again  # type: ignore[method-assign]
    run.go(stop_after=MOMENT)
    assert run.took == pytest.approx(MOMENT + second, abs=0.01)
    assert run.engine.unsettled.keys() == {1, 2, 3}
    assert (run.tasks_left, run.script.in_flight) == (0, 0)


@pytest.mark.parametrize("moment", [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 7.25])
@pytest.mark.parametrize("way", ["stop", "cancel"])
def test_at_whatever_moment_it_is_cut_short_each_row_has_one_end_and_none_is_forgotten(
    moment: float, way: str
) -> None:
    service = Service(2.0, 60.0, failing=LOST, takes=0.3, fails_after=0.7)
    run = Run(service=service, rows=40, concurrency=4, rate=Rate(10))
    run.go(**({"cancel_after": moment} if way == "cancel" else {"stop_after": moment, "grace": 0}))
    asked = {int(request.url[1:]) for request in service.requests}
    assert {row for row, _ in run.begun} == asked
    assert run.results.keys() == asked
    assert {run.results[row].status for row in run.settled} <= {Status.SUCCEEDED}
    assert {outcome.result for outcome in run.engine.unsettled.values()} <= {
        Result(Status.UNCONFIRMED, "interrupted")
    }
    assert (run.tasks_left, service.in_flight, run.sent_afterwards, run.broken) == (0, 0, 0, [])
