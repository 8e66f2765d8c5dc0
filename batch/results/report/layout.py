"""What an outcome file looks like: its columns, its forms, its times."""

from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from batch.errors import UsageError
from batch.model import Outcome, Record

LEADING_COLUMNS = ("row", "job")
OUTCOME_COLUMNS = (
    "outcome",
    "reason",
    "http_status",
    "error_code",
    "error_message",
    "request_id",
    "attempts",
    "started_at",
    "finished_at",
    "duration_ms",
)
REPORT_COLUMNS = LEADING_COLUMNS + OUTCOME_COLUMNS


class ReportFormat(StrEnum):
    """Forms of the outcome file, named by its suffix."""

    CSV = "csv"
    JSON = "json"
    JSONL = "jsonl"


def report_format(path: Path) -> ReportFormat:
    """Return the form that a file's name asks for.

    Raises:
        UsageError: the name ends otherwise.

    """
    try:
        return ReportFormat(path.suffix.lower().removeprefix("."))
    except ValueError:
        raise UsageError(f"{path}: the name of a report ends in .csv, .json or .jsonl") from None


def recorded(row: int, outcome: Outcome) -> Record:
    """Return what a report says of a row with this outcome."""
    result = outcome.result
    return Record(
        row,
        result.status,
        result.reason,
        result.http_status,
        result.error_code,
        result.error_message,
        result.request_id,
        outcome.attempts,
        timestamp(outcome.started_at),
        timestamp(outcome.finished_at),
        outcome.duration_ms,
    )


def timestamp(seconds: float | None) -> str | None:
    """Return a time as RFC 3339 in UTC with milliseconds."""
    return None if seconds is None else rfc3339(datetime.fromtimestamp(seconds, UTC))


def rfc3339(time: datetime) -> str:
    """Return a time that is in UTC as RFC 3339 with milliseconds."""
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
