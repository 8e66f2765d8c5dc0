"""A service that goes down and comes up again: what is sent meanwhile, and what becomes of the rows."""

import asyncio
import re
from collections import Counter
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import BUSY, ERROR, FAST, LOST, NO, OK, UNSENT, Run, Service, Wire, permitted, run_virtually

from batch.engine.halt import Limits
from batch.engine.outage import Outage
from batch.engine.pace import Pace
from batch.engine.pool import GRACE
from batch.engine.rate import Rate
from batch.engine.retry import RetryPolicy
from batch.errors import InterruptedRunError, ServiceUnavailableError
from batch.http.transport import TransportError
from batch.model import Request, Response, Result, Status

POLICY = RetryPolicy()
FAILING = {"unreachable": UNSENT, "lost": LOST, "error": ERROR}
MILLISECOND = 0.001


class Observed(Service):
    """A service that notes which requests are probes: those sent while the engine takes it for down."""

    run: Run

    def __init__(self, *changes: float, **others: Any) -> None:
        super().__init__(*changes, **others)
        self.probes: list[float] = []
        self.probing = 0
        self.most_probing = 0

    async def send(self, request: Request) -> Response:
        if not self.run.engine.attempts.down:
            return await super().send(request)
        self.probes.append(asyncio.get_running_loop().time())
        self.probing += 1
        self.most_probing = max(self.most_probing, self.probing)
        try:
            return await super().send(request)
        finally:
            self.probing -= 1


def observed(service: Observed, **others: Any) -> Run:
    service.run = Run(service=service, **others)
    return service.run


def all_succeeded(run: Run) -> bool:
    return run.settled != [] and {result.status for result in run.results.values()} == {Status.SUCCEEDED}


@pytest.mark.parametrize("failing", FAILING.values(), ids=FAILING)
def test_every_row_gets_through_when_the_service_was_down_for_a_while(
    failing: Response | TransportError,
) -> None:
    service = Observed(5.0, 125.0, failing=failing)
    run = observed(service, rows=100, concurrency=8, rate=Rate(10)).go()
    assert all_succeeded(run)
    assert sorted(run.settled) == list(range(1, 101))
    assert run.engine.stopped is None
    assert service.probes


@pytest.mark.parametrize("failing", FAILING.values(), ids=FAILING)
def test_no_row_uses_up_its_attempts_while_the_service_is_down(
    failing: Response | TransportError,
) -> None:
    service = Observed(0.05, 65.0, failing=failing)
    run = observed(service, rows=2000, concurrency=8).go()
    assert Counter(result.status for result in run.results.values()) == {Status.SUCCEEDED: 2000}


@pytest.mark.parametrize("fails_after", [0.0, 0.01, 5.0, 30.0])
def test_while_the_service_is_down_one_probe_at_a_time_asks_with_growing_pauses(fails_after: float) -> None:
    service = Observed(1.0, 260.0, fails_after=fails_after)
    run = observed(service, rows=200, concurrency=32, rate=Rate(10)).go()
    assert all_succeeded(run)
    assert service.most_probing == 1
    pauses = [later - earlier - fails_after for earlier, later in pairwise(service.probes)]
    assert pauses == pytest.approx([2, 4, 8, 16, *[30] * 20][: len(pauses)], abs=0.01)
    assert 5 <= len(service.probes) <= 13


@pytest.mark.parametrize("max_attempts", [1, 6])
@pytest.mark.parametrize("concurrency", [4, 32])
@pytest.mark.parametrize("failing", FAILING.values(), ids=FAILING)
def test_no_row_uses_up_its_attempts_before_it_is_known_that_the_service_is_down(
    failing: Response | TransportError, concurrency: int, max_attempts: int
) -> None:
    policy = RetryPolicy(max_attempts=max_attempts)
    service = Observed(0.0, 12.0, failing=failing)
    run = observed(service, rows=1500, concurrency=concurrency, rate=Rate(100), policy=policy).go()
    assert all_succeeded(run)
    assert len(run.settled) == 1500


