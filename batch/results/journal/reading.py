"""Reading a journal: every line is held against its checksum, and against what a run writes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from batch.errors import BatchError, InputUnusableError
from batch.results.journal import lines
from batch.text import printable


class Reading:
    """One pass over the lines of a journal: gives the place of each and what it holds, but no torn last one.

    Args:
        path: what messages call it.
        file: the journal, at its start.
        damaged: the error that damage is.

    Attributes:
        header: the first line.
        holder: the last line that names a process.
        began: when the first process took it up, as it wrote it, or empty.
        last: the last line.
        end: where the next line begins.
        crc: the checksum that the last line carries.
        is_torn: whether there is something behind the last line.

    """

    def __init__(self, path: Path, file: BinaryIO, damaged: type[BatchError]) -> None:
        self.header: dict[str, Any] = {}
        self.holder: dict[str, Any] = {}
        self.last: dict[str, Any] = {}
        self.began = ""
        self.end = self.crc = 0
        self.is_torn = False
        self._path = path
        self._file = file
        self._damaged = damaged

    def __iter__(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield all lines.

        Raises:
            InputUnusableError: another version of the program has written it.
            BatchError: of the kind asked for: a line is not as a run has written it there.

        """
        for number, line in enumerate(lines.split(self._file), start=1):
            entry = lines.parsed(line)
            if number == 1 and entry is not None:
                self._check_form(entry)
            elif self._is_torn(line) and (number > 1 or lines.may_be_header(line)):
                self.is_torn = True
                return
            crc = lines.checksum(line, self.crc)
            if entry is None or crc is None or not self._is_next(entry):
                raise self._damaged(
                    f"{self._path}, line {number}: not a line of this run's journal, or not in its place, so "
                    "it cannot be continued; look at it, or begin anew with --restart"
                )
            offset = self.end
            self.end, self.crc, self.last = offset + len(line), crc, entry
            yield offset, entry

    @staticmethod
    def _is_torn(line: bytes) -> bool:
        """Whether a line is the last one, and its end is missing."""
        return not line.endswith(b"\n") and len(line) < lines.LONGEST

    def _is_next(self, entry: dict[str, Any]) -> bool:
        if not self.header:
            self.header = entry
            return lines.is_header(entry)
        if not lines.is_sound(entry, self.holder.get("rows", 0), self.last):
            return False
        if "pid" in entry:
            self.holder = entry
            self.began = self.began or entry["since"]
        return True

    def _check_form(self, header: dict[str, Any]) -> None:
        form = header.get("journal", lines.FORM)
        if form != lines.FORM and form not in lines.OLD_FORMS:
            program = printable(str(header.get("program") or "another version of the program"))
            raise InputUnusableError(
                f"{self._path} is a journal of form {printable(str(form))}, begun by {program}, and form "
                f"{lines.FORM} is read here: end that run with the version that began it, or begin anew with "
                "--restart"
            )
