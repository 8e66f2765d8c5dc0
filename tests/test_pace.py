"""Permits and cool-downs, in time that only the tests move."""

import asyncio
import random
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Coroutine
from itertools import pairwise
from typing import Any, TypeVar

import pytest
from support import ERROR, FOUND, NO, OK, Run, VirtualTimeLoop, Wire, permitted, run_virtually

from batch.engine.pace import Pace
from batch.engine.rate import Rate, parse_rate
from batch.engine.retry import RetryPolicy
from batch.errors import UsageError
from batch.model import Request, Response, Status

T = TypeVar("T")

RATES = [
    Rate(1, 60.0),
    Rate(600, 60.0),
    Rate(100, 3600.0),
    Rate(1),
    Rate(2.5),
    Rate(10),
    Rate(50),
    Rate(500),
    Rate(2000),
    Rate(5000),
]
POLICY = RetryPolicy(first_wait=0.5, longest_wait=30.0, patience=300.0)
FAST = Rate(1_000_000)
MILLISECOND = 0.001


class LateLoop(VirtualTimeLoop):
    """Time that jumps, and lands up to a millisecond late, as real timers do."""

    def __init__(self) -> None:
        super().__init__()
        draw = random.Random(1).random
        on_time = self._jumping.select

        def late(timeout: float | None = None) -> Any:
            return on_time(timeout and timeout + draw() * MILLISECOND)

        self._jumping.select = late  # type: ignore[method-assign]


def run_late(coroutine: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=LateLoop) as runner:
        return runner.run(coroutine)


def now() -> float:
    return asyncio.get_running_loop().time()


async def permits(pace: Pace, seconds: float, *, workers: int = 64) -> list[float]:
    """Let many workers compete for so long; return when each permit was granted."""
    granted: list[float] = []
    end = now() + seconds

    async def work() -> None:
        while True:
            await permitted(pace)
            if now() > end:
                return
            granted.append(now())

    tasks = [asyncio.create_task(work()) for _ in range(workers)]
    await asyncio.wait(tasks, timeout=seconds + 0.1)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    return granted


def most_in_a_window(times: list[float], width: float) -> int:
    return max(bisect_right(times, start + width) - place for place, start in enumerate(times))


def window_of(rate: Rate) -> float:
    """Return a second, or as long as the rate is counted over."""
    return rate.seconds if rate.per_second < 1 else 1.0


def bound(rate: Rate) -> float:
    return rate.per_second * window_of(rate) + 1


