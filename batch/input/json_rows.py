"""Rows from JSON: one array, objects one after the other, or an object that holds the array."""

import re
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import orjson

from batch.errors import InputUnusableError
from batch.input.files import InputFile
from batch.input.json_text import LARGE, JsonText, object_end
from batch.input.names import listed
from batch.input.objects import ObjectReader, TooManyColumnsError
from batch.job import Column
from batch.model import Dialect, Row

_SCALARS = {b'"': "a string", b"t": "true", b"f": "false", b"n": "null"}
_match_next = re.compile(rb"[ \t\r\n]*+,[ \t\r\n]*+(?=\{)").match
_match_list_of_objects = re.compile(rb"\[[ \t\r\n]*+\{").match


class JsonReader:
    """Reads JSON piece by piece, never as a whole, whichever of its forms it has.

    Args:
        file: what to read.
        columns: the columns a job asks for.
        reserved: names of a report's columns.
        is_list: whether an input that begins with a number or a text cannot be meant.
        is_report: whether the file is a report itself; there a column's own name beats its other names.

    Attributes:
        columns: names of the columns carried, as far as they are known.
        dropped: names of the columns not carried, likewise.
        dialect: how CSV is written by default.

    """

    def __init__(
        self,
        file: InputFile,
        columns: Sequence[Column],
        reserved: Collection[str],
        *,
        is_list: bool,
        is_report: bool = False,
    ) -> None:
        self._file = file
        self._is_list = is_list
        self._objects = ObjectReader(columns, reserved, most_columns=file.limits.columns, is_report=is_report)
        self.columns = self._objects.columns
        self.dropped = self._objects.dropped
        self.dialect = Dialect()
        self._member: str | None = None
        with file.open_bytes() as stream:
            self._rows = self._form(JsonText(file, stream))

    def rows(self) -> Iterator[Row]:
        """Return an iterator over all rows.

        Raises:
            InputUnusableError: the text is not JSON, or a row is too large.

        """
        return self._rows()

    @contextmanager
    def _text(self) -> Iterator[JsonText]:
        with self._file.open_bytes() as stream:
            yield JsonText(self._file, stream)
        self._file.check_unchanged()

    def _form(self, text: JsonText) -> Callable[[], Iterator[Row]]:
        """Return what reads an input of this text, whose form its first value tells."""
        first = text.peek()
        if first == b"[":
            return self._arrays
        if first == b"{":
            return self._form_of_object(text)
        if self._is_list:
            _value(text)
            if text.peek():
                raise text.unexpected("the end")
            kind = _SCALARS.get(first, "a number")
            raise self._file.unusable(f"is {kind}, wanted is a list of objects")
        return self._objects_in_a_row

    def _form_of_object(self, text: JsonText) -> Callable[[], Iterator[Row]]:
        try:
            piece = text.value()
        except InputUnusableError:
            return self._member_array  # it is too large for a row; whatever else is wrong is told there too
        item = _parsed(text, piece)
        if text.peek() or self._objects.is_row(item):
            return self._objects_in_a_row
        lists = [key for key, value in item.items() if value.__class__ is list]
        arrays = [key for key in lists if any(each.__class__ is dict for each in item[key])]
        if len(arrays) > 1:
            raise self._file.unusable(
                f"is one object with {len(arrays)} arrays of objects, {listed(arrays)}: "
                "keep the one that holds the rows"
            )
        if arrays or (len(lists) == 1 and not item[lists[0]]):
            self._member = (arrays or lists)[0]
            return self._member_array
        return self._objects_in_a_row

    def _arrays(self) -> Iterator[Row]:
        """Yield the rows of an array, and of others if several inputs were put together."""
        with self._text() as text:
            number = 0
            while True:
                number = yield from self._array(text, number)
                if not text.peek():
                    return
                if text.peek() != b"[":
                    raise text.unexpected("the end")

    def _array(self, text: JsonText, number: int) -> Generator[Row, None, int]:
        """Yield the rows of the array that begins here, numbered on from `number`; return the last number."""
        text.take(b"[")
        if text.peek() == b"]":
            text.take(b"]")
            return number
        while True:
            number, is_behind = yield from self._small_objects(text, number)
            if not is_behind:
                number += 1
                yield self._row(text, number)
            if text.peek() == b"]":
                text.take(b"]")
                return number
            text.take(b",")
            text.peek()

    def _small_objects(self, text: JsonText, number: int) -> Generator[Row, None, tuple[int, bool]]:
        """Yield rows of an array the short way: small objects, as far as the buffer reaches.

        Return the last number, and whether the text stands behind a value then, or before one.
        """
        make, loads = self._objects.row, orjson.loads
        buffer, start, line = text.buffer, text.at, text.line
        counted, is_behind = start, False
        is_flat = True  # as far as is known: the next curly bracket ends the object
        while buffer.startswith(b"{", start):
            if is_flat:
                end = buffer.find(b"}", start, start + LARGE) + 1
            else:
                end = object_end(buffer, start, start + LARGE)
            piece = buffer[start:end]
            try:
                item = loads(piece)
            except orjson.JSONDecodeError:
                if is_flat and object_end(buffer, start, start + LARGE):
                    is_flat = False
                    continue
                break
            line += buffer.count(b"\n", counted, end)
            counted = end
            number += 1
            try:
                yield make(number, line, item, piece)
            except TooManyColumnsError:
                raise text.unusable(self._file.limits.too_wide, start) from None
            following = _match_next(buffer, end)
            if following is None:
                start, is_behind = end, True
                break
            start = following.end()
        text.go(start, line + buffer.count(b"\n", counted, start))
        return number, is_behind

    def _objects_in_a_row(self) -> Iterator[Row]:
        """Yield the rows of values one after the other: one on each line in most inputs."""
        with self._text() as text:
            make, loads = self._objects.row, orjson.loads
            number = 0
            while text.peek():
                buffer, start, line = text.buffer, text.at, text.line
                # The short way: lines that each hold one value.
                stop = buffer.rfind(b"\n", start) if len(buffer) - start <= LARGE else -1
                pieces = buffer[start:stop].split(b"\n") if stop >= 0 else []
                for place, piece in enumerate(pieces, line):
                    try:
                        item = loads(piece)
                    except orjson.JSONDecodeError:
                        if piece and not piece.isspace():
                            stop = start + _length(pieces[: place - line])
                            break
                        continue
                    number += 1
                    try:
                        yield make(number, place, item, piece)
                    except TooManyColumnsError:
                        start += _length(pieces[: place - line])
                        raise text.unusable(self._file.limits.too_wide, start) from None
                else:
                    place, stop = line + len(pieces), stop + 1
                if pieces:
                    text.go(stop, place)
                while text.buffer is buffer and text.peek():
                    number += 1
                    yield self._row(text, number)

    def _member_array(self) -> Iterator[Row]:
        """Yield the rows of the one array of objects that an object holds."""
        with self._text() as text:
            text.peek()
            too_long = text.unusable(self._file.limits.too_long, text.at)
            found: str | None = None
            text.take(b"{")
            while True:
                if text.peek() != b'"':
                    raise text.unexpected("a key")
                name, _ = _value(text)
                text.take(b":")
                if self._holds_rows(text, name):
                    if found is not None:
                        arrays = listed([found, name])
                        raise self._file.unusable(
                            f"is one object with several arrays of objects, {arrays}: "
                            "keep the one that holds the rows"
                        )
                    found = name
                    yield from self._array(text, 0)
                else:
                    _value(text)
                if text.peek() == b"}":
                    break
                text.take(b",")
            text.take(b"}")
            if found is None or text.peek():
                raise too_long

    def _holds_rows(self, text: JsonText, name: str) -> bool:
        """Whether the member that begins here is the array of the rows."""
        if text.peek() != b"[" or self._member is not None:
            return name == self._member
        if _match_list_of_objects(text.buffer, text.at):
            return True
        return text.more() and _match_list_of_objects(text.buffer, text.at) is not None

    def _row(self, text: JsonText, number: int) -> Row:
        """Take the row that begins here, whatever it is."""
        item, piece = _value(text)
        try:
            return self._objects.row(number, text.line, item, piece)
        except TooManyColumnsError:
            raise text.unusable(self._file.limits.too_wide, text.at - len(piece)) from None


def _value(text: JsonText) -> tuple[Any, bytes]:
    """Take the value that begins here; return it and its text."""
    piece = text.value()
    return _parsed(text, piece), piece


def _parsed(text: JsonText, piece: bytes) -> Any:
    """Parse the text of a value that was taken just now."""
    try:
        return orjson.loads(piece)
    except orjson.JSONDecodeError as error:
        raise text.broken(piece, error) from None


def _length(lines: Sequence[bytes]) -> int:
    return sum(map(len, lines)) + len(lines)
