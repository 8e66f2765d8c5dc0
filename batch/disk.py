"""Files as the operating system sees them: written whole, standing where they were put."""

import errno
import hashlib
import os
import stat
import tempfile
from pathlib import Path
from typing import BinaryIO, cast

_USUAL_LONGEST_NAME = 255  # bytes
_DIGEST = 16

ROOM = 40
"""Bytes that the names of a report's journal, of its undoing and of other files have more than its own."""


def fitting(folder: Path, stem: str, tail: str, *, room: int = 0) -> Path:
    """Return the path of `stem` and `tail` in a folder; a stem too long for a file's name there is cut.

    The cut one ends with a digest of the whole, so that no two stems become one name.

    Args:
        folder: where the file is to be.
        stem: of its name.
        tail: of its name, not cut.
        room: bytes that further names made of this one may have more.

    """
    most = _longest_name(folder) - len(os.fsencode(tail)) - room
    if len(os.fsencode(stem)) <= most:
        return folder / (stem + tail)
    digest = hashlib.sha256(os.fsencode(stem)).hexdigest()[:_DIGEST]
    while stem and len(os.fsencode(stem)) > most - _DIGEST - 1:
        stem = stem[:-1]
    return folder / f"{stem}-{digest}{tail}"


def _longest_name(folder: Path) -> int:
    try:
        longest = os.pathconf(folder, "PC_NAME_MAX")
    except (OSError, ValueError):
        return _USUAL_LONGEST_NAME
    return longest if longest > 0 else _USUAL_LONGEST_NAME


def is_linked(descriptor: int, path: Path) -> bool:
    """Whether an open file is the one that is at `path` now."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False


def mount_of(descriptor: int) -> str:
    """Return which mount an open file is on, where the system tells it."""
    try:
        told = Path(f"/proc/self/fdinfo/{descriptor}").read_text()
    except OSError:
        return ""
    return told.partition("mnt_id:")[2].partition("\n")[0]


def nameless_file(otherwise: Path | None = None) -> BinaryIO:
    """Return a temporary file without a name, in the system's folder for such files.

    Args:
        otherwise: the folder to take where the system has none that can be written, as with a read-only root.

    Raises:
        OSError: no folder can be written.

    """
    try:
        file = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    except OSError:
        if otherwise is None:
            raise
        file = tempfile.TemporaryFile(dir=otherwise)  # noqa: SIM115
    return cast("BinaryIO", file)


def regular_only(path: str | Path, flags: int) -> int:
    """Open a file for `open` if it is a regular one; no pipe is waited for.

    Raises:
        OSError: it is none, or cannot be opened.

    """
    descriptor = os.open(path, flags | os.O_NONBLOCK)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise OSError(errno.EINVAL, "it is no regular file")


def write_all(descriptor: int, data: bytes | bytearray) -> None:
    """Write, however many calls the operating system takes for it.

    Raises:
        OSError: the disk takes no more; a part may be written.

    """
    while (written := os.write(descriptor, data)) < len(data):
        data = data[written:]
