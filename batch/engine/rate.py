"""Rates as they are written: so many requests in so long, or one that is found on the way. Pure."""

import re
from dataclasses import dataclass

from batch.errors import UsageError

_UNITS = {
    **dict.fromkeys(("rps", "s", "sec", "second", "seconds"), 1.0),
    **dict.fromkeys(("rpm", "min", "minute", "minutes"), 60.0),
    **dict.fromkeys(("rph", "h", "hr", "hour", "hours"), 3600.0),
}
_RATE = re.compile(
    r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(?:\s*(rp[smh])|(?:\s*(?:r|req)?\s*/\s*|\s+per\s+)([a-z]+))?"
)


@dataclass(frozen=True, slots=True)
class Rate:
    """So many requests in so many seconds."""

    permits: float
    seconds: float = 1.0

    @property
    def per_second(self) -> float:
        """Requests a second."""
        return self.permits / self.seconds

    def __str__(self) -> str:
        unit = {1.0: "s", 60.0: "min", 3600.0: "h"}[self.seconds]
        return f"{self.permits:.12g}/{unit}"


@dataclass(frozen=True, slots=True)
class Auto:
    """A rate that is found while requests are sent.

    Attributes:
        most: never exceeded, or None.

    """

    most: Rate | None = None

    def __str__(self) -> str:
        return f"a rate found on the way, {self.most} at most" if self.most else "a rate found on the way"


def parse_rate(text: str, option: str = "--rate") -> Rate:
    """Read `20`, `20/s`, `600/min` or `5000/h`, also written `20rps` or `20 per second`.

    Raises:
        UsageError: it is none of these, or zero.

    """
    match = _RATE.fullmatch(text.strip().lower())
    seconds = _UNITS.get(match[2] or match[3] or "s") if match else None
    if match is None or seconds is None or float(match[1]) <= 0:
        raise UsageError(
            f"{option} {text!r}: write a number above zero and a unit, as 20/s, 600/min or 5000/h"
        )
    return Rate(float(match[1]), seconds)


def parse_pace(rate: str, most: str | None) -> Rate | Auto:
    """Read a rate or `auto`, and the most that it may find.

    Raises:
        UsageError: one of them is not understood, or a fixed rate has a bound.

    """
    if rate.strip().lower() == "auto":
        return Auto(parse_rate(most, "--max-rate") if most else None)
    if most:
        raise UsageError("--max-rate bounds what --rate auto finds: use it with --rate auto only")
    return parse_rate(rate)
