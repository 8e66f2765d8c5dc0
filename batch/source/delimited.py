"""Rows from CSV."""

import csv
import io
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from itertools import chain

from batch.errors import InputUnusableError
from batch.job import Column
from batch.model import Row
from batch.source.files import InputFile
from batch.source.names import ABSENT, folded, listed, meant_for, picker, places, unused
from batch.text import quoted

_DELIMITERS = (",", ";", "\t")
_LENGTH_OF_AN_ID = 16
_BATCH = 64 * 1024


class DelimitedReader:
    """Reads a table with a header, separated by commas, semicolons or tabs.

    Args:
        file: what to read.
        columns: the columns a job asks for.
        reserved: names of columns not to carry, unless the job asks for them.
        skip_empty: whether a row of empty cells is a blank line and not a row.

    Attributes:
        columns: names of the columns carried, as spelled in the header.
        dropped: names of the columns not carried.

    """

    def __init__(
        self,
        file: InputFile,
        columns: Sequence[Column],
        reserved: Collection[str],
        *,
        skip_empty: bool = False,
    ) -> None:
        self._file = file
        self._skip_empty = skip_empty
        self._delimiter, line, names = self._header(columns)
        self._width = len(names)
        self._wanted = places(names, columns)
        self._check(names, columns, line)
        self._carried: list[int] = []
        self.columns: list[str] = []
        self.dropped: list[str] = []
        reserved = {folded(name) for name in reserved}
        given = {name.strip() for name in names}
        for place, name in enumerate(names):
            if place not in self._wanted and folded(name) in reserved:
                self.dropped.append(name.strip())
                continue
            if name.strip() in self.columns:
                raise file.unusable(f"column {quoted(name.strip())} is named twice", line)
            self._carried.append(place)
            self.columns.append(name.strip() or unused("", place + 1, {*given, *self.columns}))

    def rows(self) -> Iterator[Row]:
        """Yield all rows.

        Raises:
            InputUnusableError: the text is not UTF-8, a quote is never closed, or there is no row.

        """
        pick_cells, absent = picker(self._wanted)
        pick_values, _ = picker(self._carried)
        keep_all = len(self._carried) == self._width
        # In a table one column wide a blank line is as wide as a row: there every row takes the long way.
        width = self._width if self._width > 1 else -1
        # A named tuple's own constructor is a function in Python, and the dearest thing here.
        new, skip_empty = tuple.__new__, self._skip_empty
        number = 0
        with self._file.open_text() as stream:
            lines = _Lines(self._file, stream)
            reader = csv.reader(lines, delimiter=self._delimiter, strict=True)
            next(filter(_is_row, reader))
            line = reader.line_num + 1
            while not lines.ended:
                problem = ""
                try:
                    for fields in reader:
                        if skip_empty and not any(fields):
                            line = reader.line_num + 1
                            continue
                        if len(fields) != width:
                            if not _is_row(fields):
                                line = reader.line_num + 1
                                continue
                            problem = self._fit(fields)
                        number += 1
                        values = fields if keep_all else pick_values(fields)
                        yield new(Row, (number, line, pick_cells(fields) + absent, values, problem, None))
                        problem = ""
                        line = reader.line_num + 1
                except csv.Error as error:
                    self._refuse_open_quote(error, lines, line, reader.line_num)
                    fields = self._salvaged(lines, line, reader.line_num)
                    problem = "has text after a closing quote"
                    number += 1
                    yield Row(number, line, pick_cells(fields) + absent, pick_values(fields), problem)
                    line = reader.line_num + 1
        if not number:
            raise self._file.unusable("has a header but no rows")
        self._file.check_unchanged()

    def _header(self, columns: Sequence[Column]) -> tuple[str, int, list[str]]:
        best: tuple[tuple[int, int], str, int, list[str]] | None = None
        failure: InputUnusableError | None = None
        for delimiter in _DELIMITERS:
            try:
                line, names = self._first_row(delimiter)
            except InputUnusableError as error:
                failure = failure or error
                continue
            recognised = sum(place != ABSENT for place in places(names, columns))
            score = (recognised, len(names))
            if best is None or score > best[0]:
                best = score, delimiter, line, names
        if best is None:
            assert failure is not None
            raise failure
        return best[1:]

    def _first_row(self, delimiter: str) -> tuple[int, list[str]]:
        with self._file.open_text() as stream:
            lines = _Lines(self._file, stream)
            reader = csv.reader(lines, delimiter=delimiter, strict=True)
            line = 0
            try:
                for fields in reader:
                    if _is_row(fields):
                        return line + 1, fields
                    line = reader.line_num
            except csv.Error as error:
                self._refuse_open_quote(error, lines, line + 1, reader.line_num)
                raise self._file.unusable("there is text after a closing quote", line + 1) from None
        raise self._file.unusable("is empty")

    def _check(self, names: list[str], columns: Sequence[Column], line: int) -> None:
        for place in self._wanted:
            same = [name for name in names if folded(name) == folded(names[place])]
            if place != ABSENT and len(same) > 1:
                raise self._file.unusable(f"column {quoted(same[0].strip())} is named twice", line)
        missing = [
            column
            for column, place in zip(columns, self._wanted, strict=True)
            if place == ABSENT and column.required
        ]
        if not missing:
            return
        free = [name.strip() for place, name in enumerate(names) if place not in self._wanted]
        wanted = [column.name for column in columns if column.required]
        hints = [
            f"{quoted(meant)} was probably meant: rename it"
            for column in missing
            if len(names) > 1 and (meant := meant_for(column, free))
        ]
        if len(free) == len(names) and not hints:
            if names[0].lstrip().startswith(("[", "{")):
                raise self._file.unusable("this is JSON, not CSV: use --format json or --format jsonl", line)
            if any(_is_data(name) for name in names):
                raise self._file.unusable(
                    f"there is no header: the first line must name the columns {listed(wanted)}", line
                )
        if len(names) == 1 and any(folded(name) in folded(names[0]) for name in wanted):
            hints = ["columns are separated by comma, semicolon or tab"]
        subject = "column {} is missing" if len(missing) == 1 else "columns {} are missing"
        text = "; ".join([subject.format(listed(column.name for column in missing)), *hints])
        raise self._file.unusable(f"{text} (the header names {listed(map(str.strip, names))})", line)

    def _fit(self, fields: list[str]) -> str:
        """Bring a row to the header's width, and say what was wrong with it."""
        count, width = len(fields), self._width
        if count == width:
            return ""
        text = f"has {_counted(count)}, the header names {width}"
        if count > width:
            text += f"; the surplus begins with {quoted(fields[width])}"
            del fields[width:]
        else:
            fields.extend([""] * (width - count))
        return text

    def _refuse_open_quote(self, error: csv.Error, lines: "_Lines", start: int, line: int) -> None:
        """Refuse the file unless the line after a broken row surely begins a new one.

        It does if quotes are even up to the end of the broken line. Otherwise the row may have swallowed
        others, or what follows may be the rest of a cell.
        """
        within = line > start
        if lines.ended:
            raise self._file.unusable("a quote opened there is never closed", start) from None
        if "field larger" in str(error):
            limit = csv.field_size_limit()
            cause = "a quote opened there is never closed" if within else "a field there is too long"
            raise self._file.unusable(f"{cause} (a field holds {limit} characters at most)", start) from None
        if (lines.line(line).count('"') + within) % 2:
            cause = "a quote opened there is never closed, or closed too early"
            raise self._file.unusable(cause, start) from None

    def _salvaged(self, lines: "_Lines", start: int, line: int) -> list[str]:
        """Return what can be made of a row with text after a closing quote."""
        fields: list[str] = []
        if line == start:
            with suppress(csv.Error):
                fields = next(csv.reader([lines.line(line)], delimiter=self._delimiter))
        self._fit(fields)
        return fields


