"""The outcome file: one row for each row of the input, in its order, whole or not there at all."""

from batch.results.report.layout import (
    LEADING_COLUMNS,
    OUTCOME_COLUMNS,
    REPORT_COLUMNS,
    ReportFormat,
    recorded,
    report_format,
    timestamp,
)
from batch.results.report.place import Place, check_writable, followed, look_at, previous, set_aside, unused
from batch.results.report.reader import Report, open_report, read_summary
from batch.results.report.writer import ReportWriter, remove_report

__all__ = [
    "LEADING_COLUMNS",
    "OUTCOME_COLUMNS",
    "REPORT_COLUMNS",
    "Place",
    "Report",
    "ReportFormat",
    "ReportWriter",
    "check_writable",
    "followed",
    "look_at",
    "open_report",
    "previous",
    "read_summary",
    "recorded",
    "remove_report",
    "report_format",
    "set_aside",
    "timestamp",
    "unused",
]
