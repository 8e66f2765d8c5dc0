"""Standard output and standard error, made safe once at the start: whatever becomes of them harms no run.

Standard error never fails and never blocks for long: text that it does not take is dropped. Standard output
carries only what was asked for, so that what it does not take is an error.
"""

import io
import os
import select
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, TextIO

from batch.errors import OutputError
from batch.text import visible

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_STDIN, _STDOUT, _STDERR = range(3)
_PIECE = select.PIPE_BUF  # a pipe that is ready takes a piece of this size at once
_PATIENCE = 1000
"""Milliseconds for which text waits when standard error begins to block, as with a pager that pauses."""


def guard() -> None:
    """Set up the standard streams. To be called before anything is opened or written.

    A descriptor that was closed is opened on /dev/null. Otherwise the next file that is opened, perhaps the
    journal, would get its number, and with it what is meant for the terminal.
    """
    for number in (_STDIN, _STDOUT, _STDERR):
        try:
            os.fstat(number)
        except OSError:
            with suppress(OSError):
                os.open(os.devnull, os.O_RDWR)
    output, error = sys.stdout, sys.stderr
    sys.stdout = _text(_Output(is_closed=output is None), output)
    sys.stderr = _text(_Talk(), error)
    # Python goes back to these while it shuts down.
    vars(sys).update(__stdout__=sys.stdout, __stderr__=sys.stderr)


def say(*lines: str) -> None:
    """Write lines to standard error, each as one line whatever is in it. This never fails."""
    for line in lines:
        sys.stderr.write(f"{visible(line)}\n")


def check_output() -> None:
    """Find out, before it is worked for, whether standard output takes anything.

    Raises:
        OutputError: it is closed, cannot be written, or its reader has gone.

    """
    sys.stdout.buffer.write(b"")
    poll = select.poll()
    poll.register(_STDOUT, select.POLLOUT)
    if any(event & select.POLLERR for _, event in poll.poll(0)):
        raise OutputError("standard output cannot be written: its reader has gone")


def _text(stream: "_Descriptor", replaced: TextIO | None) -> io.TextIOWrapper:
    """Return a text stream over `stream` that takes every letter, and keeps nothing back until later."""
    encoding = (replaced.encoding if replaced else None) or "utf-8"
    return io.TextIOWrapper(stream, encoding, errors="backslashreplace", write_through=True)


class _Descriptor(io.BufferedIOBase):
    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.name = descriptor

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)


class _Output(_Descriptor):
    """Writes all or raises `OutputError`."""

    def __init__(self, *, is_closed: bool) -> None:
        super().__init__(_STDOUT)
        self._is_closed = is_closed

    def write(self, data: "ReadableBuffer", /) -> int:
        if self._is_closed:
            raise OutputError("standard output is closed")
        view = memoryview(data).cast("B")
        written = 0
        try:
            while True:
                try:
                    written += os.write(_STDOUT, view[written:])
                except BlockingIOError:
                    select.select([], [_STDOUT], [])
                if written == len(view):
                    return written
        except OSError as error:
            raise OutputError(f"standard output cannot be written: {error.strerror}") from error


class _Talk(_Descriptor):
    """Writes as far as it can, and drops the rest."""

    def __init__(self) -> None:
        super().__init__(_STDERR)
        self._poll = select.poll()
        self._poll.register(_STDERR, select.POLLOUT)
        self._patience = _PATIENCE

    def write(self, data: "ReadableBuffer", /) -> int:
        view = memoryview(data).cast("B")
        with suppress(OSError):
            written = 0
            while written < len(view) and self._is_ready():
                written += os.write(_STDERR, view[written : written + _PIECE])
        return len(view)

    def _is_ready(self) -> bool:
        """Wait until a piece can be written; a stream that has blocked is not waited for again."""
        is_ready = bool(self._poll.poll(self._patience))
        self._patience = _PATIENCE if is_ready else 0
        return is_ready
