"""What other runs have done to the same items since: read from the reports and journals beside a run's own.

An outcome holds until another run takes its effect back. `associate` was stopped and its report undone: what
the stopped run recorded as done is not done any more, and must be sent again when that run goes on.
"""

import contextlib
import logging
import mmap
import os
import re
import stat
from collections.abc import Collection, Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from batch.errors import BatchError, InputUnusableError
from batch.job import Job, RowError
from batch.journal import lines
from batch.journal.reading import Reading
from batch.model import Status
from batch.report import Report, open_report

log = logging.getLogger(__name__)

_SUFFIXES = (".csv", ".json", ".jsonl", ".csv~", ".json~", ".jsonl~")
_JOURNAL = ".journal"
_OUTCOME = re.compile(rb"o\0?u\0?t\0?c\0?o\0?m\0?e", re.IGNORECASE)  # in UTF-16 as well
_EFFECTIVE = (Status.SUCCEEDED, Status.UNCHANGED, Status.UNCONFIRMED)
_ROUNDED_OFF = 0.001  # a report's times have whole milliseconds


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


class _Change(NamedTuple):
    cells: tuple[str, ...]
    at: float


def changes(
    folders: Iterable[Path], job: Job[Any], by: Collection[str], *, since: float, but: Path
) -> Changes:
    """Return what runs of other jobs have done in the meantime.

    Files that are no reports and no journals of theirs say nothing. After one of theirs that cannot be read
    to its end, for somebody has spoilt a row, no earlier outcome is trusted: the row is sent again.

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
    opened = _journal if path.suffix == _JOURNAL else _report
    with contextlib.suppress(BatchError, OSError), opened(path, job, by, written_at) as entries:
        try:
            for cells, at in entries:
                if len(cells) == len(job.columns):
                    with contextlib.suppress(RowError):
                        key = job.key(job.parse(cells))
                        found[key] = max(at, found.get(key, 0.0))
        except (BatchError, OSError) as error:
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
            if not entry.name.lower().endswith((*_SUFFIXES, _JOURNAL)):
                continue
            with contextlib.suppress(OSError):
                if entry.is_symlink() and entry.stat(follow_symlinks=False).st_uid not in (0, os.geteuid()):
                    continue
                found = entry.stat()
                if stat.S_ISREG(found.st_mode) and found.st_mtime >= since:
                    yield folder / entry.name, found.st_mtime


@contextlib.contextmanager
def _report(path: Path, job: Job[Any], by: Collection[str], written_at: float) -> Iterator[Iterator[_Change]]:
    """Open a report; give what it says, which is nothing if it is of none of the jobs in question."""
    if not _names_outcomes(path):
        yield iter(())
        return
    with open_report(str(path), job.columns) as report:
        yield _of_report(report, written_at) if report.job in by else iter(())


def _of_report(report: Report, written_at: float) -> Iterator[_Change]:
    for row in report.rows():
        if (record := row.earlier) and record.status in _EFFECTIVE:
            yield _Change(row.cells, seconds(record.finished_at) or written_at)


def _names_outcomes(path: Path) -> bool:
    """Whether a file may be a report. One of JSON would have to be read to its end to find out otherwise."""
    if path.name.rstrip("~").lower().endswith(".csv"):
        return True
    with path.open("rb") as file:
        try:
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                return _OUTCOME.search(content) is not None
        except ValueError:  # an empty file
            return False


@contextlib.contextmanager
def _journal(
    path: Path, job: Job[Any], by: Collection[str], written_at: float
) -> Iterator[Iterator[_Change]]:
    """Open a journal; give what it says, which is nothing if it is of none of the jobs in question."""
    with path.open("rb") as file:
        reading = Reading(path, file, InputUnusableError)
        entries = iter(reading)
        next(entries, None)
        columns = [column.name for column in job.columns]
        is_theirs = reading.header.get("job") in by and reading.header.get("columns") == columns
        yield _of_journal(entries, written_at) if is_theirs else iter(())


def _of_journal(entries: Iterator[tuple[int, dict[str, Any]]], written_at: float) -> Iterator[_Change]:
    for _, entry in entries:
        if "sent" in entry:
            yield _Change(tuple(entry.get("cells", ())), written_at)
        elif "row" in entry and entry["outcome"] in _EFFECTIVE:
            ended_at = lines.outcome_of(entry).finished_at
            yield _Change(tuple(entry.get("cells", ())), ended_at or written_at)
