"""Writing an outcome file."""

import contextlib
import csv
import hashlib
import io
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, Self

import orjson

from batch.disk import fitting
from batch.errors import OutputError
from batch.folder import Folder, unguessable
from batch.model import Dialect, Record
from batch.results.report.layout import (
    LEADING_COLUMNS,
    OUTCOME_COLUMNS,
    REPORT_COLUMNS,
    ReportFormat,
    report_format,
)
from batch.text import defused, defused_name

_SEPARATORS = frozenset(",;\t")
_DEFAULT_DIALECT = Dialect()
_DEFAULT_MODE = 0o666
_OWNER = 0o600
_FOR_OWNER_TO_WRITE = 0o644
TEMPORARY = ".tmp"
"""End of the names of the files that are written beside a report's place."""


class ReportWriter:
    """Writes an outcome file beside its place and moves it there when it is whole. A context manager.

    Leaving it before `commit` leaves nothing behind.

    Args:
        path: the file's place.
        job: name of the job.
        columns: the input's own columns.
        folder: the one that `path` is in, opened before; None to open it now.
        mark: part of the temporary file's name.
        dialect: how CSV is written.
        mode: permissions of the input, or None if it has none. Nobody else may read the report who may not
            read the input, or the report that this one replaces.

    Raises:
        OutputError: the folder takes no file.

    """

    def __init__(
        self,
        path: Path,
        job: str,
        columns: Sequence[str],
        *,
        folder: Folder | None = None,
        mark: str = "",
        dialect: Dialect = _DEFAULT_DIALECT,
        mode: int | None = None,
    ) -> None:
        self.path = path
        self.rows = 0
        self._job = job
        self._mode = mode
        form = report_format(path)
        try:
            self._folder = folder or Folder(path.parent)
            descriptor, self._temporary = _temporary(self._folder, path.name, mark)
        except OSError as error:
            raise _unwritable(path, error) from error
        # newline="" is csv's own wish; the writers end their lines themselves.
        self._file = open(descriptor, "w", encoding="utf-8", errors="backslashreplace", newline="")  # noqa: SIM115 - closed in __exit__
        self._form = _form(form, self._file, columns, dialect)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._file.close()
        with contextlib.suppress(OSError):
            self._folder.remove(self._temporary)

    def write(self, values: Sequence[Any], record: Record) -> None:
        """Add a row.

        Args:
            values: of the input's own columns.
            record: of the outcome.

        Raises:
            OutputError: the disk takes no more.

        """
        try:
            self._form.write(self._job, values, record)
        except OSError as error:
            raise _unwritable(self.path, error) from error
        self.rows += 1

    def finish(self) -> str:
        """Bring the whole file onto the disk, not yet to its place; return its SHA-256, in hex.

        Raises:
            OutputError: the disk takes no more.

        """
        try:
            self._form.end()
            self._file.flush()
            with contextlib.suppress(OSError):  # where a file system keeps no modes
                os.fchmod(self._file.fileno(), self._final_mode())
            os.fsync(self._file.fileno())
            with open(os.dup(self._file.fileno()), "rb") as file:
                file.seek(0)
                return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise _unwritable(self.path, error) from error

    def commit(self) -> None:
        """Move the finished file to its place.

        Raises:
            OutputError: it cannot be moved.

        """
        try:
            self._folder.replace(self.path.name, self._temporary)
            self._folder.sync()
        except OSError as error:
            raise _unwritable(self.path, error) from error
        if not self._folder.holds(self._file.fileno(), self.path.name):
            raise OutputError(f"{self.path}: somebody else has put another file there")

    def _final_mode(self) -> int:
        """Return the permissions of the input, or of one's own report that this one replaces.

        Another user's report says who may read this one too, but not who may write to it.
        """
        allowed = _DEFAULT_MODE if self._mode is None else _DEFAULT_MODE & self._mode | _OWNER
        if earlier := self._folder.own(self.path.name):
            return earlier.st_mode & allowed
        with contextlib.suppress(FileNotFoundError):
            allowed &= self._folder.stat(self.path.name).st_mode & _FOR_OWNER_TO_WRITE | _OWNER
        umask = os.umask(0o077)
        os.umask(umask)
        return allowed & ~umask


def remove_report(path: Path, folder: Folder) -> None:
    """Take an outcome file in a folder away, if there is one.

    Raises:
        OutputError: it cannot be removed.

    """
    try:
        folder.remove(path.name)
    except OSError as error:
        raise OutputError(f"{path}: cannot be removed: {error.strerror}") from error


class _Form(Protocol):
    def write(self, job: str, values: Sequence[Any], record: Record) -> None: ...
    def end(self) -> None: ...


