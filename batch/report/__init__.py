"""The outcome file: one row for each row of the input, in its order, whole or not there at all."""

from batch.report.layout import (
    LEADING_COLUMNS,
    OUTCOME_COLUMNS,
    REPORT_COLUMNS,
    ReportFormat,
    recorded,
    report_format,
    timestamp,
)
from batch.report.reader import Report, open_report, read_summary
from batch.report.writer import ReportWriter, check_writable, remove_report

__all__ = [
    "LEADING_COLUMNS",
    "OUTCOME_COLUMNS",
    "REPORT_COLUMNS",
    "Report",
    "ReportFormat",
    "ReportWriter",
    "check_writable",
    "open_report",
    "read_summary",
    "recorded",
    "remove_report",
    "report_format",
    "timestamp",
]
