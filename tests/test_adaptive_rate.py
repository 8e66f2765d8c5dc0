"""The rate that finds itself, against services that limit in different ways; time moves only in the tests."""

import asyncio
from itertools import pairwise
from random import Random

import pytest
from rate_simulator import FixedWindow, LeakyBucket, Limit, Scenario, SlidingWindow, TokenBucket, simulate
from support import ERROR, OK, Run, Switch, Wire, permitted, run_virtually

from batch.engine.adaptive import AdaptiveRate
from batch.engine.pace import Pace
from batch.engine.rate import Auto, Rate, parse_pace
from batch.engine.retry import RetryPolicy
from batch.errors import UsageError
from batch.model import Request, Response, Window

EVERY_KIND = pytest.mark.parametrize(
    "kind", [FixedWindow, SlidingWindow, TokenBucket, LeakyBucket], ids=lambda kind: kind.__name__
)


def attainable(kind: type[Limit], permits: float = 50) -> float:
    """Return the share of a limit that is to be used.

    When requests take from 20 to 200 ms, sending evenly gets 92 % out of a sliding window of a second and no
    more: it remembers the bunch in which they arrive. And a hundred requests tell little of a slow one.
    """
    if kind is not SlidingWindow:
        return 0.9
    return 0.75 if permits < 10 else 0.85


def check(scenario: Scenario, used: float) -> None:
    figures = simulate(scenario)
    assert figures.used >= used, figures
    assert figures.refused < 0.02, figures


@EVERY_KIND
@pytest.mark.parametrize(("permits", "lasts"), [(2, 360), (10, 120), (50, 80), (500, 40)])
def test_a_limit_that_nobody_tells_is_found_and_used(kind: type[Limit], permits: float, lasts: float) -> None:
    scenario = Scenario(kind=kind, window=Window(permits, 1.0), lasts=lasts)
    check(scenario, attainable(kind, permits))


@EVERY_KIND
def test_a_limit_by_the_minute_that_nobody_tells_is_found_within_two_windows(kind: type[Limit]) -> None:
    check(Scenario(kind=kind, window=Window(60, 60.0), lasts=900), 0.9)


@EVERY_KIND
@pytest.mark.parametrize("permits", [60, 600])
def test_a_limit_by_the_minute_that_refusals_tell_is_kept_from_the_first_of_them_on(
    kind: type[Limit], permits: float
) -> None:
    figures = simulate(Scenario(kind=kind, window=Window(permits, 60.0), lasts=600, tells=True))
    assert figures.used >= 0.95
    assert figures.refused == 0
    assert figures.refused_overall < 0.01


@EVERY_KIND
def test_a_limit_that_refusals_tell_is_used(kind: type[Limit]) -> None:
    check(Scenario(kind=kind, window=Window(100, 1.0), lasts=60, tells=True), attainable(kind))


@EVERY_KIND
def test_a_limit_that_every_answer_shows_is_hardly_ever_exceeded(kind: type[Limit]) -> None:
    figures = simulate(Scenario(kind=kind, window=Window(100, 1.0), lasts=60, shows=True))
    assert figures.used >= 0.9
    assert figures.refused_overall < 0.003


@EVERY_KIND
@pytest.mark.parametrize(("permits", "phase"), [(50, 60), (10, 80)])
def test_a_limit_that_halves_and_doubles_is_followed(kind: type[Limit], permits: float, phase: float) -> None:
    moves = ((phase, permits / 2), (2 * phase, permits))
    scenario = Scenario(kind=kind, window=Window(permits, 1.0), lasts=3 * phase, moves=moves)
    runs = [simulate(scenario, seed=seed) for seed in (1, 2, 3)]
    # A slow limit tells less in the time that it stays.
    assert sum(figures.used for figures in runs) / len(runs) >= min(
        attainable(kind), 0.9 if permits > 10 else 0.85
    ), runs
    assert all(figures.refused < 0.02 for figures in runs), runs


@EVERY_KIND
def test_half_the_limit_is_left_to_a_second_client(kind: type[Limit]) -> None:
    check(Scenario(kind=kind, window=Window(50, 1.0), lasts=120, rival=50.0), attainable(kind))


