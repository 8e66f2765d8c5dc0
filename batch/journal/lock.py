"""The lock on a journal: the operating system's own, so that it dies with its holder however that dies."""

import fcntl
import os
import time
from pathlib import Path
from typing import Any

from batch.disk import is_linked
from batch.errors import BusyError, OutputError
from batch.journal.lines import is_holder, parsed, split
from batch.text import printable

_PATIENCE = 0.2
_STEP = 0.02


def open_locked(path: Path) -> int:
    """Return a descriptor of the file that holds the lock on it; the file is made if it is not there.

    Whoever only looks on holds a lock for a moment, so that a short time is waited.

    Raises:
        BusyError: another process holds the lock.
        OutputError: the file cannot be written, or the file system knows no locks.

    """
    patience_ends = time.monotonic() + _PATIENCE
    while True:
        try:
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        except OSError as error:
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
        if is_linked(file, path):
            return file
        # Its last holder has removed the file between the two calls.
        os.close(file)


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
