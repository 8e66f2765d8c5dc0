"""An open folder. Operations on it stay in it, even if another folder takes its path.

A user who may write to a folder, or to one above it, can rename it and put a link in its place during a run.
So a run opens the folder once and reaches its own files through it, never by their whole path.
"""

import contextlib
import errno
import hashlib
import os
import pwd
import secrets
import stat
import weakref
from pathlib import Path

from batch.disk import mount_of, regular_only

ROOT = 0

PRIVATE = 0o600
"""Permissions of a file that is its owner's alone."""

_CANNOT_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EBADF)
_ALWAYS = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH
_STEP = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MOST_LINKS = 40  # one after the other, as for the kernel


class PlantedLinkError(OSError):
    """There is a link of another user on the way."""


class Folder:
    """An open folder, and the files in it by their names.

    Args:
        path: where it is now.
        to_look_on: whether nothing is to be written there: then links of other users may lead to it.

    Attributes:
        path: where it was when it was opened.

    Raises:
        PlantedLinkError: a link of another user leads to it.
        OSError: there is no folder, or it may not be looked into.

    """

    def __init__(self, path: Path, *, to_look_on: bool = False) -> None:
        self.path = path
        entered = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) if to_look_on else _entered(path)
        try:
            self._descriptor = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=entered)
        except PermissionError:  # one that may be written to, and not be listed
            self._descriptor = entered
        else:
            os.close(entered)
        weakref.finalize(self, os.close, self._descriptor)

    @property
    def real_path(self) -> Path:
        """Where it is, as told without links."""
        try:
            return Path(os.readlink(f"/proc/self/fd/{self._descriptor}"))
        except OSError:
            return Path(os.path.realpath(self.path))

    def target(self, name: str) -> str | None:
        """Return where a link leads; None if it is none.

        Raises:
            PlantedLinkError: it is another user's.
            OSError: there is nothing.

        """
        return _target(name, self._descriptor)

    @property
    def distrust(self) -> str:
        """Why somebody else may put files into it; empty if nobody may."""
        found = os.fstat(self._descriptor)
        if found.st_uid != os.geteuid():
            return f"it belongs to {owner(found)}"
        return "others may write to it" if found.st_mode & _OTHERS_MAY_WRITE else ""

    @property
    def is_in_place(self) -> bool:
        """Whether its path still leads to it."""
        try:
            return os.path.samestat(os.fstat(self._descriptor), self.path.stat())
        except OSError:
            return False

    def open(self, name: str, flags: int, mode: int = PRIVATE) -> int:
        """Return a descriptor of a file; no link is followed and no pipe is waited for.

        Raises:
            OSError: it cannot be opened so.

        """
        return os.open(name, flags | _ALWAYS, mode, dir_fd=self._descriptor)

    def new(self, start: str, end: str) -> tuple[int, str]:
        """Make a file that nobody else may open, under a name that nobody can guess; return both.

        Args:
            start: of its name.
            end: of its name.

        Raises:
            OSError: the folder takes no file.

        """
        name = f"{start}{unguessable()}{end}"
        return self.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL), name

    def check_takes_files(self) -> None:
        """Find out whether there is room for a new file and it may be made.

        Raises:
            OSError: it may not.

        """
        try:
            # Without a name, a kill leaves nothing behind.
            descriptor = os.open(
                ".", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, PRIVATE, dir_fd=self._descriptor
            )
        except OSError:  # also where the file system knows no such files
            descriptor, name = self.new(".", ".tmp")
            self.remove(name)
        os.close(descriptor)

    def check_replaceable(self, name: str) -> None:
        """Find out whether another file may take the place of the one that is there.

        Raises:
            OSError: it may not. That there is none is no error.

        """
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            # Of a file this says so only when nothing else forbids that it goes.
            os.rmdir(name, dir_fd=self._descriptor)
        with contextlib.suppress(FileNotFoundError):
            file = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._descriptor)
            try:
                if mount_of(file) != mount_of(self._descriptor):
                    raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
            finally:
                os.close(file)

    def write(self, name: str, data: bytes, mode: int) -> None:
        """Write a whole file in place of the one that has this name; of a link, in place of the link.

        Raises:
            OSError: it cannot be written.

        """
        descriptor, passing = self.new(f".{name}.", ".tmp")
        try:
            with open(descriptor, "wb") as file:
                file.write(data)
                with contextlib.suppress(OSError):  # where a file system keeps no modes
                    os.fchmod(descriptor, mode)
            self.replace(name, passing)
        except BaseException:
            self.remove(passing)
            raise

    def stat(self, name: str) -> os.stat_result:
        """Return what there is under a name; of a link, the link.

        Raises:
            OSError: there is nothing.

        """
        return os.stat(name, dir_fd=self._descriptor, follow_symlinks=False)

    def has(self, name: str) -> bool:
        """Whether there is anything under a name, be it a link that leads nowhere."""
        try:
            self.stat(name)
        except FileNotFoundError:
            return False
        return True

    def holds(self, descriptor: int, name: str) -> bool:
        """Whether an open file is the one that has this name now."""
        try:
            return os.path.samestat(os.fstat(descriptor), self.stat(name))
        except OSError:
            return False

    def own(self, name: str) -> os.stat_result | None:
        """Return what there is under a name if it is a file of one's own."""
        with contextlib.suppress(OSError):
            found = self.stat(name)
            if _is_own_file(found):
                return found
        return None

    def names(self, start: str, end: str) -> list[str]:
        """Return the names that start and end so; none where the folder may not be listed."""
        try:
            found = os.listdir(self._descriptor)
        except OSError:
            return []
        return [name for name in found if name.startswith(start) and name.endswith(end)]

    def sha256_of(self, name: str) -> str:
        """Return the SHA-256 of a file of one's own, in hex; nothing of any other, which may be endless."""
        with contextlib.suppress(OSError), open(self.open(name, os.O_RDONLY), "rb") as file:
            if _is_own_file(os.fstat(file.fileno())):
                return hashlib.file_digest(file, "sha256").hexdigest()
        return ""

    def replace(self, name: str, by: str) -> None:
        """Let a file take the place of another one.

        Raises:
            OSError: it cannot.

        """
        os.replace(by, name, src_dir_fd=self._descriptor, dst_dir_fd=self._descriptor)

    def link(self, name: str, other: str) -> None:
        """Give a file another name.

        Raises:
            OSError: that is taken, or the file system knows no such thing.

        """
        ends = {"src_dir_fd": self._descriptor, "dst_dir_fd": self._descriptor}
        os.link(name, other, **ends, follow_symlinks=False)

    def remove(self, name: str) -> None:
        """Take a file away; that there is none is no error.

        Raises:
            OSError: it cannot be removed.

        """
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._descriptor)

    def sync(self) -> None:
        """Bring onto the disk which files are there.

        Raises:
            OSError: the disk takes no more. That this cannot be done for such a folder is no error.

        """
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            if error.errno not in _CANNOT_SYNC:
                raise


