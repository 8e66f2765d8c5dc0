"""The journal of one run: what it has done, on disk, and the lock that keeps others out."""

import os
import socket
from array import array
from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Self

import orjson

from batch.disk import sync_folder
from batch.errors import InputUnusableError, OutputError
from batch.journal import lines
from batch.journal.appending import Appender
from batch.journal.lines import Identity
from batch.journal.lock import open_locked
from batch.journal.reading import Reading
from batch.model import Outcome, Result, Status
from batch.resume import continued, is_in_doubt
from batch.summary import counted
from batch.text import printable

_READ_AHEAD = 1024
_NONE = -1
_CUT_SHORT = Result(Status.UNCONFIRMED, "interrupted")


class Journal(Appender):
    """The journal of one run, and the lock on it. A context manager.

    Lines are handed to the operating system at the latest before the next row is sent, so that a process
    that is killed loses nothing of what came before; they are on disk within 250 ms.

    Args:
        path: the file; created if it is not there, continued if it is.
        identity: of this run.
        rows: rows of the input.
        to_settle: those that are to be brought to their outcome; None for all.
        restart: whether to discard what an earlier run left there.
        supersedes: whether to discard another run's journal once its report has come to its place.

    Attributes:
        settled: rows that have been brought to their outcome, by an earlier run or this one.
        in_doubt: rows that an earlier run may have sent without seeing an answer.
        unsettled: outcomes of rows that a stop cut short, by row: true so far, and to be continued.
        ended: whether this very run had come to its end, and only its journal was left.

    Raises:
        BusyError: another process holds the journal.
        InputUnusableError: the journal belongs to another input, job or endpoint.
        OutputError: it cannot be written, or is damaged.

    """

    def __init__(
        self,
        path: Path,
        identity: Identity,
        rows: int,
        *,
        to_settle: int | None = None,
        restart: bool = False,
        supersedes: bool = False,
    ) -> None:
        super().__init__(path, open_locked(path))
        self.in_doubt: set[int] = set()
        self.unsettled: dict[int, Outcome] = {}
        self.ended = False
        self._rows = rows
        self._offsets = array("q", [_NONE]) * rows
        try:
            if restart or (supersedes and self._is_superseded(identity)):
                os.ftruncate(self._file, 0)
            if not self.ended:
                self._load(identity)
                self._begin(identity, rows if to_settle is None else to_settle)
        except OSError as error:
            os.close(self._file)
            raise OutputError(f"{path}: cannot be continued: {error.strerror}; nothing was sent") from error
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
        whole = continued(self.unsettled.pop(row, None), outcome)
        self._offsets[row - 1] = self._take(lines.outcome(row, whole))
        self.settled += 1

    def outcome(self, row: int) -> Outcome | None:
        """Return what is recorded of a row, or None."""
        offset = self._offsets[row - 1]
        if offset == _NONE:
            return None
        line = os.pread(self._file, _READ_AHEAD, offset)
        while b"\n" not in line and (more := os.pread(self._file, _READ_AHEAD, offset + len(line))):
            line += more
        return lines.outcome_of(orjson.loads(line[: line.index(b"\n")]))

    def leave(self, unsettled: Mapping[int, Outcome]) -> None:
        """Take the outcomes of rows that a stop has cut short; of the others begun here all is known."""
        for row, outcome in unsettled.items():
            self.unsettled[row] = continued(self.unsettled.get(row), outcome)
            if is_in_doubt(outcome.result):
                self.in_doubt.add(row)
            else:
                self.in_doubt.discard(row)

    def note_written(self, sha256: str, *, stopped: bool) -> None:
        """Note that a report of all this is whole, before it goes to its place. To be called after `flush`.

        Args:
            sha256: of the report.
            stopped: whether the run stopped before its end.

        Raises:
            OutputError: the disk takes no more.

        """
        in_doubt = sorted(row for row in self.in_doubt if row not in self)
        self._put(lines.written(sha256, in_doubt, self.unsettled, stopped=stopped))

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
            raise OutputError(
                f"{self.path}: cannot be removed: {error.strerror}; the report is whole and in its place, "
                "and the same command removes the journal when that is possible"
            ) from error

    def _load(self, identity: Identity) -> None:
        """Read what is there, and cut off a torn last line."""
        with self._opened() as file:
            reading = Reading(self.path, file, OutputError)
            for offset, entry in reading:
                if not offset:
                    self._check(entry, identity)
                self._note(entry, offset)
        os.ftruncate(self._file, reading.end)
        self._end, self._crc = reading.end, reading.crc

    def _opened(self) -> BinaryIO:
        file = open(os.dup(self._file), "rb")  # noqa: SIM115 - the caller closes it
        file.seek(0)
        return file

    def _note(self, entry: dict[str, Any], offset: int) -> None:
        if "rows" in entry and entry["rows"] != self._rows:
            raise InputUnusableError(
                f"{self.path} was left by a run of {counted(entry['rows'], 'row')}, and the input has "
                f"{self._rows:,} now; discard what it did with --restart"
            )
        if "row" in entry:
            self._offsets[entry["row"] - 1] = offset
            self.in_doubt.discard(entry["row"])
            self.unsettled.pop(entry["row"], None)
        elif "sent" in entry:
            row = entry["sent"]
            self.in_doubt.add(row)
            if row in self.unsettled:
                self.unsettled[row] = self.unsettled[row]._replace(result=_CUT_SHORT)
        elif "written" in entry:
            self.in_doubt = set(entry["in_doubt"])
            self.unsettled = {each["row"]: lines.outcome_of(each) for each in entry["unsettled"]}

    def _check(self, header: dict[str, Any], identity: Identity) -> None:
        if what := lines.difference(header, identity):
            command, of = (printable(str(header.get(each, ""))) for each in ("command", "input"))
            raise InputUnusableError(
                f"{self.path} was left by an interrupted {command or 'run'}{' of ' * bool(of)}{of}, but "
                f"{what}; run it as before to continue, or discard what it did with --restart"
            )

    def _is_superseded(self, identity: Identity) -> bool:
        """Whether the journal is another run's, and a report that has been in its place holds all of it."""
        with self._opened() as file:
            reading = Reading(self.path, file, OutputError)
            entries = iter(reading)
            if not next(entries, None) or not lines.difference(reading.header, identity):
                return False
            deque(entries, maxlen=0)
        header, end = reading.header, reading.last
        if reading.is_torn:
            return False
        if "placed" in end:
            return True
        if end.get("written") != identity.sha256:
            return False
        # A run in place has another input once its report is there; in all else it is the same.
        same_but_input = {**header, "sha256": identity.sha256}
        self.ended = not end["stopped"] and not lines.difference(same_but_input, identity)
        return not self.ended

    def _begin(self, identity: Identity, to_settle: int) -> None:
        since = datetime.now(UTC).isoformat(timespec="seconds")
        holder = lines.holder(os.getpid(), socket.gethostname(), since, self._rows, to_settle)
        try:
            self._put(*([] if self._end else [lines.header(identity)]), holder)
        except OutputError as error:
            raise OutputError(f"{error}; nothing was sent") from error


def journal_path(report: Path) -> Path:
    """Return the place of a report's journal."""
    return report.with_name(f"{report.name}.journal")
