"""The worker pool, driven with canned answers in virtual time."""

import asyncio
import math
from collections.abc import Iterable

import pytest
from support import (
    ABSENT,
    BUSY,
    DENIED,
    ERROR,
    FOUND,
    LOST,
    NO,
    NO_API,
    NOWHERE,
    OK,
    TAKEN,
    UNSENT,
    Run,
    Service,
    Switch,
    Wire,
    run_virtually,
    stop_request,
)

from batch.engine.aside import MOST_WAITING
from batch.engine.halt import FailureLimit, Limits
from batch.engine.rate import Rate
from batch.engine.retry import RetryPolicy
from batch.errors import (
    ConfigurationError,
    DeniedError,
    OutputError,
    ServiceUnavailableError,
    StoppedEarlyError,
    TooManyFailuresError,
)
from batch.http.transport import ScopeRefusedError, StarvedError, TransportError
from batch.job import Conversation
from batch.model import Answer, Kind, Request, Response, Result, Status


def test_a_plain_success_is_one_request_and_one_outcome() -> None:
    run = Run(OK).go()
    assert run.results == {1: Result(Status.SUCCEEDED)}
    outcome = run.recorded[0][1]
    assert (outcome.attempts, outcome.started_at, outcome.duration_ms) == (1, 1_700_000_000.0, 0)


def test_the_duration_runs_from_the_first_attempt_to_the_result() -> None:
    run = Run(LOST, OK, takes=2.0, draw=1.0).go()
    outcome = run.recorded[0][1]
    assert outcome.duration_ms == 4500  # two attempts of 2 s and half a second between
    assert outcome.finished_at == pytest.approx(1_700_000_004.5)


def test_every_row_of_many_gets_its_outcome() -> None:
    run = Run(*[OK] * 500, rows=500, concurrency=16, takes=0.1).go()
    assert sorted(run.results) == list(range(1, 501))


def test_no_more_requests_are_in_flight_than_there_are_workers() -> None:
    run = Run(*[OK] * 100, rows=100, concurrency=7, takes=0.1).go()
    assert run.script.most_in_flight == 7


def test_a_refusal_is_not_repeated() -> None:
    run = Run(NO).go()
    assert run.results == {1: Result(Status.FAILED, "rejected")}
    assert run.methods == "POST"


def test_a_request_that_was_never_sent_is_repeated_and_is_not_in_doubt() -> None:
    run = Run(*[UNSENT] * 5, OK).go()
    assert run.results == {1: Result(Status.SUCCEEDED)}
    assert run.methods == "POST POST POST POST POST POST"


def test_a_lost_answer_is_repeated_and_then_read_back() -> None:
    run = Run(*[LOST] * 6, FOUND).go()
    assert run.results == {1: Result(Status.SUCCEEDED)}
    assert run.methods == "POST POST POST POST POST POST GET"


def test_a_refusal_after_a_lost_answer_leaves_the_row_in_doubt() -> None:
    run = Run(LOST, NO, FOUND).go()
    assert run.results == {1: Result(Status.SUCCEEDED)}
    assert run.methods == "POST POST GET"


def test_a_read_back_that_fails_too_leaves_the_row_unconfirmed() -> None:
    run = Run(*[LOST] * 6, *[ERROR] * 6).go()
    assert run.results == {1: Result(Status.UNCONFIRMED, "server_error")}


def test_attempts_are_counted_anew_for_each_request_and_summed_for_the_row() -> None:
    run = Run(LOST, LOST, NO, LOST, LOST, FOUND, policy=RetryPolicy(max_attempts=3)).go()
    assert run.recorded[0][1].attempts == 6


def test_being_throttled_uses_up_no_attempt() -> None:
    run = Run(*[BUSY] * 10, OK, policy=RetryPolicy(max_attempts=2)).go()
    assert run.results == {1: Result(Status.SUCCEEDED)}


def succeeded(rows: Iterable[int]) -> dict[int, Result]:
    return dict.fromkeys(rows, Result(Status.SUCCEEDED))


