"""Files as the operating system sees them: written whole, standing where they were put."""

import contextlib
import errno
import os
import sys
from pathlib import Path

_NOT_FOR_FOLDERS = (errno.EINVAL, errno.ENOTSUP)


def sync_folder(path: Path) -> None:
    """Bring onto the disk that a file stands in its folder, or no longer does.

    Raises:
        OSError: the disk takes no more. A file system that cannot do this for a folder is no error.

    """
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    except OSError as error:
        if error.errno not in _NOT_FOR_FOLDERS:
            raise
    finally:
        os.close(folder)


def is_linked(descriptor: int, path: Path) -> bool:
    """Whether an open file is the one that is at `path` now."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False


def check_replaceable(path: Path) -> None:
    """Find out whether another file may take the place of the one that is there.

    Raises:
        OSError: it may not. That there is none is no error.

    """
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        path.rmdir()  # of a file it says so only when nothing else forbids that it goes
    if os.path.lexists(path) and _mount(path) != _mount(path.parent.resolve()):
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))


def _mount(path: Path) -> str:
    """Return which mount a file is on, where the system tells it."""
    if sys.platform != "linux":
        return ""
    descriptor = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        told = Path(f"/proc/self/fdinfo/{descriptor}").read_text()
    except OSError:
        return ""
    finally:
        os.close(descriptor)
    return told.partition("mnt_id:")[2].partition("\n")[0]


def write_all(descriptor: int, data: bytes | bytearray) -> None:
    """Write, however many calls the operating system takes for it.

    Raises:
        OSError: the disk takes no more; a part may be written.

    """
    while (written := os.write(descriptor, data)) < len(data):
        data = data[written:]
