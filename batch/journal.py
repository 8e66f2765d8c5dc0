"""Outcomes on disk as they happen, in the order in which they happen: JSON lines, only ever appended."""

import asyncio
import fcntl
import os
import socket
from array import array
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import orjson

from batch.errors import BusyError, InputUnusableError, OutputError
from batch.model import Outcome, Result, Status
from batch.text import printable

_FLUSH_AFTER = 0.1
"""Seconds for which outcomes are gathered before one write and one fsync."""

_READ_AHEAD = 1024
_FORM = 1
_NONE = -1


@dataclass(frozen=True, slots=True)
class Identity:
    """What makes two runs the same run: a journal is continued by no other.

    Attributes:
        job: name of the job.
        sha256: digest of the input's bytes, in hex.
        target: where the requests go when a row does not say otherwise.

    """

    job: str
    sha256: str
    target: str


class Journal:
    """The journal of one run, and the lock on it. A context manager.

    Args:
        path: the file; created if it is not there, continued if it is.
        identity: of this run.
        rows: rows of the input.
        restart: whether to discard what an earlier run left there.

    Attributes:
        failure: what the disk said when it took no more, or None. Then some outcomes are not on it.
        continued: rows that an earlier run has brought to their outcome.

    Raises:
        BusyError: another process holds the journal.
        InputUnusableError: the journal belongs to another input, job or endpoint.
        OutputError: it cannot be written, or is damaged.

    """

    def __init__(self, path: Path, identity: Identity, rows: int, *, restart: bool = False) -> None:
        self.path = path
        self.on_failure: Callable[[OSError], None] = _raise
        self._offsets = array("q", [_NONE]) * rows
        self._buffer: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.Task[None] | None = None
        self.failure: OSError | None = None
        self._file = _open_locked(path)
        try:
            if restart:
                os.ftruncate(self._file, 0)
            self._end = self._load(identity)
            self._begin(identity)
        except BaseException:
            os.close(self._file)
            raise
        self.continued = rows - self._offsets.count(_NONE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)

    def __contains__(self, row: int) -> bool:
        return self._offsets[row - 1] != _NONE

    def append(self, row: int, outcome: Outcome) -> None:
        """Take an outcome; it is on disk within 250 ms. For use inside the event loop."""
        line = orjson.dumps(_encode(row, outcome)) + b"\n"
        self._offsets[row - 1] = self._end
        self._end += len(line)
        self._buffer.append(line)
        self._write_soon()

    async def flush(self) -> None:
        """Return when everything taken so far is on disk, or `on_failure` has been told why not."""
        while self._writing or self._timer:
            if self._timer:
                self._timer.cancel()
                self._start_writing()
            if self._writing:
                await asyncio.wait({self._writing})

    def outcome(self, row: int) -> Outcome | None:
        """Return what is recorded of a row, or None."""
        offset = self._offsets[row - 1]
        if offset == _NONE:
            return None
        line = os.pread(self._file, _READ_AHEAD, offset)
        while b"\n" not in line and (more := os.pread(self._file, _READ_AHEAD, offset + len(line))):
            line += more
        return _decode(orjson.loads(line[: line.index(b"\n")]))

    def remove(self) -> None:
        """Delete the file: the report holds everything now."""
        self.path.unlink(missing_ok=True)

    def _write_soon(self, waited: float = 0.0) -> None:
        if not self._timer and not self._writing and not self.failure:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(max(_FLUSH_AFTER - waited, 0), self._start_writing)

    def _start_writing(self) -> None:
        self._timer = None
        self._writing = asyncio.get_running_loop().create_task(self._write_gathered())

    async def _write_gathered(self) -> None:
        began = asyncio.get_running_loop().time()
        data, self._buffer = b"".join(self._buffer), []
        try:
            await asyncio.to_thread(self._write, data)
        except OSError as error:
            # The last line may be torn now; nothing may follow it.
            self.failure = error
            self.on_failure(error)
        finally:
            self._writing = None
        if self._buffer:
            # Those that came meanwhile have waited for the disk already.
            self._write_soon(asyncio.get_running_loop().time() - began)

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._file, view) :]
        os.fsync(self._file)

    def _load(self, identity: Identity) -> int:
        """Read what is there; return where the next line begins. A torn last line is cut off."""
        end = 0
        with open(os.dup(self._file), "rb") as file:
            file.seek(0)
            for number, line in enumerate(file, start=1):
                entry = _parsed(line)
                if entry is None and not file.read(1) and (number > 1 or _header(identity).startswith(line)):
                    break
                if number == 1 and entry is not None and "journal" in entry:
                    self._check(entry, identity)
                elif number > 1 and entry is not None and self._is_sound(entry):
                    if "row" in entry:
                        self._offsets[entry["row"] - 1] = end
                else:
                    raise OutputError(
                        f"{self.path}, line {number}: not a line of this run's journal, so it cannot be "
                        "continued; look at it, or discard it with --restart"
                    )
                end += len(line)
        os.ftruncate(self._file, end)
        return end

    def _is_sound(self, entry: dict[str, Any]) -> bool:
        """Whether a line is one that `append` or `_begin` has written."""
        if "row" not in entry:
            return "pid" in entry
        row = entry["row"]
        return (
            type(row) is int
            and 0 < row <= len(self._offsets)
            and entry.keys() >= _FIELDS
            and isinstance(entry["outcome"], str)
            and entry["outcome"] in _STATUSES
            and all(isinstance(entry[field], str) for field in _TEXTS)
            and all(isinstance(entry[field], int | float | None) for field in _NUMBERS)
        )

    def _check(self, header: dict[str, Any], identity: Identity) -> None:
        for field, value in {"journal": _FORM, **asdict(identity)}.items():
            if header.get(field) != value:
                what = {"sha256": "the input has changed since"}.get(
                    field, f"{field} was {header.get(field)!r} and is {value!r} now"
                )
                raise InputUnusableError(
                    f"{self.path} was left by an interrupted run, but {what}; "
                    "run it as before to continue, or discard what it did with --restart"
                )

    def _begin(self, identity: Identity) -> None:
        since = datetime.now(UTC).isoformat(timespec="seconds")
        holder = orjson.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": since}) + b"\n"
        data = holder if self._end else _header(identity) + holder
        try:
            self._write(data)
        except OSError as error:
            raise OutputError(f"{self.path}: cannot be written: {error.strerror}") from error
        self._end += len(data)