def unguessable() -> str:
    """Return the part of a temporary file's name that nobody can guess: eight hex digits."""
    return secrets.token_hex(4)


def distrust(found: os.stat_result) -> str:
    """Say why a file may hold what somebody else has put there; nothing if it does not.

    Args:
        found: what the system says of it.

    """
    whose = "" if found.st_uid == os.geteuid() else f"belongs to {owner(found)}"
    if not stat.S_ISREG(found.st_mode):
        return f"it is no regular file, and {whose}" if whose else "it is no regular file"
    if whose:
        return f"it {whose}"
    if found.st_nlink > 1:
        return "it has another name as well"
    if found.st_mode & _OTHERS_MAY_WRITE:
        return "others may write to it"
    return ""


def owner(found: os.stat_result) -> str:
    """Return the name of the user whose file it is."""
    try:
        return pwd.getpwuid(found.st_uid).pw_name
    except KeyError:
        return f"user {found.st_uid}"


def leads_to(path: Path) -> Path:
    """Return where a path leads, told without links; where nothing is, as far as it is known.

    Raises:
        PlantedLinkError: a link of another user is on the way.

    """
    target = path
    with contextlib.suppress(FileNotFoundError, NotADirectoryError, PermissionError):
        for _ in range(_MOST_LINKS):
            folder = Folder(target.parent)
            if (next_one := folder.target(target.name)) is None:
                return path if target is path else folder.real_path / target.name
            target = folder.real_path / next_one
        return path  # a loop of links
    return target


def not_planted(path: str, flags: int) -> int:
    """Open a file for `open`, but not another user's pipe, nor what is no file behind another user's link.

    A regular file may belong to anybody, and so may a pipe without a name, as a shell makes it.

    Raises:
        PlantedLinkError: another user's link leads to what is no regular file.
        OSError: it is another user's pipe, or cannot be opened.

    """
    if stat.S_ISREG(os.stat(path).st_mode):
        return regular_only(path, flags)
    place = leads_to(Path(path))
    with contextlib.suppress(FileNotFoundError):
        found = place.lstat()
        if stat.S_ISFIFO(found.st_mode) and found.st_uid not in (ROOT, os.geteuid()):
            raise OSError(errno.EPERM, f"it is a pipe of {owner(found)}, which is not waited for")
    return os.open(path, flags)


def _is_own_file(found: os.stat_result) -> bool:
    return stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid()


def _entered(path: Path) -> int:
    """Open a folder step by step: no link on the way is followed that has not been looked at."""
    left = [*reversed(path.parts)]
    links_left = _MOST_LINKS
    folder = os.open("/" if path.is_absolute() else ".", _STEP)
    try:
        while left:
            name = left.pop()
            try:
                entered = os.open(name, _STEP, dir_fd=folder)
            except NotADirectoryError:
                target = _target(name, folder)
                if target is None:
                    raise
                if not (links_left := links_left - 1):
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP)) from None
                left += reversed(Path(target).parts)
            else:
                os.close(folder)
                folder = entered
    except BaseException:
        os.close(folder)
        raise
    return folder


def _target(name: str, folder: int) -> str | None:
    """Return where a link in a folder leads, if it is one's own or root's; None if it is no link."""
    link = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        found = os.fstat(link)
        if not stat.S_ISLNK(found.st_mode):
            return None
        if found.st_uid not in (ROOT, os.geteuid()):
            raise PlantedLinkError(
                errno.ELOOP,
                f"{name} is a link of {owner(found)}, so it is not followed: name what it leads to",
            )
        return os.readlink("", dir_fd=link)
    finally:
        os.close(link)