@pytest.mark.parametrize("latency", [(0.02, 0.02), (0.2, 0.2)])
def test_how_long_answers_take_does_not_matter(latency: tuple[float, float]) -> None:
    check(Scenario(kind=SlidingWindow, window=Window(50, 1.0), lasts=80, latency=latency), 0.9)


@pytest.mark.parametrize("workers", [1, 16])
@pytest.mark.parametrize("hint", [{}, {"Retry-After": "1"}])
def test_a_ban_for_a_minute_is_not_taken_for_a_low_limit(workers: int, hint: dict[str, str]) -> None:
    class Banning(Wire):
        """Refuses everything for a minute, and nothing afterwards."""

        async def send(self, request: Request) -> Response:
            banned = not self.times or asyncio.get_running_loop().time() - self.times[0] < 60
            return await self.carry(request, 0.05, lambda: Response(429, hint) if banned else OK)

    run = Run(service=Banning(), rows=200, concurrency=workers, rate=Auto()).go()
    assert len(run.settled) == 200
    assert run.took < 400


@EVERY_KIND
@pytest.mark.parametrize("rate", [55, 60, 100, 500])
def test_a_rate_that_is_given_too_high_comes_down_to_the_limit(kind: type[Limit], rate: float) -> None:
    figures = simulate(Scenario(kind=kind, window=Window(50, 1.0), lasts=80), Rate(rate))
    assert figures.used >= 0.9, figures
    assert figures.refused < 0.02, figures


def test_a_rate_that_is_given_is_kept_where_nothing_is_refused() -> None:
    figures = simulate(Scenario(kind=TokenBucket, window=Window(50, 1.0), lasts=60), Rate(40))
    assert figures.used == pytest.approx(0.8, abs=0.01)
    assert figures.refused_overall == 0


def test_a_rate_that_is_given_goes_up_again_with_the_limit_and_no_further() -> None:
    scenario = Scenario(kind=TokenBucket, window=Window(20, 1.0), lasts=160, moves=((60, 100),))
    figures = simulate(scenario, Rate(50))
    (start, end, _), (later, last, _) = scenario.phases()
    could = (end - start) * 20 + (last - later) * 100
    most = (end - start) * 20 + (last - later) * 50
    assert 0.85 * most / could < figures.used < 1.02 * most / could


@pytest.mark.parametrize(("share", "least"), [(0.01, 33), (0.05, 17), (0.2, 4.5)])
@pytest.mark.parametrize("rate", [Rate(50), Auto(Rate(50))], ids=["given", "auto"])
def test_refusals_that_do_not_come_from_the_rate_hardly_lower_it(
    rate: Rate | Auto, share: float, least: float
) -> None:
    """At 50/s and with a pause for each refusal, 43, 27 and 11 requests a second can pass."""

    class Moody(Limit):
        """Refuses a share of all requests, however few they are."""

        draw = Random(5)

        def passes(self, now: float) -> bool:
            del now
            return self.draw.random() >= share

    figures = simulate(Scenario(kind=Moody, window=Window(50, 1.0), lasts=600 if share < 0.05 else 300), rate)
    assert figures.used * 50 > least


@pytest.mark.parametrize(
    ("rate", "banned", "period", "could"),
    [
        (Rate(10), (30, 90), 600, 0.9),
        (Rate(100), (30, 90), 600, 0.9),
        (Rate(10), (30, 50), 600, 0.95),
        (Rate(10), (0, 5), 60, 0.9),
        (Rate(10), (0, 5), 300, 0.97),
    ],
    ids=["a minute", "a minute at 100/s", "20 s", "5 s of each minute", "5 s of each five minutes"],
)
def test_a_ban_for_a_while_does_not_lower_the_rate_afterwards(
    rate: Rate, banned: tuple[float, float], period: float, could: float
) -> None:
    class Banning(Limit):
        """Refuses everything for a while, again and again."""

        def passes(self, now: float) -> bool:
            return not banned[0] <= now % period < banned[1]

    scenario = Scenario(kind=Banning, window=Window(rate.per_second, 1.0), lasts=600)
    assert simulate(scenario, rate).used > 0.9 * could


