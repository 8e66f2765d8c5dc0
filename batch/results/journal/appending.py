"""Lines appended to a file in groups, each with the checksum that runs through them all."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

from batch.disk import write_all
from batch.errors import OutputError
from batch.folder import Folder
from batch.results.journal.lines import sealed

_SYNC_AFTER = 0.1
"""Seconds for which lines are gathered before one fsync."""


class Appender:
    """Appends lines to a file; what a line was taken for is on disk within 250 ms.

    Attributes:
        path: of the file.
        failure: what the disk said when it took no more, or None. Then some lines are not on it.
        on_failure: is told of it.

    """

    def __init__(self, path: Path, folder: Folder, file: int) -> None:
        self.path = path
        self._folder = folder
        self.on_failure: Callable[[OSError], None] = _raise
        self.failure: OSError | None = None
        self._file = file
        self._end = self._crc = 0
        self._buffer = bytearray()
        self._timer: asyncio.TimerHandle | None = None
        self._syncing: asyncio.Task[None] | None = None

    async def flush(self) -> None:
        """Return when everything taken so far is on disk, or `on_failure` has been told why not."""
        while self._syncing or self._timer:
            if self._timer:
                self._timer.cancel()
                self._start_syncing()
            if self._syncing:
                await asyncio.wait({self._syncing})

    def _take(self, entry: bytes) -> int:
        """Take an entry to be written soon; return where its line begins."""
        line, self._crc = sealed(entry, self._crc)
        begins = self._end
        self._end += len(line)
        self._buffer += line
        if not self._timer and not self._syncing and not self.failure:
            self._sync_after(_SYNC_AFTER)
        return begins

    def _write(self) -> None:
        """Hand over what was gathered. After a failure nothing more: the last line may be torn now."""
        if self.failure or not self._buffer:
            return
        data, self._buffer = self._buffer, bytearray()
        try:
            write_all(self._file, data)
        except OSError as error:
            self._fail(error)

    def _put(self, *entries: bytes) -> None:
        """Write entries at once, and bring them onto the disk.

        Raises:
            OutputError: it takes no more.

        """
        data, crc = b"", self._crc
        for entry in entries:
            line, crc = sealed(entry, crc)
            data += line
        try:
            write_all(self._file, data)
            os.fsync(self._file)
            if not self._end:
                self._folder.sync()
        except OSError as error:
            raise OutputError(f"{self.path}: cannot be written: {error.strerror}") from error
        self._end += len(data)
        self._crc = crc

    def _sync_after(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._start_syncing)

    def _start_syncing(self) -> None:
        self._timer = None
        self._write()
        if not self.failure:
            self._syncing = asyncio.get_running_loop().create_task(self._sync_up_to(self._end))

    async def _sync_up_to(self, end: int) -> None:
        """Bring what has been handed over onto the disk; lines taken since then come in the next turn.

        Args:
            end: where the lines handed over end.

        """
        began = asyncio.get_running_loop().time()
        try:
            await asyncio.to_thread(self._sync)
        except OSError as error:
            self._fail(error)
        finally:
            self._syncing = None
        if self._end > end and not self.failure:
            # Those that came meanwhile have waited for the disk already.
            took = asyncio.get_running_loop().time() - began
            self._sync_after(max(_SYNC_AFTER - took, 0))

    def _sync(self) -> None:
        os.fsync(self._file)
        if not self._folder.holds(self._file, self.path.name):
            raise FileNotFoundError(0, "it has been removed, with what it held")

    def _fail(self, error: OSError) -> None:
        self.failure = error
        self.on_failure(error)


def _raise(error: OSError) -> None:
    raise error