class Throttling(Service):
    """A service that throttles so many of its rows, the first ones, until a time."""

    def __init__(self, busy: int, until: float = math.inf, pause: float | None = None) -> None:
        super().__init__()
        self.busy, self.until, self.pause = busy, until, pause

    def end(self, request: Request) -> tuple[float, Response | TransportError]:
        if int(request.url[1:]) <= self.busy and self.seconds() < self.until:
            return 0.01, BUSY if self.pause is None else Response(429, {"Retry-After": str(self.pause)})
        return super().end(request)


def test_a_row_that_alone_is_throttled_for_longer_than_the_patience_fails() -> None:
    policy = RetryPolicy(max_attempts=2, patience=60)
    run = Run(service=Throttling(1), rows=9, concurrency=4, policy=policy, draw=1.0).go()
    assert run.engine.stopped is None
    assert run.results == {1: Result(Status.FAILED, "throttled")} | succeeded(range(2, 10))
    assert 60 < run.took < 200


@pytest.mark.parametrize("max_attempts", [1, 6])
@pytest.mark.parametrize("rows", [1, 100])
def test_when_everything_is_throttled_for_too_long_the_run_stops_and_the_rest_stays_pending(
    rows: int, max_attempts: int
) -> None:
    policy = RetryPolicy(max_attempts=max_attempts, patience=60.0)
    limits = Limits(max_outage=60.0)
    run = Run(service=Throttling(rows), rows=rows, concurrency=8, policy=policy, limits=limits).go()
    assert isinstance(run.engine.stopped, ServiceUnavailableError)
    assert run.engine.stopped.exit_code == 69
    assert "throttled" in str(run.engine.stopped)
    assert 60 < run.took < 100
    assert run.settled == []
    assert {outcome.result for outcome in run.engine.unsettled.values()} == {
        Result(Status.PENDING, "interrupted")
    }


def test_throttling_that_ends_in_time_or_lets_others_through_stops_nothing() -> None:
    limits = Limits(max_outage=60.0)
    run = Run(service=Throttling(100, until=50.0), rows=100, concurrency=8, limits=limits).go()
    assert {result.status for result in run.results.values()} == {Status.SUCCEEDED}


@pytest.mark.parametrize("max_attempts", [1, 6])
def test_a_pause_longer_than_all_patience_is_taken_as_far_as_that_goes(max_attempts: int) -> None:
    policy = RetryPolicy(max_attempts=max_attempts, longest_hint=60.0, patience=60.0)
    limits = Limits(max_outage=60.0)
    service = Throttling(9, until=50.0, pause=3000.0)
    run = Run(service=service, rows=9, concurrency=4, policy=policy, limits=limits).go()
    assert {result.status for result in run.results.values()} == {Status.SUCCEEDED}
    assert run.took == pytest.approx(60, abs=1)


def test_a_service_that_asks_again_for_such_a_pause_stops_the_run_which_names_it() -> None:
    policy, limits = RetryPolicy(longest_hint=60.0, patience=60.0), Limits(max_outage=60.0)
    run = Run(service=Throttling(9, pause=7200.0), rows=9, concurrency=4, policy=policy, limits=limits).go()
    assert isinstance(run.engine.stopped, ServiceUnavailableError)
    assert "asks to wait 2 h" in str(run.engine.stopped)
    assert run.took == pytest.approx(60, abs=1)


def test_all_workers_pause_when_one_is_throttled() -> None:
    pause = 5.0
    policy = RetryPolicy(first_wait=pause)  # with the draw of 1/2 a back-off of 3/4 of it
    run = Run(BUSY, *[OK] * 50, rows=40, concurrency=1, policy=policy, takes=0.01).go()
    assert run.script.times[1] - run.script.times[0] == pytest.approx(0.01 + 0.75 * pause, abs=0.001)
    assert len(run.results) == 40


def test_a_waiting_row_holds_no_worker() -> None:
    policy = RetryPolicy(first_wait=100, longest_wait=100)
    run = Run(LOST, *[OK] * 20, rows=20, concurrency=1, policy=policy, takes=0.1).go()
    assert [row for row, _ in run.recorded] == [*range(2, 21), 1]


