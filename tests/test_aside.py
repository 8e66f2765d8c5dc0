"""Rows of a scope that is closed are set aside, and hold no worker: the rows of other scopes go on."""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterator
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import ERROR, OK, UNSENT, Run, Service, Wire, permitted, run_virtually

from batch.engine.aside import MOST_WAITING
from batch.engine.halt import Limits
from batch.engine.pace import Pace, Permit
from batch.engine.rate import Rate
from batch.engine.retry import RetryPolicy
from batch.errors import ServiceUnavailableError
from batch.http.transport import TransportError
from batch.model import Request, Response, Row, Status

POLICY = RetryPolicy()


class Throttling(Wire):
    """A service that answers every request of scope a with a long pause until so many seconds have passed."""

    def __init__(self, pause: float, until: float) -> None:
        super().__init__()
        self._answer = Response(429, {"Retry-After": str(pause)})
        self._until = until

    async def send(self, request: Request) -> Response:
        seconds = asyncio.get_running_loop().time() - (self.times[0] if self.times else 1000.0)
        throttled = request.scope == "a" and seconds < self._until
        return await self.carry(request, 0.05, lambda: self._answer if throttled else OK)


def sorted_by_scope(rows: int) -> Callable[[int], str]:
    """Give the first half of the rows to scope a, the others to b."""
    return lambda row: f"{'a' if row <= rows / 2 else 'b'}/{row}"


def seconds_of(run: Run, scope: str) -> list[float]:
    """Return when the rows of a scope were settled, in seconds from the first request."""
    began = run.script.times[0]
    ended = zip(run.settled, run.recorded_at, strict=True)
    return [at - began for row, at in ended if run.things[row].startswith(scope)]


@pytest.mark.parametrize("concurrency", [2, 8, 32])
@pytest.mark.parametrize("rate", [Rate(1_000_000), Rate(10)])
@pytest.mark.parametrize("failing", [UNSENT, ERROR])
def test_rows_behind_those_of_a_service_that_is_down_are_sent(
    failing: Response | TransportError, rate: Rate, concurrency: int
) -> None:
    service = Service(0.0, 250.0, spared={"b"}, failing=failing)
    run = Run(service=service, rows=400, thing=sorted_by_scope(400), concurrency=concurrency, rate=rate).go()
    assert run.engine.stopped is None
    assert {result.status for result in run.results.values()} == {Status.SUCCEEDED}
    assert len(run.results) == 400
    assert max(seconds_of(run, "b")) < 200 / rate.per_second + 60
    assert min(seconds_of(run, "a")) >= 250


def test_the_rows_that_an_outage_has_left_behind_hold_up_no_others() -> None:
    service = Service(0.0, 60.0, spared={"b"})
    thing = lambda row: f"{'ab'[row % 2]}/{row}"  # noqa: E731
    run = Run(service=service, rows=2400, thing=thing, concurrency=8, rate=Rate(10)).go()
    assert len(run.results) == 2400
    b = seconds_of(run, "b")
    assert max(b) == pytest.approx(1200 / 10, abs=5)
    assert max(seconds_of(run, "a")) == pytest.approx(60 + 1200 / 10, abs=10)


@pytest.mark.parametrize("rate", [Rate(1_000_000), Rate(10)])
def test_rows_behind_those_of_a_service_that_asks_for_a_pause_are_sent(rate: Rate) -> None:
    service = Throttling(60, until=100)
    run = Run(service=service, rows=200, thing=sorted_by_scope(200), concurrency=8, rate=rate).go()
    assert len(run.results) == 200
    assert max(seconds_of(run, "b")) < 100 / rate.per_second + 10
    assert min(seconds_of(run, "a")) >= 100


def test_a_pause_of_the_only_scope_ends_for_all_workers() -> None:
    run = Run(service=Throttling(60, until=10), rows=100, thing=lambda n: f"a/{n}", concurrency=10).go()
    assert len(run.results) == 100
    assert run.script.most_in_flight == 10
    assert run.took == pytest.approx(60.05 + 0.5, abs=0.2)


def test_rows_that_were_set_aside_unsent_are_pending_when_the_outage_stops_the_run() -> None:
    service = Service(0.0, spared={"b"})
    limits = Limits(max_outage=60)
    run = Run(service=service, rows=200, thing=sorted_by_scope(200), concurrency=4, limits=limits).go()
    assert isinstance(run.engine.stopped, ServiceUnavailableError)
    assert sorted(run.settled) == list(range(101, 201))
    assert {outcome.result.status for outcome in run.engine.unsettled.values()} <= {Status.PENDING}
    assert run.tasks_left == 0
    assert run.sent_afterwards == 0


