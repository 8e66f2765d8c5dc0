"""What the cells of a report say after a spreadsheet, a data frame or a hand has changed them. Pure.

What is not certain is not guessed: it counts as nothing.
"""

import re
from datetime import UTC, datetime, timedelta

from batch.results.report.layout import rfc3339

NOTHING = frozenset(
    (
        "",
        *("NULL", "Null", "null", "None", "none"),
        *("NaN", "nan", "NaT", "NA", "<NA>", "N/A", "n/a", "#N/A"),
    )
) | {"\\N"}
"""What databases, data frames and spreadsheets write where there is nothing."""

MOST_DIGITS = 15
"""Digits of the longest number that a report holds: a spreadsheet and JSON keep all of them."""

_UNSEEN = "\u200b\u200c\u200d\u2060\ufeff"
_TRUTH_VALUES = {"true": 1, "false": 0}

_PLAIN = re.compile(r"([0-9]+)(?:[.,](0+))?")
# Thousands apart, by the same sign everywhere, and then perhaps decimals behind another sign.
_GROUPED = re.compile(
    r"([1-9][0-9]{0,2})([.,' \u2019\u00a0\u2009\u202f])([0-9]{3})((?:\2[0-9]{3})*)((?!\2)[.,]0+)?"
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Milliseconds, microseconds or nanoseconds of any day from 2001 to 2286: the number of digits tells which.
_SINCE_EPOCH = re.compile(r"([0-9]{13})(?:[0-9]{3}){0,2}(?:[.,][0-9]+)?")
_NAMED_UTC = re.compile(r" ?(?:Z|UTC|GMT)\Z")


def bare(cell: str) -> str:
    """Return a cell without what tools put around a value, and empty if it says that there is none.

    Tools put there blanks, an apostrophe, or `="..."`.
    """
    if cell.isalnum():
        return "" if cell in NOTHING else cell
    text = cell.strip().strip(_UNSEEN).strip()
    if text.startswith('="') and text.endswith('"'):
        text = text[2:-1].strip()
    text = text.removeprefix("'").lstrip()
    return "" if text in NOTHING else text


def whole_number(cell: str) -> int | None:
    """Return the number that is written as `204`, `204.0`, `204,0`, `1'204`, `1.204,00` or `True`.

    As a report holds whole numbers only, `1,204` is 1204. But `1,000` may be 1 as well, and is nothing.
    """
    text = bare(cell)
    if text.lower() in _TRUTH_VALUES:
        return _TRUTH_VALUES[text.lower()]
    digits = _digits(text)
    return int(digits) if 0 < len(digits) <= MOST_DIGITS else None


def moment(cell: str) -> str | None:
    """Return a time in the form that a report has, or None.

    Understood are times with their zone as ISO 8601 has them, and the time since 1970 in milliseconds,
    microseconds or nanoseconds. Without a zone it is not known which time is meant, and day and month cannot
    be told apart in what a spreadsheet shows.
    """
    text = bare(cell)
    try:
        if since := _SINCE_EPOCH.fullmatch(text):
            return rfc3339(_EPOCH + timedelta(milliseconds=int(since[1])))
        time = datetime.fromisoformat(_NAMED_UTC.sub("+00:00", text))
        return rfc3339(time.astimezone(UTC)) if time.tzinfo else None
    except (ValueError, OverflowError):
        return None


def _digits(text: str) -> str:
    """Return the digits of a whole number, or nothing if it is none or could be one of two."""
    if grouped := _GROUPED.fullmatch(text):
        head, sign, group, more, decimals = grouped.groups()
        if group == "000" and sign in ".," and not more and not decimals:
            return ""
        return head + group + more.replace(sign, "")
    plain = _PLAIN.fullmatch(text)
    return plain[1] if plain else ""