def test_a_waiting_row_holds_no_permit() -> None:
    policy = RetryPolicy(first_wait=100, longest_wait=100)
    run = Run(LOST, *[OK] * 20, rows=20, concurrency=4, policy=policy, rate=Rate(10)).go()
    assert run.script.times[19] - run.script.times[0] == pytest.approx(1.9, abs=0.05)


def test_rows_that_wait_are_bounded_so_that_memory_does_not_grow_in_an_outage() -> None:
    begun: list[int] = []
    policy = RetryPolicy(max_attempts=2, first_wait=100, longest_wait=100)
    asked: set[str] = set()

    def second_time(request: Request) -> Response:
        if request.url in asked:
            return OK
        asked.add(request.url)
        raise UNSENT

    run = Run(*[second_time] * 4 * MOST_WAITING, rows=2 * MOST_WAITING, concurrency=8, policy=policy)
    rows = run.rows
    run.rows = (begun.append(row.number) or row for row in rows)  # type: ignore[func-returns-value]
    seen: list[int] = []
    run.engine._record = lambda row, outcome: (seen.append(len(begun)), run.recorded.append((row, outcome)))
    run.go()
    assert seen[0] <= MOST_WAITING + 8
    assert len(run.results) == 2 * MOST_WAITING


def test_a_refused_credential_stops_the_run_and_sends_nothing_more() -> None:
    run = Run(OK, DENIED, *[OK] * 50, rows=50).go()
    assert isinstance(run.engine.stopped, DeniedError)
    assert run.results == {1: Result(Status.SUCCEEDED), 2: Result(Status.FAILED, "denied")}
    assert run.methods == "POST POST"


def test_an_endpoint_that_says_that_it_has_no_such_api_stops_the_run() -> None:
    run = Run(NO_API, *[OK] * 50, rows=50).go()
    assert isinstance(run.engine.stopped, ServiceUnavailableError)
    assert len(run.script.requests) == 1


def test_a_row_in_doubt_when_the_run_is_refused_is_unconfirmed_not_failed() -> None:
    run = Run(LOST, DENIED, *[OK] * 50, rows=1).go()
    assert run.results == {1: Result(Status.UNCONFIRMED, "interrupted")}


def test_a_stop_takes_no_new_rows_and_lets_requests_in_flight_end() -> None:
    run = Run(*[OK] * 100, rows=100, concurrency=4, takes=1.0).go(stop_after=1.5, error=stop_request())
    assert {result.status for result in run.results.values()} == {Status.SUCCEEDED}
    assert len(run.results) == 8
    assert run.took == 2.0


def test_a_stop_aborts_what_does_not_end_within_the_grace_and_calls_it_unconfirmed() -> None:
    run = Run(*[OK] * 100, rows=100, concurrency=4, takes=60.0).go(stop_after=1.5, error=stop_request())
    assert run.results == dict.fromkeys(range(1, 5), Result(Status.UNCONFIRMED, "interrupted"))
    assert run.took == 11.5


def test_a_stop_without_grace_aborts_at_once() -> None:
    run = Run(*[OK] * 9, rows=9, concurrency=4, takes=60.0).go(stop_after=1.5, error=stop_request(), grace=0)
    assert run.took == 1.5
    assert len(run.results) == 4


def test_a_stop_leaves_rows_without_effect_pending() -> None:
    policy = RetryPolicy(first_wait=100)
    run = Run(*[UNSENT] * 100, rows=100, concurrency=4, takes=0.1, policy=policy)
    run.go(stop_after=1.05, error=stop_request())
    assert set(run.results.values()) == {Result(Status.PENDING, "interrupted")}
    assert run.settled == []
    assert all(outcome.attempts and outcome.started_at for outcome in run.engine.unsettled.values())


@pytest.mark.parametrize("first", [OK, LOST])
def test_after_a_stop_nobody_waits_for_a_cool_down_that_is_longer_than_the_grace(first: Response) -> None:
    policy = RetryPolicy(first_wait=100, longest_wait=100)
    run = Run(first, *[BUSY] * 50, rows=50, concurrency=4, policy=policy, takes=1.0)
    run.go(stop_after=2.5, error=stop_request())
    assert run.took == 2.5