@pytest.mark.parametrize("told", [Window(5, 60.0), Window(10_000, 86_400.0), Window(1, 3_600.0)], ids=str)
def test_a_limit_that_is_told_though_far_more_has_passed_or_for_days_is_no_rate_to_go_at(
    told: Window,
) -> None:
    """The gateway may tell another API's limit, and a quota for a day says nothing of the seconds in it."""
    rate = AdaptiveRate(10, 10)
    now = answer(rate, 20, start=0.0)
    for _ in range(3):
        rate.refused(now := now + 0.1, resumed=True, limit=told)
        rate.accepted(now := now + 60, resumed=True)
        now = answer(rate, 400, start=now)
        assert rate.per_second > 9


def test_a_quota_for_hours_that_answers_show_is_no_rate_to_go_at() -> None:
    rate = AdaptiveRate(5)
    rate.accepted(0.0, resumed=True, limit=Window(3_600, 3_600.0))
    answer(rate, 20, start=0.0)
    assert rate.per_second > 50


class Showing(Switch):
    """A job whose answers show one limit for writing, another for reading."""

    def shown_limit(self, response: Response) -> Window:
        return Window(20, 1.0) if response.status == 204 else Window(1, 1.0)


class Doubtful(Wire):
    """Loses the answer to every tenth write, so that some rows are read back."""

    async def send(self, request: Request) -> Response:
        row = int(request.url[1:])
        if request.writes:
            return await self.carry(request, 0.05, lambda: ERROR if row % 10 == 0 else OK)
        return await self.carry(request, 0.05, lambda: Response(200, body=b"there"))


def test_a_shown_limit_is_that_of_what_most_requests_do() -> None:
    policy = RetryPolicy(max_attempts=1)
    run = Run(service=Doubtful(), job=Showing(), rows=1_000, concurrency=20, rate=Auto(), policy=policy).go()
    assert len(run.settled) == 1_000
    assert 50 < run.took < 75, "at 19 requests a second"


def test_a_rate_that_is_given_is_kept_whatever_limit_answers_show() -> None:
    policy = RetryPolicy(max_attempts=1)
    run = Run(service=Doubtful(), job=Showing(), rows=1_000, concurrency=20, rate=Rate(100), policy=policy)
    assert 10 < run.go().took < 15


def test_the_rate_never_exceeds_the_bound_that_is_set() -> None:
    scenario = Scenario(kind=FixedWindow, window=Window(100, 1.0), lasts=60)
    figures = simulate(scenario, Auto(Rate(40)))
    assert 0.39 <= figures.used <= 0.4
    assert figures.refused_overall == 0


# What answers do to the rate


def answer(rate: AdaptiveRate, seconds: float, *, start: float, share: float = 1.0) -> float:
    """Let requests pass that use such a share of the rate; return the time when they have."""
    now = start
    while now < start + seconds:
        now += 1 / (rate.per_second * share)
        rate.accepted(now, resumed=True)
    return now


def test_it_starts_low_and_grows_by_half_while_nothing_is_refused() -> None:
    rate = AdaptiveRate(5)
    seen = [rate.per_second]
    now = 0.0
    while len(seen) < 5:
        now = answer(rate, 0.01, start=now)
        if rate.per_second != seen[-1]:
            seen.append(rate.per_second)
    assert seen[0] == 5
    assert [after / before for before, after in pairwise(seen)] == pytest.approx([1.5] * 4)


def test_a_rate_that_is_not_used_does_not_grow() -> None:
    rate = AdaptiveRate(5)
    answer(rate, 100, start=0.0, share=0.5)
    assert rate.per_second == 5


def test_while_requests_are_refused_it_asks_slowly() -> None:
    rate = AdaptiveRate(5)
    now = answer(rate, 12, start=0.0)
    before = rate.per_second
    assert before > 50
    rate.refused(now, resumed=True)
    assert rate.per_second <= 0.3 * before
    rate.accepted(now + 0.5, resumed=False)  # it was under way already
    assert rate.per_second <= 0.3 * before
    rate.accepted(now + 1, resumed=True)
    assert 0.5 * before < rate.per_second < before


