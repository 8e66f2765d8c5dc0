"""The place of an outcome file: who may take it, and what becomes of the file that is there."""

import contextlib
import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from batch.disk import ROOM, fitting
from batch.errors import BatchError, OutputError, UsageError
from batch.folder import Folder, PlantedLinkError, leads_to, owner, unguessable
from batch.results.report.layout import report_format
from batch.results.report.reader import open_report
from batch.results.report.writer import TEMPORARY, temporary_start

_MOST_NAMES = 1000

_State = tuple[int, int, int, int]


class Place(NamedTuple):
    """Where an outcome file goes.

    Attributes:
        path: of the file.
        folder: that the file is in.
        state: what identifies the file that was there when the place was looked at; None if there was none.
        sha256: digest of that file, or empty.

    """

    path: Path
    folder: Folder
    state: _State | None
    sha256: str = ""

    @property
    def is_unchanged(self) -> bool:
        """Whether the file there holds what it held then. One that was taken away holds nothing."""
        try:
            state = _state(self.path.name, self.folder)
            return state in (None, self.state) or self.folder.sha256_of(self.path.name) == self.sha256 != ""
        except OSError:
            return False


def check_writable(path: Path) -> Folder:
    """Find out before a run whether a report can be put at `path`; return the folder that it goes into.

    Raises:
        OutputError: it cannot.
        UsageError: its name asks for no known form.

    """
    report_format(path)
    try:
        folder = Folder(path.parent)
        _state(path.name, folder)
        folder.check_takes_files()
        folder.check_replaceable(path.name)
    except OSError as error:
        whose = _whose(path) if isinstance(error, PermissionError) else ""
        reason = f"{error.strerror or error}{whose}"
        raise OutputError(f"{path}: cannot be written: {reason}; nothing was sent") from error
    return folder


def _whose(path: Path) -> str:
    """Name the owner of a file that is another user's, in brackets."""
    with contextlib.suppress(OSError):
        found = path.lstat()
        if found.st_uid != os.geteuid():
            return f" (it belongs to {owner(found)})"
    return ""


def look_at(path: Path, job: str, *, overwrite: bool = False) -> Place:
    """Find out before a run whether an outcome file may take a place, and can.

    Args:
        path: the place.
        job: name of the run's job.
        overwrite: whether a file may be replaced that is neither empty nor an outcome file of the job.

    Raises:
        OutputError: no file can be put there.
        UsageError: the name asks for no known form, or the file that is there is none of the job's.

    """
    folder = check_writable(path)
    state = _state(path.name, folder)
    kept = previous(path)
    if folder.has(kept.name) and stat.S_ISDIR(folder.stat(kept.name).st_mode):
        raise OutputError(f"{path}: cannot be kept as {kept}, which is a directory; nothing was sent")
    if not overwrite and state is not None and not _is_own(path, job):
        raise UsageError(
            f"{path} is not an outcome file of {job}, so it is not replaced; name another file, or use "
            "--overwrite"
        )
    return Place(path, folder, state, folder.sha256_of(path.name) if state else "")


def followed(path: Path) -> Path:
    """Return where a path leads: the file is replaced, not the link. A loop of links leads nowhere.

    Raises:
        OutputError: there is a link of another user on the way.

    """
    try:
        return leads_to(path)
    except PlantedLinkError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror}; nothing was sent") from None
    except OSError:
        return path  # what is wrong is told where it is opened


def previous(path: Path) -> Path:
    """Return where the file is kept that an outcome file takes the place of."""
    return path.parent / f"{path.name}~"


def set_aside(path: Path, folder: Folder, can_be_undone: Callable[[Path], bool]) -> None:
    """Keep the file that is about to be replaced: one generation, under `previous`.

    What is kept there already stays if it can be undone and the file to be replaced cannot.

    Args:
        path: the file to be replaced; it may be missing.
        folder: that it is in.
        can_be_undone: whether an outcome file says of any row that there is something to undo.

    Raises:
        OutputError: it cannot be kept.

    """
    kept = previous(path)
    try:
        found = folder.stat(path.name)
    except FileNotFoundError:
        return
    if not stat.S_ISREG(found.st_mode) or not found.st_size:
        return
    if folder.has(kept.name) and not can_be_undone(path) and can_be_undone(kept):
        return
    try:
        _link(folder, path.name, kept.name)
        folder.sync()
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be kept as {kept} before it is replaced: {error.strerror}"
        ) from error


def unused(path: Path, folder: Folder, word: str) -> Path:
    """Return a path beside `path` that is not taken: `pairs.report.csv` becomes `pairs.report.WORD.csv`."""
    tails = (f".{word}{'-' * bool(n)}{n or ''}{path.suffix}" for n in range(_MOST_NAMES))
    paths = (fitting(path.parent, path.stem, tail, room=ROOM) for tail in tails)
    free = (each for each in paths if not folder.has(each.name))
    return next(free, fitting(path.parent, path.stem, f".{word}-{unguessable()}{path.suffix}", room=ROOM))


def _state(name: str, folder: Folder) -> _State | None:
    """Return what identifies a file and its content; None where there is no file.

    Raises:
        OSError: a folder is there, or a loop of links.

    """
    try:
        found = folder.stat(name)
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, "it is a directory")
    if stat.S_ISLNK(found.st_mode):
        with contextlib.suppress(FileNotFoundError):
            (folder.path / name).stat()  # a loop of links is an error
    if not stat.S_ISREG(found.st_mode):
        return None  # a device or pipe holds nothing that could be lost
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _is_own(path: Path, job: str) -> bool:
    """Whether a file is empty, or an outcome file of this job."""
    if not path.stat().st_size:
        return True
    try:
        with open_report(str(path), is_found=True) as report:
            return report.job in ("", job)
    except BatchError:
        return False


def _link(folder: Folder, name: str, kept: str) -> None:
    """Give a file a second name, in place of another file that may have it."""
    # Left behind by a kill, it goes as the writer's own do.
    passing = f"{temporary_start(name, folder)}{unguessable()}{TEMPORARY}"
    try:
        folder.link(name, passing)
    except OSError:
        folder.replace(kept, name)  # a file system without links
        return
    try:
        folder.replace(kept, passing)
    finally:
        folder.remove(passing)  # it stays where both are the same file already
