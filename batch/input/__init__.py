"""Rows from CSV, JSON and JSON Lines, streamed, as often as they are asked for.

`files` opens the bytes once, `packed` unpacks them. `delimited` reads CSV, whose first line `header` finds;
`json_rows` and `objects` read JSON, whose objects `json_text` finds. `names`, `keys` and `paths` bring a
job's columns and the cells together, and `limits` bounds what a row may take.

Nothing here knows what becomes of a row.
"""

from collections.abc import Collection, Iterator, Sequence
from enum import StrEnum
from pathlib import Path, PurePath
from types import TracebackType
from typing import Protocol, Self

from batch.input.delimited import DelimitedReader
from batch.input.files import InputFile, Origin
from batch.input.json_rows import JsonReader
from batch.input.limits import INPUT, REPORT
from batch.input.packed import SUFFIXES, unpacked
from batch.job import Column
from batch.model import Dialect, Row

__all__ = ["Format", "Input", "Origin", "Source", "format_by_name", "open_source", "unpacked"]


class Format(StrEnum):
    """How an input is written."""

    CSV = "csv"
    JSON = "json"
    JSONL = "jsonl"


class _Reader(Protocol):
    columns: list[str]
    dropped: list[str]
    dialect: Dialect

    def rows(self) -> Iterator[Row]: ...


_FORMATS = {
    ".csv": Format.CSV,
    ".json": Format.JSON,
    ".jsonl": Format.JSONL,
    ".ndjson": Format.JSONL,
    ".tsv": Format.CSV,
    ".txt": Format.CSV,
}
_FIRST_BYTES = {b"[": Format.JSON, b"{": Format.JSONL}


class Input(Protocol):
    """What a run works through: a file of rows as it came, or the report of an earlier run."""

    @property
    def name(self) -> str:
        """What messages call it."""
        ...

    @property
    def format(self) -> Format:
        """How it is written."""
        ...

    @property
    def sha256(self) -> str:
        """SHA-256 of its bytes, in hex."""
        ...

    @property
    def columns(self) -> list[str]:
        """Names of the columns to be carried. In JSON complete only after a whole pass."""
        ...

    @property
    def dialect(self) -> Dialect:
        """How it is written if it is CSV; else how CSV is written by default."""
        ...

    @property
    def mode(self) -> int | None:
        """Permissions of a regular file, or None for standard input or a pipe."""
        ...

    @property
    def dropped(self) -> list[str]:
        """Names of the columns that are not carried: a report's own, if the input is one."""
        ...

    def is_at(self, path: Path) -> bool:
        """Whether it is the very file that is there now."""
        ...

    def rows(self) -> Iterator[Row]:
        """Return an iterator over all rows from the first on; each call is a pass of its own."""
        ...


class Source:
    """An open input. Close it, or use it as a context manager.

    Attributes:
        name: what messages call it.
        format: how it is written.

    """

    def __init__(self, file: InputFile, format: Format, reader: _Reader) -> None:  # noqa: A002
        self.name = file.name
        self.format = format
        self._file = file
        self._reader = reader

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    @property
    def sha256(self) -> str:
        """SHA-256 of the input's bytes as they are stored, in hex."""
        return self._file.sha256

    @property
    def columns(self) -> list[str]:
        """Names of the columns to be carried, in their order. In JSON complete only after a whole pass."""
        return list(self._reader.columns)

    @property
    def dialect(self) -> Dialect:
        """How it is written if it is CSV; else how CSV is written by default."""
        return self._reader.dialect

    @property
    def mode(self) -> int | None:
        """Permissions of a regular file, or None for standard input or a pipe."""
        return self._file.mode

    @property
    def dropped(self) -> list[str]:
        """Names of the columns that are not carried: a report's own, if the input is one."""
        return list(self._reader.dropped)

    def is_at(self, path: Path) -> bool:
        """Whether it is the very file that is there now."""
        return self._file.is_at(path)

    def rows(self) -> Iterator[Row]:
        """Return an iterator over all rows from the first on; each call is a pass of its own.

        Raises:
            InputUnusableError: the input is no list of rows, or was changed since it was opened.

        """
        return self._reader.rows()


def open_source(
    path: str,
    *,
    format: Format | None,  # noqa: A002
    columns: Sequence[Column],
    reserved: Collection[str] = (),
    origin: Origin = Origin.LIST,
    spool: Path | None = None,
) -> Source:
    """Open an input.

    Args:
        path: where it is, or `-` for standard input.
        format: how it is written; None to tell by the name, else by the content.
        columns: the columns a job asks for.
        reserved: names of a report's columns. They are not carried if all are there, and else under others.
        origin: what it is. In a report a column's own name beats its other names.
        spool: the folder for a copy of standard input where the system has none for temporary files.

    Raises:
        InputMissingError: it is not there, or may not be read.
        InputUnusableError: it is empty, no text, or has no header with the columns that the job needs.

    """
    is_report = origin is not Origin.LIST
    file = InputFile(path, REPORT if is_report else INPUT, spool, origin)
    try:
        found = format or format_by_name(path)
        if not (is_report and found is Format.JSONL):
            first = file.first_byte()
            found = found or _FIRST_BYTES.get(first, Format.CSV)
        reader: _Reader
        if found is Format.CSV:
            reader = DelimitedReader(file, columns, reserved, is_report=is_report)
        else:
            is_list = found is Format.JSON
            reader = JsonReader(file, columns, reserved, is_list=is_list, is_report=is_report)
        return Source(file, found, reader)
    except BaseException:
        file.close()
        raise


def format_by_name(path: str) -> Format | None:
    """Return the form of an input that its name tells, packed or not; None if it tells none."""
    name = PurePath(path.lower())
    while name.suffix in SUFFIXES:
        name = name.with_suffix("")
    return _FORMATS.get(name.suffix)
