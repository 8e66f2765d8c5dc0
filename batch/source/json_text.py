"""Rows from JSON: one array, or an object on each line."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import ijson  # type: ignore[import-untyped]
import orjson

from batch.errors import InputUnusableError
from batch.job import Column
from batch.model import Row
from batch.source.files import LINE_LIMIT, InputFile
from batch.source.objects import ObjectReader
from batch.text import printable

_PIECE = 16 * 1024
_MOST_OPENINGS = 1000
_DEEPEST = 1000
_STARTS = ("start_map", "start_array")
_ENDS = ("end_map", "end_array")
_CONTINUATIONS = bytes(range(0x80, 0xC0))
_SCALARS = {b'"': "a string", b"t": "true", b"f": "false", b"n": "null"}
# Everything that ijson's parsers raise of a text that is not JSON.
_BROKEN = (ijson.JSONError, ValueError)


class ArrayReader:
    """Reads a JSON array of objects piece by piece, never as a whole.

    Attributes:
        columns: names of the columns carried, as far as they are known.
        dropped: names of the columns not carried, likewise.

    """

    def __init__(self, file: InputFile, columns: Sequence[Column], reserved: Collection[str]) -> None:
        self._file = file
        self._objects = ObjectReader(columns, reserved, file.unusable)
        self.columns = self._objects.columns
        self.dropped = self._objects.dropped
        self._known_shallow = False
        self._first = file.first_byte()
        if self._first == b"{":
            raise file.unusable(
                "is one JSON object, wanted is a list of objects; "
                "if each line holds an object of its own, use --format jsonl"
            )

    def rows(self) -> Iterator[Row]:
        """Yield all rows.

        Raises:
            InputUnusableError: the text is no JSON array, or an empty one.

        """
        number = offset = openings = 0
        line = 1
        found: list[Any] = ijson.sendable_list()
        parser = ijson.items_coro(found, "item", use_float=True)
        make = self._objects.row
        with self._file.open_bytes() as stream, _ended(parser):
            for piece in iter(partial(stream.readline, _PIECE), b""):
                opened = piece.count(b"[") + piece.count(b"{")
                openings += opened
                if openings > _MOST_OPENINGS:
                    self._check_depth()
                try:
                    parser.send(piece)
                except _BROKEN as error:
                    raise self._broken(error, offset) from None
                offset += len(piece)
                if found:
                    openings = opened
                    for item in found:
                        number += 1
                        yield make(number, line, item)
                    found.clear()
                line += piece.endswith(b"\n")
            try:
                parser.close()
            except _BROKEN as error:
                raise self._broken(error, offset) from None
        if self._first != b"[":
            kind = _SCALARS.get(self._first, "a number")
            raise self._file.unusable(f"is {kind}, wanted is a list of objects")
        if not number:
            raise self._file.unusable("is an empty list: it has no rows")
        self._file.check_unchanged()

    def _broken(self, error: Exception, offset: int) -> InputUnusableError:
        place = self._place(offset)
        if (undecoded := self._file.not_utf8()) and undecoded <= place:
            return self._file.unusable("this is not UTF-8", *undecoded)
        return self._file.unusable(f"broken JSON: {_in_short(error)}", *place)

    def _place(self, offset: int) -> tuple[int, int]:
        """Return line and column where the text breaks, which is not before `offset` bytes.

        The parser does not tell. So the text is fed once more to a new one, from there on byte by byte.
        """
        line = column = 1
        for piece, _ in self._events(offset):
            if piece.endswith(b"\n"):
                line, column = line + 1, 1
            else:
                column += len(piece.translate(None, _CONTINUATIONS))
        return line, column

    def _check_depth(self) -> None:
        """Refuse an input nested so deep that the parser would need the square of the depth in memory.

        Raises:
            InputUnusableError: it is.

        """
        if self._known_shallow:
            return
        depth, line = 0, 1
        for piece, events in self._events():
            for event, _ in events:
                depth += (event in _STARTS) - (event in _ENDS)
                if depth > _DEEPEST:
                    raise self._file.unusable(f"nested deeper than {_DEEPEST} levels", line)
            line += piece.endswith(b"\n")
        self._known_shallow = True

    def _events(self, offset: int | None = None) -> Iterator[tuple[bytes, list[Any]]]:
        """Yield the text's pieces up to where it breaks, each with what the parser found in it.

        From `offset` on the pieces are single bytes.
        """
        events: list[Any] = ijson.sendable_list()
        parser = ijson.basic_parse_coro(events, use_float=True)
        position = 0
        with self._file.open_bytes() as stream, _ended(parser):
            for line in iter(partial(stream.readline, _PIECE), b""):
                single = offset is not None and position >= offset
                for piece in [line[at : at + 1] for at in range(len(line))] if single else [line]:
                    try:
                        parser.send(piece)
                    except _BROKEN:
                        return
                    yield piece, events
                    events.clear()
                position += len(line)


class LinesReader:
    """Reads JSON Lines.

    Attributes:
        columns: names of the columns carried, as far as they are known.
        dropped: names of the columns not carried, likewise.

    """

    def __init__(self, file: InputFile, columns: Sequence[Column], reserved: Collection[str]) -> None:
        self._file = file
        self._objects = ObjectReader(columns, reserved, file.unusable)
        self.columns = self._objects.columns
        self.dropped = self._objects.dropped

    def rows(self) -> Iterator[Row]:
        """Yield all rows.

        Raises:
            InputUnusableError: a line is not JSON, or there is none.

        """
        number = 0
        make = self._objects.row
        with self._file.open_bytes() as stream:
            for line, text in enumerate(iter(partial(stream.readline, LINE_LIMIT), b""), 1):
                if len(text) == LINE_LIMIT:
                    raise self._file.unusable("this line is too long", line)
                try:
                    item = orjson.loads(text)
                except orjson.JSONDecodeError as error:
                    if text.isspace():
                        continue
                    raise self._broken(error, text, line) from None
                number += 1
                yield make(number, line, item)
        self._file.check_unchanged()

    def _broken(self, error: orjson.JSONDecodeError, text: bytes, line: int) -> InputUnusableError:
        try:
            text.decode()
        except UnicodeDecodeError as undecoded:
            column = len(text[: undecoded.start].decode()) + 1
            return self._file.unusable("this is not UTF-8", line, column)
        hint = ""
        if line == 1 and text.lstrip().startswith((b"[", b"{")):
            hint = " (if the file is one JSON text over several lines, use --format json)"
        return self._file.unusable(f"broken JSON: {printable(error.msg)}{hint}", line, error.colno)


@contextmanager
def _ended(parser: Any) -> Iterator[None]:
    """End a parser in any case: one left in the middle of a text complains when it is collected."""
    try:
        yield
    finally:
        with suppress(*_BROKEN):
            parser.close()


def _in_short(error: Exception) -> str:
    """Return the parser's message without the excerpt it draws of the text."""
    text = error.args[0] if error.args else ""
    text = text.decode(errors="replace") if isinstance(text, bytes) else str(text)
    text = text.partition("\n")[0]
    if "EOF" in text or "ncomplete" in text:
        return "it ends too early"
    if "overflow" in text:
        return "a number too large (write it as a string)"
    return printable(text.partition("error: ")[2] or text)
