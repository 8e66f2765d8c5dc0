"""The journal of one run: what it has done, on disk, and the lock that keeps others out."""

import contextlib
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Self

from batch.errors import InputUnusableError, OutputError
from batch.folder import Folder
from batch.model import Outcome
from batch.results.journal import lines
from batch.results.journal.appending import Appender
from batch.results.journal.contents import Contents
from batch.results.journal.leftover import Fate, fate, keep
from batch.results.journal.lines import Identity
from batch.results.journal.lock import open_locked
from batch.results.journal.reading import Reading
from batch.results.resume import continued, is_in_doubt
from batch.results.summary import counted

_SUFFIX = ".journal"


class Journal(Appender):
    """The journal of one run, and the lock on it. A context manager.

    Lines are handed to the operating system at the latest before the next row is sent, so that a process
    that is killed loses nothing of what came before; they are on disk within 250 ms.

    Args:
        path: the file; created if it is not there, continued if it is.
        folder: the one that it is in, opened before; None to open it now.
        identity: of this run.
        rows: rows of the input.
        to_settle: those that are to be brought to their outcome; None for all.
        restart: whether to begin anew although this very run was interrupted.
        supersedes: whether the report that the journal belongs to is the run's input as well.
        notify: is told, in a sentence, what becomes of the work of another run that has left its journal.

    Attributes:
        settled: rows that have been brought to their outcome, by an earlier run or this one.
        in_doubt: rows that an earlier run may have sent without seeing an answer.
        unsettled: outcomes of rows that a stop cut short, by row: true so far, and to be continued.
        began: when an interrupted run was begun, in seconds since the epoch; 0 where there was none.
        ended: whether this very run had come to its end, and only its journal was left.

    Raises:
        BusyError: another process holds the journal.
        ConfigurationError: somebody else has put the file there, or may write to it.
        InputUnusableError: another command left the journal, and its work is in no report.
        OutputError: it cannot be written, or is damaged.

    """

    def __init__(
        self,
        path: Path,
        identity: Identity,
        rows: int,
        *,
        folder: Folder | None = None,
        to_settle: int | None = None,
        restart: bool = False,
        supersedes: bool = False,
        notify: Callable[[str], None] = lambda _text: None,
    ) -> None:
        try:
            folder = folder or Folder(path.parent)
        except OSError as error:
            raise OutputError(f"{path}: cannot be written: {error.strerror}; nothing was sent") from error
        super().__init__(path, folder, open_locked(path, folder))
        self.ended = False
        self.began = 0.0
        self._report = path.parent / path.name.removesuffix(_SUFFIX)
        self._contents = Contents(self._file, rows)
        self._cells: dict[int, Sequence[str]] = {}
        try:
            self._clear(identity, notify, restart=restart, in_place=supersedes)
            if not self.ended:
                self._load()
                self._begin(identity, rows if to_settle is None else to_settle)
        except OSError as error:
            os.close(self._file)
            raise OutputError(f"{path}: cannot be continued: {error.strerror}; nothing was sent") from error
        except BaseException:
            os.close(self._file)
            raise
        self.settled = self._contents.settled
        self.in_doubt, self.unsettled = self._contents.in_doubt, self._contents.unsettled

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)

    def __contains__(self, row: int) -> bool:
        return row in self._contents

    def take_up(self, row: int, cells: Sequence[str]) -> None:
        """Keep the cells that name a row's work; the lines about the row hold them."""
        self._cells[row] = cells

    def begin(self, row: int) -> None:
        """Note, before it is sent, that a row may have been. For use inside the event loop.

        Raises:
            OutputError: the disk takes no more.

        """
        self._take(lines.sent(row, self._cells.get(row, ())))
        self._write()
        if self.failure:
            raise OutputError(f"{self.path}: cannot be written: {self.failure.strerror}")

    def append(self, row: int, outcome: Outcome) -> None:
        """Take an outcome; it is on disk within 250 ms. For use inside the event loop."""
        whole = continued(self.unsettled.pop(row, None), outcome)
        self._contents.place(row, self._take(lines.outcome(row, whole, self._cells.pop(row, ()))))
        self.settled += 1

    def outcome(self, row: int) -> Outcome | None:
        """Return what is recorded of a row, or None."""
        return self._contents.outcome(row)

    def forget(self, row: int) -> None:
        """Count a row as one without an outcome: what is recorded of it does not hold any more."""
        self._contents.forget(row)
        self.settled -= 1

    def leave(self, unsettled: Mapping[int, Outcome]) -> None:
        """Take the outcomes of rows that a stop has cut short; of the others begun here all is known."""
        for row, outcome in unsettled.items():
            self.unsettled[row] = continued(self.unsettled.get(row), outcome)
            if is_in_doubt(outcome.result):
                self.in_doubt.add(row)
            else:
                self.in_doubt.discard(row)

    @property
    def written(self) -> str:
        """SHA-256 of the report that an earlier run has written of all this, or empty."""
        return self._contents.written

    def keep(self) -> str:
        """Write out what the journal says, as a report of its own; say where it is.

        Raises:
            OutputError: there is no room for it.

        """
        with self._opened() as file:
            return keep(file, self._report, self._folder)

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

        It is emptied too. Whoever has given it another name could put it back one day, for a run of the same
        list to believe.

        Raises:
            OutputError: it cannot be deleted.

        """
        try:
            self._folder.remove(self.path.name)
            self._folder.sync()
            os.ftruncate(self._file, 0)
        except OSError as error:
            raise OutputError(
                f"{self.path}: cannot be removed: {error.strerror}; the report is whole and in its place, "
                "and the same command removes the journal when that is possible"
            ) from error

    def _clear(
        self, identity: Identity, notify: Callable[[str], None], *, restart: bool, in_place: bool
    ) -> None:
        """Make room for this run where another one has left its journal, and keep what that one did."""
        with self._opened() as file:
            found = fate(file, self._report, self._folder, identity, restart=restart, in_place=in_place)
        self.ended = found is Fate.ENDED
        if found is Fate.KEPT:
            notify(f"{self.keep()}; this run begins anew")
        if found in (Fate.KEPT, Fate.DROPPED):
            os.ftruncate(self._file, 0)

    def _load(self) -> None:
        """Read what is there, and cut off a torn last line."""
        with self._opened() as file:
            reading = Reading(self.path, file, OutputError)
            for offset, entry in reading:
                if "rows" in entry and entry["rows"] != self._contents.rows:
                    raise InputUnusableError(
                        f"{self.path} was left by a run of {counted(entry['rows'], 'row')}, and the input "
                        f"has {self._contents.rows:,} now; begin anew with --restart"
                    )
                self._contents.note(entry, offset)
        os.ftruncate(self._file, reading.end)
        self._end, self._crc = reading.end, reading.crc
        with contextlib.suppress(ValueError):
            self.began = datetime.fromisoformat(reading.began).timestamp()

    def _opened(self) -> BinaryIO:
        file = open(os.dup(self._file), "rb")  # noqa: SIM115 - the caller closes it
        file.seek(0)
        return file

    def _begin(self, identity: Identity, to_settle: int) -> None:
        since = datetime.now(UTC).isoformat(timespec="seconds")
        holder = lines.holder(os.getpid(), socket.gethostname(), since, self._contents.rows, to_settle)
        try:
            self._put(*([] if self._end else [lines.header(identity)]), holder)
        except OutputError as error:
            raise OutputError(f"{error}; nothing was sent") from error


def journal_path(report: Path) -> Path:
    """Return the place of a report's journal."""
    return report.parent / f"{report.name}{_SUFFIX}"
