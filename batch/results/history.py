"""What other runs have done to the same items since: read from the reports and journals beside a run's own.

An outcome holds until another run takes its effect back. `associate` was stopped and its report undone: what
the stopped run recorded as done is not done any more, and must be sent again when that run goes on.
"""

import contextlib
import logging
import os
import re
import stat
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from batch.disk import regular_only
from batch.errors import BatchError, InputUnusableError
from batch.input import Format, format_by_name, unpacked
from batch.job import Job, RowError
from batch.model import Record, Status
from batch.results.journal import lines
from batch.results.journal.reading import Reading
from batch.results.report import open_report

log = logging.getLogger(__name__)

_JOURNAL = ".journal"
_BUFFER = 256 * 1024
_MOST_SEARCHED = 1024 * 1024 * 1024  # bytes of a file that may be no report
_EFFECTIVE = (Status.SUCCEEDED, Status.UNCHANGED, Status.UNCONFIRMED)
_ROUNDED_OFF = 0.001  # a report's times have whole milliseconds

_Change = tuple[bytes, float]
"""The key of an item's work, and when it was changed."""


class Changes(dict[bytes, float]):
    """When an item was changed last, in seconds since the epoch, by the key of its work.

    Attributes:
        unread_at: when a file was written last that could not be read to its end: it may have changed any.

    """

    unread_at = 0.0

    def __bool__(self) -> bool:
        """Whether anything may have been changed."""
        return len(self) > 0 or self.unread_at > 0

    def is_void(self, key: bytes, ended_at: float | None) -> bool:
        """Whether an outcome of this work that ended at `ended_at` was overtaken by a change."""
        changed_at = max(self.get(key, 0.0), self.unread_at)
        return changed_at > 0 and changed_at >= (ended_at or 0.0) - _ROUNDED_OFF


def changes(
    folders: Iterable[Path], job: Job[Any], by: Collection[str], *, since: float, but: Path
) -> Changes:
    """Return what runs of other jobs have done in the meantime.

    Files that are no reports and no journals of theirs say nothing. After one that may be theirs and cannot
    be read, or names an item that cannot be understood, no earlier outcome is trusted: every row is sent.

    Args:
        folders: where their reports and journals are.
        job: reads the items.
        by: names of the jobs that take back what `job` does.
        since: seconds since the epoch; files that nobody has written to since are left out.
        but: the report whose outcomes are in question; neither it nor its journal is read.

    """
    found = Changes()
    own = {os.path.realpath(but), os.path.realpath(f"{but}{_JOURNAL}")}
    for folder in {os.path.realpath(each) for each in folders}:
        for path, written_at in _written_since(Path(folder), since):
            if os.path.realpath(path) not in own:
                _read(path, written_at, job, by, found)
    return found


def _read(path: Path, written_at: float, job: Job[Any], by: Collection[str], found: Changes) -> None:
    """Add what one file says."""
    said = _by_journal if path.suffix == _JOURNAL else _by_report
    try:
        for key, at in said(path, job, by, written_at):
            found[key] = max(at, found.get(key, 0.0))
    except FileNotFoundError:
        return  # a report in the making has taken its place meanwhile, or a journal has ended
    except (BatchError, OSError) as error:
        if path.suffix == _JOURNAL or _names(path, ("outcome", *by)):
            found.unread_at = max(found.unread_at, written_at)
            log.warning("%s; as it may take back anything, what was done before is sent again", error)


def seconds(time: str | None) -> float | None:
    """Return a report's time as seconds since the epoch."""
    return datetime.fromisoformat(time).timestamp() if time else None


def _written_since(folder: Path, since: float) -> Iterator[tuple[Path, float]]:
    """Yield the files that may be reports or journals, each with the time of the last write.

    A link counts for the file that it leads to if it is one's own, or root's.
    """
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if not (entry.name.endswith(_JOURNAL) or _form(entry.name)):
                continue
            with contextlib.suppress(OSError):
                if entry.is_symlink() and entry.stat(follow_symlinks=False).st_uid not in (0, os.geteuid()):
                    continue
                found = entry.stat()
                if stat.S_ISREG(found.st_mode) and found.st_mtime >= since:
                    yield folder / entry.name, found.st_mtime


def _form(name: str) -> Format | None:
    """Return the form of the report that a file of this name may be, or may have been before it was kept."""
    return format_by_name(name.rstrip("~"))


def _by_report(path: Path, job: Job[Any], by: Collection[str], written_at: float) -> Iterator[_Change]:
    """Yield what a report says, which is nothing if it is of none of the jobs in question."""
    # One of JSON would have to be read to its end to find out that it is no report.
    if _form(path.name) is not Format.CSV and not _names(path, ("outcome",)):
        return
    with open_report(str(path), job.columns, is_found=True) as report:
        for row in report.rows() if report.job in by else ():
            if (record := row.earlier) and _may_have_effect(record):
                yield _key(job, row.cells, f"{report.name}, line {row.line}"), _end(record, written_at)


def _may_have_effect(record: Record) -> bool:
    """Whether a row was changed. One whose outcome somebody has emptied is pending after attempts."""
    if record.status is Status.PENDING:
        return record.attempts > 0 or record.finished_at is not None
    return record.status in _EFFECTIVE


def _end(record: Record, written_at: float) -> float:
    """Return when a row of a report ended; at the latest time that is possible, if the time was cut."""
    ended_at = seconds(record.finished_at) or 0.0
    is_exact = ended_at % 1 > 0  # a table that was saved anew may have lost the fraction, and the seconds
    return ended_at if is_exact else max(ended_at, written_at)


def _by_journal(path: Path, job: Job[Any], by: Collection[str], written_at: float) -> Iterator[_Change]:
    """Yield what a journal says, which is nothing if it is of none of the jobs in question."""
    columns = [column.name for column in job.columns]
    with open(path, "rb", opener=regular_only) as file:
        reading = Reading(path, file, InputUnusableError)
        for _, entry in reading:
            if reading.header.get("job") not in by:
                return
            if "sent" in entry:
                ended_at = None
            elif "row" in entry and entry["outcome"] in _EFFECTIVE:
                ended_at = lines.outcome_of(entry).finished_at
            else:
                continue
            # Version 0.1 did not name the items.
            cells = entry.get("cells", ()) if reading.header.get("columns") == columns else ()
            yield _key(job, cells, str(path)), ended_at or written_at


def _key(job: Job[Any], cells: Sequence[str], place: str) -> bytes:
    """Return the key of the work that cells name.

    Raises:
        InputUnusableError: they name none.

    """
    try:
        if len(cells) != len(job.columns):
            raise InputUnusableError(f"{place}: it does not say what was changed")
        return job.key(job.parse(cells))
    except RowError as error:
        raise InputUnusableError(f"{place}: {error.column}: {error}") from None


def _names(path: Path, words: Collection[str]) -> bool:
    """Whether a file has one of these words in it. What cannot be unpacked, or is endless, may have."""
    pattern = re.compile("|".join(map(re.escape, words)).encode(), re.IGNORECASE)
    longest = max(map(len, words))
    left = _MOST_SEARCHED
    tail = b""
    try:
        with open(path, "rb", opener=regular_only) as file, unpacked(file, InputUnusableError) as stream:
            while chunk := stream.read(_BUFFER):
                text = tail + chunk.replace(b"\0", b"")  # of UTF-16 as well
                left -= len(chunk)
                if pattern.search(text) or left < 0:
                    return True
                tail = text[-longest:]
    except FileNotFoundError:
        return False
    except (BatchError, OSError):
        return True
    return False