@pytest.mark.parametrize(
    ("text", "permits", "seconds"),
    [
        ("20", 20, 1),
        ("20/s", 20, 1),
        ("600/min", 600, 60),
        ("5000/h", 5000, 3600),
        ("0.5/s", 0.5, 1),
        ("20/sec", 20, 1),
        ("20/second", 20, 1),
        ("20/minute", 20, 60),
        ("20/hour", 20, 3600),
        (" 20 / S ", 20, 1),
        ("20/MIN", 20, 60),
        ("007/s", 7, 1),
    ],
)
def test_a_rate_is_a_number_and_a_unit(text: str, permits: float, seconds: float) -> None:
    assert parse_rate(text) == Rate(permits, seconds)
    assert parse_rate(text).per_second == pytest.approx(permits / seconds)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "0/s",
        "0.0/min",
        "-1",
        "+5/s",
        "20/",
        "/s",
        "20//s",
        "20/s/s",
        "20 s",
        "20/d",
        "20/m",
        "20/sx",
        "s/20",
        "1e3",
        ".5",
        "5.",
        "1.2.3",
        "1,5",
        "20%",
        "1_000",
        "0x10",
        "nan",
        "inf",
        "infinity/s",
        "auto!",
        "20/s\n5",
        "\x00",
        "\u2155/s",
        "\xb2/s",
    ],
)
def test_anything_else_is_no_rate_and_the_message_quotes_it(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_rate(text)
    assert repr(text) in str(caught.value)
    assert "20/s" in str(caught.value)


@pytest.mark.parametrize("text", ["20/s", "600/min", "5000/h", "0.5/s", "2000/s"])
def test_a_rate_is_written_as_it_is_read(text: str) -> None:
    assert str(parse_rate(text)) == text


@pytest.mark.parametrize("run", [run_virtually, run_late])
@pytest.mark.parametrize("rate", RATES, ids=str)
def test_99_per_cent_of_the_rate_are_used(
    rate: Rate, run: Callable[[Coroutine[Any, Any, list[float]]], list[float]]
) -> None:
    async def compete() -> list[float]:
        return await permits(Pace(rate, POLICY), 10 * window_of(rate) + 200 / rate.per_second)

    times = run(compete())
    used = (len(times) - 1) / (times[-1] - times[0])
    assert used >= 0.99 * rate.per_second


@pytest.mark.parametrize("run", [run_virtually, run_late])
@pytest.mark.parametrize("rate", RATES, ids=str)
def test_no_window_sees_more_than_the_rate_and_one(
    rate: Rate, run: Callable[[Coroutine[Any, Any, list[float]]], list[float]]
) -> None:
    async def compete() -> list[float]:
        return await permits(Pace(rate, POLICY), 10 * window_of(rate))

    assert most_in_a_window(run(compete()), window_of(rate)) <= bound(rate)


@pytest.mark.parametrize("run", [run_virtually, run_late])
@pytest.mark.parametrize("rate", [Rate(1, 60.0), Rate(60, 60.0), Rate(600, 60.0), Rate(6000, 60.0)], ids=str)
def test_a_rate_per_minute_is_kept_in_every_minute_and_evenly_in_every_second(
    rate: Rate, run: Callable[[Coroutine[Any, Any, list[float]]], list[float]]
) -> None:
    async def compete() -> list[float]:
        return await permits(Pace(rate, POLICY), 200.0)

    times = run(compete())
    assert most_in_a_window(times, 60.0) <= rate.permits + 1
    assert most_in_a_window(times, 1.0) <= rate.per_second + 1


@pytest.mark.parametrize("run", [run_virtually, run_late])
@pytest.mark.parametrize("rate", RATES, ids=str)
def test_there_is_no_burst_after_an_idle_pause(
    rate: Rate, run: Callable[[Coroutine[Any, Any, list[float]]], list[float]]
) -> None:
    async def compete() -> list[float]:
        pace = Pace(rate, POLICY)
        times = await permits(pace, 3 * window_of(rate))
        for pause in (0.3, 1.0, 50.0):
            await asyncio.sleep(pause * window_of(rate))
            times += await permits(pace, 3 * window_of(rate))
        return times

    assert most_in_a_window(run(compete()), window_of(rate)) <= bound(rate)


@pytest.mark.parametrize("standstill", [0.1, 1.0, 3600.0])
@pytest.mark.parametrize("rate", RATES, ids=str)
def test_there_is_no_burst_after_the_machine_stood_still(rate: Rate, standstill: float) -> None:
    async def compete() -> list[float]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)

        def stand_still() -> None:
            loop._jumping.now += standstill * window_of(rate)

        loop.call_later(1.2 * window_of(rate), stand_still)
        return await permits(Pace(rate, POLICY), (standstill + 4) * window_of(rate))

    assert most_in_a_window(run_late(compete()), window_of(rate)) <= bound(rate)


@pytest.mark.parametrize("rate", RATES, ids=str)
def test_there_is_no_burst_after_an_outage(rate: Rate) -> None:
    async def compete() -> list[float]:
        pace = Pace(rate, POLICY)
        asking = asyncio.create_task(permits(pace, 37 + 4 * window_of(rate)))
        await asyncio.sleep(2 * window_of(rate))
        for row in range(3):
            pace.outage.failed(now(), row, reached=False)
            await asyncio.sleep(1.5)
        assert pace.outage.since is not None
        await asyncio.sleep(30)
        pace.outage.answered()
        return await asking

    times = run_late(compete())
    assert max(after - before for before, after in pairwise(times)) >= min(20, 60 / rate.per_second)
    assert most_in_a_window(times, window_of(rate)) <= bound(rate)


@pytest.mark.parametrize("run", [run_virtually, run_late])
@pytest.mark.parametrize("rate", RATES, ids=str)
def test_there_is_no_burst_after_a_cool_down(
    rate: Rate, run: Callable[[Coroutine[Any, Any, list[float]]], list[float]]
) -> None:
    async def compete() -> list[float]:
        pace = Pace(rate, POLICY)
        cool_down = 2.5 * window_of(rate)
        asyncio.get_running_loop().call_later(
            1.5 * window_of(rate), lambda: pace.throttled(now(), min(cool_down, 300), 0.5)
        )
        return await permits(pace, 8 * window_of(rate))

    times = run(compete())
    assert max(after - before for before, after in pairwise(times)) >= 2.5
    assert most_in_a_window(times, window_of(rate)) <= bound(rate)


