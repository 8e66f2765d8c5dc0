"""The rate that finds itself: grows until requests are refused, settles just under the limit, follows it.

Pure: times and answers in, a rate out. A rate is tried for a step. If it lasts, the next one is tried:
without a known limit half as much again, else half the way to the lowest rate that was refused. When that
way is short, the rate is held until the refusals are paid for: they are to stay a small share of all
requests, and the pauses they cost a small share of the time. Then a little more is tried, and ever more
while it lasts, for the limit may have moved. When a rate is refused that was fallen back to a moment ago,
what has been let through meanwhile tells how deep to fall.
"""

from dataclasses import dataclass
from math import inf

from batch.model import Window

_FIRST = 5.0  # requests a second, to begin with and to ask with while refused
_LEAST = 1 / 300
_ASK = 0.3  # share of the rate to ask with while refused
_STEP = 1.0  # seconds that a rate must last at least, longer once there is a limit
_SETTLED_STEP = 1.5
_STEP_REQUESTS = 10
_USED = 0.7  # share of a rate that must be used for more to be tried
_FASTEST = 1.5  # growth in a step while no limit is known
_CAREFUL = 1.03  # growth in the first step after a hold; doubles with each that lasts
_GAP = 0.04  # distance from the refused rate that is near enough
_BACK = 0.98  # of the last rate that lasted, when the next one is refused
_NEAR = 0.97  # of a rate that had been good for long and is refused once
_FALL = 0.95  # of a rate that is refused again at once, at most
_FEW = 3  # requests that have passed between two refusals tell nothing of the limit
_DEEPEST = 0.15  # of a rate that is refused then, at least: a ban for a while is no low limit
_TOLD = 0.97  # of a limit that the service tells
_REQUESTS_PER_REFUSAL = 120
_SECONDS_PER_PAUSE = 40
_SECONDS_PER_TOLD_PAUSE = 20
_FIRST_WAIT = 0.1
_WAIT_SHARE = 0.25  # of the last pause, to wait first in the next one


@dataclass(slots=True)
class _Count:
    """Requests let through since a time."""

    since: float
    passed: int = 0

    def per_second(self, until: float) -> float:
        return self.passed / max(until - self.since, 1e-3)


class AdaptiveRate:
    """A rate that follows what the service lets through.

    Args:
        most: requests a second that it never exceeds.

    """

    def __init__(self, most: float = inf) -> None:
        self._most = most
        self._rate = min(_FIRST, most)
        self._growth = _FASTEST
        self._lasted = 0.0  # the last rate that did; 0 where none did since the last refusal
        self._refused = inf  # the lowest rate that was
        self._is_proven = True  # whether a rate has lasted since the last refusal
        self._held_until = 0.0
        self._step: _Count | None = None  # with the present rate
        self._cycle = _Count(0.0)  # since the last refusals ended
        self._refusals = 0
        self._refused_from: float | None = None
        self._refused_until = 0.0
        self._pause = 0.0
        self._told: Window | None = None  # by the answers that pass
        self._exceeded: Window | None = None  # by the refusals of now

    @property
    def per_second(self) -> float:
        """Requests a second that may leave now."""
        if self._refused_from is None:
            return self._rate
        return min(self._rate, max(_FIRST, self._rate * _ASK))

    @property
    def first_wait(self) -> float:
        """Seconds to wait first when a request is refused and the service does not say for how long."""
        return max(_FIRST_WAIT, self._pause * _WAIT_SHARE)

    def accepted(self, now: float, *, resumed: bool, limit: Window | None = None) -> None:
        """Note an answer that is no refusal.

        Args:
            now: the time, in seconds.
            resumed: whether the request was sent after the last pause.
            limit: what the service tells of its limit.

        """
        step = self._begun(now)
        step.passed += 1
        self._cycle.passed += 1
        if limit and limit != self._told:
            self._heed(limit)
        if self._refused_from is not None:
            if resumed:
                self._fall(now, step)
        elif now - step.since >= self._step_length:
            if step.per_second(now) >= _USED * self._rate:
                self._advance(now)
            self._step = _Count(now)

    def refused(self, now: float, *, resumed: bool, limit: Window | None = None) -> None:
        """Note that a request was refused for coming too fast; the arguments are those of `accepted`."""
        self._begun(now)
        self._refusals += 1
        self._exceeded = limit or self._exceeded
        if resumed:
            self._refused_until = now
            if self._refused_from is None:
                self._refused_from = now

    def _begun(self, now: float) -> _Count:
        if self._step is None:
            self._step, self._cycle = _Count(now), _Count(now)
        return self._step

    @property
    def _step_length(self) -> float:
        least = _STEP if self._refused == inf and self._growth == _FASTEST else _SETTLED_STEP
        return max(least, _STEP_REQUESTS / self._rate, self._pause)

    def _heed(self, limit: Window) -> None:
        """Take a limit that an answer tells for what it says, and go there without delay."""
        self._told = limit
        self._growth, self._refused, self._held_until = _FASTEST, inf, 0.0
        self._set(self._rate)

    def _set(self, rate: float) -> None:
        told = self._told.per_second * _TOLD if self._told else inf
        self._rate = min(max(min(rate, told), _LEAST), self._most)

    def _advance(self, now: float) -> None:
        """Try more after a rate has lasted."""
        self._lasted, self._is_proven = self._rate, True
        if self._rate < self._refused * (1 - _GAP) and self._refused < inf:
            self._set((self._rate + self._refused * (1 - _GAP / 2)) / 2)
        elif now >= self._held_until:
            self._refused = inf
            self._set(self._rate * self._growth)
            self._growth = min(_FASTEST, 1 + 2 * (self._growth - 1))

    def _fall(self, now: float, step: _Count) -> None:
        """Go back to what is good when refusals have ended, and hold it until they are paid for."""
        assert self._refused_from is not None
        before = self._rate
        length = self._step_length
        self._pause = now - self._refused_from
        served = max(step.per_second(now), self._cycle.per_second(now))
        # A pause longer than the step says that the rate has lasted only on what had been saved up.
        was_saved = self._pause > 2 * length and not self._exceeded
        told = self._exceeded.per_second * _TOLD if self._exceeded else inf
        if was_saved or not self._is_proven:
            few = self._cycle.passed < _FEW
            self._set(min(before * _FALL, max(served, before * _DEEPEST * few)))
        elif told < before:
            self._set(told)
        elif 0 < self._lasted < before:
            self._set(self._lasted * _BACK)
        else:
            self._set(before * _NEAR)
        tried = max(step.per_second(self._refused_until), self._cycle.per_second(self._refused_until))
        self._refused = min(before, max(served, tried), max(told, self._rate))
        dear = _SECONDS_PER_TOLD_PAUSE if self._exceeded else _SECONDS_PER_PAUSE
        price = max(_REQUESTS_PER_REFUSAL * self._refusals / self._rate, dear * self._pause)
        self._held_until = min(max(now, self._held_until) + price, now + 2 * price)
        self._growth = _CAREFUL
        self._lasted, self._is_proven = 0.0, False
        self._refusals, self._refused_from, self._exceeded = 0, None, None
        self._step, self._cycle = _Count(now), _Count(now)