def test_after_a_stop_nobody_waits_for_a_long_cool_down_that_begins_then() -> None:
    policy = RetryPolicy(first_wait=100, longest_wait=100)
    run = Run(LOST, BUSY, rows=2, concurrency=2, rate=Rate(6, 60.0), policy=policy, takes=2.0)
    run.go(stop_after=11.0, error=stop_request())
    assert run.results == {
        1: Result(Status.UNCONFIRMED, "interrupted"),
        2: Result(Status.PENDING, "interrupted"),
    }
    assert run.took == pytest.approx(12, abs=0.1), (
        "the first waits for its permit until the second is throttled"
    )


@pytest.mark.parametrize("first", [(OK, NOWHERE), (NOWHERE, OK), (NOWHERE, NO)])
def test_a_page_instead_of_an_answer_is_worth_another_attempt(first: tuple[Response, Response]) -> None:
    run = Run(*first, *[OK] * 9, rows=10).go()
    assert run.engine.stopped is None
    assert len(run.settled) == len(run.results) == 10
    failed = [result for result in run.results.values() if result.status is Status.FAILED]
    assert failed == [Result(Status.FAILED, "rejected")] * (first[1] is NO)


def test_a_page_in_every_attempt_is_one_rows_failure_once_the_service_has_served_another() -> None:
    class Walled(Wire):
        async def send(self, request: Request) -> Response:
            return await self.carry(request, 0.01, lambda: NOWHERE if request.url == "/2" else OK)

    run = Run(service=Walled(), rows=10, concurrency=4, policy=RetryPolicy(max_attempts=3)).go()
    assert run.engine.stopped is None
    assert run.results == {2: Result(Status.FAILED, "no_such_api")} | succeeded([1, *range(3, 11)])
    assert len(run.settled) == 10
    assert dict(run.recorded)[2].attempts == 3


class Starved(Wire):
    """A service to which this machine can make a connection only from a given time on."""

    def __init__(self, until: float) -> None:
        super().__init__()
        self._until = until

    async def send(self, request: Request) -> Response:
        began = self.times[0] if self.times else asyncio.get_running_loop().time()
        is_over = asyncio.get_running_loop().time() - began >= self._until
        return await self.carry(request, 0.01, lambda: OK if is_over else StarvedError("Too many open files"))


def test_running_out_of_descriptors_is_waited_for_and_costs_no_attempts() -> None:
    run = Run(service=Starved(until=60.0), rows=5, concurrency=5, policy=RetryPolicy(max_attempts=1)).go()
    assert run.results == succeeded(range(1, 6))
    assert not run.engine.attempts.down
    assert {outcome.attempts for _, outcome in run.recorded} == {1}, "what was not sent does not count"


def test_a_machine_that_gives_no_connection_for_too_long_stops_the_run() -> None:
    limits = Limits(max_outage=60.0)
    run = Run(service=Starved(until=1e9), rows=5, concurrency=5, limits=limits).go()
    assert isinstance(run.engine.stopped, ConfigurationError)
    assert "ulimit -n" in str(run.engine.stopped)
    assert {result.status for result in run.results.values()} == {Status.PENDING}
    assert run.took == pytest.approx(60, abs=1)


@pytest.mark.parametrize("rows", [3, 50])
def test_rows_that_only_strangers_have_answered_are_pending_when_the_run_stops(rows: int) -> None:
    run = Run(*[NOWHERE] * 60, rows=rows, concurrency=8, takes=0.1).go()
    assert isinstance(run.engine.stopped, ServiceUnavailableError)
    assert {result.status for result in run.results.values()} == {Status.PENDING}
    assert len(run.script.requests) == min(rows, 27), "20, and those that were under way then"


def test_strangers_before_an_outage_are_no_reason_to_wait_for_ever() -> None:
    run = Run(NOWHERE, *[UNSENT] * 500, rows=3, concurrency=1, limits=Limits(max_outage=60.0)).go()
    assert isinstance(run.engine.stopped, ServiceUnavailableError)


