"""How far a run is, for whoever looks on: read from its journal, without disturbing it."""

import errno
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from batch.errors import InputMissingError, InputUnusableError
from batch.folder import Folder
from batch.results.journal import lines
from batch.results.journal.journal import journal_path
from batch.results.journal.leftover import is_over
from batch.results.journal.lock import described, is_held, open_own
from batch.results.journal.reading import Reading
from batch.results.report import recorded
from batch.results.summary import Summary, counted
from batch.text import printable


@dataclass(frozen=True, slots=True)
class RunState:
    """What the journal of a run that has not ended says.

    Attributes:
        command: the command that runs.
        input: what it calls its input.
        rows: rows of the input.
        to_settle: rows that the run is to bring to their outcome.
        summary: of the outcomes so far.
        is_running: whether the run is under way; else it was interrupted.
        holder: the process that runs it, or did so last: `pid`, `host` and `since`.

    """

    command: str
    input: str
    rows: int
    to_settle: int
    summary: Summary
    is_running: bool
    holder: dict[str, Any]

    def as_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {
            "state": "running" if self.is_running else "interrupted",
            "command": self.command,
            "input": self.input,
            "rows": self.rows,
            "to_settle": self.to_settle,
            **{key: self.holder.get(key) for key in ("pid", "host", "since")},
        }

    def as_text(self) -> str:
        """Return it as a line for a person."""
        done = f"{self.command} of {self.input}: {self.summary.rows:,} of {counted(self.to_settle, 'row')}"
        by = described(self.holder)
        if self.is_running:
            return f"{done}; under way{by}"
        return f"{done}; interrupted{by}; the same command goes on"


def run_state(report: Path) -> RunState | None:
    """Return how far the run is that writes this report, or None where there is none.

    Raises:
        ConfigurationError: somebody else has put the journal there, or may write to it.
        InputMissingError: its journal may not be read.
        InputUnusableError: its journal is damaged.

    """
    path = journal_path(report)
    try:
        folder = Folder(path.parent, to_look_on=True)
        with open(open_own(path, folder), "rb") as file:
            is_running = is_held(file.fileno())
            return _read(report, folder, file, is_running=is_running)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return None  # so no run can have left one
        raise InputMissingError(f"{path}: {error.strerror}") from None


def _read(report: Path, folder: Folder, file: BinaryIO, *, is_running: bool) -> RunState | None:
    summary = Summary()
    reading = Reading(journal_path(report), file, InputUnusableError)
    for _, entry in reading:
        if "row" in entry:
            summary.add(recorded(entry["row"], lines.outcome_of(entry)))
    header, holder = reading.header, reading.holder
    if not holder or (not is_running and is_over(reading, report, folder)):
        return None
    summary.job = printable(header["job"], 40)
    command, of = printable(header["command"]), printable(header["input"])
    return RunState(command, of, holder["rows"], holder["to_settle"], summary, is_running, holder)
