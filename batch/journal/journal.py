"""The journal of one run: what it has done, on disk, and the lock that keeps others out."""

import asyncio
import os
import socket
from array import array
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import orjson

from batch.disk import is_linked, sync_folder, write_all
from batch.errors import InputUnusableError, OutputError
from batch.journal import lines
from batch.journal.lines import Identity
from batch.journal.lock import open_locked
from batch.model import Outcome
from batch.text import printable

_SYNC_AFTER = 0.1
"""Seconds for which lines are gathered before one fsync."""

_READ_AHEAD = 1024
_NONE = -1


class Journal:
    """The journal of one run, and the lock on it. A context manager.

    Lines are handed to the operating system at the latest before the next row is sent, so that a process
    that is killed loses nothing of what came before; they are on disk within 250 ms.

    Args:
        path: the file; created if it is not there, continued if it is.
        identity: of this run.
        rows: rows of the input.
        restart: whether to discard what an earlier run left there.
        supersedes: whether to discard another run's journal once its report has come to its place.

    Attributes:
        failure: what the disk said when it took no more, or None. Then some outcomes are not on it.
        settled: rows that have been brought to their outcome, by an earlier run or this one.
        in_doubt: rows that an earlier run may have sent without seeing an answer.
        ended: whether this very run had come to its end, and only its journal was left.

    Raises:
        BusyError: another process holds the journal.
        InputUnusableError: the journal belongs to another input, job or endpoint.
        OutputError: it cannot be written, or is damaged.

    """

    def __init__(
        self, path: Path, identity: Identity, rows: int, *, restart: bool = False, supersedes: bool = False
    ) -> None:
        self.path = path
        self.on_failure: Callable[[OSError], None] = _raise
        self.failure: OSError | None = None
        self.in_doubt: set[int] = set()
        self.ended = False
        self._rows = rows
        self._offsets = array("q", [_NONE]) * rows
        self._buffer: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None
        self._syncing: asyncio.Task[None] | None = None
        self._file = open_locked(path)
        try:
            superseded = supersedes and self._is_superseded(identity)
            if restart or (superseded and not self.ended):
                os.ftruncate(self._file, 0)
            if restart or not self.ended:
                self.ended = False
                self._end = self._load(identity)
                self._begin(identity)
        except BaseException:
            os.close(self._file)
            raise
        self.settled = rows - self._offsets.count(_NONE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)

    def __contains__(self, row: int) -> bool:
        return self._offsets[row - 1] != _NONE

    def begin(self, row: int) -> None:
        """Note, before it is sent, that a row may have been. For use inside the event loop.

        Raises:
            OutputError: the disk takes no more.

        """
        self._take(lines.sent(row))
        self._write()
        if self.failure:
            raise OutputError(f"{self.path}: cannot be written: {self.failure.strerror}")

    def append(self, row: int, outcome: Outcome) -> None:
        """Take an outcome; it is on disk within 250 ms. For use inside the event loop."""
        self._offsets[row - 1] = self._end
        self.settled += 1
        self._take(lines.outcome(row, outcome))

    async def flush(self) -> None:
        """Return when everything taken so far is on disk, or `on_failure` has been told why not."""
        while self._syncing or self._timer:
            if self._timer:
                self._timer.cancel()
                self._start_syncing()
            if self._syncing:
                await asyncio.wait({self._syncing})

    def outcome(self, row: int) -> Outcome | None:
        """Return what is recorded of a row, or None."""
        offset = self._offsets[row - 1]
        if offset == _NONE:
            return None
        line = os.pread(self._file, _READ_AHEAD, offset)
        while b"\n" not in line and (more := os.pread(self._file, _READ_AHEAD, offset + len(line))):
            line += more
        return lines.outcome_of(orjson.loads(line[: line.index(b"\n")]))

    def note_written(self, sha256: str, in_doubt: Iterable[int], *, stopped: bool) -> None:
        """Note that a report of all this is whole, before it goes to its place. To be called after `flush`.

        Args:
            sha256: of the report.
            in_doubt: the rows that may have been sent without an answer; of the others that is known.
            stopped: whether the run stopped before its end.

        Raises:
            OutputError: the disk takes no more.

        """
        self._put(lines.written(sha256, sorted(in_doubt), stopped=stopped))

    def note_placed(self) -> None:
        """Note that the report has come to its place: from here on it is the user's.

        Raises:
            OutputError: the disk takes no more.

        """
        self._put(lines.placed())

    def remove(self) -> None:
        """Delete the file: the report holds everything now.

        Raises:
            OutputError: it cannot be deleted.

        """
        try:
            self.path.unlink(missing_ok=True)
            sync_folder(self.path)
        except OSError as error:
            raise OutputError(f"{self.path}: cannot be removed: {error.strerror}") from error

    def _take(self, line: bytes) -> None:
        self._end += len(line)
        self._buffer.append(line)
        if not self._timer and not self._syncing and not self.failure:
            self._sync_after(_SYNC_AFTER)

    def _sync_after(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._start_syncing)

    def _start_syncing(self) -> None:
        self._timer = None
        self._write()
        if not self.failure:
            self._syncing = asyncio.get_running_loop().create_task(self._sync_up_to(self._end))

    async def _sync_up_to(self, end: int) -> None:
        """Bring what has been handed over onto the disk; lines taken since then come in the next turn.

        Args:
            end: where the lines handed over end.

        """
        began = asyncio.get_running_loop().time()
        try:
            await asyncio.to_thread(self._sync)
        except OSError as error:
            self._fail(error)
        finally:
            self._syncing = None
        if self._end > end and not self.failure:
            # Those that came meanwhile have waited for the disk already.
            took = asyncio.get_running_loop().time() - began
            self._sync_after(max(_SYNC_AFTER - took, 0))

    def _sync(self) -> None:
        os.fsync(self._file)
        if not is_linked(self._file, self.path):
            raise FileNotFoundError(0, "it has been removed, with what it held")

    def _write(self) -> None:
        """Hand over what was gathered. After a failure nothing more: the last line may be torn now."""
        if self.failure or not self._buffer:
            return
        data, self._buffer = b"".join(self._buffer), []
        try:
            write_all(self._file, data)
        except OSError as error:
            self._fail(error)

    def _fail(self, error: OSError) -> None:
        self.failure = error
        self.on_failure(error)

    def _load(self, identity: Identity) -> int:
        """Read what is there; return where the next line begins. A torn last line is cut off."""
        end = 0
        with open(os.dup(self._file), "rb") as file:
            file.seek(0)
            for number, line in enumerate(file, start=1):
                entry = lines.parsed(line)
                if not line.endswith(b"\n") and (number > 1 or lines.may_be_header(line)):
                    break  # torn: only the last line can be
                if number == 1 and entry is not None and "journal" in entry:
                    self._check(entry, identity)
                elif number > 1 and entry is not None and lines.is_sound(entry, self._rows):
                    self._note(entry, end)
                else:
                    raise OutputError(
                        f"{self.path}, line {number}: not a line of this run's journal, so it cannot be "
                        "continued; look at it, or discard it with --restart"
                    )
                end += len(line)
        os.ftruncate(self._file, end)
        return end

    def _note(self, entry: dict[str, Any], offset: int) -> None:
        if "row" in entry:
            self._offsets[entry["row"] - 1] = offset
            self.in_doubt.discard(entry["row"])
        elif "sent" in entry:
            self.in_doubt.add(entry["sent"])
        elif "written" in entry:
            self.in_doubt = set(entry["in_doubt"])

    def _check(self, header: dict[str, Any], identity: Identity) -> None:
        if what := lines.difference(header, identity):
            command, of = (printable(str(header.get(each, ""))) for each in ("command", "input"))
            raise InputUnusableError(
                f"{self.path} was left by an interrupted {command or 'run'}{' of ' * bool(of)}{of}, but "
                f"{what}; run it as before to continue, or discard what it did with --restart"
            )

    def _is_superseded(self, identity: Identity) -> bool:
        """Whether the journal is another run's, and a report that has been in its place holds all of it."""
        first = last = b""
        with open(os.dup(self._file), "rb") as file:
            file.seek(0)
            for last in file:
                first = first or last
        header, end = lines.parsed(first) or {}, lines.parsed(last) or {}
        is_other = lines.difference(header, identity)
        if "journal" not in header or not is_other:
            return False
        if "placed" in end:
            return True
        if end.get("written") != identity.sha256:
            return False
        # A run in place has another input once its report is there; in all else it is the same.
        same_but_input = {**header, "sha256": identity.sha256}
        self.ended = not end.get("stopped") and not lines.difference(same_but_input, identity)
        return True

    def _begin(self, identity: Identity) -> None:
        since = datetime.now(UTC).isoformat(timespec="seconds")
        line = lines.holder(os.getpid(), socket.gethostname(), since, self._rows)
        self._put(line if self._end else lines.header(identity) + line)

    def _put(self, data: bytes) -> None:
        """Write lines at once, and bring them onto the disk."""
        try:
            write_all(self._file, data)
            os.fsync(self._file)
            if not self._end:
                sync_folder(self.path)
        except OSError as error:
            raise OutputError(f"{self.path}: cannot be written: {error.strerror}") from error
        self._end += len(data)


def journal_path(report: Path) -> Path:
    """Return the place of a report's journal."""
    return report.with_name(f"{report.name}.journal")


def _raise(error: OSError) -> None:
    raise error
