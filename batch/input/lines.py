"""The lines of a table: decoded, and measured so that no row takes more memory than it may."""

import io
from collections.abc import Callable, Iterator
from itertools import chain

from batch.errors import InputUnusableError
from batch.input.files import InputFile, Lined

_BATCH = 64 * 1024
_MARK = "\N{ZERO WIDTH NO-BREAK SPACE}"


def batches(file: InputFile, stream: io.TextIOWrapper, header: str = "") -> Iterator[list[str]]:
    """Yield all lines in batches; those of more than `_BATCH` characters are a batch of their own.

    Args:
        file: what is read.
        stream: its text.
        header: the line to leave blank behind a byte-order mark: there another input was put on.

    Raises:
        InputUnusableError: the text is not UTF-8, or a line takes more than a row may.

    """
    raw = stream.buffer
    assert isinstance(raw, Lined)
    try:
        while batch := stream.readlines(_BATCH):
            if raw.has_marks:
                batch = [_unmarked(line, header) for line in batch]
            if len(batch[-1]) > _BATCH:
                long = batch.pop()
                if batch:
                    yield batch
                batch = [long]
            yield batch
    except UnicodeDecodeError:
        place = file.not_utf8() or (0, 0)
        raise file.unusable("this is not UTF-8: save the file as UTF-8", *place) from None


class Lines:
    """The lines from which a CSV parser takes its rows.

    They come in batches, so that no line costs more than the parser's own work on it. A row is measured only
    where it goes on from one batch to the next, or has a line that is a batch of its own.

    Args:
        file: what is read.
        stream: its text.
        delimiter: what separates the columns.
        skipped: the number of lines to leave out at the beginning.
        header: see `batches`.
        row_start: returns the line on which the row begins that is read just now; the first one without.

    Attributes:
        ended: whether all lines are read.

    """

    def __init__(
        self,
        file: InputFile,
        stream: io.TextIOWrapper,
        delimiter: str,
        *,
        skipped: int = 0,
        header: str = "",
        row_start: Callable[[], int] | None = None,
    ) -> None:
        for _ in range(skipped):
            stream.readline()
        self._file = file
        self._limits = file.limits
        self._delimiter = delimiter
        self._incoming = batches(file, stream, header)
        self._batch: list[str] = []
        self._before = skipped
        self._size = 0  # bytes of the row that goes on, as far as it is known
        self._columns = 0
        self._quoted = False
        self._row_start = row_start or (lambda: skipped + 1)
        self.ended = False

    def __iter__(self) -> Iterator[str]:
        return chain.from_iterable(self._measured())

    def line(self, number: int) -> str:
        """Return the line that was given last, by its number."""
        return self._batch[number - self._before - 1]

    def too_wide(self) -> InputUnusableError:
        """Return the error for a row of too many columns that was read just now."""
        place = self._row_start() - self._before - 1
        beyond = self._measure(self._batch[place])[2] if place >= 0 else 0
        return self._file.unusable(self._limits.too_wide, self._row_start(), (beyond or 0) + 1)

    def _measured(self) -> Iterator[list[str]]:
        for batch in self._incoming:
            self._add_last_batch()
            self._before += len(self._batch)
            self._batch = batch
            if len(batch[0]) > _BATCH:
                self._check_long(batch[0])
            yield batch
        self.ended = True

    def _add_last_batch(self) -> None:
        """Measure what the last batch holds of a row that has not come to its end there."""
        place = self._row_start() - self._before - 1
        if place >= 0:
            self._size = self._columns = 0
            self._quoted = False
        text = "".join(self._batch[max(place, 0) :])
        if not text:
            return
        self._size += _size(text)
        columns, self._quoted, _ = self._measure(text, quoted=self._quoted)
        self._columns += columns
        if self._size > self._limits.size:
            raise self._file.unusable(
                f"{self._limits.too_long}, or a quote opened there is never closed", self._row_start(), 1
            )
        if self._columns >= self._limits.columns:
            raise self._file.unusable(self._limits.too_wide, self._row_start(), 1)

    def _check_long(self, line: str) -> None:
        if self._size + _size(line) > self._limits.size:
            raise self._file.unusable(self._limits.too_long, self._row_start(), 1)
        _, _, beyond = self._measure(line, quoted=self._quoted)
        if beyond is not None:
            raise self._file.unusable(self._limits.too_wide, self._before + 1, beyond + 1)

    def _measure(self, text: str, *, quoted: bool = False) -> tuple[int, bool, int | None]:
        """Return the delimiters outside quotes, whether a quote stays open, and where a column is too many.

        Args:
            text: of lines.
            quoted: whether a quote is open where the text begins.

        """
        delimiter, most = self._delimiter, self._limits.columns
        if text.count(delimiter) < most:
            # The exact number matters only where there are too many.
            return text.count(delimiter), quoted ^ bool(text.count('"') % 2), None
        count = at = 0
        while True:
            quote = text.find('"', at)
            end = quote if quote >= 0 else len(text)
            if not quoted:
                found = text.count(delimiter, at, end)
                if count + found >= most:
                    for _ in range(most - count):
                        at = text.index(delimiter, at) + 1
                    return most, quoted, at
                count += found
            if quote < 0:
                return count, quoted, None
            quoted = not quoted
            at = quote + 1


def _unmarked(line: str, header: str) -> str:
    if not line.startswith(_MARK):
        return line
    line = line.lstrip(_MARK)
    return "\n" if header and line.strip() == header.strip() else line


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())
