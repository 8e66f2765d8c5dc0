"""The lock on a journal: the operating system's own, so that it dies with its holder however that dies."""

import contextlib
import fcntl
import os
import stat
import time
from pathlib import Path
from typing import Any

from batch.errors import BusyError, ConfigurationError, OutputError
from batch.folder import PRIVATE, Folder, distrust, owner
from batch.results.journal.lines import is_holder, parsed, split
from batch.text import printable

_PATIENCE = 0.2
_STEP = 0.02


def open_locked(path: Path, folder: Folder) -> int:
    """Return a descriptor of the file that holds the lock on it; the file is made if it is not there.

    Whoever only looks on holds a lock for a moment, so that a short time is waited.

    Raises:
        BusyError: another process holds the lock.
        ConfigurationError: somebody else has put the file there, or may write to it.
        OutputError: the file cannot be written, or the file system knows no locks.

    """
    patience_ends = time.monotonic() + _PATIENCE
    while True:
        try:
            file = _made(path, folder)
        except OSError as error:
            if isinstance(error, FileExistsError) and time.monotonic() < patience_ends:
                continue  # the one that was there is gone again
            raise OutputError(f"{path}: cannot be written: {error.strerror}; nothing was sent") from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            by = last_holder(file) if (is_over := time.monotonic() >= patience_ends) else None
            os.close(file)
            if is_over:
                raise BusyError(f"{path}: another run is at work here{described(by)}") from None
            time.sleep(_STEP)
            continue
        except OSError as error:
            os.close(file)
            raise OutputError(
                f"{path}: cannot be locked: {error.strerror}; nothing was sent: put the report on a file "
                "system with locks"
            ) from error
        if folder.holds(file, path.name):
            return file
        # Its last holder has removed the file between the two calls.
        os.close(file)


def open_own(path: Path, folder: Folder) -> int:
    """Return a descriptor of a journal to read.

    Raises:
        ConfigurationError: somebody else has put it there, or may write to it.
        OSError: there is none, or it cannot be opened.

    """
    return _opened(path, folder, os.O_RDONLY)


def is_held(file: int) -> bool:
    """Whether another process holds the lock on an open file."""
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(file, fcntl.LOCK_UN)
    return False


def last_holder(file: int) -> dict[str, Any] | None:
    """Return the last line of a journal that names a process."""
    found = None
    with open(os.dup(file), "rb") as journal:
        journal.seek(0)
        for line in split(journal):
            if line.startswith(b'{"pid":') and (entry := parsed(line)) and is_holder(entry):
                found = entry
    return found


def described(holder: dict[str, Any] | None) -> str:
    """Say who holds a journal, after a colon; nothing if it does not say."""
    if not holder:
        return ""
    return f": process {holder['pid']} on {printable(holder['host'])}, since {printable(holder['since'])}"


def _made(path: Path, folder: Folder) -> int:
    """Make a journal, or open the one that is there."""
    flags = os.O_RDWR | os.O_APPEND
    try:
        # One that is new is one's own, also on a file system that gives all files one owner or one mode.
        return folder.open(path.name, flags | os.O_CREAT | os.O_EXCL)
    except FileExistsError:
        with contextlib.suppress(FileNotFoundError):
            file = _opened(path, folder, flags)
            with contextlib.suppress(OSError):  # where a file system keeps no modes
                os.fchmod(file, PRIVATE)  # version 0.1 let others read it, and so hold its lock
            return file
        raise


def _opened(path: Path, folder: Folder, flags: int) -> int:
    """Open a journal that nobody else can have written to; a pipe is not waited for.

    Raises:
        ConfigurationError: somebody else can have.
        OSError: it cannot be opened.

    """
    try:
        file = folder.open(path.name, flags)
    except OSError as error:
        found = folder.stat(path.name)
        is_own_folder = isinstance(error, IsADirectoryError) and found.st_uid == os.geteuid()
        if is_own_folder or not (reason := distrust(found)):
            raise
    else:
        found = os.fstat(file)
        if not (reason := distrust(found)):
            return file
        os.close(file)
    raise ConfigurationError(
        f"{path}: {reason}, so it is not trusted to be a run's journal: {_way_out(found)}"
    )


def _way_out(found: os.stat_result) -> str:
    """Say what to do about a journal that is not trusted."""
    if found.st_uid != os.geteuid():
        return f"unless a run of {owner(found)} is under way, remove it, or use another folder"
    if stat.S_ISREG(found.st_mode):
        return "if nobody has tampered with it, let it have this name only and chmod 600; else remove it"
    return "remove it"