@pytest.mark.parametrize("rows", [3, 5])
def test_an_outage_is_found_in_time_without_another_failure(rows: int) -> None:
    policy = RetryPolicy(max_attempts=1)
    run = observed(Observed(0.0, 12.0, failing=ERROR), rows=rows, concurrency=8, policy=policy).go()
    assert all_succeeded(run)
    assert run.took < 20


@pytest.mark.parametrize("up_again", [0.5, 1.9])
def test_failures_that_turn_out_to_be_no_outage_stand_with_no_more_attempts_than_allowed(
    up_again: float,
) -> None:
    policy = RetryPolicy(max_attempts=1)
    service = Observed(0.0, up_again)
    run = observed(service, rows=50, concurrency=1, rate=Rate(10), policy=policy).go()
    assert run.engine.stopped is None
    failed = [row for row, result in run.results.items() if result.status is Status.FAILED]
    assert len(failed) == len([time for time in service.times if time - service.times[0] < up_again])
    assert len(service.requests) == 50, "not one attempt too many"
    assert len(run.settled) == 50


def test_what_few_rows_fail_on_is_known_to_be_no_outage_after_two_seconds() -> None:
    run = observed(Observed(0.0, failing=ERROR), rows=2, policy=RetryPolicy(max_attempts=1)).go()
    assert run.engine.stopped is None
    assert {result.status for result in run.results.values()} == {Status.UNCONFIRMED}
    assert run.took < 10


def test_after_a_last_sign_of_life_a_service_that_nothing_reaches_is_down_even_for_few_rows() -> None:
    class Dying(Observed):
        def end(self, request: Request) -> tuple[float, Response | TransportError]:
            return super().end(request) if self.requests else (0.01, LOST)

    run = observed(Dying(0.005, 60.0), rows=2, concurrency=2).go()
    assert all_succeeded(run)


@pytest.mark.parametrize("rows", [5, 40])
def test_a_pause_that_a_failing_service_asks_for_does_not_keep_anyone_from_asking_it(rows: int) -> None:
    service = Observed(0.0, 5.0, failing=Response(503, {"Retry-After": "60"}))
    limits = Limits(max_outage=30.0)
    run = observed(service, rows=rows, concurrency=32, rate=Rate(10), limits=limits).go()
    assert all_succeeded(run)
    assert run.engine.stopped is None
    assert run.took < 15


def test_rows_that_were_set_aside_before_an_outage_go_on_at_its_end() -> None:
    policy = RetryPolicy(first_wait=500, longest_wait=500)
    run = observed(Observed(0.0, 40.0), rows=9, concurrency=3, policy=policy).go()
    assert all_succeeded(run)
    assert run.took < 70


def test_while_the_service_is_down_its_rate_of_probes_is_that_of_the_pauses_however_many_rows_wait() -> None:
    service = Observed(0.0, 260.0)
    run = observed(service, rows=3000, concurrency=64).go()
    assert all_succeeded(run)
    began = service.times[0]
    while_down = [time - began for time in service.times if 10 < time - began < 260]
    assert len(while_down) <= 11


def test_when_the_service_answers_again_all_workers_go_on_at_once() -> None:
    service = Observed(1.0, 100.0, takes=1.0)
    run = observed(service, rows=2000, concurrency=16).go()
    first_answer = min(time for time in run.recorded_at if time > service.times[0] + 100)
    at_once = [time for time in service.times if 0 <= time - first_answer < MILLISECOND]
    assert len(at_once) >= 16
    assert all_succeeded(run)


def test_a_rush_after_an_outage_keeps_to_the_rate() -> None:
    service = Observed(1.0, 100.0)
    run = observed(service, rows=300, concurrency=64, rate=Rate(10)).go()
    assert all_succeeded(run)
    starts = service.times
    assert max(sum(start <= time < start + 1 for time in starts) for start in starts) <= 11


