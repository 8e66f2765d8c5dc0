"""Durations as they are written: `30`, `90s`, `5m`, `1h30m`. Pure."""

import re

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SPELLINGS = {
    "": "s",
    **dict.fromkeys(("sec", "secs", "second", "seconds"), "s"),
    **dict.fromkeys(("min", "mins", "minute", "minutes"), "m"),
    **dict.fromkeys(("hr", "hrs", "hour", "hours"), "h"),
    **dict.fromkeys(("day", "days"), "d"),
}
_NUMBER = r"[0-9]{1,9}(?:\.[0-9]{1,9})?"
_ONE = re.compile(rf"({_NUMBER})\s*([a-z]*)\s*")
_ALL = re.compile(rf"{_NUMBER}|(?:{_NUMBER}\s*[a-z]+\s*)+")


def seconds_in(text: str) -> float | None:
    """Return the seconds of a duration, or None if the text is none.

    A number alone is in seconds; with units there may be several, as in `1h30m`.
    """
    text = text.strip().lower()
    if not _ALL.fullmatch(text):
        return None
    total = 0.0
    for number, spelling in _ONE.findall(text):
        unit = _SPELLINGS.get(spelling, spelling)
        if unit not in _UNITS:
            return None
        total += float(number) * _UNITS[unit]
    return total
