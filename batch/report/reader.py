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
            if len(known) != len(row.values):
                known = self._source.columns[: len(row.values)]
                own = _own(known)
            _, line, cells, values, problem, _ = row
            if problem:
                raise self._unusable(line, problem)
            if cells[columns + 1] != job:
                raise self._unusable(line, f"job: {quoted(cells[columns + 1])} after {quoted(job)}")
            earlier = select(self._record(row.number, line, cells[columns:]))
            if earlier is not None:
                number += 1
                yield new(Row, (number, line, cells[:columns], own(values), "", earlier))

    def _job(self) -> str:
        for row in self._source.rows():
            if row.problem:
                raise self._unusable(row.line, row.problem)
            return row.cells[self._columns + 1]
        return ""

    def _record(self, number: int, line: int, cells: Sequence[str]) -> Record:
        row, _, outcome, reason, http_status, code, message, request_id, attempts, *times, took = cells
        try:
            status = _STATUSES.get(outcome)
            if status is None:
                raise ValueError(f"outcome: {quoted(outcome)} is none")  # noqa: TRY301 - told with the others
            return Record(
                int(row) if row else number,
                status,
                reason,
                int(http_status) if http_status else None,
                code,
                message,
                request_id,
                int(attempts or 0),
                _time("started_at", times[0]),
                _time("finished_at", times[1]),
                int(took) if took else None,
            )
        except ValueError as error:
            fields = {"row": row, "http_status": http_status, "attempts": attempts, "duration_ms": took}
            wrong = next((name for name, text in fields.items() if text and not _is_number(text)), "")
            text = f"{wrong}: {quoted(fields[wrong])} is not a number" if wrong else printable(str(error))
            raise self._unusable(line, text) from None

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
    source = open_source(path, format=None, columns=(*columns, *_COLUMNS))
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


_STATUSES = {status.value: status for status in Status}


def _time(column: str, text: str) -> str | None:
    if not text:
        return None
    try:
        is_sound = datetime.fromisoformat(text).utcoffset() is not None
    except ValueError:
        is_sound = False
    if not is_sound:
        raise ValueError(f"{column}: {quoted(text)} is not a time with its zone")
    return text


def _is_number(text: str) -> bool:
    try:
        int(text)
    except ValueError:
        return False
    return True


def _own(columns: Sequence[str]) -> Callable[[Sequence[Any]], Sequence[Any]]:
    """Return a function that takes the input's own values from among a report's."""
    places = [place for place, name in enumerate(columns) if name.lower() not in REPORT_COLUMNS]
    if len(places) > 1:
        return itemgetter(*places)
    return lambda values: [values[place] for place in places]
