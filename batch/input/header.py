"""The header of a table: where it is, what separates its columns, and what is wrong with it."""

import csv
import re
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import NamedTuple

from batch.errors import InputUnusableError
from batch.input.files import InputFile
from batch.input.lines import Lines, batches
from batch.input.names import ABSENT, folded, listed, meant_for, places
from batch.job import Column
from batch.text import quoted

_DELIMITERS = (",", ";", "\t")
_LENGTH_OF_AN_ID = 16
_ROWS_LOOKED_AT = 20
_is_separator_line = re.compile(r'"?sep=.?"?[,;\s]*', re.IGNORECASE).fullmatch


class Header(NamedTuple):
    """The header of a table.

    Attributes:
        delimiter: what separates the columns.
        skipped: number of lines before it.
        text: its first line.
        names: of the columns.
        line_end: how its last line ends; others may stand in quoted names.

    """

    delimiter: str
    skipped: int
    text: str
    names: list[str]
    line_end: str

    @property
    def line(self) -> int:
        """The line on which it begins."""
        return self.skipped + 1


def find_header(file: InputFile, columns: Sequence[Column]) -> Header:
    """Find the header of a table: behind blank lines and comments.

    The delimiter is the one under which most of the columns that are asked for are found.

    Raises:
        InputUnusableError: there is none, or columns that are asked for are missing or named twice.

    """
    skipped, text = _first_line(file, columns)
    best: tuple[tuple[int, int], Header] | None = None
    failure: InputUnusableError | None = None
    for delimiter in _DELIMITERS:
        with file.open_text() as stream:
            lines = Lines(file, stream, delimiter, skipped=skipped)
            reader = csv.reader(lines, delimiter=delimiter, strict=True)
            try:
                names = next(reader)
            except csv.Error:
                failure = failure or open_quote(file, lines, skipped + 1, skipped + reader.line_num)
                failure = failure or file.unusable("there is text after a closing quote", skipped + 1)
                continue
            if len(names) > file.limits.columns:
                raise lines.too_wide()
            line_end = "\r\n" if lines.line(skipped + reader.line_num).endswith("\r\n") else "\n"
        recognised = sum(place != ABSENT for place in places(names, columns))
        score = (recognised, len(names))
        if best is None or score > best[0]:
            best = score, Header(delimiter, skipped, text, names, line_end)
    if best is None:
        assert failure is not None
        raise failure
    _check(file, best[1], columns)
    return best[1]


def open_quote(file: InputFile, lines: Lines, start: int, line: int) -> InputUnusableError | None:
    """Return the error for a broken row, unless the line after it surely begins a new one.

    It does if quotes are even up to the end of the broken line. Otherwise the row may have swallowed others,
    or what follows may be the rest of a cell.

    Args:
        file: what is read.
        lines: its lines.
        start: the line on which the row begins.
        line: the line on which it is broken.

    """
    if lines.ended:
        return file.unusable("a quote opened there is never closed", start)
    if (lines.line(line).count('"') + (line > start)) % 2:
        return file.unusable("a quote opened there is never closed, or closed too early", start)
    return None


def _first_line(file: InputFile, columns: Sequence[Column]) -> tuple[int, str]:
    """Return the number of lines before the header, and the first line of it."""
    with file.open_text() as stream:
        for skipped, line in enumerate(chain.from_iterable(batches(file, stream))):
            text = line.strip()
            if text and not _is_comment(text, columns):
                return skipped, line
    raise file.unusable("is empty")


def _is_comment(text: str, columns: Sequence[Column]) -> bool:
    """Whether a line before the header only says something about the file.

    A column may have the name `#` too.
    """
    if _is_separator_line(text):
        return True
    if not text.startswith("#"):
        return False
    return not any(
        _names_all([name.strip(' "') for name in text.split(delimiter)], columns) for delimiter in _DELIMITERS
    )


def _names_all(names: Sequence[str], columns: Sequence[Column]) -> bool:
    """Whether all columns that must be there are among the names, and there are such columns."""
    found = [
        place != ABSENT
        for column, place in zip(columns, places(names, columns), strict=True)
        if column.required
    ]
    return bool(found) and all(found)


def _check(file: InputFile, header: Header, columns: Sequence[Column]) -> None:
    names, found = header.names, places(header.names, columns)
    for place in found:
        same = [name for name in names if folded(name) == folded(names[place])]
        if place != ABSENT and len(same) > 1:
            raise file.unusable(f"column {quoted(same[0].strip())} is named twice", header.line)
    missing = [
        column for column, place in zip(columns, found, strict=True) if place == ABSENT and column.required
    ]
    if missing:
        raise file.unusable(_explained(file, header, columns, missing), header.line)


def _explained(file: InputFile, header: Header, columns: Sequence[Column], missing: Sequence[Column]) -> str:
    """Say what is wrong with a header in which columns are missing, and what to do."""
    names = header.names
    found = places(names, columns)
    free = [name.strip() for place, name in enumerate(names) if place not in found]
    wanted = [column.name for column in columns if column.required]
    if len(names) == 1 and any(_names_all(row, columns) for row in _split(names[0])):
        return "each line stands in quotation marks as a whole: take them off, so that columns are separated"
    if line := _later_header(file, header, columns):
        return f"the header seems to stand in line {line}: remove what is above it"
    hints = [
        f"{quoted(meant)} was probably meant: rename it"
        for column in missing
        if len(names) > 1 and (meant := meant_for(column, free))
    ]
    if len(free) == len(names) and not hints:
        if names[0].lstrip().startswith(("[", "{")):
            return "this is JSON, not CSV: use --format json or --format jsonl"
        if any(_is_data(name) for name in names):
            return f"there is no header: the first line must name the columns {listed(wanted)}"
    if len(names) == 1 and any(folded(name) in folded(names[0]) for name in wanted):
        hints = ["columns are separated by comma, semicolon or tab"]
    subject = "column {} is missing" if len(missing) == 1 else "columns {} are missing"
    text = "; ".join([subject.format(listed(column.name for column in missing)), *hints])
    return f"{text} (the header names {listed(map(str.strip, names))})"


def _split(line: str) -> Iterator[list[str]]:
    for delimiter in _DELIMITERS:
        yield from csv.reader([line], delimiter=delimiter)


def _later_header(file: InputFile, header: Header, columns: Sequence[Column]) -> int:
    """Return the line of a row further down that has the names of a header; 0 if there is none."""
    return next(
        (
            line
            for delimiter in _DELIMITERS
            for line, names in islice(_rows(file, header, delimiter), _ROWS_LOOKED_AT)
            if _names_all(names, columns)
        ),
        0,
    )


def _rows(file: InputFile, header: Header, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows of a table from the header on, each with the line on which it begins."""
    line = header.line
    with file.open_text() as stream:
        lines = Lines(file, stream, delimiter, skipped=header.skipped, row_start=lambda: line)
        reader = csv.reader(lines, delimiter=delimiter)
        for names in reader:
            yield line, names
            line = header.line + reader.line_num


def _is_data(name: str) -> bool:
    return len(name.strip()) >= _LENGTH_OF_AN_ID and any(map(str.isdigit, name)) and " " not in name.strip()
