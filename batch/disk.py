"""Files as the operating system sees them: written whole, standing where they were put."""

import errno
import os
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


def write_all(descriptor: int, data: bytes) -> None:
    """Write, however many calls the operating system takes for it.

    Raises:
        OSError: the disk takes no more; a part may be written.

    """
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