class _Line:
    """What csv writes to: gives the line back."""

    def write(self, text: str) -> str:
        return text


class _CsvForm:
    def __init__(self, file: io.TextIOBase, columns: Sequence[str], dialect: Dialect) -> None:
        self._write = file.write
        self._width = len(columns)
        self._join = dialect.delimiter.join
        self._separator, self._line_end = dialect.delimiter, dialect.line_end
        self._separators = len(columns) + len(REPORT_COLUMNS) - 1
        self._other, self._another = _SEPARATORS - {dialect.delimiter}
        how: dict[str, Any] = {"delimiter": dialect.delimiter, "lineterminator": dialect.line_end}
        self._line = csv.writer(_Line(), **how).writerow
        self._quoted_line = csv.writer(_Line(), **how, quoting=csv.QUOTE_ALL).writerow
        if dialect.mark:
            self._write("\ufeff")
        self._put([*LEADING_COLUMNS, *map(defused_name, columns), *OUTCOME_COLUMNS])

    def write(self, job: str, values: Sequence[Any], record: Record) -> None:
        for value in values:
            if value.__class__ is not str:
                values = [each if isinstance(each, str) else _json_text(each) for each in values]
                break
        if len(values) < self._width:
            values = [*values, *[""] * (self._width - len(values))]
        row, status, reason, http_status, code, message, request_id, attempts, start, end, took = record
        cells = [
            *(str(row), job),
            *values,
            *(status.value, reason and defused(reason), "" if http_status is None else str(http_status)),
            *(code and defused(code), message and defused(message), request_id and defused(request_id)),
            *(str(attempts), start or "", end or "", "" if took is None else str(took)),
        ]
        self._put(cells)

    def _put(self, cells: list[str]) -> None:
        line = self._join(cells)
        # csv leaves a lone carriage return unquoted, and a spreadsheet may split at other separators too.
        if "\r" in line or self._other in line or self._another in line:
            self._write(self._quoted_line(cells))
        # Most rows need no quoting, and csv takes several times as long to find that out.
        elif line.count(self._separator) > self._separators or '"' in line or "\n" in line:
            self._write(self._line(cells))
        else:
            self._write(line + self._line_end)

    def end(self) -> None:
        """Nothing follows the last row."""


class _JsonlForm:
    def __init__(self, file: io.TextIOBase, columns: Sequence[str]) -> None:
        self._file = file
        self._columns = columns

    def write(self, job: str, values: Sequence[Any], record: Record) -> None:
        row, *told = record
        entry = {"row": row, "job": job}
        entry |= dict.fromkeys(self._columns)
        entry |= zip(self._columns, values, strict=False)
        entry |= zip(OUTCOME_COLUMNS, told, strict=True)
        self._file.write(_json_text(entry) + "\n")

    def end(self) -> None:
        """Nothing follows the last row."""


class _JsonForm(_JsonlForm):
    def __init__(self, file: io.TextIOBase, columns: Sequence[str]) -> None:
        super().__init__(file, columns)
        self._file.write("[\n")
        self._before = ""

    def write(self, job: str, values: Sequence[Any], record: Record) -> None:
        self._file.write(self._before)
        self._before = ","
        super().write(job, values, record)

    def end(self) -> None:
        self._file.write("]\n")


def _form(form: ReportFormat, file: io.TextIOBase, columns: Sequence[str], dialect: Dialect) -> _Form:
    if form is ReportFormat.CSV:
        return _CsvForm(file, columns, dialect)
    return _JsonForm(file, columns) if form is ReportFormat.JSON else _JsonlForm(file, columns)


def _json_text(value: Any) -> str:
    if value is None:
        return ""
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # a number beyond 64 bits, or half a surrogate pair
        return json.dumps(value)


def temporary_start(name: str, folder: Folder, mark: str = "") -> str:
    """Return how the names of the files begin that are written beside a report's place."""
    room = len(TEMPORARY) + len(unguessable())
    return fitting(folder.path, f".{name}.{mark}." if mark else f".{name}.", "", room=room).name


def _temporary(folder: Folder, name: str, mark: str) -> tuple[int, str]:
    """Make the file that is written beside a report's place; remove what killed runs have left there."""
    start = temporary_start(name, folder, mark)
    own = re.compile(f"{re.escape(start)}[0-9a-f]{{{len(unguessable())}}}{re.escape(TEMPORARY)}")
    for left in folder.names(start, TEMPORARY):
        if own.fullmatch(left) and folder.own(left):
            folder.remove(left)
    return folder.new(start, TEMPORARY)


def _unwritable(path: Path, error: OSError) -> OutputError:
    return OutputError(f"{path}: cannot be written: {error.strerror or error}")