def test_a_limit_below_the_rate_is_gone_to_at_once() -> None:
    rate = AdaptiveRate(5)
    now = answer(rate, 12, start=0.0)
    rate.accepted(now, resumed=True, limit=Window(600, 60.0))
    assert rate.per_second == pytest.approx(9.7)


def test_a_limit_that_a_refusal_tells_is_gone_to_at_once() -> None:
    rate = AdaptiveRate(50)
    now = answer(rate, 0.1, start=0.0)
    rate.refused(now + 1, resumed=True, limit=Window(5, 1.0))
    rate.accepted(now + 2, resumed=True)
    assert rate.per_second == pytest.approx(4.85)


def test_a_limit_that_is_shown_to_have_risen_is_grown_into() -> None:
    rate = AdaptiveRate(5)
    rate.accepted(0.0, resumed=True, limit=Window(5, 1.0))
    answer(rate, 30, start=0.0)
    assert rate.per_second == pytest.approx(4.85)
    rate.accepted(30.0, resumed=True, limit=Window(50, 1.0))
    answer(rate, 15, start=30.0)
    assert rate.per_second == pytest.approx(48.5)


@pytest.mark.parametrize("limit", [Window(0, 1.0), Window(1, 1e9), Window(1e9, 1.0)])
def test_no_limit_that_is_told_stops_it_or_drives_it_beyond_its_bound(limit: Window) -> None:
    rate = AdaptiveRate(5, 20)
    for now in range(100):
        rate.accepted(now / 10, resumed=True, limit=limit)
        rate.refused(now / 10 + 0.01, resumed=True, limit=limit)
        assert 0 < rate.per_second <= 20


def test_a_pause_begins_with_a_quarter_of_the_last() -> None:
    rate = AdaptiveRate(5)
    now = answer(rate, 5, start=0.0)
    assert rate.first_wait == 0.1
    rate.refused(now, resumed=True)
    rate.refused(now + 10, resumed=True)
    rate.accepted(now + 20, resumed=True)
    assert rate.first_wait == 5


# Permits at a rate that changes


def test_a_new_rate_takes_effect_without_a_rush_and_without_losing_whoever_waits() -> None:
    async def compete() -> list[float]:
        loop = asyncio.get_running_loop()
        pace = Pace(Auto(), RetryPolicy())
        granted: list[float] = []

        async def work() -> None:
            await permitted(pace)
            granted.append(loop.time())

        began = loop.time()
        waiting = [loop.create_task(work()) for _ in range(200)]
        for at, limit in ((2.0, 2.0), (12.0, 50.0)):
            loop.call_at(began + at, pace.answered, began, began + at, Window(limit / 0.97, 1.0))
        loop.call_at(began + 12.5, setattr, pace.rate, "_rate", 50.0)
        await asyncio.wait(waiting)
        return [time - began for time in granted]

    times = run_virtually(compete())
    assert len(times) == 200
    assert sum(time < 2 for time in times) == pytest.approx(10, abs=1)
    assert sum(2 <= time < 12 for time in times) == pytest.approx(20, abs=1)
    late = [time for time in times if time > 13.5]
    assert min(after - before for before, after in pairwise(late)) > 0.015
    assert max(times) < 17


@pytest.mark.parametrize("text", ["auto", " AUTO "])
def test_auto_is_a_rate(text: str) -> None:
    assert parse_pace(text, None) == Auto()
    assert parse_pace(text, "50/s") == Auto(Rate(50))
    assert parse_pace("20", None) == Rate(20)


@pytest.mark.parametrize(
    ("rate", "most"), [("20/s", "50/s"), ("auto", "auto"), ("auto", "0"), ("automatic", None)]
)
def test_a_bound_belongs_to_auto_and_is_a_rate(rate: str, most: str | None) -> None:
    with pytest.raises(UsageError, match=r"--max-rate|--rate 'automatic'"):
        parse_pace(rate, most)