class _Lines:
    """The lines of a text, in batches, so that no line costs more than the parser's own work on it."""

    def __init__(self, file: InputFile, stream: io.TextIOWrapper) -> None:
        self._file = file
        self._stream = stream
        self._batch: list[str] = []
        self._before = 0
        self.ended = False

    def __iter__(self) -> Iterator[str]:
        return chain.from_iterable(self._batches())

    def line(self, number: int) -> str:
        """Return the line that was given last, by its number."""
        return self._batch[number - self._before - 1]

    def _batches(self) -> Iterator[list[str]]:
        try:
            while batch := self._stream.readlines(_BATCH):
                self._before += len(self._batch)
                self._batch = batch
                yield batch
        except UnicodeDecodeError:
            place = self._file.not_utf8() or (0, 0)
            raise self._file.unusable("this is not UTF-8: save the file as UTF-8", *place) from None
        self.ended = True


def _is_row(fields: list[str]) -> bool:
    return len(fields) > 1 or (len(fields) == 1 and not fields[0].isspace())


def _is_data(name: str) -> bool:
    return len(name.strip()) >= _LENGTH_OF_AN_ID and any(map(str.isdigit, name)) and " " not in name.strip()


def _counted(count: int) -> str:
    return "1 field" if count == 1 else f"{count} fields"