@pytest.mark.parametrize("workers", [1, 2, 1000])
def test_the_rate_is_used_by_few_workers_and_by_many(workers: int) -> None:
    async def compete() -> list[float]:
        return await permits(Pace(Rate(50), POLICY), 20.0, workers=workers)

    times = run_virtually(compete())
    assert len(times) >= 0.99 * 50 * 20
    assert most_in_a_window(times, 1.0) <= 51


def test_permits_are_granted_in_the_order_in_which_they_were_asked_for() -> None:
    order: list[int] = []

    async def compete() -> None:
        pace = Pace(Rate(10), POLICY)

        async def ask(number: int) -> None:
            await permitted(pace)
            order.append(number)

        await asyncio.gather(*map(ask, range(30)))

    run_virtually(compete())
    assert order == list(range(30))


def test_a_worker_that_is_cancelled_while_it_waits_holds_up_nobody() -> None:
    async def compete() -> float:
        pace = Pace(Rate(1), POLICY)
        await permitted(pace)
        waiting = [asyncio.create_task(permitted(pace)) for _ in range(100)]
        last = asyncio.create_task(permitted(pace))
        await asyncio.sleep(0.1)
        for task in waiting:
            task.cancel()
        began = now()
        await last
        return now() - began

    assert run_virtually(compete()) < 1.1


def in_a_cool_down(
    check: Callable[[Pace], Awaitable[T]], *, policy: RetryPolicy = POLICY, rate: Rate = FAST
) -> T:
    async def going() -> T:
        return await check(Pace(rate, policy))

    return run_virtually(going())


async def wait_for_permit(pace: Pace) -> float:
    began = now()
    await permitted(pace)
    return now() - began


def test_a_cool_down_holds_every_worker() -> None:
    async def check(pace: Pace) -> list[float]:
        assert pace.throttled(now(), 7.0, 0.5) == 7.0
        return await asyncio.gather(*[wait_for_permit(pace) for _ in range(20)])

    assert in_a_cool_down(check) == pytest.approx([7.0] * 20, abs=MILLISECOND)


def test_a_cool_down_holds_also_those_who_wait_for_a_permit_already() -> None:
    async def check(pace: Pace) -> list[float]:
        await permitted(pace)
        began = now()
        waiting = [asyncio.create_task(permitted(pace)) for _ in range(3)]
        await asyncio.sleep(0.5)
        pace.throttled(now(), 20.0, 0.5)
        times = []
        for task in asyncio.as_completed(waiting):
            await task
            times.append(now() - began)
        return times

    # A permit granted within the cool-down lapses: nobody leaves before its end.
    times = in_a_cool_down(check, rate=Rate(1))
    assert times[0] == pytest.approx(20.5, abs=0.01)
    assert times[2] - times[0] >= 1.98


def test_permits_that_lapse_in_a_cool_down_do_not_add_up() -> None:
    async def check(pace: Pace) -> int:
        asyncio.get_running_loop().call_later(1.0, lambda: pace.throttled(now(), 30.0, 0.5))
        began = now()
        times = await permits(pace, 40.0, workers=500)
        assert not [time for time in times if 1.0 < time - began < 31.0]
        return most_in_a_window([time for time in times if time - began >= 31.0], 1.0)

    assert in_a_cool_down(check, rate=Rate(10)) <= 11


def test_requests_throttled_together_count_once() -> None:
    async def check(pace: Pace) -> tuple[float, float]:
        sent_at = now()
        await asyncio.sleep(0.1)
        first = pace.throttled(sent_at, None, 1.0)
        for _ in range(31):
            assert pace.throttled(sent_at, None, 1.0) == 0.0
        held = await wait_for_permit(pace)
        assert pace.throttled(sent_at, None, 1.0) == 0.0  # late, but of the same lot
        assert await wait_for_permit(pace) < MILLISECOND
        return first, held

    first, held = in_a_cool_down(check)
    assert held == pytest.approx(first, abs=MILLISECOND)
    assert first == 0.5


def test_the_next_lot_that_is_throttled_backs_off_for_longer() -> None:
    async def check(pace: Pace) -> list[float]:
        waits = []
        for _ in range(9):
            await permitted(pace)
            waits.append(pace.throttled(now(), None, 1.0))
        return waits

    assert in_a_cool_down(check) == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]


