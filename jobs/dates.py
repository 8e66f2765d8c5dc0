"""Dates as the services write them, in headers and in bodies. Pure."""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


def http_date(text: str) -> datetime | None:
    """Return the time that a header such as `Date` names, or None if it names none.

    A date without a zone, as one that ends in `-0000`, is in UTC: HTTP has no local times.
    """
    try:
        return _in_utc(parsedate_to_datetime(text))
    except (OverflowError, TypeError, ValueError):
        return None


def iso_date(text: str) -> datetime | None:
    """Return the time that an RFC 3339 text names, or None if it names none. Without a zone it is in UTC."""
    try:
        return _in_utc(datetime.fromisoformat(text.strip()))
    except ValueError:
        return None


def _in_utc(date: datetime) -> datetime:
    return date if date.tzinfo else date.replace(tzinfo=UTC)
