"""The service's bad days: what goes wrong, how often, and the gateway's rate limit. Pure."""

import math
import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Self

_UNITS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
_UNIT_WORDS = {
    "s": 1,
    "sec": 1,
    "m": 60,
    "min": 60,
    "h": 3600,
    "d": 86400,
    **_UNITS,
}

# Whether the request is applied although its answer is spoiled; where both are named, a coin decides.
_APPLIED: dict[str, tuple[bool, ...]] = {
    "error_before": (False,),
    "error_after": (True,),
    "bad_gateway": (False, True),
    "flow_limit": (False,),
    "drop_before": (False,),
    "drop_after": (True,),
    "silence": (False, True),
}


class RateLimit(NamedTuple):
    """So many calls in each window.

    Attributes:
        permits: calls in a window.
        seconds: length of a window.

    """

    permits: int
    seconds: int

    def __str__(self) -> str:
        """Return the limit in the gateway's words: `limit:5,time:1 minute`."""
        unit, length = max(
            ((unit, length) for unit, length in _UNITS.items() if self.seconds % length == 0),
            key=lambda candidate: candidate[1],
        )
        return f"limit:{self.permits},time:{self.seconds // length} {unit}"


def parse_rate_limit(text: str) -> RateLimit:
    """Read a limit such as `50/s`, `600/min` or `5/hour`.

    Raises:
        ValueError: it is not of that form.

    """
    match = re.fullmatch(r"([0-9]{1,9})/([a-z]+)", text.strip().lower())
    if match is None or match[2] not in _UNIT_WORDS or not int(match[1]):
        raise ValueError(f"rate limit {text!r}: expected a number of calls per s, min, hour or day, as 50/s")
    return RateLimit(int(match[1]), _UNIT_WORDS[match[2]])


class FixedWindow:
    """A limit that starts afresh when its window ends; the next call then opens the next window."""

    def __init__(self, limit: RateLimit, clock: Callable[[], float]) -> None:
        self._limit = limit
        self._clock = clock
        self._ends = -math.inf
        self._left = 0

    def wait(self) -> float:
        """Use up a permit and return 0, or return the seconds to the end of the window."""
        now = self._clock()
        if now >= self._ends:
            self._ends = now + self._limit.seconds
            self._left = self._limit.permits
        if not self._left:
            return self._ends - now
        self._left -= 1
        return 0.0


class Fault(NamedTuple):
    """What befalls a request.

    Attributes:
        name: field of `Faults` that it was drawn for.
        applied: whether the request has its effect all the same.

    """

    name: str
    applied: bool


@dataclass(frozen=True, kw_only=True)
class Faults:
    """What goes wrong, and how often. The probabilities exclude one another: their sum is at most 1.

    Attributes:
        latency: seconds that every answer takes.
        rate_limit: the gateway's limit, or None.
        retry_after: whether the gateway tells how long to wait when the limit is exceeded.
        error_before: probability of a 500 that did nothing.
        error_after: probability of a 500 although the request was applied.
        bad_gateway: probability of a 502 with a page of HTML, applied or not.
        flow_limit: probability of a 202 that says `Common.0024` and did nothing.
        drop_before: probability of a connection that is closed with nothing done.
        drop_after: probability of a connection that is closed after the request was applied.
        silence: probability of no answer at all on a connection that stays open, applied or not.

    """

    latency: float = 0.0
    rate_limit: RateLimit | None = None
    retry_after: bool = False
    error_before: float = 0.0
    error_after: float = 0.0
    bad_gateway: float = 0.0
    flow_limit: float = 0.0
    drop_before: float = 0.0
    drop_after: float = 0.0
    silence: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.latency < math.inf:
            raise ValueError(f"latency {self.latency}: expected a number of seconds, 0 or more")
        for name in _APPLIED:
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{_option(name)} {getattr(self, name)}: expected a probability from 0 to 1")
        total = math.fsum(getattr(self, name) for name in _APPLIED)
        if round(total, 9) > 1:
            raise ValueError(f"the probabilities of all faults add up to {total:g}, more than 1")

    @classmethod
    def parse(
        cls,
        options: Iterable[str],
        *,
        latency: float = 0.0,
        rate_limit: RateLimit | None = None,
        retry_after: bool = False,
    ) -> Self:
        """Build from options such as `error-before=0.05`.

        Raises:
            ValueError: an option is unknown, given twice, or no probability.

        """
        probabilities: dict[str, float] = {}
        for option in options:
            name, _, value = option.partition("=")
            field = _field(name.strip(), _APPLIED)
            if field in probabilities:
                raise ValueError(f"fault {option!r}: {name.strip()} is given twice")
            try:
                probabilities[field] = float(value)
            except ValueError:
                raise ValueError(f"fault {option!r}: expected NAME=PROBABILITY, as {name}=0.05") from None
        return cls(latency=latency, rate_limit=rate_limit, retry_after=retry_after, **probabilities)

    @classmethod
    def from_json(cls, content: Any) -> Self:
        """Build from a decoded JSON object; names with dashes or underscores, the rate limit as `50/s`.

        Raises:
            ValueError: it is no object, or something in it is unknown or wrong.

        """
        if not isinstance(content, dict):
            raise ValueError("faults: expected an object")  # noqa: TRY004 - wrong input, not a wrong call
        values: dict[str, Any] = {}
        for name, value in content.items():
            field = _field(name, ("latency", "rate_limit", "retry_after", *_APPLIED))
            values[field] = _checked(name, field, value)
        return cls(**values)

    def draw(self, chance: float) -> Fault | None:
        """Return what befalls a request that drew `chance`, at least 0 and below 1."""
        bounds, faults = self._bands
        return faults[bisect_right(bounds, chance)]

    @cached_property
    def _bands(self) -> tuple[list[float], list[Fault | None]]:
        bounds: list[float] = []
        faults: list[Fault | None] = []
        reached = 0.0
        for name, choices in _APPLIED.items():
            for applied in choices:
                reached += getattr(self, name) / len(choices)
                bounds.append(reached)
                faults.append(Fault(name, applied))
        return bounds, [*faults, None]


NO_FAULTS = Faults()


def _option(field: str) -> str:
    return field.replace("_", "-")


def _field(name: str, known: Iterable[str] | Mapping[str, object]) -> str:
    field = name.replace("-", "_")
    if field not in known:
        raise ValueError(f"fault {name!r} is unknown; known are {', '.join(map(_option, known))}")
    return field


def _checked(name: str, field: str, value: Any) -> Any:
    if field == "rate_limit":
        if value is None:
            return None
        if isinstance(value, str):
            return parse_rate_limit(value)
        raise ValueError(f"{name}: expected a limit such as 50/s, or null")
    if field == "retry_after":
        if isinstance(value, bool):
            return value
        raise ValueError(f"{name}: expected true or false")
    if type(value) in (int, float):
        return value
    raise ValueError(f"{name}: expected a number")
