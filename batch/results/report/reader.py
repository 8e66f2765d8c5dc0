"""Reading an outcome file back: its rows with what it says of each."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from functools import partial
from operator import itemgetter
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from batch.errors import InputUnusableError
from batch.input import Format, Origin, Source, open_source
from batch.input.names import folded
from batch.job import Column, RowError
from batch.model import Dialect, Record, Row
from batch.results.report.cells import bare
from batch.results.report.layout import REPORT_COLUMNS
from batch.results.report.records import as_written, edited, label_of
from batch.results.summary import Summary
from batch.text import printable

_REQUIRED = frozenset({"job", "outcome"})
_COLUMNS = tuple(Column(name, name in _REQUIRED, lenient=name not in _REQUIRED) for name in REPORT_COLUMNS)
_JOB, _OUTCOME = map(REPORT_COLUMNS.index, ("job", "outcome"))

Select = Callable[[Record], Record | None]
"""Says of a row what a run shall take to be its earlier outcome, or None where it shall not take the row."""

IsSound = Callable[[Sequence[str]], bool]
"""Whether a row can be sent, by its cells of the columns that a job asks for."""


def _every(record: Record) -> Record:
    return record


def _always(_cells: Sequence[str]) -> bool:
    return True


class Report:
    """An open outcome file as the input of another run. Close it, or use it as a context manager.

    Rows are numbered anew by their place among those selected; their labels are those of the file.

    Attributes:
        job: name of the job that all its rows are of; empty if there are no rows.

    """

    def __init__(
        self, source: Source, columns: int, select: Select, jobs: Collection[str], is_sound: IsSound
    ) -> None:
        self._source = source
        self._columns = columns
        self._select = select
        self._is_sound = is_sound
        self.job = self._job(jobs)

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
    def dialect(self) -> Dialect:
        """How it is written if it is CSV; else how CSV is written by default."""
        return self._source.dialect

    @property
    def mode(self) -> int | None:
        """Permissions of a regular file, or None for standard input or a pipe."""
        return self._source.mode

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
                raise self._unusable(row, problem)
            try:
                record = as_written(place, cells[columns:], job)
            except (KeyError, ValueError):
                record = self._edited(row)
            earlier = select(record)
            if earlier is not None:
                number += 1
                yield new(Row, (number, line, cells[:columns], own(values), "", earlier))

    def _job(self, jobs: Collection[str]) -> str:
        """Return the job of the first row that names one.

        Raises:
            InputUnusableError: no row names one, or no object of a JSON file has an outcome.

        """
        row, job = None, ""
        for row in self._source.rows():
            if row.problem:
                raise self._unusable(row, row.problem)
            told = row.cells[self._columns :]
            job = job or bare(told[_JOB]).lower()
            if job and told[_OUTCOME]:
                return job
        if row is None:
            return ""
        if "outcome" not in map(folded, self._source.columns):
            raise InputUnusableError(f"{self.name}: column outcome is missing, so this is not a report")
        if not job:
            names = f"one of {', '.join(jobs)}" if jobs else "the name of its job"
            raise InputUnusableError(
                f"{self.name}: column job is empty in every row, so it is not known what the rows are for; "
                f"if this is a report, fill it with {names}"
            )
        return job

    def _edited(self, row: Row) -> Record:
        asked, told = row.cells[: self._columns], row.cells[self._columns :]
        try:
            return edited(row.number, told, self.job, partial(self._is_sound, asked))
        except RowError as error:
            raise self._unusable(row, f"{error.column}: {error}") from None

    def _unusable(self, row: Row, text: str) -> InputUnusableError:
        label = label_of(row.cells[self._columns :]) or row.number
        return InputUnusableError(
            f"{self.name}, line {row.line} (row {label}): not a row of a report: {text}"
        )


def _own(columns: Sequence[str]) -> Callable[[Sequence[Any]], Sequence[Any]]:
    """Return a function that takes the input's own values from among a report's."""
    places = [place for place, name in enumerate(columns) if name.lower() not in REPORT_COLUMNS]
    if len(places) > 1:
        return itemgetter(*places)
    return lambda values: [values[place] for place in places]


def open_report(
    path: str,
    columns: Sequence[Column] = (),
    select: Select = _every,
    *,
    jobs: Collection[str] = (),
    is_sound: IsSound = _always,
    spool: Path | None = None,
    is_found: bool = False,
) -> Report:
    """Open an outcome file of any form.

    Args:
        path: where it is, or `-` for standard input.
        columns: the columns that a job asks for.
        select: which of its rows to take.
        jobs: names of the jobs that there are, for the message that a report lacks one.
        is_sound: whether a row without an outcome can be sent, by its cells of `columns`.
        spool: the folder for a copy of standard input where the system has none for temporary files.
        is_found: whether it was come across, and not named by the user.

    Raises:
        InputMissingError: it is not there, or may not be read.
        InputUnusableError: it is no outcome file.

    """
    origin = Origin.FOUND if is_found else Origin.REPORT
    # Spreadsheets leave rows of empty cells behind the last.
    source = open_source(path, format=None, columns=(*columns, *_COLUMNS), origin=origin, spool=spool)
    try:
        return Report(source, len(columns), select, jobs, is_sound)
    except BaseException:
        source.close()
        raise


def read_summary(
    path: str,
    columns: Sequence[Column] = (),
    *,
    jobs: Collection[str] = (),
    is_sound: IsSound = _always,
) -> Summary:
    """Sum up an outcome file of any form.

    Args:
        path: where it is, or `-` for standard input.
        columns: the columns by which `is_sound` judges a row; none has to be there.
        jobs: names of the jobs that there are, for the message that a report lacks one.
        is_sound: whether a row without an outcome could be sent.

    Raises:
        InputMissingError: there is no such file.
        InputUnusableError: it is no outcome file.

    """
    wanted = [replace(column, required=False) for column in columns]
    with open_report(path, wanted, jobs=jobs, is_sound=is_sound) as report:
        summary = Summary(printable(report.job, 40))
        for row in report.rows():
            assert row.earlier is not None
            summary.add(row.earlier)
    return summary