@pytest.mark.parametrize("max_outage", [3.0, 20.0, 300.0])
@pytest.mark.parametrize("fails_after", [0.0, 30.0])
def test_an_outage_that_is_too_long_stops_the_run_in_time(max_outage: float, fails_after: float) -> None:
    limits = Limits(max_outage=max_outage)
    run = observed(
        Observed(10.0, fails_after=fails_after), rows=500, concurrency=8, rate=Rate(10), limits=limits
    ).go()
    assert isinstance(run.engine.stopped, ServiceUnavailableError)
    assert run.engine.stopped.exit_code == 69
    assert "refused" in str(run.engine.stopped)
    first_failure, pause = 10.1 + fails_after, 30.0
    assert first_failure + max_outage - 0.2 <= run.took <= first_failure + max_outage + pause + fails_after
    assert 95 <= len(run.settled) <= 100
    assert {run.results[row].status for row in run.settled} == {Status.SUCCEEDED}
    unsettled = run.engine.unsettled.values()
    assert {outcome.result.reason for outcome in unsettled} == {"interrupted"}
    if fails_after < GRACE:
        assert {outcome.result.status for outcome in unsettled} == {Status.PENDING}
    assert all(outcome.attempts for outcome in unsettled)


@pytest.mark.parametrize("failing", [LOST, ERROR], ids=["lost", "error"])
def test_rows_in_doubt_are_unconfirmed_and_worth_another_run_when_an_outage_stops_the_run(
    failing: Response | TransportError,
) -> None:
    service = Observed(5.0, failing=failing)
    run = observed(service, rows=500, concurrency=8, rate=Rate(10)).go()
    assert isinstance(run.engine.stopped, ServiceUnavailableError)
    unanswered = {int(request.url[1:]) for request in service.requests} - set(run.settled)
    assert unanswered
    assert run.engine.unsettled.keys() == unanswered
    assert {outcome.result for outcome in run.engine.unsettled.values()} == {
        Result(Status.UNCONFIRMED, "interrupted")
    }
    assert {run.results[row].status for row in run.settled} == {Status.SUCCEEDED}


def test_a_row_that_an_outage_keeps_from_being_read_back_is_worth_another_run() -> None:
    class Unreadable(Observed):
        def end(self, request: Request) -> tuple[float, Response | TransportError]:
            return (0.01, NO) if request.writes else super().end(request)

    service = Unreadable(0.0, failing=ERROR)
    limits = Limits(max_outage=60.0)
    run = observed(service, rows=4, concurrency=4, in_doubt=range(5), limits=limits).go()
    assert isinstance(run.engine.stopped, ServiceUnavailableError)
    assert run.settled == []
    assert run.engine.unsettled.keys() == {1, 2, 3, 4}


def test_an_answer_to_an_earlier_request_ends_the_outage() -> None:
    class Slow(Observed):
        def end(self, request: Request) -> tuple[float, Response | TransportError]:
            return (6.0, OK) if request.url == "/1" else super().end(request)

    service = Slow(0.0, 5.9)
    run = observed(service, rows=20, concurrency=4, policy=RetryPolicy(max_attempts=20)).go()
    assert all_succeeded(run)
    answered_at = run.recorded_at[0]
    assert run.settled[0] == 1
    assert [time for time in service.probes if time > answered_at] == []
    assert [time for time in service.times if 0 <= time - answered_at < MILLISECOND], (
        "at once, not in a pause"
    )


def test_a_late_failure_of_an_earlier_request_does_not_put_off_the_next_probe() -> None:
    async def going() -> float:
        outage = await down()
        loop = asyncio.get_running_loop()
        turn = asyncio.create_task(outage.turn())
        began = loop.time()
        for row in range(10, 20):
            await asyncio.sleep(0.09)
            assert not outage.failed(began - 20, row, reached=False)
        assert await turn
        return loop.time() - began

    assert run_virtually(going()) == pytest.approx(1.0, abs=MILLISECOND)


async def down() -> Outage:
    """Return an outage that has just been found."""
    outage = Outage()
    now = asyncio.get_running_loop().time()
    assert outage.failed(now, 1, reached=False)
    assert outage.failed(now, 2, reached=False)
    await asyncio.sleep(2)
    assert not outage.failed(now, 3, reached=False)
    assert outage.since == asyncio.get_running_loop().time()
    return outage


