"""The input's bytes: opened once, read as often as needed, unpacked and checked for change on the way."""

import hashlib
import io
import os
import re
import shutil
import stat
import sys
from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from batch.disk import is_linked, nameless_file, regular_only
from batch.errors import InputMissingError, InputUnusableError, OutputError
from batch.folder import ROOT, not_planted
from batch.input.limits import Limits
from batch.input.packed import unpacked
from batch.text import printable

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_BUFFER = 256 * 1024
_MOST_OF_OTHERS = 256 * 1024 * 1024  # bytes, unpacked, of another user's report that was come across
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_WIDE_MARKS = (b"\xff\xfe", b"\xfe\xff")
_UNDECODED = re.compile("[\udc80-\udcff]")


class Origin(Enum):
    """What an input is, and so what of another user's it may be."""

    LIST = "list"  # whatever the user names
    REPORT = "report"  # the same, but it is no trap
    FOUND = "found"  # a report that was come across: a regular file; what it takes of time has a bound


_OPENERS = {Origin.LIST: None, Origin.REPORT: not_planted, Origin.FOUND: regular_only}


class InputFile:
    """An input that can be read from its start any number of times.

    One descriptor is kept for the whole life, so a file replaced by a rename meanwhile does no harm. What
    cannot be rewound, standard input or a pipe, is first copied to a temporary file without a name.

    Args:
        path: where it is, or `-` for standard input.
        limits: what its rows may take.
        spool: the folder for that copy where the system has none for temporary files.
        origin: what it is.

    Attributes:
        limits: what its rows may take.
        name: what messages call it.
        mode: permissions of a regular file, or None for standard input or a pipe. What another user allows
            others to write is not among them.

    """

    def __init__(
        self, path: str, limits: Limits, spool: Path | None = None, origin: Origin = Origin.LIST
    ) -> None:
        self.limits = limits
        self._origin = origin
        self._is_bounded = False
        self._spool = spool
        self.name = "standard input" if path == "-" else printable(path)
        self.mode: int | None = None
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
        return self._digest()

    def open_bytes(self) -> BinaryIO:
        """Start reading: bytes, unpacked, without byte-order marks. Several readers may be open at once."""
        stream = self._unpacked()
        while stream.peek(len(BYTE_ORDER_MARK)).startswith(BYTE_ORDER_MARK):
            stream.read(len(BYTE_ORDER_MARK))
        return stream

    def open_text(self, errors: str = "strict") -> io.TextIOWrapper:
        """Start reading as text with its line ends as they are."""
        return io.TextIOWrapper(Lined(self, self.open_bytes()), encoding="utf-8", errors=errors, newline="")

    @cached_property
    def has_mark(self) -> bool:
        """Whether the text begins with a byte-order mark."""
        with self._unpacked() as stream:
            return stream.peek(len(BYTE_ORDER_MARK)).startswith(BYTE_ORDER_MARK)

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
            InputUnusableError: its content differs from that at the start.

        """
        if self._is_changed():
            raise self.unusable("")

    def is_at(self, path: Path) -> bool:
        """Whether this is the very file that is at `path` now."""
        return is_linked(self._raw.fileno(), path)

    def unusable(self, text: str, line: int = 0, column: int = 0) -> InputUnusableError:
        """Return an error that names this input, and the place where one is given.

        If the file was changed meanwhile, that is the error: whatever was seen may come of it.
        """
        if self._is_changed():
            return InputUnusableError(f"{self.name} was changed while in use")
        if not line:
            return InputUnusableError(f"{self.name} {text}")
        place = f"line {line}, column {column}" if column else f"line {line}"
        return InputUnusableError(f"{self.name}, {place}: {text}")

    def not_utf8(self) -> tuple[int, int] | None:
        """Return line and column of the first byte that is not UTF-8, or None."""
        number = 1
        with self.open_text(errors="surrogateescape") as stream:
            while line := stream.readline(self.limits.size):
                if found := _UNDECODED.search(line):
                    return number, found.start() + 1
                number += line.endswith(("\n", "\r"))
        return None

    def _unpacked(self) -> io.BufferedReader:
        self.check_unchanged()
        stream: io.BufferedReader = io.BufferedReader(_Bytes(self, self._raw.fileno()), _BUFFER)
        stream = unpacked(stream, self.unusable)
        return io.BufferedReader(_Bounded(stream, self.unusable), _BUFFER) if self._is_bounded else stream

    def _opened(self, path: str) -> BinaryIO:
        try:
            raw = cast("BinaryIO", open(path, "rb", buffering=0, opener=_OPENERS[self._origin]))  # noqa: SIM115
            found = os.fstat(raw.fileno())
            if stat.S_ISREG(found.st_mode):
                self.mode = stat.S_IMODE(found.st_mode)
                if found.st_uid != os.geteuid():
                    self.mode &= ~(stat.S_IWGRP | stat.S_IWOTH)
                    self._is_bounded = self._origin is Origin.FOUND and found.st_uid != ROOT
                return raw
            with raw:
                return self._spooled(raw)
        except (OSError, ValueError) as error:
            raise InputMissingError(f"{self.name}: {_reason(error)}") from None

    def _spooled(self, stream: BinaryIO) -> BinaryIO:
        try:
            spool = nameless_file(self._spool)
        except OSError as error:
            raise self._not_kept(error) from None
        try:
            shutil.copyfileobj(_Told(self.name, stream), spool, _BUFFER)
            spool.flush()
        except OSError as error:
            with suppress(OSError):
                spool.close()
            raise self._not_kept(error) from None
        except BaseException:
            with suppress(OSError):
                spool.close()
            raise
        return spool

    def _not_kept(self, error: OSError) -> OutputError:
        return OutputError(
            f"{self.name} cannot be kept in a temporary file: {_reason(error)}; set TMPDIR to a folder with "
            "room that can be written"
        )

    def _digest(self) -> str:
        return hashlib.file_digest(io.BufferedReader(_Bytes(self, self._raw.fileno())), "sha256").hexdigest()

    def _is_changed(self) -> bool:
        """Whether size or time differ from those at the start; the time alone may, if the digest is known."""
        state = self._stat()
        if state == self._state:
            return False
        if state[0] != self._state[0] or "sha256" not in vars(self):
            return True
        if self._digest() != self.sha256:
            return True
        self._state = state
        return False

    def _stat(self) -> tuple[int, int]:
        state = os.fstat(self._raw.fileno())
        return state.st_size, state.st_mtime_ns

    def _check_text(self) -> None:
        with self.open_bytes() as stream:
            head = stream.read(4)
        if head.startswith(_WIDE_MARKS) or b"\0" in head:
            raise self.unusable("is UTF-16 or UTF-32, or no text at all: save it as UTF-8")


class _Told:
    """Reads a stream; an error of the reading is not to be taken for one of the copy that is written."""

    def __init__(self, name: str, stream: BinaryIO) -> None:
        self._name = name
        self._stream = stream

    def read(self, size: int = -1, /) -> bytes:
        try:
            return self._stream.read(size)
        except OSError as error:
            raise InputMissingError(f"{self._name}: {_reason(error)}") from None


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


class _Bounded(io.RawIOBase):
    """Reads a stream up to a bound: packed bytes can be a thousand times as many, and more."""

    def __init__(self, stream: BinaryIO, unusable: Callable[[str], InputUnusableError]) -> None:
        self._stream = stream
        self._unusable = unusable
        self._left = _MOST_OF_OTHERS

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        count: int = self._stream.readinto(buffer)  # type: ignore[attr-defined]
        self._left -= count
        if self._left < 0:
            raise self._unusable("is another user's, and too large to be read to its end")
        return count


class Lined(io.BufferedReader):
    """Refuses a line that would not fit into memory, at the cost of a look at each piece read.

    Attributes:
        has_marks: whether a byte-order mark has been seen.

    """

    def __init__(self, file: InputFile, stream: BinaryIO) -> None:
        super().__init__(cast("io.RawIOBase", stream), _BUFFER)
        self.has_marks = False
        self._file = file
        self._line = 1
        self._length = 0
        self._tail = b""

    def read1(self, size: int = -1) -> bytes:
        """Read what one reading gives.

        Raises:
            InputUnusableError: a line has more bytes than a row may.

        """
        data = super().read1(size)
        if ends := data.count(b"\n") or data.count(b"\r"):
            self._line += ends
            self._length = -1 - max(data.rfind(b"\n"), data.rfind(b"\r"))
        self._length += len(data)
        if self._length > self._file.limits.size:
            raise self._file.unusable(self._file.limits.too_long, self._line, 1)
        if not data.isascii():
            self.has_marks = self.has_marks or BYTE_ORDER_MARK in self._tail + data
            self._tail = data[-2:]
        return data


def _standard_input() -> BinaryIO:
    if sys.stdin is None:
        raise InputMissingError("standard input is closed")
    with suppress(OSError):
        os.set_blocking(sys.stdin.fileno(), True)  # else what is not there yet would be taken for the end
    return sys.stdin.buffer


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else "") or str(error)
