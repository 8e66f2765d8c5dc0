"""Services that limit their clients, each in its own way, and a client that goes through the real permits."""

import asyncio
import random
from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

from support import permitted, run_virtually

from batch.engine.pace import Pace
from batch.engine.rate import Auto, Rate
from batch.engine.retry import RetryPolicy
from batch.model import Window

WORKERS = 160
SETTLING = 20.0
"""Seconds that a client gets to find a limit, or one that has moved; at slow ones a hundred requests."""


class Limit:
    """Says of each request that comes in whether it passes. The window may be changed meanwhile."""

    def __init__(self, window: Window) -> None:
        self.window = window

    def passes(self, now: float) -> bool:
        raise NotImplementedError


class FixedWindow(Limit):
    """So many requests between two strokes of the service's clock."""

    def __init__(self, window: Window) -> None:
        super().__init__(window)
        self._number = -1.0
        self._used = 0

    def passes(self, now: float) -> bool:
        if self._number != (number := now // self.window.seconds):
            self._number, self._used = number, 0
        self._used += 1
        return self._used <= self.window.permits


class SlidingWindow(Limit):
    """So many requests in any such time."""

    def __init__(self, window: Window) -> None:
        super().__init__(window)
        self._passed: deque[float] = deque()

    def passes(self, now: float) -> bool:
        while self._passed and self._passed[0] <= now - self.window.seconds:
            self._passed.popleft()
        if len(self._passed) >= self.window.permits:
            return False
        self._passed.append(now)
        return True


class TokenBucket(Limit):
    """Tokens come back evenly; those of a whole window can be saved up."""

    share = 1.0

    def __init__(self, window: Window) -> None:
        super().__init__(window)
        self._tokens = self._most
        self._at = 0.0

    @property
    def _most(self) -> float:
        return max(self.window.permits * self.share, 2.0)

    def passes(self, now: float) -> bool:
        self._tokens = min(self._tokens + (now - self._at) * self.window.per_second, self._most)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class LeakyBucket(TokenBucket):
    """Holds a tenth of a window's requests, two at least, and drains evenly."""

    share = 0.1


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """A service and what befalls it.

    Attributes:
        kind: how it limits.
        window: its limit at first.
        lasts: seconds.
        moves: times at which its limit changes, and what to.
        rival: when a second client comes that takes half of the limit, or None.
        tells: whether a refusal names the window.
        shows: whether every answer does.
        latency: seconds from a request to its answer, at least and at most.

    """

    kind: type[Limit]
    window: Window
    lasts: float
    moves: tuple[tuple[float, float], ...] = ()
    rival: float | None = None
    tells: bool = False
    shows: bool = False
    latency: tuple[float, float] = (0.02, 0.2)

    def phases(self) -> list[tuple[float, float, float]]:
        """Return the times when all is settled: from, to, and requests a second that could pass."""
        changes = sorted({0.0, *dict(self.moves), *([self.rival] if self.rival else [])})
        # A limit by the minute is found by the first windows.
        settling = max(SETTLING, 100 / self.window.per_second, 2 * self.window.seconds)
        found = []
        for at, end in zip(changes, [*changes[1:], self.lasts], strict=True):
            permits = [permits for time, permits in ((0.0, self.window.permits), *self.moves) if time <= at][
                -1
            ]
            share = 0.5 if self.rival and at >= self.rival else 1.0
            found.append((at + settling, end, permits / self.window.seconds * share))
        return found


class Figures(NamedTuple):
    """What came of it once all was settled: shares of the limit used and of the requests refused."""

    used: float
    refused: float
    refused_overall: float


def simulate(scenario: Scenario, rate: Rate | Auto | None = None, seed: int = 1) -> Figures:
    """Send as fast as the permits let a client."""
    return run_virtually(_Simulation(scenario, seed).run(Pace(rate or Auto(), RetryPolicy())))


class _Simulation:
    def __init__(self, scenario: Scenario, seed: int) -> None:
        self._scenario = scenario
        self._limit = scenario.kind(scenario.window)
        self._random = random.Random(seed)
        self._offset = self._random.random() * scenario.window.seconds
        self._passed: list[float] = []
        self._refused: list[float] = []

    async def run(self, pace: Pace) -> Figures:
        loop = asyncio.get_running_loop()
        self._began = loop.time()
        for at, permits in self._scenario.moves:
            loop.call_later(at, self._move, permits)
        workers = [loop.create_task(self._work(pace)) for _ in range(WORKERS)]
        rival = loop.create_task(self._compete())
        await asyncio.wait(workers, timeout=self._scenario.lasts)
        for task in (*workers, rival):
            task.cancel()
        await asyncio.wait([*workers, rival])
        return self._figures()

    def _now(self) -> float:
        return asyncio.get_running_loop().time() - self._began

    def _move(self, permits: float) -> None:
        self._limit.window = self._limit.window._replace(permits=permits)

    async def _work(self, pace: Pace) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await permitted(pace)
            sent_at = loop.time()
            latency = self._random.uniform(*self._scenario.latency)
            await asyncio.sleep(latency / 2)
            passes, window = self._limit.passes(self._now() + self._offset), self._limit.window
            (self._passed if passes else self._refused).append(self._now())
            await asyncio.sleep(latency / 2)
            told = window if self._scenario.shows or (self._scenario.tells and not passes) else None
            if passes:
                pace.answered(sent_at, loop.time(), told)
            else:
                pause = window.seconds if self._scenario.tells else None
                pace.throttled(sent_at, pause, self._random.random(), told)

    async def _compete(self) -> None:
        if self._scenario.rival:
            await asyncio.sleep(self._scenario.rival)
            while True:
                self._limit.passes(self._now() + self._offset)
                await asyncio.sleep(2 / self._limit.window.per_second * self._random.uniform(0.8, 1.2))

    def _figures(self) -> Figures:
        could = passed = refused = 0.0
        for start, end, per_second in self._scenario.phases():
            could += (end - start) * per_second
            passed += sum(start <= time < end for time in self._passed)
            refused += sum(start <= time < end for time in self._refused)
        overall = len(self._refused) / (len(self._refused) + len(self._passed))
        return Figures(passed / could, refused / (refused + passed), overall)