def test_a_back_off_is_never_shorter_than_half_its_bound() -> None:
    async def check(pace: Pace) -> list[float]:
        waits = []
        for _ in range(4):
            await permitted(pace)
            waits.append(pace.throttled(now(), None, 0.0))
        return waits

    assert in_a_cool_down(check) == [0.25, 0.5, 1, 2]


def test_an_answer_lets_the_back_off_start_again_with_a_quarter_of_the_pause_that_it_ended() -> None:
    async def check(pace: Pace) -> list[float]:
        waits = []
        for answered in (False, False, False, True, False):
            await permitted(pace)
            if answered:
                pace.answered(now(), now())
            waits.append(pace.throttled(now(), None, 1.0))
        return waits

    assert in_a_cool_down(check) == pytest.approx([0.5, 1, 2, 3.5 / 4, 3.5 / 2])


def test_an_answer_does_not_end_a_cool_down() -> None:
    async def check(pace: Pace) -> float:
        pace.throttled(now(), 5.0, 0.5)
        pace.answered(now(), now())
        return await wait_for_permit(pace)

    assert in_a_cool_down(check) == pytest.approx(5.0, abs=MILLISECOND)


@pytest.mark.parametrize("asked", [0.1, 0.2, 1.0, 60.0, 3600.0])
def test_a_pause_that_the_service_asks_for_is_kept(asked: float) -> None:
    async def check(pace: Pace) -> tuple[float, float]:
        return pace.throttled(now(), asked, 0.9), await wait_for_permit(pace)

    length, held = in_a_cool_down(check)
    assert length == asked
    assert held == pytest.approx(asked, abs=1e-6)


@pytest.mark.parametrize("asked", [0.0, -0.0, -1.0, -1e300, float("-inf"), float("inf"), float("nan"), None])
def test_a_pause_that_makes_no_sense_is_replaced_by_back_off(asked: float | None) -> None:
    async def check(pace: Pace) -> float:
        return pace.throttled(now(), asked, 1.0)

    assert in_a_cool_down(check) == 0.5


@pytest.mark.parametrize("asked", [3601.0, 1e9, 1e300])
def test_a_pause_is_never_longer_than_an_hour(asked: float) -> None:
    async def check(pace: Pace) -> float:
        pace.throttled(now(), asked, 1.0)
        return await wait_for_permit(pace)

    assert in_a_cool_down(check) == pytest.approx(3600.0, abs=MILLISECOND)


def test_a_longer_pause_prolongs_a_cool_down_and_a_shorter_one_does_not() -> None:
    async def check(pace: Pace) -> list[float]:
        began = sent_at = now()
        waiting = [asyncio.create_task(permitted(pace)) for _ in range(3)]
        pace.throttled(sent_at, 5.0, 0.5)
        await asyncio.sleep(1.0)
        pace.throttled(sent_at, 10.0, 0.5)
        pace.throttled(sent_at, 2.0, 0.5)
        pace.throttled(sent_at, None, 0.5)
        await asyncio.sleep(5.0)
        times = []
        for task in waiting:
            await task
            times.append(now() - began)
        return times

    assert in_a_cool_down(check, rate=Rate(1000))[0] == pytest.approx(11.0, abs=0.01)


def test_scopes_do_not_wait_for_one_another() -> None:
    async def check(pace: Pace) -> float:
        pace.throttled(now(), 100.0, 0.5)
        return await wait_for_permit(Pace(FAST, POLICY))

    assert in_a_cool_down(check) < MILLISECOND


class Doubtful(Wire):
    """A service that answers the first write of two rows in three with an error; they take three requests."""

    async def send(self, request: Request) -> Response:
        is_first = not any(each.url == request.url for each in self.requests)
        is_sound = int(request.url.rpartition("/")[2]) % 3 == 0
        end = OK if is_sound else FOUND if not request.writes else ERROR if is_first else NO
        return await self.carry(request, 0.01, lambda: end)


def test_retries_and_read_backs_keep_to_the_rate_of_their_scope() -> None:
    service = Doubtful()
    run = Run(service=service, rows=60, thing=lambda n: f"{'ab'[n % 2]}/{n}", concurrency=16, rate=Rate(10))
    run.go()
    assert [each.status for each in run.results.values()] == [Status.SUCCEEDED] * 60
    for scope in "ab":
        sent = zip(service.times, service.requests, strict=True)
        times = [time for time, request in sent if request.scope == scope]
        assert len(times) == 10 + 3 * 20
        assert most_in_a_window(times, 1.0) <= 11
        assert times[-1] - times[0] <= 70 / 9.9 + 1  # the last back-off