def test_a_row_in_doubt_that_was_set_aside_is_read_back_when_the_run_is_stopped() -> None:
    class Losing(Wire):
        """Does the first writes and loses the answers, then asks for a pause."""

        async def send(self, request: Request) -> Response:
            if request.method == "GET":
                return await self.carry(request, 0.01, lambda: Response(200, body=b"there"))
            if len(self.requests) < 4:
                lost = TransportError("connection", "reset", sent=True)
                return await self.carry(request, 0.01, lambda: lost)
            return await self.carry(request, 0.01, lambda: Response(429, {"Retry-After": "5"}))

    run = Run(service=Losing(), rows=50, concurrency=8, policy=RetryPolicy(max_attempts=9)).go(stop_after=2)
    doubtful = {row: run.results[row].status for row in range(1, 5)}
    assert doubtful == dict.fromkeys(range(1, 5), Status.SUCCEEDED)
    assert run.took < 2 + 10


async def closed() -> Pace:
    pace = Pace(Rate(1_000_000), POLICY)
    pace.throttled(asyncio.get_running_loop().time(), 60.0, 0.5)
    return pace


def test_one_waits_for_a_scope_to_open_and_the_next_is_told_to_come_again() -> None:
    async def going() -> None:
        pace = await closed()
        first = asyncio.create_task(pace.permit())
        await asyncio.sleep(1)
        assert pace.is_shut
        assert not await pace.permit()
        patient = asyncio.create_task(permitted(pace))
        await asyncio.sleep(1)
        assert not first.done()
        assert await first
        await patient
        assert not pace.is_shut

    run_virtually(going())


def test_a_scope_that_nobody_waits_for_is_closed_but_not_shut() -> None:
    async def going() -> None:
        pace = await closed()
        assert not pace.is_shut
        waiting = asyncio.create_task(pace.permit())
        await asyncio.sleep(1)
        assert pace.is_shut
        waiting.cancel()
        await asyncio.wait({waiting})
        assert not pace.is_shut

    run_virtually(going())


def test_those_who_queue_for_a_permit_leave_when_their_scope_closes() -> None:
    async def going() -> list[Permit | None]:
        loop = asyncio.get_running_loop()
        pace = Pace(Rate(1), POLICY)
        assert await pace.permit()
        queue = [asyncio.create_task(pace.permit()) for _ in range(5)]
        await asyncio.sleep(0.5)
        pace.throttled(loop.time(), 60.0, 0.5)
        await asyncio.sleep(2)
        left = [each.result() for each in queue if each.done()]
        assert sum(permit is not None for permit in await asyncio.gather(*queue)) == 1
        return left

    assert run_virtually(going()) == [None] * 4


scopes = st.lists(st.sampled_from("abc"), min_size=1, max_size=60)
times_down = st.lists(st.floats(0, 200), max_size=4).map(sorted)


@settings(max_examples=60)
@given(scopes, times_down, st.integers(1, 6), st.sampled_from([UNSENT, ERROR]))
def test_whatever_is_down_when_every_row_is_settled_in_the_end(
    rows: list[str], changes: list[float], concurrency: int, failing: Response | TransportError
) -> None:
    service = Service(*changes, *[300.0] * (len(changes) % 2), spared={"c"}, failing=failing)
    policy = RetryPolicy(max_attempts=50)
    run = Run(
        service=service,
        rows=len(rows),
        thing=lambda n: f"{rows[n - 1]}/{n}",
        concurrency=concurrency,
        policy=policy,
        limits=Limits(max_outage=1000),
    ).go()
    assert run.engine.stopped is None
    assert len(run.settled) == len(rows)
    assert {result.status for result in run.results.values()} == {Status.SUCCEEDED}
    assert run.tasks_left == 0


class Limited(Wire):
    """A service that lets so many requests a second through, and answers the others with 429."""

    def __init__(self, permits: int) -> None:
        super().__init__()
        self._permits = permits
        self._passed: deque[float] = deque()

    async def send(self, request: Request) -> Response:
        now = asyncio.get_running_loop().time()
        while self._passed and self._passed[0] <= now - 1:
            self._passed.popleft()
        passes = len(self._passed) < self._permits
        if passes:
            self._passed.append(now)
        return await self.carry(request, 0.05, lambda: OK if passes else Response(429))


def test_rows_that_were_throttled_go_before_those_that_were_never_sent() -> None:
    most_open = 0

    def begin(_row: int) -> None:
        nonlocal most_open
        most_open = max(most_open, len(run.begun) - len(run.recorded))

    run = Run(service=Limited(5), rows=4000, concurrency=32, rate=Rate(20), begin=begin)
    run.go()
    assert Counter(result.status for result in run.results.values()) == {Status.SUCCEEDED: 4000}
    assert max(outcome.duration_ms or 0 for _, outcome in run.recorded) < 10_000
    assert most_open <= 32


def test_whoever_looks_for_rows_of_other_scopes_holds_up_no_answers() -> None:
    turns = 0
    turns_of_rows: Counter[int] = Counter()

    async def turn() -> None:
        nonlocal turns
        for turns in range(10_000):  # noqa: B007
            await asyncio.sleep(0)

    def watched(rows: Iterator[Row]) -> Iterator[Row]:
        yield from islice(rows, 8)
        turning = asyncio.get_running_loop().create_task(turn())
        for row in rows:
            turns_of_rows[turns] += 1
            yield row
        assert turning.done()

    run = Run(service=Throttling(60, until=10), rows=5000, thing=lambda n: f"a/{n}", concurrency=8)
    run.rows = watched(run.rows)  # type: ignore[assignment]
    run.go()
    assert len(run.results) == 5000
    ahead = [count for at, count in turns_of_rows.items() if at < 9_999]
    assert sum(ahead) == pytest.approx(MOST_WAITING, abs=20)
    assert max(ahead) <= 2 * 8


