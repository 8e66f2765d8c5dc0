"""Writing an outcome file."""

import contextlib
import csv
import hashlib
import io
import json
import os
import re
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, Self

import orjson

from batch.disk import sync_folder
from batch.errors import OutputError
from batch.model import Record
from batch.report.layout import LEADING_COLUMNS, OUTCOME_COLUMNS, ReportFormat, report_format
from batch.text import defused

_SPECIAL = re.compile("[\r;\t]")


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

    def write(self, values: Sequence[Any], record: Record) -> None:
        """Add a row.

        Args:
            values: of the input's own columns.
            record: of the outcome.

        Raises:
            OutputError: the disk takes no more.

        """
        row, status, *told = record
        try:
            self._form.write((row, self._job), values, (status.value, *told))
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
            os.fsync(self._file.fileno())
            self._file.close()
            with open(self._temporary, "rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise _unwritable(self.path, error) from error

    def commit(self) -> None:
        """Move the finished file to its place.

        Raises:
            OutputError: it cannot be moved.

        """
        try:
            os.replace(self._temporary, self.path)
            sync_folder(self.path)
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
        # Not the writer's own name: another run may be at work with that.
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}."):
            pass
    except OSError as error:
        raise _unwritable(path, error) from error


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
