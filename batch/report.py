"""The outcome file: one row for each row of the input, in its order, whole or not there at all."""

import contextlib
import csv
import io
import json
import os
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol, Self

import orjson

from batch.errors import InputUnusableError, OutputError, UsageError
from batch.job import Column
from batch.model import Outcome, Status
from batch.source import open_source
from batch.summary import Summary
from batch.text import defused, printable

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

_SPECIAL = re.compile("[\r;\t]")
_SUMMED_COLUMNS = (
    Column("job"),
    Column("outcome"),
    Column("reason"),
    Column("attempts", numeric=True),
    Column("started_at"),
    Column("finished_at"),
)


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


class ReportWriter:
    """Writes an outcome file beside its place and moves it there when it is whole. A context manager.

    Leaving it before `commit` leaves nothing behind.

    Args:
        path: the file's place.
        job: name of the job.
        columns: the input's own columns.

    Raises:
        OutputError: the folder takes no file.

    """

    def __init__(self, path: Path, job: str, columns: Sequence[str]) -> None:
        self.path = path
        self.rows = 0
        self._job = job
        form = report_format(path)
        try:
            descriptor, self._temporary = _temporary(path)
        except OSError as error:
            raise _unwritable(path, error) from error
        # newline="" is csv's own wish; the writers end their lines themselves.
        self._file = open(descriptor, "w", encoding="utf-8", errors="backslashreplace", newline="")  # noqa: SIM115 - closed in __exit__
        self._form = _FORMS[form](self._file, columns)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._file.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._temporary)

    def write(self, row: int, values: Sequence[Any], outcome: Outcome) -> None:
        """Add a row.

        Raises:
            OutputError: the disk takes no more.

        """
        result = outcome.result
        try:
            self._form.write(
                (row, self._job),
                values,
                (
                    result.status.value,
                    result.reason,
                    result.http_status,
                    result.error_code,
                    result.error_message,
                    result.request_id,
                    outcome.attempts,
                    timestamp(outcome.started_at),
                    timestamp(outcome.finished_at),
                    outcome.duration_ms,
                ),
            )
        except OSError as error:
            raise _unwritable(self.path, error) from error
        self.rows += 1

    def commit(self) -> None:
        """Put the whole file in its place, on disk.

        Raises:
            OutputError: the disk takes no more.

        """
        try:
            self._form.end()
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            os.replace(self._temporary, self.path)
            folder = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise _unwritable(self.path, error) from error


def check_writable(path: Path) -> None:
    """Find out before a run whether a report can be put at `path`.

    Raises:
        OutputError: it cannot.
        UsageError: its name asks for no known form.

    """
    report_format(path)
    try:
        if path.is_dir():
            raise OutputError(f"{path}: cannot be written: it is a directory")
        descriptor, name = _temporary(path)
        os.close(descriptor)
        os.unlink(name)
    except OSError as error:
        raise _unwritable(path, error) from error


def read_summary(path: str) -> Summary:
    """Sum up an outcome file of any form.

    Raises:
        InputMissingError: there is no such file.
        InputUnusableError: it is no outcome file.

    """
    summary = Summary()
    with open_source(path, format=None, columns=_SUMMED_COLUMNS) as source:
        for row in source.rows():
            where = f"{source.name}, line {row.line}"
            if row.problem:
                raise InputUnusableError(f"{where}: {row.problem}")
            job, outcome, reason, attempts, started_at, finished_at = row.cells
            try:
                status, sent = Status(outcome), int(attempts or 0)
                for time in filter(None, (started_at, finished_at)):
                    if datetime.fromisoformat(time).utcoffset() is None:
                        raise ValueError(f"the time {time!r} has no zone")  # noqa: TRY301 - told with the others
            except ValueError as error:
                raise InputUnusableError(f"{where}: not a row of a report: {printable(str(error))}") from None
            summary.job = summary.job or printable(job, 40)
            summary.add(status, printable(reason, 40), sent, started_at, finished_at)
    return summary


def timestamp(seconds: float | None) -> str | None:
    """Return a time as RFC 3339 in UTC with milliseconds."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class _Form(Protocol):
    def write(self, lead: Sequence[Any], own: Sequence[Any], outcome: Sequence[Any]) -> None: ...
    def end(self) -> None: ...


class _CsvForm:
    def __init__(self, file: io.TextIOBase, columns: Sequence[str]) -> None:
        self._width = len(columns)
        self._writer = csv.writer(file, lineterminator="\n")
        self._quoting_writer = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)
        self._writer.writerow([*LEADING_COLUMNS, *columns, *OUTCOME_COLUMNS])

    def write(self, lead: Sequence[Any], own: Sequence[Any], outcome: Sequence[Any]) -> None:
        padding = [None] * (self._width - len(own))
        texts = [value if isinstance(value, str) else _json_text(value) for value in own]
        told = [defused(cell) if isinstance(cell, str) else cell for cell in outcome]
        # csv leaves a lone carriage return unquoted, and a spreadsheet may split at semicolons and tabs.
        special = _SPECIAL.search("".join([*texts, *[cell for cell in told if isinstance(cell, str)]]))
        writer = self._quoting_writer if special else self._writer
        writer.writerow([*lead, *texts, *padding, *told])

    def end(self) -> None:
        """Nothing follows the last row."""


class _JsonlForm:
    def __init__(self, file: io.TextIOBase, columns: Sequence[str]) -> None:
        self._file = file
        self._columns = columns

    def write(self, lead: Sequence[Any], own: Sequence[Any], outcome: Sequence[Any]) -> None:
        record = dict(zip(LEADING_COLUMNS, lead, strict=True))
        record |= dict.fromkeys(self._columns)
        record |= zip(self._columns, own, strict=False)
        record |= zip(OUTCOME_COLUMNS, outcome, strict=True)
        self._file.write(_json_text(record) + "\n")

    def end(self) -> None:
        """Nothing follows the last row."""


class _JsonForm(_JsonlForm):
    def __init__(self, file: io.TextIOBase, columns: Sequence[str]) -> None:
        super().__init__(file, columns)
        self._before = "[\n"

    def write(self, lead: Sequence[Any], own: Sequence[Any], outcome: Sequence[Any]) -> None:
        self._file.write(self._before)
        self._before = ","
        super().write(lead, own, outcome)

    def end(self) -> None:
        self._file.write("]\n")


_FORMS: dict[ReportFormat, Callable[[io.TextIOBase, Sequence[str]], _Form]] = {
    ReportFormat.CSV: _CsvForm,
    ReportFormat.JSON: _JsonForm,
    ReportFormat.JSONL: _JsonlForm,
}


def _json_text(value: Any) -> str:
    if value is None:
        return ""
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # a number beyond 64 bits, or half a surrogate pair
        return json.dumps(value)


def _temporary(path: Path) -> tuple[int, str]:
    """Open the file beside a report's place; one that a killed run left there is used again."""
    name = path.with_name(f".{path.name}.tmp")
    descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    with contextlib.suppress(FileNotFoundError):
        os.fchmod(descriptor, path.stat().st_mode & 0o777)  # as private as the report that it replaces
    return descriptor, str(name)


def _unwritable(path: Path, error: OSError) -> OutputError:
    return OutputError(f"{path}: cannot be written: {error.strerror or error}")
