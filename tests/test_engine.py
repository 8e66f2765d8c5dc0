"""The worker pool, driven with canned answers in virtual time."""

import asyncio
from collections.abc import Callable, Sequence

import pytest
from support import Script, run_virtually

from batch.engine import MOST_WAITING, Engine
from batch.errors import BatchError, DeniedError, InterruptedRunError, ServiceUnavailableError
from batch.job import Conversation
from batch.model import Kind, Outcome, Request, Response, Result, Row, Status, Verdict
from batch.pace import Rate
from batch.retry import RetryPolicy
from batch.transport import TransportError

OK = Response(204)
NO = Response(400)
BUSY = Response(429)
ERROR = Response(500)
DENIED = Response(401)
NOWHERE = Response(404)
FOUND = Response(200, body=b"there")
LOST = TransportError("connection", "reset", sent=True)
UNSENT = TransportError("connection", "refused", sent=False)

FAST = Rate(1_000_000)


class Switch:
    """A job that switches a thing on: one write, and a read where it is in doubt."""

    name = "switch"
    columns = ()

    def parse(self, cells: Sequence[str]) -> str:
        return cells[0]

    def key(self, item: str) -> bytes:
        return item.encode()

    def conversation(self, item: str) -> Conversation:
        answer = yield Request("POST", f"/{item}", b"on", "scope")
        if answer.verdict.kind is Kind.DONE:
            return Result(Status.SUCCEEDED)
        if not answer.in_doubt:
            return Result(Status.FAILED, answer.verdict.reason)
        reading = yield Request("GET", f"/{item}", None, "scope")
        if reading.verdict.kind is not Kind.DONE:
            return Result(Status.UNCONFIRMED, reading.verdict.reason)
        assert reading.response is not None
        if reading.response.body == b"there":
            return Result(Status.SUCCEEDED)
        return Result(Status.FAILED, answer.verdict.reason)

    def classify(self, response: Response) -> Verdict:
        return {
            204: Verdict(Kind.DONE),
            200: Verdict(Kind.DONE),
            400: Verdict(Kind.REFUSED, "rejected"),
            401: Verdict(Kind.DENIED, "denied"),
            404: Verdict(Kind.NO_SERVICE, "no_such_api"),
            429: Verdict(Kind.THROTTLED, "throttled"),
            500: Verdict(Kind.TRANSIENT, "server_error", maybe_applied=True),
        }[response.status]


class Run:
    """One run of the engine over so many rows, and what was recorded."""

    def __init__(
        self,
        *ends: Response | Exception | Callable[[Request], Response],
        rows: int = 1,
        concurrency: int = 1,
        rate: Rate = FAST,
        policy: RetryPolicy | None = None,
        takes: float = 0.0,
        draw: float = 0.5,
    ) -> None:
        self.script = Script(*ends, takes=takes)
        self.recorded: list[tuple[int, Outcome]] = []
        self.rows = (Row(n, n, (str(n),), ()) for n in range(1, rows + 1))
        self.engine = Engine(
            Switch(),
            self.script,
            rate=rate,
            concurrency=concurrency,
            policy=policy or RetryPolicy(),
            record=lambda row, outcome: self.recorded.append((row, outcome)),
            draw=lambda: draw,
            clock=lambda: 1_700_000_000.0,
        )
        self.took = 0.0

    def go(
        self, *, stop_after: float | None = None, error: BatchError | None = None, grace: float = 10
    ) -> "Run":
        async def going() -> None:
            loop = asyncio.get_running_loop()
            began = loop.time()
            if stop_after is not None:
                assert error is not None
                loop.call_later(stop_after, lambda: self.engine.stop(error, grace=grace))
            await self.engine.run(self.rows)
            self.took = round(loop.time() - began, 3)

        run_virtually(going())
        return self

    @property
    def results(self) -> dict[int, Result]:
        ended = [*self.recorded, *self.engine.unsettled.items()]
        results = {row: outcome.result for row, outcome in ended}
        assert len(results) == len(ended), "a row has two outcomes"
        return results

    @property
    def settled(self) -> list[int]:
        return [row for row, _ in self.recorded]

    @property
    def methods(self) -> str:
        return " ".join(request.method for request in self.script.requests)


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
    run = Run(*[UNSENT] * 3, policy=RetryPolicy(max_attempts=3)).go()
    assert run.results == {1: Result(Status.FAILED, "connection")}
    assert run.methods == "POST POST POST"


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
    run = Run(*[BUSY] * 20, OK, policy=RetryPolicy(max_attempts=2)).go()
    assert run.results == {1: Result(Status.SUCCEEDED)}


def test_being_throttled_for_longer_than_the_patience_ends_in_failure() -> None:
    policy = RetryPolicy(max_attempts=2, patience=300)
    run = Run(*[BUSY] * 1000, policy=policy, draw=1.0).go()
    assert run.results == {1: Result(Status.FAILED, "throttled")}
    assert 300 < run.took < 400


def test_all_workers_pause_when_one_is_throttled() -> None:
    pause = 5.0
    run = Run(BUSY, *[OK] * 50, rows=40, concurrency=1, takes=0.01)
    run.engine._policy = RetryPolicy(first_wait=pause)  # with the draw of 1/2 a back-off of 3/4 of it
    run.go()
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


def test_an_endpoint_without_the_api_stops_the_run() -> None:
    run = Run(NOWHERE, *[OK] * 50, rows=50).go()
    assert isinstance(run.engine.stopped, ServiceUnavailableError)
    assert len(run.script.requests) == 1


def test_a_row_in_doubt_when_the_run_is_refused_is_unconfirmed_not_failed() -> None:
    run = Run(LOST, DENIED, *[OK] * 50, rows=1).go()
    assert run.results == {1: Result(Status.UNCONFIRMED, "interrupted")}


def stop_request() -> BatchError:
    return InterruptedRunError("stopped by SIGTERM", 15)


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
    assert run.results == {}


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
