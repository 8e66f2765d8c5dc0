"""Rows from CSV."""

import csv
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress

from batch.input.files import InputFile
from batch.input.header import find_header, open_quote
from batch.input.limits import REPORT
from batch.input.lines import Lines
from batch.input.names import ABSENT, agreed, folded, picker, places, spellings, unused
from batch.job import Column
from batch.model import Dialect, Row
from batch.text import original_name, quoted

# The parser's own limit of a cell holds for the whole program. It must not be met: a row has one already.
csv.field_size_limit(2 * REPORT.size)


class DelimitedReader:
    """Reads a table with a header, separated by commas, semicolons or tabs.

    Args:
        file: what to read.
        columns: the columns a job asks for.
        reserved: names of a report's columns.
        is_report: whether the file is a report itself; there a column's own name beats its other names.

    Attributes:
        columns: names of the columns carried.
        dropped: names of the columns not carried.
        dialect: how the table is written.

    """

    def __init__(
        self,
        file: InputFile,
        columns: Sequence[Column],
        reserved: Collection[str],
        *,
        is_report: bool = False,
    ) -> None:
        self._file = file
        self._asked = columns
        self._header = find_header(file, columns)
        names = list(map(original_name, self._header.names))
        self.dialect = Dialect(self._header.delimiter, self._header.line_end, file.has_mark)
        self._width = len(names)
        self._wanted = places(names, columns)
        self._others = [] if is_report else _others(names, columns, self._wanted)
        self._carried, self.columns, self.dropped = _carried(
            names, self._wanted, {folded(name) for name in reserved}
        )
        self._keep_all = len(self._carried) == self._width
        self._pick_cells, self._absent = picker(self._wanted)
        self._pick_values, _ = picker(self._carried)

    def rows(self) -> Iterator[Row]:
        """Yield all rows. Blank lines and rows of empty cells are none.

        Raises:
            InputUnusableError: the text is not UTF-8, a quote is never closed, or a row is too large.

        """
        pick_cells, absent, pick_values = self._pick_cells, self._absent, self._pick_values
        keep_all = self._keep_all
        # Every row takes the long way where two of its cells may say different things, or where a blank line
        # is as wide as a row.
        width = self._width if self._width > 1 and not self._others else -1
        first = next((place for place in self._wanted if place != ABSENT), 0)
        # A named tuple's own constructor is a function in Python, and the dearest thing here.
        new = tuple.__new__
        number, header = 0, self._header
        line = next_line = header.skipped + 1  # behind the lines that the parser has taken
        with self._file.open_text() as stream:
            lines = Lines(
                self._file,
                stream,
                header.delimiter,
                skipped=header.skipped,
                header=header.text,
                row_start=lambda: line,
            )
            reader = csv.reader(lines, delimiter=header.delimiter, strict=True)
            next(reader)
            line = reader.line_num + next_line
            while not lines.ended:
                try:
                    for fields in reader:
                        if len(fields) != width or not fields[first]:
                            if _is_row(fields):
                                number += 1
                                yield self._fitted(number, line, lines, fields)
                        else:
                            number += 1
                            values = fields if keep_all else pick_values(fields)
                            yield new(Row, (number, line, pick_cells(fields) + absent, values, "", None))
                        line = reader.line_num + next_line
                except csv.Error:
                    number += 1
                    yield self._salvaged(number, line, lines, reader.line_num + next_line - 1)
                    line = reader.line_num + next_line
        self._file.check_unchanged()

    def _fitted(self, number: int, line: int, lines: Lines, fields: list[str], problem: str = "") -> Row:
        """Return a row of any width and with cells that may say different things."""
        if len(fields) > self._file.limits.columns:
            raise lines.too_wide()
        unfit = self._fit(fields)
        problems = [problem or unfit]
        cells = [*self._pick_cells(fields), *self._absent]
        for at, name, place in self._others:
            column = self._asked[at].name
            cells[at], differs = agreed(column, cells[at], name, fields[place])
            problems.append(differs)
        values = fields if self._keep_all else self._pick_values(fields)
        return Row(number, line, tuple(cells), values, "; ".join(filter(None, problems)))

    def _fit(self, fields: list[str]) -> str:
        """Bring a row to the header's width, and say what was wrong with it.

        Spreadsheets leave out empty cells at the end of a row, and add others.
        """
        count, width = len(fields), self._width
        problem = f"has {_counted(count)}, the header names {width}"
        if count >= width:
            surplus = next((cell for cell in fields[width:] if cell.strip()), "")
            del fields[width:]
            return f"{problem}; the surplus begins with {quoted(surplus)}" if surplus else ""
        fields.extend([""] * (width - count))
        is_short = any(
            place >= count and column.required
            for place, column in zip(self._wanted, self._asked, strict=True)
        )
        return problem if is_short else ""

    def _salvaged(self, number: int, line: int, lines: Lines, last: int) -> Row:
        """Return what can be made of a row with text after a closing quote.

        Raises:
            InputUnusableError: others may have been taken for a part of it.

        """
        if error := open_quote(self._file, lines, line, last):
            raise error from None
        fields: list[str] = []
        if last == line:
            with suppress(csv.Error):
                fields = next(csv.reader([lines.line(line)], delimiter=self._header.delimiter))
        return self._fitted(number, line, lines, fields, "has text after a closing quote")


def _others(
    names: Sequence[str], columns: Sequence[Column], wanted: Sequence[int]
) -> list[tuple[int, str, int]]:
    """Return where a column stands a second time under another name: number, that name and its place."""
    return [
        (number, name.strip(), place)
        for number, column in enumerate(columns)
        if wanted[number] != ABSENT
        for place, name in enumerate(names)
        if place not in wanted and folded(name) in map(folded, spellings(column))
    ]


def _carried(
    names: Sequence[str], wanted: Sequence[int], reserved: Collection[str]
) -> tuple[list[int], list[str], list[str]]:
    """Return places and names of the columns that are carried, and the names of those that are not.

    Only a report's columns are not, and only if they are all there: the file is a report then.
    """
    is_report = bool(reserved) and set(reserved) <= set(map(folded, names))
    taken = {name.strip() for name in names}
    used: set[str] = set()
    carried: list[int] = []
    dropped: list[str] = []
    columns: list[str] = []
    for place, given in enumerate(names):
        name = given.strip()
        if place not in wanted and folded(name) in reserved and is_report:
            dropped.append(name)
            continue
        if place not in wanted and (not name or name in used or folded(name) in reserved):
            name = unused(name, place + 1, taken, reserved)
        taken.add(name)
        used.add(name)
        carried.append(place)
        columns.append(name)
    return carried, columns, dropped


def _is_row(fields: list[str]) -> bool:
    return any(fields) and not (len(fields) == 1 and fields[0].isspace())


def _counted(count: int) -> str:
    return "1 field" if count == 1 else f"{count} fields"
