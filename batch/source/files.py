"""The input's bytes: opened once, read as often as needed, unpacked and checked for change on the way."""

import gzip
import hashlib
import io
import os
import re
import shutil
import stat
import sys
import tempfile
import zlib
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from batch.disk import is_linked
from batch.errors import InputMissingError, InputUnusableError, OutputError
from batch.text import printable

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

LINE_LIMIT = 16 * 1024 * 1024
_BUFFER = 256 * 1024
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_GZIP = b"\x1f\x8b"
_ZIP = b"PK\x03\x04"
_WIDE_MARKS = (b"\xff\xfe", b"\xfe\xff")
_UNDECODED = re.compile("[\udc80-\udcff]")


class InputFile:
    """An input that can be read from its start any number of times.

    One descriptor is kept for the whole life, so a file replaced by a rename meanwhile does no harm. What
    cannot be rewound, standard input or a pipe, is first copied to a temporary file without a name.

    Attributes:
        name: what messages call it.

    """

    def __init__(self, path: str) -> None:
        self.name = "standard input" if path == "-" else printable(path)
        self._raw = self._spooled(_standard_input()) if path == "-" else self._opened(path)
        self._state = self._stat()
        try:
            self._check_text()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the descriptor."""
        self._raw.close()

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the bytes as they are stored, in hex."""
        self.check_unchanged()
        return hashlib.file_digest(io.BufferedReader(_Bytes(self, self._raw.fileno())), "sha256").hexdigest()

    def open_bytes(self) -> BinaryIO:
        """Start reading: bytes, unpacked, without a byte-order mark. Several readers may be open at once."""
        self.check_unchanged()
        stream: io.BufferedReader = io.BufferedReader(_Bytes(self, self._raw.fileno()), _BUFFER)
        if stream.peek(len(_GZIP)).startswith(_GZIP):
            stream = io.BufferedReader(_Unpacked(self, stream), _BUFFER)
        if stream.peek(len(_BYTE_ORDER_MARK)).startswith(_BYTE_ORDER_MARK):
            stream.read(len(_BYTE_ORDER_MARK))
        return stream

    def open_text(self, errors: str = "strict") -> io.TextIOWrapper:
        """Start reading as text with its line ends as they are."""
        return io.TextIOWrapper(_Lined(self, self.open_bytes()), encoding="utf-8", errors=errors, newline="")

    def first_byte(self) -> bytes:
        """Return the first byte that is not blank.

        Raises:
            InputUnusableError: there is none.

        """
        with self.open_bytes() as stream:
            while chunk := stream.read(_BUFFER):
                if text := chunk.lstrip():
                    return text[:1]
        raise self.unusable("is empty")

    def check_unchanged(self) -> None:
        """Refuse to go on with a file that somebody has written to.

        Raises:
            InputUnusableError: size or time of change differ from those at the start.

        """
        if self._stat() != self._state:
            raise self.unusable("")

    def is_at(self, path: Path) -> bool:
        """Whether this is the very file that is at `path` now."""
        return is_linked(self._raw.fileno(), path)

    def unusable(self, text: str, line: int = 0, column: int = 0) -> InputUnusableError:
        """Return an error that names this input, and the place where one is given.

        If the file was changed meanwhile, that is the error: whatever was seen may come of it.
        """
        if self._stat() != self._state:
            return InputUnusableError(f"{self.name} was changed while in use")
        if not line:
            return InputUnusableError(f"{self.name} {text}")
        place = f"line {line}, column {column}" if column else f"line {line}"
        return InputUnusableError(f"{self.name}, {place}: {text}")

    def not_utf8(self) -> tuple[int, int] | None:
        """Return line and column of the first byte that is not UTF-8, or None."""
        number = 1
        with self.open_text(errors="surrogateescape") as stream:
            while line := stream.readline(LINE_LIMIT):
                if found := _UNDECODED.search(line):
                    return number, found.start() + 1
                number += line.endswith(("\n", "\r"))
        return None

    def _opened(self, path: str) -> BinaryIO:
        try:
            raw = cast("BinaryIO", open(path, "rb", buffering=0))  # noqa: SIM115
            if stat.S_ISREG(os.fstat(raw.fileno()).st_mode):
                return raw
            with raw:
                return self._spooled(raw)
        except (OSError, ValueError) as error:
            raise InputMissingError(f"{self.name}: {_reason(error)}") from None

    def _spooled(self, stream: BinaryIO) -> BinaryIO:
        spool = cast("BinaryIO", tempfile.TemporaryFile())  # noqa: SIM115
        try:
            shutil.copyfileobj(stream, spool, _BUFFER)
            spool.flush()
        except OSError as error:
            spool.close()
            raise OutputError(f"{self.name} cannot be kept in a temporary file: {_reason(error)}") from None
        except BaseException:
            spool.close()
            raise
        return spool

    def _stat(self) -> tuple[int, int]:
        state = os.fstat(self._raw.fileno())
        return state.st_size, state.st_mtime_ns

    def _check_text(self) -> None:
        with self.open_bytes() as stream:
            head = stream.read(4)
        if head.startswith(_WIDE_MARKS) or b"\0" in head:
            raise self.unusable("is UTF-16 or UTF-32, or no text at all: save it as UTF-8")
        if head == _ZIP:
            raise self.unusable("is a zip archive or a workbook: save it as CSV, as UTF-8")


class _Bytes(io.RawIOBase):
    """Reads a descriptor at a position of its own, so that passes do not disturb one another."""

    def __init__(self, file: InputFile, descriptor: int) -> None:
        self._file = file
        self._descriptor = descriptor
        self._position = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        view = memoryview(buffer)
        try:
            data = os.pread(self._descriptor, len(view), self._position)
        except OSError as error:
            raise InputMissingError(f"{self._file.name}: {_reason(error)}") from None
        view[: len(data)] = data
        self._position += len(data)
        return len(data)


class _Lined(io.BufferedReader):
    """Refuses a line that would not fit into memory, at the cost of a look at each piece read."""

    def __init__(self, file: InputFile, stream: BinaryIO) -> None:
        super().__init__(cast("io.RawIOBase", stream), _BUFFER)
        self._file = file
        self._line = 1
        self._length = 0

    def read1(self, size: int = -1) -> bytes:
        data = super().read1(size)
        if ends := data.count(b"\n") or data.count(b"\r"):
            self._line += ends
            self._length = 0
        self._length += len(data)
        if self._length > LINE_LIMIT:
            raise self._file.unusable("this line is too long", self._line)
        return data


class _Unpacked(io.RawIOBase):
    """Unpacks gzip, and says in the project's own words what is wrong with it."""

    def __init__(self, file: InputFile, packed: BinaryIO) -> None:
        self._file = file
        self._unpacked = gzip.GzipFile(fileobj=packed)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        try:
            return self._unpacked.readinto(buffer)
        except EOFError:
            raise self._file.unusable("is cut off: its gzip data end too early") from None
        except (gzip.BadGzipFile, zlib.error) as error:
            raise self._file.unusable(f"is damaged: {printable(str(error))}") from None


def _standard_input() -> BinaryIO:
    if sys.stdin is None:
        raise InputMissingError("standard input: it is closed")
    return sys.stdin.buffer


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else "") or str(error)
