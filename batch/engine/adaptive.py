"""The rate that finds itself: grows until requests are refused, settles just under the limit, follows it.

A rate that is given is one as well: it starts at its ceiling, and only refusals make it go lower.

Pure: times and answers in, a rate out. A rate is tried for a step. If it lasts, the next one is tried:
without a known limit half as much again, else half the way to the lowest rate that was refused. When that
way is short, the rate is held until the refusals are paid for: they are to stay a small share of all
requests, and the pauses they cost a small share of the time. Then a little more is tried, and ever more
while it lasts, for the limit may have moved. When a rate is refused that was fallen back to a moment ago,
what has been let through meanwhile tells how deep to fall. A pause that is much longer than the rate had
lasted may be a ban for a while: the same rate is tried once more. `refusals` says which refusals do
not come from the rate; they do not make it fall.
"""

from math import inf

from batch.engine.refusals import Count, Descent, Tolerance
from batch.model import Window

_ASK_LEAST = 5.0  # requests a second to ask with while refused
_LEAST = 1 / 300
_ASK = 0.3  # share of the rate to ask with while refused
_STEP = 1.0  # seconds that a rate must last at least, longer once there is a limit
_SETTLED_STEP = 1.5
_STEP_REQUESTS = 10  # that must pass in a step
_USED = 0.7  # share of a rate that must be used for more to be tried
_FASTEST = 1.5  # growth in a step while no limit is known
_CAREFUL = 1.03  # growth in the first step after a hold; doubles with each that lasts
_GAP = 0.04  # distance from the refused rate that is near enough
_BACK = 0.98  # of the last rate that lasted, when the next one is refused
_NEAR = 0.97  # of a rate that had been good for long and is refused once
_LONG = 2.0  # steps that a pause takes that may be a ban
_TRIAL = 3.0  # such pauses that the same rate must last then
_WINDOW_REQUESTS = 60  # requests that have passed before a pause that may be the rest of a window
_WINDOW_SHARE = 0.1  # of the time since the last pause that it takes then, at least
_TOLD = 0.97  # of a limit that the service tells
_LONGEST_WINDOW = 60.0  # seconds: a quota for longer is no rate to go at
_REQUESTS_PER_REFUSAL = 120
_SECONDS_PER_PAUSE = 40
_LONGEST_HOLD = 240.0  # seconds for the sake of a pause
_SECONDS_PER_TOLD_PAUSE = 20
_LONGEST_TOLD_HOLD = 600.0
_FIRST_WAIT = 0.1
_WAIT_SHARE = 0.25  # of the last pause, to wait first in the next one