def test_a_place_of_a_rows_own_that_is_refused_fails_all_its_rows_and_no_others() -> None:
    class Places(Wire):
        def is_own(self, request: Request) -> bool:
            return request.scope == "own"

        async def send(self, request: Request) -> Response:
            def end() -> Response:
                if request.scope == "other":
                    raise ScopeRefusedError("no_such_project", "project other: none")
                return OK

            return await self.carry(request, 0.01, end)

    run = Run(service=Places(), rows=20, thing=lambda n: f"{'own' if n % 2 else 'other'}/{n}").go()
    assert run.engine.stopped is None
    others = {n: Result(Status.FAILED, "no_such_project") for n in range(2, 21, 2)}
    assert run.results == others | succeeded(range(1, 21, 2))
    assert {dict(run.recorded)[row].attempts for row in others} == {0}
    assert sum(request.scope == "other" for request in run.script.requests) == 1


def test_an_api_that_is_explicitly_not_there_stops_the_run_even_then() -> None:
    run = Run(OK, NO_API, *[OK] * 8, rows=10).go()
    assert isinstance(run.engine.stopped, ServiceUnavailableError)


@pytest.mark.parametrize("last", [NO, ABSENT, ERROR])
def test_that_a_write_was_taken_for_later_is_told_with_the_final_answer(last: Response) -> None:
    told: list[Answer] = []

    class Later(Switch):
        def conversation(self, item: str) -> Conversation:
            told.append((yield Request("POST", f"/{item}", b"on", "scope")))
            told.append((yield Request("GET", f"/{item}", None, "scope")))
            return Result(Status.UNCONFIRMED, "accepted")

    run = Run(TAKEN, TAKEN, *[last] * 8, ABSENT, policy=RetryPolicy(max_attempts=3))
    run.engine._job = run.engine.attempts._job = Later()
    run.go()
    assert [answer.maybe_later for answer in told] == [True, True]
    assert all(answer.in_doubt for answer in told)


def test_a_stop_reads_back_a_row_in_doubt_while_there_is_time() -> None:
    run = Run(LOST, FOUND, takes=2.0).go(stop_after=1.0, error=stop_request())
    assert run.methods == "POST GET"
    assert run.results == {1: Result(Status.SUCCEEDED)}


def test_a_stop_settles_a_row_that_waits_in_doubt_while_there_is_time() -> None:
    policy = RetryPolicy(first_wait=100)
    run = Run(LOST, NO, FOUND, takes=0.1, policy=policy).go(stop_after=1.0, error=stop_request())
    assert run.methods == "POST POST GET"
    assert run.results == {1: Result(Status.SUCCEEDED)}
    assert run.took == pytest.approx(1.2, abs=0.01)


def test_a_stop_calls_a_row_in_doubt_unconfirmed_when_the_time_is_over() -> None:
    policy = RetryPolicy(first_wait=100)
    run = Run(LOST, NO, FOUND, takes=8.0, policy=policy).go(stop_after=9.0, error=stop_request())
    assert run.results == {1: Result(Status.UNCONFIRMED, "interrupted")}


def test_an_outcome_that_the_stop_cut_short_is_not_recorded_as_settled() -> None:
    run = Run(*[OK] * 9, rows=9, concurrency=4, takes=60.0).go(stop_after=1.5, error=stop_request(), grace=0)
    assert run.settled == []
    run = Run(OK, DENIED, rows=5).go()
    assert run.settled == [1]


def test_requests_in_flight_when_the_credentials_are_refused_are_awaited() -> None:
    run = Run(DENIED, OK, NO, OK, *[OK] * 50, rows=50, concurrency=4, takes=1.0).go()
    assert len(run.script.requests) == 4
    statuses = sorted(result.status for result in run.results.values())
    assert statuses == [Status.FAILED, Status.FAILED, Status.SUCCEEDED, Status.SUCCEEDED]


def test_the_first_reason_to_stop_is_the_one_that_stands() -> None:
    first = stop_request()
    run = Run(DENIED, rows=3, concurrency=1, takes=5.0).go(stop_after=1.0, error=first)
    assert run.engine.stopped is first


def test_a_bug_in_a_job_stops_the_run_and_loses_no_other_row() -> None:
    def broken(_request: Request) -> Response:
        raise ZeroDivisionError

    run = Run(OK, broken, *[OK] * 20, rows=20, concurrency=1).go()
    assert run.engine.stopped is not None
    assert run.engine.stopped.exit_code == 70
    assert isinstance(run.engine.stopped.__cause__, ZeroDivisionError)
    assert run.results[1] == Result(Status.SUCCEEDED)