def _header(identity: Identity) -> bytes:
    return orjson.dumps({"journal": _FORM, **asdict(identity)}) + b"\n"


def _parsed(line: bytes) -> dict[str, Any] | None:
    """Return the object on a line, or None where it is torn or none."""
    try:
        entry = orjson.loads(line) if line.endswith(b"\n") else None
    except orjson.JSONDecodeError:
        return None
    return entry if isinstance(entry, dict) else None


def _raise(error: OSError) -> None:
    raise error


def _open_locked(path: Path) -> int:
    while True:
        try:
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise OutputError(f"{path}: cannot be written: {error.strerror}") from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(file)
            os.close(file)
            raise BusyError(f"{path}: another run is at work here{holder}") from None
        except OSError as error:
            os.close(file)
            raise OutputError(f"{path}: cannot be locked: {error.strerror}") from error
        try:
            # Its last holder may have removed the file between the two calls.
            if os.stat(path).st_ino == os.fstat(file).st_ino:
                return file
        except FileNotFoundError:
            pass
        os.close(file)


def _holder(file: int) -> str:
    """Say who holds a journal: the last line that names a process."""
    with open(os.dup(file), "rb") as lines:
        for line in reversed(lines.readlines()):
            if line.startswith(b'{"pid":') and (entry := _parsed(line)) and entry.keys() >= {"host", "since"}:
                host = printable(str(entry["host"]))
                return f": process {entry['pid']} on {host}, since {printable(str(entry['since']))}"
    return ""


_TEXTS = frozenset({"reason", "error_code", "error_message", "request_id"})
_NUMBERS = frozenset({"http_status", "attempts", "started_at", "finished_at", "duration_ms"})
_FIELDS = {"outcome"} | _TEXTS | _NUMBERS
_STATUSES = frozenset(Status)


def _encode(row: int, outcome: Outcome) -> dict[str, Any]:
    result = outcome.result
    return {
        "row": row,
        "outcome": result.status,
        "reason": result.reason,
        "http_status": result.http_status,
        "error_code": result.error_code,
        "error_message": result.error_message,
        "request_id": result.request_id,
        "attempts": outcome.attempts,
        "started_at": outcome.started_at,
        "finished_at": outcome.finished_at,
        "duration_ms": outcome.duration_ms,
    }


def _decode(entry: dict[str, Any]) -> Outcome:
    return Outcome(
        Result(
            Status(entry["outcome"]),
            entry["reason"],
            entry["http_status"],
            entry["error_code"],
            entry["error_message"],
            entry["request_id"],
        ),
        entry["attempts"],
        entry["started_at"],
        entry["finished_at"],
        entry["duration_ms"],
    )