def test_after_an_outage_of_all_each_scope_is_used() -> None:
    service = Service(5.0, 65.0)
    run = Run(
        service=service, rows=2400, thing=lambda n: f"{'abcd'[n % 4]}/{n}", concurrency=32, rate=Rate(10)
    )
    run.go()
    assert len(run.results) == 2400
    began = service.times[0]
    late = [
        request.scope
        for at, request in zip(service.times, service.requests, strict=True)
        if 80 <= at - began < 100
    ]
    assert Counter(late) == dict.fromkeys("abcd", pytest.approx(200, abs=3))


def test_rows_in_doubt_of_a_dead_scope_take_no_workers_from_others_when_the_run_is_stopped() -> None:
    class Doubtful(Wire):
        """Loses every answer for a while; then a is down, and b asks for a pause before it answers."""

        async def send(self, request: Request) -> Response:
            seconds = asyncio.get_running_loop().time() - (self.times[0] if self.times else 1000.0)
            lost = TransportError("connection", "reset", sent=True)
            if request.scope == "a" or seconds < 3.9:
                return await self.carry(request, 0.01, lambda: (_ for _ in ()).throw(lost))
            if seconds < 4:
                return await self.carry(request, 0.01, lambda: Response(429, {"Retry-After": "6"}))
            there = Response(200, body=b"there")
            return await self.carry(request, 0.01, lambda: there if request.method == "GET" else OK)

    thing = lambda n: f"{'ab'[n % 2]}/{n}"  # noqa: E731
    run = Run(service=Doubtful(), rows=400, thing=thing, concurrency=4, rate=Rate(20))
    run.go(stop_after=6)
    told = Counter((run.things[row][0], result.status) for row, result in run.results.items())
    assert told["a", Status.UNCONFIRMED] > 4
    assert told["b", Status.UNCONFIRMED] == 0
    assert told["b", Status.SUCCEEDED] > 4
    assert run.took < 6 + 10.1


class NotReady(Service):
    """A service that must have answered before the credentials for it are known to be good."""

    proven = False

    def is_ready(self, _request: Request) -> bool:
        return self.proven

    async def prepare(self, _request: Request) -> None:
        await asyncio.sleep(0.01)

    async def send(self, request: Request) -> Response:
        response = await super().send(request)
        self.proven = True
        return response


def check_that_it_came_up(run: Run) -> None:
    assert run.engine.stopped is None
    assert {result.status for result in run.results.values()} == {Status.SUCCEEDED}
    assert run.took < 60


@pytest.mark.parametrize("concurrency", [1, 4, 32])
@pytest.mark.parametrize("failing", [UNSENT, ERROR])
def test_a_probe_that_waits_for_credentials_does_not_wait_for_itself(
    failing: Response | TransportError, concurrency: int
) -> None:
    service = NotReady(0.0, 20.0, failing=failing)
    run = Run(service=service, rows=50, concurrency=concurrency, rate=Rate(10)).go()
    check_that_it_came_up(run)


@pytest.mark.parametrize("concurrency", [1, 8])
def test_credentials_that_end_in_an_outage_do_not_keep_it_from_ending(concurrency: int) -> None:
    class Ending(NotReady):
        """One whose credentials are to be renewed in the middle of its outage."""

        def is_ready(self, _request: Request) -> bool:
            ready, self.proven = self.proven or self.seconds() < 10, True
            return ready

    run = Run(service=Ending(2.0, 20.0), rows=100, concurrency=concurrency, rate=Rate(10)).go()
    check_that_it_came_up(run)


@pytest.mark.parametrize("concurrency", [2, 32])
def test_a_service_that_is_down_is_asked_while_another_has_many_rows_to_try_again(concurrency: int) -> None:
    class Flaky(Wire):
        """Answers three of four requests of b with an error for a time; a is down at the end of that."""

        asked_of_b = 0

        async def send(self, request: Request) -> Response:
            seconds = asyncio.get_running_loop().time() - (self.times[0] if self.times else 1000.0)
            end: Response | TransportError = OK if request.writes else Response(200, body=b"there")
            if request.scope == "a" and 290 <= seconds < 320:
                end = UNSENT
            elif request.scope == "b" and seconds < 300:
                self.asked_of_b += 1
                end = ERROR if self.asked_of_b % 4 else end
            return await self.carry(request, 0.05, lambda: end)

    service = Flaky()
    limits = Limits(max_outage=100)
    thing = lambda n: f"{'ab'[n % 2]}/{n}"  # noqa: E731
    run = Run(
        service=service, rows=12_000, thing=thing, concurrency=concurrency, rate=Rate(10), limits=limits
    ).go()
    assert run.engine.stopped is None
    assert len(run.settled) == 12_000
