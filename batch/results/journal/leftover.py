"""A journal that an earlier run has left where this run's is to be: what becomes of it."""

import contextlib
import os
import shutil
from collections.abc import Iterator, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, BinaryIO

from batch.disk import ROOM, fitting
from batch.errors import InputUnusableError, OutputError
from batch.folder import PRIVATE, Folder
from batch.model import Record, Status
from batch.results.journal import lines
from batch.results.journal.contents import Contents
from batch.results.journal.lines import Identity
from batch.results.journal.reading import Reading
from batch.results.report import ReportWriter, recorded
from batch.text import printable

_MOST_NAMES = 1000


class Fate(Enum):
    """What becomes of a journal."""

    CONTINUED = "continued"  # it is this run's own
    ENDED = "ended"  # it is this run's own, and its report is in its place
    DROPPED = "dropped"  # it says nothing that no report says
    KEPT = "kept"  # what it says is written out first


def fate(
    file: BinaryIO, report: Path, folder: Folder, identity: Identity, *, restart: bool, in_place: bool
) -> Fate:
    """Say what becomes of a journal when a run takes its place.

    A run of another input never waits for somebody to look at an interrupted one: what that one did is kept,
    and the new run begins. But no run in place begins on a report that an interrupted one is yet to replace.

    Args:
        file: the journal, at its start.
        report: place of the report that the journal belongs to.
        folder: that both are in.
        identity: of the run.
        restart: whether an interrupted run is not to be continued.
        in_place: whether the report is the run's input as well.

    Raises:
        InputUnusableError: another command left it with the same input, and its work is in no report; or
            another version left it.
        OutputError: it is damaged.

    """
    reading = Reading(_path(report), file, OutputError)
    entries = iter(reading)
    try:
        if not next(entries, None):
            return Fate.CONTINUED
        difference = lines.difference(reading.header, identity)
        if not difference and not restart:
            return Fate.CONTINUED
        has_work = sum("sent" in entry or "row" in entry for _, entry in entries) > 0  # reads to the end
    except (InputUnusableError, OutputError):
        if restart:
            return Fate.KEPT
        raise
    # In all but its input, a run in place whose report is there is the same run.
    has_other_input = not in_place and reading.header["sha256"] != identity.sha256
    is_same_command = not lines.difference({**reading.header, "sha256": identity.sha256}, identity)
    if is_over(reading, report, folder, identity.sha256 if in_place else None):
        has_ended = in_place and is_same_command and not reading.last.get("stopped", True)
        return Fate.ENDED if has_ended and not restart else Fate.DROPPED
    if not has_work:
        return Fate.DROPPED
    if restart or is_same_command or has_other_input:
        return Fate.KEPT
    raise InputUnusableError(
        f"{_path(report)} was left by {described(reading.header)}, but {difference}; run that again to "
        "continue it, or begin anew with --restart, which keeps what it did in a report"
    )


def is_over(reading: Reading, report: Path, folder: Folder, input_sha256: str | None = None) -> bool:
    """Whether the report of a journal that has been read is in its place, with nothing done since.

    Args:
        reading: of the whole journal.
        report: place of the report.
        folder: that it is in.
        input_sha256: digest of the file there, if it is known.

    """
    end = reading.last
    if reading.is_torn or not ("placed" in end or "written" in end):
        return False
    return "placed" in end or end["written"] == (input_sha256 or folder.sha256_of(report.name))


def described(header: dict[str, Any]) -> str:
    """Name the run that a journal's first line is of."""
    command, of = (printable(str(header.get(each, ""))) for each in ("command", "input"))
    return f"an interrupted {command or 'run'}{' of ' * bool(of)}{of}"