def test_a_prober_that_is_cancelled_passes_its_turn_on() -> None:
    async def going() -> float:
        outage = await down()
        loop = asyncio.get_running_loop()
        began = loop.time()
        turns = [asyncio.create_task(outage.turn()) for _ in range(5)]
        await asyncio.sleep(0.5)
        for turn in turns[:4]:
            turn.cancel()
            await asyncio.sleep(0)
        assert await turns[4]
        return loop.time() - began

    assert run_virtually(going()) == pytest.approx(1.0, abs=MILLISECOND)


def test_a_prober_that_is_cancelled_while_it_waits_for_its_permit_passes_its_turn_on() -> None:
    async def going() -> float:
        pace = Pace(Rate(1, 60.0), POLICY)
        await permitted(pace)
        pace.outage = await down()
        loop = asyncio.get_running_loop()
        prober = asyncio.create_task(permitted(pace))
        await asyncio.sleep(1.5)
        other = asyncio.create_task(permitted(pace))
        await asyncio.sleep(0.5)
        prober.cancel()
        began = loop.time()
        await other
        return loop.time() - began

    assert 50 < run_virtually(going()) < 60


def test_one_of_many_gets_the_turn_and_all_others_go_when_the_service_answers() -> None:
    async def going() -> Counter[bool]:
        outage = await down()
        turns = [asyncio.create_task(outage.turn()) for _ in range(5)]
        await asyncio.sleep(100)
        assert sum(turn.done() for turn in turns) == 1
        assert outage.answered()
        assert not outage.answered()
        return Counter(turn is not None for turn in await asyncio.gather(*turns))

    assert run_virtually(going()) == {True: 1, False: 4}


def test_a_turn_that_an_answer_has_overtaken_is_no_turn_in_the_next_outage() -> None:
    async def going() -> int:
        pace = Pace(FAST, POLICY)
        loop = asyncio.get_running_loop()
        pace.throttled(loop.time(), 60.0, 0.5)
        pace.outage = await down()
        first = asyncio.create_task(permitted(pace))
        await asyncio.sleep(5)  # it has the turn, and waits for the end of the cool-down
        assert pace.outage.answered()
        pace.outage = await fail_again(pace.outage)
        second = asyncio.create_task(permitted(pace))
        await asyncio.sleep(100)
        granted = sum(each.done() for each in (first, second))
        first.cancel()
        second.cancel()
        return granted

    assert run_virtually(going()) == 1


async def fail_again(outage: Outage) -> Outage:
    sent_at = asyncio.get_running_loop().time() - 10
    for row in (1, 2):
        outage.failed(sent_at, row, reached=False)
    await asyncio.sleep(2)
    assert not outage.failed(sent_at, 3, reached=False)
    return outage


def test_rows_of_one_scope_go_on_while_another_is_down() -> None:
    service = Observed(0.0, 200.0, spared={"b"})
    run = observed(service, rows=40, thing=lambda n: f"{'ab'[n % 2]}/{n}", concurrency=40).go()
    assert all_succeeded(run)
    began = service.times[0]
    first = [row for row, at in zip(run.settled, run.recorded_at, strict=True) if at - began < 1]
    assert sorted(first) == list(range(1, 41, 2))


def test_the_outage_of_one_scope_stops_the_run_when_it_is_too_long() -> None:
    service = Observed(0.0, spared={"b"})
    run = observed(service, rows=40, thing=lambda n: f"{'ab'[n % 2]}/{n}", concurrency=40).go()
    assert isinstance(run.engine.stopped, ServiceUnavailableError)
    assert len(run.settled) == 20
    assert {run.results[row].status for row in run.settled} == {Status.SUCCEEDED}


@pytest.mark.parametrize("rows", [1, 100])
def test_a_row_that_the_service_always_fails_on_ends_failed_after_its_attempts(rows: int) -> None:
    service = Service(poisoned={"/1"})
    run = Run(service=service, rows=rows, concurrency=4, policy=RetryPolicy(max_attempts=3)).go()
    assert run.engine.stopped is None
    assert not run.engine.attempts.down
    status = run.results.pop(1).status
    assert status is Status.UNCONFIRMED, "the reading back is answered with an error too"
    assert sum(request.url == "/1" for request in service.requests) == 6
    assert all(result.status is Status.SUCCEEDED for row, result in run.results.items() if row > 1)


