"""JSON text of any length, from which one value after the other is taken."""

import re
from typing import BinaryIO

import orjson

from batch.errors import InputUnusableError
from batch.input.files import InputFile
from batch.text import printable, quoted

LARGE = 1024 * 1024
"""Bytes from which a value's own values are counted before it is parsed."""

_PIECE = 64 * 1024
_DEEPEST = 1000
_CONTINUATIONS = bytes(range(0x80, 0xC0))
_MARK = "\N{ZERO WIDTH NO-BREAK SPACE}".encode()

_match_blanks = re.compile(rb"(?:[ \t\r\n]++|" + _MARK + rb")*+").match
_match_scalar = re.compile(rb'[^ \t\r\n,:"\[\]{}]++').match
# An object in which only other objects are, and nothing in those: more would need recursion.
_match_object = re.compile(
    rb'\{(?s:[^"{}\[\]]++|"(?:[^"\\]++|\\.)*+"|\{(?:[^"{}\[\]]++|"(?:[^"\\]++|\\.)*+")*+\})*+\}'
).match
_search_bracket = re.compile(rb'["{}\[\]]').search
_match_string_text = re.compile(rb'(?s:[^"\\]++|\\.)*+').match
_strings = re.compile(rb'"(?s:[^"\\]++|\\.)*+"')


def object_end(text: bytes, start: int, limit: int) -> int:
    """Return where an object ends that holds only values, and objects of values; 0 if it does otherwise."""
    match = _match_object(text, start, limit)
    return match.end() if match else 0


