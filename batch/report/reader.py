"""Reading an outcome file back: its rows with what it says of each."""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from operator import itemgetter
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from batch.errors import InputUnusableError
from batch.job import Column
from batch.model import Record, Row, Status
from batch.report.layout import REPORT_COLUMNS
from batch.source import Format, Source, open_source
from batch.summary import Summary
from batch.text import printable, quoted

_NUMERIC = frozenset({"row", "http_status", "attempts", "duration_ms"})
_REQUIRED = frozenset({"job", "outcome"})
_COLUMNS = tuple(Column(name, name in _REQUIRED, numeric=name in _NUMERIC) for name in REPORT_COLUMNS)

Select = Callable[[Record], Record | None]
"""Says of a row what a run shall take to be its earlier outcome, or None where it shall not take the row."""


class Report:
    """An open outcome file as the input of another run. Close it, or use it as a context manager.

    Rows are numbered anew by their place among those selected; their labels are those of the file.

    Attributes:
        job: name of the job that all its rows are of.

    """

    def __init__(self, source: Source, columns: int, select: Select) -> None:
        self._source = source
        self._columns = columns
        self._select = select
        self.job = self._job()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._source.close()

    @property
    def name(self) -> str:
        """What messages call it."""
        return self._source.name

    @property
    def format(self) -> Format:
        """How it is written."""
        return self._source.format

    @property
    def sha256(self) -> str:
        """SHA-256 of its bytes, in hex."""
        return self._source.sha256

    @property
    def columns(self) -> list[str]:
        """Names of the input's own columns."""
        return [name for name in self._source.columns if name.lower() not in REPORT_COLUMNS]

    @property
    def dropped(self) -> list[str]:
        """No column is dropped: what is not the input's own is the earlier outcome."""
        return []

    def is_at(self, path: Path) -> bool:
        """Whether it is the very file that is there now."""
        return self._source.is_at(path)

    def rows(self) -> Iterator[Row]:
        """Return an iterator over the rows selected; each call is a pass of its own.

        Raises:
            InputUnusableError: the file is no outcome file, or was changed since it was opened.

        """
        known: list[str] = []
        own: Callable[[Sequence[Any]], Sequence[Any]] = tuple
        number = 0
        columns, select, job = self._columns, self._select, self.job
        new = tuple.__new__
        for row in self._source.rows():
            place, line, cells, values, problem, _ = row
            if len(known) != len(values):
                known = self._source.columns[: len(values)]
                own = _own(known)
            if problem:
                raise self._unusable(line, problem)
            try:
                record = _record(place, cells[columns:], job)
            except (KeyError, ValueError):
                raise self._unusable(line, _problem(cells[columns:], job)) from None
            earlier = select(record)
            if earlier is not None:
                number += 1
                yield new(Row, (number, line, cells[:columns], own(values), "", earlier))

    def _job(self) -> str:
        for row in self._source.rows():
            if row.problem:
                raise self._unusable(row.line, row.problem)
            if job := row.cells[self._columns + 1]:
                return job
            raise self._unusable(row.line, "job is missing")
        return ""

    def _unusable(self, line: int, text: str) -> InputUnusableError:
        return InputUnusableError(f"{self.name}, line {line}: not a row of a report: {text}")


def open_report(path: str, columns: Sequence[Column] = (), select: Select = lambda record: record) -> Report:
    """Open an outcome file of any form.

    Args:
        path: where it is, or `-` for standard input.
        columns: the columns that a job asks for.
        select: which of its rows to take.

    Raises:
        InputMissingError: it is not there, or may not be read.
        InputUnusableError: it is no outcome file.

    """
    # Spreadsheets leave rows of empty cells behind the last.
    source = open_source(path, format=None, columns=(*columns, *_COLUMNS), skip_empty=True)
    try:
        return Report(source, len(columns), select)
    except BaseException:
        source.close()
        raise


def read_summary(path: str) -> Summary:
    """Sum up an outcome file of any form.

    Raises:
        InputMissingError: there is no such file.
        InputUnusableError: it is no outcome file.

    """
    with open_report(path) as report:
        summary = Summary(printable(report.job, 40))
        for row in report.rows():
            assert row.earlier is not None
            summary.add(row.earlier)
    return summary


_LONGEST_NUMBERS = 54
_STATUSES = {status.value: status for status in Status}

# A named tuple's own constructor is a function in Python, and takes twice the time.
_new_record = tuple.__new__


def _record(place: int, cells: Sequence[str], job: str) -> Record:
    row, of, outcome, reason, http_status, code, message, request_id, attempts, start, end, took = cells
    if (
        of != job
        or len(row) + len(attempts) + len(took) > _LONGEST_NUMBERS
        or (start and _has_no_zone(start))
        or (end and _has_no_zone(end))
    ):
        raise ValueError
    return _new_record(
        Record,
        (
            int(row) if row else place,
            _STATUSES[outcome],
            reason,
            int(http_status) if http_status else None,
            code,
            message,
            request_id,
            int(attempts) if attempts else 0,
            start or None,
            end or None,
            int(took) if took else None,
        ),
    )


def _has_no_zone(time: str) -> bool:
    return datetime.fromisoformat(time).tzinfo is None


def _problem(cells: Sequence[str], job: str) -> str:
    """Say what is wrong with a row that makes no record."""
    texts = dict(zip(REPORT_COLUMNS, cells, strict=True))
    if texts["job"] != job:
        return f"job: {quoted(texts['job'])} after {quoted(job)}"
    if texts["outcome"] not in _STATUSES:
        return f"outcome: {quoted(texts['outcome'])} is none"
    for name in sorted(_NUMERIC):
        try:
            is_number = abs(int(texts[name] or 0)) < 10**18
        except ValueError:
            is_number = False
        if not is_number:
            return f"{name}: {quoted(texts[name])} is not a number"
    wrong = "finished_at" if _is_time(texts["started_at"]) else "started_at"
    return f"{wrong}: {quoted(texts[wrong])} is not a time with its zone"


def _is_time(text: str) -> bool:
    try:
        return not text or not _has_no_zone(text)
    except ValueError:
        return False


def _own(columns: Sequence[str]) -> Callable[[Sequence[Any]], Sequence[Any]]:
    """Return a function that takes the input's own values from among a report's."""
    places = [place for place, name in enumerate(columns) if name.lower() not in REPORT_COLUMNS]
    if len(places) > 1:
        return itemgetter(*places)
    return lambda values: [values[place] for place in places]