def test_cancelling_the_run_from_outside_cancels_its_requests() -> None:
    async def cancelled() -> int:
        run = Run(*[OK] * 4, rows=4, concurrency=2, takes=60.0)
        task = asyncio.create_task(run.engine.run(run.rows))
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0)
        return run.script.in_flight

    assert run_virtually(cancelled()) == 0


def test_begin_is_called_once_a_row_just_before_its_first_write() -> None:
    run = Run(LOST, OK, NO, BUSY, OK, rows=3).go()
    assert run.results.keys() == {1, 2, 3}
    writes: dict[int, int] = {}
    for place, request in enumerate(run.script.requests):
        writes.setdefault(int(request.url[1:]), place)
    assert dict(run.begun) == writes
    assert len(run.begun) == 3


def test_begin_is_called_before_the_write_is_sent_and_after_its_permit() -> None:
    run = Run(*[OK] * 3, rows=3, concurrency=3, rate=Rate(1, 60.0)).go(stop_after=30.0)
    assert [row for row, _ in run.begun] == [1]
    assert len(run.script.requests) == 1


class Look:
    """A job that only reads."""

    name = "look"
    columns = ()
    parse, key, classify = Switch.parse, Switch.key, Switch.classify

    def conversation(self, item: str) -> Conversation:
        answer = yield Request("GET", f"/{item}", None, "scope")
        return Result(Status.UNCHANGED if answer.verdict.kind is Kind.DONE else Status.FAILED)


def test_begin_is_never_called_for_reads() -> None:
    run = Run(LOST, FOUND, FOUND, rows=2)
    run.engine._job = Look()
    run.go()
    assert run.methods == "GET GET GET"
    assert run.begun == []
    assert run.results == {1: Result(Status.UNCHANGED), 2: Result(Status.UNCHANGED)}


def full_disk(_row: int) -> None:
    raise OutputError("the disk is full")


def test_a_row_that_cannot_be_noted_is_not_sent_and_the_run_stops() -> None:
    run = Run(*[OK] * 9, rows=9, concurrency=3, begin=full_disk).go()
    assert isinstance(run.engine.stopped, OutputError)
    assert run.script.requests == []
    assert run.results == {}
    assert run.took == pytest.approx(0, abs=0.001)


def test_a_row_that_cannot_be_noted_stops_also_those_under_way() -> None:
    def from_the_third_on(row: int) -> None:
        if row >= 3:
            full_disk(row)

    run = Run(*[OK] * 9, rows=9, concurrency=2, begin=from_the_third_on, takes=5.0).go()
    assert isinstance(run.engine.stopped, OutputError)
    assert len(run.script.requests) == 2
    assert run.settled == [1]
    assert run.results == {1: Result(Status.SUCCEEDED), 2: Result(Status.UNCONFIRMED, "interrupted")}


@pytest.mark.parametrize(
    ("reading", "status"), [(FOUND, Status.SUCCEEDED), (ABSENT, Status.FAILED), (NO, Status.UNCONFIRMED)]
)
def test_a_refusal_of_a_row_that_an_earlier_run_left_in_doubt_is_read_back(
    reading: Response, status: Status
) -> None:
    run = Run(NO, reading, in_doubt={1}).go()
    assert run.methods == "POST GET"
    assert run.results[1].status is status
    assert run.settled == [1]


def test_only_the_rows_in_doubt_are_read_back() -> None:
    run = Run(NO, NO, FOUND, NO, rows=3, in_doubt={2}).go()
    assert run.methods == "POST POST GET POST"
    statuses = {row: result.status for row, result in run.results.items()}
    assert statuses == {1: Status.FAILED, 2: Status.SUCCEEDED, 3: Status.FAILED}