def test_a_row_whose_write_always_fails_and_can_be_read_back_ends_failed_after_its_attempts() -> None:
    ends = [ERROR, ERROR, ERROR, Response(200)]
    run = Run(*ends, policy=RetryPolicy(max_attempts=3, first_wait=60)).go()
    assert run.results == {1: Result(Status.FAILED, "server_error")}
    assert run.recorded[0][1].attempts == 4


def test_an_outage_that_begins_in_a_cool_down_is_asked_about_only_after_it() -> None:
    class Throttling(Observed):
        def end(self, request: Request) -> tuple[float, Response | TransportError]:
            return super().end(request) if self.requests else (0.01, BUSY)

    service = Throttling(0.02, 200.0, fails_after=3.0)
    policy = RetryPolicy(first_wait=80.0, longest_wait=80.0)
    run = observed(service, rows=50, concurrency=8, rate=Rate(100), policy=policy).go()
    assert all_succeeded(run)
    assert len(run.settled) == 50
    assert service.most_probing <= 1


def test_a_cool_down_that_begins_in_an_outage_ends_it_and_holds_every_worker() -> None:
    class Throttling(Observed):
        throttled_at: float | None = None

        def end(self, request: Request) -> tuple[float, Response | TransportError]:
            takes, end = super().end(request)
            if end is OK and self.throttled_at is None:
                self.throttled_at = asyncio.get_running_loop().time() + takes
                return takes, BUSY
            return takes, end

    service = Throttling(0.0, 50.0)
    policy = RetryPolicy(first_wait=40.0, longest_wait=40.0)
    run = observed(service, rows=50, concurrency=8, policy=policy).go()
    assert all_succeeded(run)
    assert service.throttled_at is not None
    after = [time - service.throttled_at for time in service.times if time > service.throttled_at]
    assert min(after) == pytest.approx(30.0, abs=0.1)  # with the draw of 1/2, 3/4 of the back-off
    assert [time for time in service.probes if time > service.throttled_at] == []


@pytest.mark.parametrize("failing", FAILING.values(), ids=FAILING)
@pytest.mark.parametrize("fails_after", [0.01, 60.0])
@pytest.mark.parametrize("grace", [0.0, 10.0])
def test_a_stop_during_an_outage_ends_within_the_grace(
    failing: Response | TransportError, fails_after: float, grace: float
) -> None:
    service = Observed(5.0, failing=failing, fails_after=fails_after)
    run = observed(service, rows=500, concurrency=8, rate=Rate(10)).go(stop_after=150.0, grace=grace)
    assert isinstance(run.engine.stopped, InterruptedRunError)
    assert 150.0 <= run.took <= 150.0 + grace
    in_doubt = {int(request.url[1:]) for request in service.requests} - set(run.settled)
    assert run.results.keys() - set(run.settled) <= in_doubt
    assert (run.tasks_left, service.in_flight, run.sent_afterwards) == (0, 0, 0)


def test_a_stop_lets_the_row_that_probes_end_within_the_grace() -> None:
    service = Observed(0.0, 8.0, fails_after=1.0, takes=5.0)
    run = observed(service, rows=5, concurrency=1, policy=RetryPolicy(max_attempts=20)).go(stop_after=11.0)
    assert isinstance(run.engine.stopped, InterruptedRunError)
    assert [run.results[row].status for row in run.settled] == [Status.SUCCEEDED]
    assert run.took <= 21.0


@pytest.mark.parametrize(
    "ends", [[BUSY], [UNSENT] * 4, [BUSY, BUSY, UNSENT]], ids=["throttled", "down", "both"]
)
def test_no_wait_of_nothing_is_told_of_where_the_wait_is_that_of_all(
    ends: list[Response | TransportError], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "batch")
    Run(*ends, OK, policy=RetryPolicy(first_wait=4.0)).go()
    told = [record.getMessage() for record in caplog.records]
    assert told
    assert not [each for each in told if "throttled: attempt" in each or "next in 0.0 s" in each]