class JsonText:
    """A place in a JSON text. The text from there on is read in pieces, as it is needed.

    Args:
        file: whose text it is.
        stream: its bytes.

    Attributes:
        buffer: the part of the text that is held.
        at: the place, as an offset in it.

    """

    def __init__(self, file: InputFile, stream: BinaryIO) -> None:
        self.buffer = b""
        self.at = 0
        self._file = file
        self._stream = stream
        self._limits = file.limits
        self._line = 1
        self._counted = 0  # offset up to which lines are counted
        self._before = 0  # characters of the buffer's first line that stand before the buffer

    @property
    def line(self) -> int:
        """The line of the place, from 1."""
        self._line += self.buffer.count(b"\n", self._counted, self.at)
        self._counted = self.at
        return self._line

    def go(self, at: int, line: int) -> None:
        """Go forward to an offset in the buffer, which is on this line."""
        self.at = self._counted = at
        self._line = line

    def peek(self) -> bytes:
        """Go to the next byte that is neither blank nor of a byte-order mark; return it, or nothing."""
        while True:
            self.at = _match_blanks(self.buffer, self.at).end()  # type: ignore[union-attr]
            if len(self.buffer) - self.at >= len(_MARK) or not self.more():
                return self.buffer[self.at : self.at + 1]

    def take(self, byte: bytes) -> None:
        """Go past a byte that must come next, after blanks.

        Raises:
            InputUnusableError: another one comes.

        """
        if self.peek() != byte:
            raise self.unexpected(quoted(byte.decode()))
        self.at += 1

    def value(self) -> bytes:
        """Take the value that begins here; return its text, of which only the end is sure to be right.

        Raises:
            InputUnusableError: there is none, or it is too long, too deep or never ends.

        """
        end = self._end()
        if end - self.at > LARGE:
            self._check_size(end)
        text = self.buffer[self.at : end]
        self.at = end
        return text

    def more(self) -> bool:
        """Read on, and let go of what stands before the place; False at the end of the text."""
        line = self.line
        gone, rest = self.buffer[: self.at], self.buffer[self.at :]
        newline = gone.rfind(b"\n")
        self._before = _letters(gone[newline + 1 :]) + (self._before if newline < 0 else 0)
        # As much again as is there: what is copied then stays in proportion to the text.
        data = self._stream.read(max(_PIECE, min(len(rest), self._limits.size)))
        self.buffer = rest + data
        self.go(0, line)
        return bool(data)

    def broken(self, text: bytes, error: orjson.JSONDecodeError) -> InputUnusableError:
        """Return the error for the text of a value that was taken just now and that is not JSON."""
        start = self.at - len(text)
        try:
            decoded = text.decode()
        except UnicodeDecodeError as undecoded:
            return self.unusable("this is not UTF-8", start + undecoded.start)
        offset = start + len(decoded[: error.pos].encode())
        return self.unusable(f"broken JSON: {printable(error.msg)}", offset)

    def unexpected(self, wanted: str) -> InputUnusableError:
        """Return the error for what comes next where something else has to."""
        found = self.peek()
        if not found:
            return self.unusable("broken JSON: it ends too early", self.at)
        if not found.isascii():
            return self.unusable("this is not UTF-8", self.at)
        return self.unusable(f"broken JSON: expected {wanted}, found {quoted(found.decode())}", self.at)

    def unusable(self, text: str, offset: int) -> InputUnusableError:
        """Return an error that names the place of an offset in the buffer."""
        before = self.buffer[:offset]
        newline = before.rfind(b"\n")
        column = _letters(before[newline + 1 :]) + (self._before if newline < 0 else 0)
        line = self._line + self.buffer.count(b"\n", self._counted, offset)
        line -= self.buffer.count(b"\n", offset, self._counted)
        return self._file.unusable(text, line, column + 1)

    def _end(self) -> int:
        """Return the offset at which the value ends that begins here."""
        first = self.peek()
        if first not in (b"{", b"[", b'"'):
            return self._end_of_scalar()
        if end := object_end(self.buffer, self.at, len(self.buffer)):
            return end
        depth = length = opened = 0
        while True:
            match = _search_bracket(self.buffer, self.at + length)
            if match is None:
                length = self._read_on()
                continue
            length = match.end() - self.at
            bracket = match[0]
            if bracket == b'"':
                length = self._length_with_string(length)
            elif bracket in b"{[":
                depth += 1
                opened += 1
                if opened > self._limits.values:
                    raise self.unusable(self._limits.too_many_values, self.at)
                if depth >= _DEEPEST:
                    raise self.unusable(f"nested deeper than {_DEEPEST} levels", match.start())
            else:
                depth -= 1
            if depth <= 0:
                return self.at + length

    def _end_of_scalar(self) -> int:
        while True:
            match = _match_scalar(self.buffer, self.at)
            if match is None:
                raise self.unexpected("a value")
            if match.end() < len(self.buffer):
                return match.end()
            self._check_length()
            if not self.more():
                return len(self.buffer)

    def _length_with_string(self, length: int) -> int:
        """Return the length of the value's text up to the end of a string whose quote has been seen."""
        while True:
            start = self.at + length
            end = _match_string_text(self.buffer, start).end()  # type: ignore[union-attr]
            newline = self.buffer.find(b"\n", start, end)
            if newline >= 0:  # else a quote too few would make one long row of all that follow
                raise self.unusable("broken JSON: a string is not closed on its line", newline)
            length = end - self.at
            if self.buffer.startswith(b'"', end):
                return length + 1
            self._read_on()

    def _read_on(self) -> int:
        """Read more of the value that begins here; return the length of its text so far."""
        self._check_length()
        length = len(self.buffer) - self.at
        if not self.more():
            raise self._cut_off()
        return length

    def _check_length(self) -> None:
        if len(self.buffer) - self.at > self._limits.size:
            too_long = self.unusable(self._limits.too_long, self.at)
            # Where a bracket is missing, all that follows seems to be one row.
            first_lines = self.buffer[self.at : self.buffer.rfind(b"\n", self.at, self.at + _PIECE) + 1]
            raise self._broken_in(first_lines) or too_long

    def _check_size(self, end: int) -> None:
        """Refuse a value that would take too much memory once it is parsed."""
        if end - self.at > self._limits.size:
            raise self.unusable(self._limits.too_long, self.at)
        # Not a copy of the text, as long as a look at the text itself will do.
        separators = (b",", b"[", b"{")
        if sum(self.buffer.count(each, self.at, end) for each in separators) <= self._limits.values:
            return
        bare = _strings.sub(b"", self.buffer[self.at : end])
        if sum(map(bare.count, separators)) > self._limits.values:
            raise self.unusable(self._limits.too_many_values, self.at)

    def _cut_off(self) -> InputUnusableError:
        """Return the error for a value that has not ended at the end of the text: where it went wrong."""
        self._check_size(len(self.buffer))
        broken = self._broken_in(self.buffer[self.at :])
        return broken or self.unusable("broken JSON: it ends too early", len(self.buffer))

    def _broken_in(self, text: bytes) -> InputUnusableError | None:
        """Return what is wrong in the beginning of a value, or None if it only does not end."""
        try:
            orjson.loads(text)
        except orjson.JSONDecodeError as error:
            if text and error.msg != "unexpected end of data":
                self.at += len(text)
                return self.broken(text, error)
        return None


def _letters(text: bytes) -> int:
    return len(text.translate(None, _CONTINUATIONS))
