"""Whether refusals come from the rate. Pure: answers in, a judgement out.

A few refusals are worth no slower rate. Others end when the rate falls below the limit. If they go on at
rates that are well below what has passed, they come from something else: a client with the same quota, a
policy for single requests. Then a slower rate gains nothing, and they are put up with for a while.
"""

import math
from dataclasses import dataclass

_MEMORY = 400  # requests over which the share of refusals is reckoned
_TOLERABLE = 0.005  # share of refusals that is worth no slower rate
_FIRST_INDIFFERENCE = 60.0  # seconds for which refusals are put up with at first; doubles each time
_LONGEST_INDIFFERENCE = 3600.0
_MOST_PAUSES = 4  # that prove nothing, however few requests have passed between them
_TWICE = 2.0  # the pauses that were seen before: more than that come from something new
_MANY = 120  # requests that have passed since the last refusal: what was refused before is over
_LONGER = 3.0  # times the usual way between two refusals: likewise
_LONGEST_FIRST_WAY = 300  # requests before the first refusal that count: a limit may have moved long after
_FEW = 5  # requests that have passed tell little of what can pass
_IN_VAIN = 0.75  # of what has passed: a rate below that is not refused for being too high
_MOST_FALLS = 16  # one after the other: the limit would have been found
_DEEPENING = 0.95  # of the rate that is refused again; squared with each fall that follows
_DEEPEST = 0.5
_LITTLE_TIME = 0.2  # seconds at the rate: what has passed in that time tells little of the limit


@dataclass(slots=True)
class Count:
    """Requests let through since a time."""

    since: float
    passed: int = 0

    def per_second(self, until: float) -> float:
        """Return how many a second have passed until then."""
        return self.passed / max(until - self.since, 1e-3)


@dataclass(slots=True)
class Descent:
    """Falls of the rate, one after the other.

    Attributes:
        start: the rate before the first of them.
        count: requests let through since the first.
        way: requests let through between two refusals, on average.
        best: requests a second that have surely passed since the first.
        falls: how many have followed it.

    """

    start: float
    count: Count
    way: float
    best: float = 0.0
    falls: int = 0

    @classmethod
    def begin(cls, start: float, now: float, passed: int) -> "Descent":
        """Return the descent that begins with a fall from such a rate, after so many requests have passed."""
        return cls(start, Count(now), min(passed, _LONGEST_FIRST_WAY))

    def is_over(self, passed: int) -> bool:
        """Whether so many requests since the last fall show that it has found the limit."""
        return passed >= max(_MANY, _LONGER * self.way)

    def lower(self, rate: float, cycle: Count, served: float) -> float:
        """Return the rate to fall to from one that is refused again, as so many a second were served."""
        few = max(_FEW, rate * _LITTLE_TIME)
        least = rate * _DEEPEST if cycle.passed < few else 0.0
        return min(rate * max(math.pow(_DEEPENING, 2.0**self.falls), _DEEPEST), max(served, least))

    def is_in_vain(self, rate: float, passed: int, now: float) -> bool:
        """Note one more fall; return whether the refusals do not come from the rate.

        Args:
            rate: that was refused.
            passed: requests let through since the fall before.
            now: the time, in seconds.

        """
        self.falls += 1
        self.way += (passed - self.way) / (self.falls + 1)
        self.count.passed += passed
        # What few requests tell is worth little: a bucket lets some through at any rate.
        trust = self.count.passed / (self.count.passed + _FEW)
        self.best = max(self.best, trust * self.count.per_second(now))
        return rate < _IN_VAIN * self.best or self.falls >= _MOST_FALLS


@dataclass(slots=True)
class Tolerance:
    """The refusals that are put up with.

    Attributes:
        share: of the last requests that were refused.

    """

    share: float = 0.0
    _way: float = 1.0
    _passed: int = 0
    _pauses: int = 0
    _until: float = 0.0
    _lasts: float = _FIRST_INDIFFERENCE

    def note(self, *, is_refused: bool) -> None:
        """Note an answer."""
        self.share += (is_refused - self.share) / _MEMORY
        self._passed += not is_refused

    def is_indifferent(self, now: float) -> bool:
        """Whether refusals have been found not to come from the rate, a while ago at most."""
        return now < self._until

    def puts_up_with(self, now: float) -> bool:
        """Note a pause; return whether its refusals are to be put up with."""
        self._pauses += 1
        if not self.is_indifferent(now):
            return self.share <= _TOLERABLE
        if self._pauses > _MOST_PAUSES + _TWICE * self._passed / self._way:
            self._until = 0.0
        return self.is_indifferent(now)

    def begin(self, now: float, way: float) -> None:
        """Put up with refusals, as long as hardly fewer requests pass between two of them than now."""
        self._way, self._passed, self._pauses = max(way, 1.0), 0, 0
        self._until = now + self._lasts
        self._lasts = min(2 * self._lasts, _LONGEST_INDIFFERENCE)

    def end(self) -> None:
        """Trust that refusals come from the rate: a slower one has ended them."""
        self._lasts = _FIRST_INDIFFERENCE