def test_the_outage_is_told_of_once_when_it_begins_and_once_when_it_ends(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "batch")
    run = observed(Observed(1.0, 100.0), rows=100, concurrency=8, rate=Rate(10)).go()
    assert all_succeeded(run)
    told = [
        record.getMessage()
        for record in caplog.records
        if re.search("is down|answers again", record.getMessage())
    ]
    assert len(told) == 2
    assert "is down" in told[0]
    assert "answers again" in told[1]


@pytest.mark.parametrize("rows", [1, 2])
def test_few_rows_outlast_an_outage_too(rows: int) -> None:
    run = observed(Observed(0.0, 200.0), rows=rows, concurrency=8).go()
    assert all_succeeded(run)


@pytest.mark.parametrize("concurrency", [1, 2, 3, 4])
@pytest.mark.parametrize("failing", FAILING.values(), ids=FAILING)
def test_few_workers_find_out_too_that_a_service_is_down_which_takes_long_to_fail(
    failing: Response | TransportError, concurrency: int
) -> None:
    service = Observed(0.0, 280.0, failing=failing, fails_after=20.0)
    limits = Limits(max_outage=360.0)
    run = observed(service, rows=20, concurrency=concurrency, rate=Rate(10), limits=limits).go()
    assert all_succeeded(run)


@settings(max_examples=80)
@given(
    first=st.floats(0.0, 20.0),
    lengths=st.lists(st.tuples(st.floats(0.1, 250.0), st.floats(60.0, 120.0)), max_size=4),
    rows=st.integers(1, 120),
    concurrency=st.integers(1, 20),
    rate=st.sampled_from([Rate(2), Rate(10), FAST]),
    failing=st.sampled_from(list(FAILING.values())),
    fails_after=st.sampled_from([0.0, 0.01, 1.0, 20.0]),
)
def test_whatever_the_timetable_of_outages_all_rows_get_through_with_one_probe_at_a_time(
    first: float,
    lengths: list[tuple[float, float]],
    rows: int,
    concurrency: int,
    rate: Rate,
    failing: Response | TransportError,
    fails_after: float,
) -> None:
    if failing is not UNSENT:
        # Fewer than three rows that fail so are no outage: three have to be left when it begins.
        first, lengths, rows = 0.0, lengths[:1], max(rows, 3)
    changes = [first]
    for down_for, up_for in lengths:
        changes += [changes[-1] + down_for, changes[-1] + down_for + up_for]
    service = Observed(*changes[:-1], failing=failing, fails_after=fails_after)
    limits = Limits(max_outage=320.0)
    run = observed(service, rows=rows, concurrency=concurrency, rate=rate, limits=limits).go()
    assert all_succeeded(run)
    assert len(run.settled) == rows
    assert run.engine.stopped is None
    assert service.most_probing <= 1
    assert run.took <= changes[-1] + 2 * rows / rate.per_second + 200
    assert (run.tasks_left, service.in_flight, run.broken) == (0, 0, [])


class Stumbling(Wire):
    """A service of which each thing in scope b fails the first time that it is asked for."""

    def __init__(self, failing: Response = ERROR) -> None:
        super().__init__()
        self._failing = failing
        self._seen: set[str] = set()

    async def send(self, request: Request) -> Response:
        first = request.scope == "b" and request.url not in self._seen
        self._seen.add(request.url)
        return await self.carry(request, 0.01, lambda: self._failing if first else OK)


def test_failures_far_from_one_another_stop_no_run() -> None:
    apart = (1, 2, 300)
    run = Run(
        service=Stumbling(),
        rows=600,
        thing=lambda n: f"b/{n}" if n in apart else f"a/{n}",
        concurrency=8,
        rate=Rate(10),
        limits=Limits(max_outage=10.0),
    ).go()
    assert run.engine.stopped is None
    assert all_succeeded(run)


def test_a_row_that_fails_once_is_soon_tried_again_however_many_rows_are_left() -> None:
    service = Stumbling()
    run = Run(
        service=service,
        rows=1000,
        thing=lambda n: f"b/{n}" if n == 1 else f"a/{n}",
        concurrency=8,
        rate=Rate(10),
    ).go()
    assert all_succeeded(run)
    first, second = (
        at for at, each in zip(service.times, service.requests, strict=True) if each.scope == "b"
    )
    assert second - first < 4