def keep(file: BinaryIO, report: Path, folder: Folder) -> str:
    """Write out what a journal says before it goes; say where it is.

    It becomes a report, which can be resumed and undone. Where the journal does not name the pairs, as one
    of version 0.1, or is damaged, a copy of it is kept instead.

    Args:
        file: the journal, at its start.
        report: place of the report that the journal belongs to.
        folder: that both are in.

    Raises:
        OutputError: there is no room for it.

    """
    reading = Reading(_path(report), file, OutputError)
    what = "something that is no journal"
    with contextlib.suppress(OutputError, InputUnusableError):
        contents, begun = _read(file, reading)
        what = described(reading.header)
        if path := _written_out(report, folder, reading, contents, begun):
            return f"what {what} has done is kept in {path}"
    file.seek(0)
    path = _copied(file, folder, list(_places(report, reading, ".journal")))
    return f"the journal of {what} is kept as {path}"


def _read(file: BinaryIO, reading: Reading) -> tuple[Contents, dict[int, list[str]]]:
    """Read a whole journal; return what it says, and the cells of the rows that were begun."""
    contents = Contents(file.fileno(), 0)
    begun: dict[int, list[str]] = {}
    for offset, entry in reading:
        if "pid" in entry and not contents.rows:
            contents = Contents(file.fileno(), entry["rows"])
        if "sent" in entry:
            begun[entry["sent"]] = entry.get("cells", [])
        elif "row" in entry:
            begun.pop(entry["row"], None)
        contents.note(entry, offset)
    return contents, begun


def _written_out(
    report: Path, folder: Folder, reading: Reading, contents: Contents, begun: dict[int, list[str]]
) -> Path | None:
    """Write a report of what a journal says; return None where the journal does not name the pairs."""
    header = reading.header
    columns = header.get("columns", [])
    paths = list(_places(report, reading, ".csv"))
    # Who might read the input is not known any more.
    with ReportWriter(paths[0], header["job"], columns, folder=folder, mode=PRIVATE) as writer:
        for cells, record in _records(contents, begun):
            if not columns or len(cells) != len(columns):
                return None
            writer.write(cells, record)
        sha256 = writer.finish()
        for path in paths:
            if not folder.has(path.name):
                writer.path = path
                writer.commit()
                return path
            if folder.own(path.name) and folder.sha256_of(path.name) == sha256:
                return path  # a run that was killed before it could take the journal away has written it
    raise OutputError(f"{paths[0]}: cannot be written: there are {len(paths):,} such files already")


def _records(contents: Contents, begun: dict[int, list[str]]) -> Iterator[tuple[Sequence[str], Record]]:
    """Yield the cells and the record of each row for which something may have been done."""
    for row in range(1, contents.rows + 1):
        if row not in contents.in_doubt and (entry := contents.entry(row)):
            yield entry.get("cells", []), recorded(row, lines.outcome_of(entry))
        elif row in contents.unsettled and row in begun:
            yield begun[row], recorded(row, contents.unsettled[row])
        elif row in contents.in_doubt:
            yield begun.get(row, []), Record(row, Status.UNCONFIRMED, "interrupted")


def _copied(file: BinaryIO, folder: Folder, paths: Sequence[Path]) -> Path:
    for path in paths:
        try:
            with open(folder.open(path.name, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as copy:
                shutil.copyfileobj(file, copy)
                copy.flush()
                os.fsync(copy.fileno())
            folder.sync()
        except FileExistsError:
            continue
        except OSError as error:
            raise OutputError(f"{path}: cannot be written: {error.strerror}; nothing was sent") from error
        return path
    raise OutputError(f"{paths[0]}: cannot be written: there are {len(paths):,} such files already")


def _start(reading: Reading) -> str:
    """Return when a journal was begun, in a form that fits into a file's name: `20261125T101500Z`."""
    return f"{''.join(filter(str.isalnum, reading.began[:19]))}Z" if reading.began else "unknown"


def _places(report: Path, reading: Reading, suffix: str) -> Iterator[Path]:
    """Yield the places where a leftover of a run may be kept, best first."""
    for number in range(1, _MOST_NAMES):
        tail = f".interrupted-{_start(reading)}{f'-{number}' * (number > 1)}{suffix}"
        yield fitting(report.parent, report.stem, tail, room=ROOM)


def _path(report: Path) -> Path:
    return report.parent / f"{report.name}.journal"
