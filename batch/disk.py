"""What the operating system needs to be told so that a file stands where it was put."""

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