class AdaptiveRate:
    """A rate that follows what the service lets through.

    Args:
        start: requests a second to begin with.
        ceiling: requests a second that it never exceeds.
        first_wait: seconds to wait when the first request is refused.

    """

    def __init__(self, start: float, ceiling: float = inf, first_wait: float = _FIRST_WAIT) -> None:
        self._ceiling = ceiling
        self._rate = min(start, ceiling)
        self._growth = _FASTEST
        self._lasted = 0.0  # the last rate that did; 0 where none did since the last refusal
        self._refused = inf  # the lowest rate that was
        self._is_proven = True  # whether a rate has lasted since the last refusal
        self._held_until = 0.0
        self._descent: Descent | None = None
        self._tolerance = Tolerance()
        self._step: Count | None = None  # with the present rate
        self._step_seconds = 0.0  # that a step must last for the sake of the last pause
        self._cycle = Count(0.0)  # since the last refusals ended
        self._refusals = 0
        self._refused_from: float | None = None
        self._refused_until = 0.0
        self._pause = 0.0
        self._first_wait = first_wait
        self._shown: Window | None = None  # by the answers that pass
        self._exceeded: Window | None = None  # by the refusals of now

    @property
    def per_second(self) -> float:
        """Requests a second that may leave now."""
        if self._refused_from is None:
            return self._rate
        return min(self._rate, max(_ASK_LEAST, self._rate * _ASK))

    @property
    def first_wait(self) -> float:
        """Seconds to wait first when a request is refused and the service does not say for how long."""
        return max(_FIRST_WAIT, self._pause * _WAIT_SHARE) if self._pause else self._first_wait

    @property
    def is_below_ceiling(self) -> bool:
        """Whether it is lower than it may be."""
        return self._rate < self._ceiling

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
        self._tolerance.note(is_refused=False)
        if limit and limit != self._shown and limit.seconds <= _LONGEST_WINDOW:
            self._heed(limit)
        if self._refused_from is not None:
            if resumed:
                self._fall(now, step)
        elif now - step.since >= _STEP and now - step.since >= self._step_length:
            if step.per_second(now) >= _USED * self._rate:
                self._advance(now)
            self._step = Count(now)

    def refused(self, now: float, *, resumed: bool, limit: Window | None = None) -> None:
        """Note that a request was refused for coming too fast; the arguments are those of `accepted`."""
        self._begun(now)
        self._refusals += 1
        self._tolerance.note(is_refused=True)
        if limit and self._is_believable(limit, now):
            self._exceeded = limit
        if resumed:
            self._refused_until = now
            if self._refused_from is None:
                self._refused_from = now

    def _begun(self, now: float) -> Count:
        if self._step is None:
            self._step, self._cycle = Count(now), Count(now)
        return self._step

    @property
    def _step_length(self) -> float:
        least = _STEP if self._refused == inf and self._growth == _FASTEST else _SETTLED_STEP
        return max(least, _STEP_REQUESTS / self._rate, self._step_seconds)

    def _is_believable(self, limit: Window, now: float) -> bool:
        """Whether a limit that a refusal tells may be the one that was exceeded: not if more has passed."""
        windows = (now - self._cycle.since) // limit.seconds + 2
        return limit.seconds <= _LONGEST_WINDOW and self._cycle.passed <= limit.permits * windows

    def _heed(self, limit: Window) -> None:
        """Take a limit that an answer shows for what it says, and go there without delay."""
        self._shown = limit
        self._growth, self._refused, self._held_until = _FASTEST, inf, 0.0
        self._set(self._rate)

    def _set(self, rate: float) -> None:
        shown = self._shown.per_second * _TOLD if self._shown else inf
        self._rate = min(max(min(rate, shown), _LEAST), self._ceiling)

    def _advance(self, now: float) -> None:
        """Try more after a rate has lasted."""
        if not self._is_proven and self._step_seconds > self._pause:
            self._step_seconds = 0.0  # the pause was a ban
        self._lasted, self._is_proven = self._rate, True
        if self._rate < self._refused * (1 - _GAP) and self._refused < inf:
            self._set((self._rate + self._refused * (1 - _GAP / 2)) / 2)
        elif now >= self._held_until:
            self._refused, self._descent = inf, None
            self._set(self._rate * self._growth)
            self._growth = min(_FASTEST, 1 + 2 * (self._growth - 1))

    def _fall(self, now: float, step: Count) -> None:
        """Decide what the refusals that have just ended mean for the rate."""
        assert self._refused_from is not None
        length = self._step_length
        self._pause = self._step_seconds = now - self._refused_from
        price = _REQUESTS_PER_REFUSAL * self._refusals / self._rate
        is_indifferent = self._tolerance.is_indifferent(now)
        has_lasted = is_indifferent or step.passed >= _STEP_REQUESTS
        if has_lasted and not self._exceeded and self._tolerance.puts_up_with(now):
            self._descent = None
            self._held_until = max(self._held_until, now if is_indifferent else now + price)
        elif self._is_proven and not self._exceeded and self._pause > _LONG * length:
            self._step_seconds = _TRIAL * self._pause
            self._is_proven = False
            self._descent = Descent.begin(self._rate, now, self._cycle.passed)
            self._held_until = max(self._held_until, now + max(price, _LONGEST_HOLD))
        else:
            self._go_down(now, step)
        self._refusals, self._refused_from, self._exceeded = 0, None, None
        self._step, self._cycle = Count(now), Count(now)

    def _is_rest_of_window(self, cycle: Count, now: float) -> bool:
        """Whether the pause takes so much of the time that it may be the rest of a long window."""
        return cycle.passed >= _WINDOW_REQUESTS and self._pause > _WINDOW_SHARE * (now - cycle.since)

    def _go_down(self, now: float, step: Count) -> None:
        """Go back to what is good, and hold it until the refusals are paid for."""
        before, cycle, descent, exceeded = self._rate, self._cycle, self._descent, self._exceeded
        if descent and descent.is_over(cycle.passed):
            descent = None
            self._tolerance.end()
        served = max(step.per_second(now), cycle.per_second(now))
        told = exceeded.per_second * _TOLD if exceeded else inf
        if not self._is_proven:
            self._set((descent or Descent.begin(before, now, 0)).lower(before, cycle, served))
        elif told < before:
            self._set(told)
        else:
            good = self._lasted * _BACK if 0 < self._lasted < before else before * _NEAR
            self._set(min(good, max(served, good / 2)) if self._is_rest_of_window(cycle, now) else good)
        tried = max(step.per_second(self._refused_until), cycle.per_second(self._refused_until))
        self._refused = min(before, max(served, tried), max(told, self._rate))
        dear = min(_SECONDS_PER_PAUSE * self._pause, _LONGEST_HOLD)
        if exceeded:
            dear = min(_SECONDS_PER_TOLD_PAUSE * self._pause, _LONGEST_TOLD_HOLD)
        price = max(_REQUESTS_PER_REFUSAL * self._refusals / self._rate, dear)
        self._held_until = min(max(now, self._held_until) + price, now + 2 * price)
        self._growth, self._lasted, self._is_proven = _CAREFUL, 0.0, False
        if descent is None or exceeded:
            self._descent = Descent.begin(before, now, cycle.passed)
        elif descent.is_in_vain(before, cycle.passed, now):
            self._tolerance.begin(now, descent.way)
            self._set(descent.start)
            self._descent, self._is_proven = None, True
            self._refused, self._held_until = inf, now