def test_a_row_left_in_doubt_that_was_not_sent_again_stays_unconfirmed_and_has_no_times() -> None:
    run = Run(OK, OK, rows=2, concurrency=2, in_doubt={2}, rate=Rate(1, 60.0)).go(stop_after=5.0)
    assert run.settled == [1]
    outcome = run.engine.unsettled[2]
    assert outcome.result == Result(Status.UNCONFIRMED, "interrupted")
    assert (outcome.attempts, outcome.started_at, outcome.finished_at) == (0, None, None)
    assert not outcome.duration_ms


def test_the_run_stops_when_so_many_rows_have_failed() -> None:
    run = Run(OK, NO, NO, OK, NO, *[OK] * 50, rows=50, limits=Limits(FailureLimit(3))).go()
    assert isinstance(run.engine.stopped, TooManyFailuresError)
    assert run.engine.stopped.exit_code == 3
    assert "3 rows failed" in str(run.engine.stopped)
    assert run.settled == [1, 2, 3, 4, 5]


def test_rows_that_are_unconfirmed_count_as_failed() -> None:
    policy = RetryPolicy(max_attempts=1)
    run = Run(LOST, OK, NO, NO, *[OK] * 50, rows=50, policy=policy, limits=Limits(FailureLimit(2))).go()
    assert isinstance(run.engine.stopped, TooManyFailuresError)
    statuses = [run.results[row].status for row in run.settled]
    assert statuses == [Status.SUCCEEDED, Status.UNCONFIRMED, Status.FAILED]


def test_rows_under_way_end_when_too_many_have_failed() -> None:
    limits = Limits(FailureLimit(1))
    run = Run(NO, LOST, OK, OK, FOUND, *[OK] * 50, rows=50, concurrency=4, takes=1.0, limits=limits).go()
    assert run.settled[0] == 1
    assert {row: result.status for row, result in run.results.items()} == {
        1: Status.FAILED,
        2: Status.SUCCEEDED,
        3: Status.SUCCEEDED,
        4: Status.SUCCEEDED,
    }
    assert run.methods == "POST POST POST POST GET"


def test_per_cent_of_failures_stop_the_run_from_100_rows_on() -> None:
    limits = Limits(FailureLimit(5, per_cent=True))
    run = Run(*[NO] * 20, *[OK] * 79, NO, *[OK] * 400, rows=500, limits=limits).go()
    assert isinstance(run.engine.stopped, TooManyFailuresError)
    assert "--max-failures 5%" in str(run.engine.stopped)
    assert run.settled == list(range(1, 101))


def test_fewer_failures_than_so_many_per_cent_do_not_stop_the_run() -> None:
    limits = Limits(FailureLimit(5, per_cent=True))
    run = Run(*[OK] * 96, *[NO] * 4, *[OK] * 400, rows=500, limits=limits).go()
    assert run.engine.stopped is None
    assert len(run.settled) == 500


def test_the_run_takes_no_rows_after_its_longest_duration_and_those_under_way_end() -> None:
    run = Run(*[OK] * 500, rows=500, concurrency=4, takes=1.0, limits=Limits(max_duration=10.5)).go()
    assert isinstance(run.engine.stopped, StoppedEarlyError)
    assert run.engine.stopped.exit_code == 75
    assert run.took == 11.0
    assert sorted(run.settled) == list(range(1, 45))
    assert len(run.results) == 44, "the rest has no outcome"


def test_a_run_that_ends_before_its_longest_duration_is_not_stopped() -> None:
    run = Run(*[OK] * 8, rows=8, concurrency=4, takes=1.0, limits=Limits(max_duration=10.5)).go()
    assert run.engine.stopped is None
    assert len(run.settled) == 8


def test_a_wall_clock_that_jumps_back_changes_no_duration() -> None:
    start = 1_700_000_000.0
    readings = iter(start - 3600 * hours for hours in range(100))
    run = Run(*[LOST, OK] * 20, rows=20, takes=2.0, clock=lambda: next(readings)).go()
    assert len(run.recorded) == 20
    for _, outcome in run.recorded:
        assert outcome.started_at is not None
        assert outcome.finished_at is not None
        assert outcome.duration_ms is not None
        assert outcome.finished_at >= outcome.started_at
        assert outcome.duration_ms / 1000 == pytest.approx(outcome.finished_at - outcome.started_at, abs=0.01)
        assert 2000 <= outcome.duration_ms < 100_000
