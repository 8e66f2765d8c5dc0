"""What a journal says of each row: its outcome, or that it is in doubt or was cut short."""

import os
from array import array
from typing import Any

import orjson

from batch.model import Outcome, Result, Status
from batch.results.journal import lines

_READ_AHEAD = 1024
_NONE = -1
_CUT_SHORT = Result(Status.UNCONFIRMED, "interrupted")


class Contents:
    """What the lines of a journal say of its rows. Outcomes stay on the disk; only their places are kept.

    Args:
        file: descriptor of the journal.
        rows: number of rows of its run.

    Attributes:
        rows: number of rows of its run.
        in_doubt: rows that may have been sent and have no outcome.
        unsettled: outcomes of rows that a stop cut short, by row. They are to be continued.
        written: SHA-256 of the report that was written last, or empty.

    """

    def __init__(self, file: int, rows: int) -> None:
        self.rows = rows
        self.in_doubt: set[int] = set()
        self.unsettled: dict[int, Outcome] = {}
        self.written = ""
        self._file = file
        self._offsets = array("q", [_NONE]) * rows

    def __contains__(self, row: int) -> bool:
        return self._offsets[row - 1] != _NONE

    @property
    def settled(self) -> int:
        """Number of rows that have an outcome."""
        return self.rows - self._offsets.count(_NONE)

    def place(self, row: int, offset: int) -> None:
        """Note where the line of a row's outcome begins."""
        self._offsets[row - 1] = offset

    def forget(self, row: int) -> None:
        """Count a row as one without an outcome."""
        self._offsets[row - 1] = _NONE

    def note(self, entry: dict[str, Any], offset: int) -> None:
        """Take in the entry of the line at `offset`."""
        if "row" in entry:
            self.place(entry["row"], offset)
            self.in_doubt.discard(entry["row"])
            self.unsettled.pop(entry["row"], None)
        elif "sent" in entry:
            row = entry["sent"]
            self.in_doubt.add(row)
            if row in self.unsettled:
                self.unsettled[row] = self.unsettled[row]._replace(result=_CUT_SHORT)
        elif "written" in entry:
            self.written = entry["written"]
            self.in_doubt = set(entry["in_doubt"])
            self.unsettled = {each["row"]: lines.outcome_of(each) for each in entry["unsettled"]}

    def entry(self, row: int) -> dict[str, Any] | None:
        """Return the entry of a row's outcome, or None where there is none."""
        offset = self._offsets[row - 1]
        if offset == _NONE:
            return None
        line = os.pread(self._file, _READ_AHEAD, offset)
        while b"\n" not in line and (more := os.pread(self._file, _READ_AHEAD, offset + len(line))):
            line += more
        entry: dict[str, Any] = orjson.loads(line[: line.index(b"\n")])
        return entry

    def outcome(self, row: int) -> Outcome | None:
        """Return a row's outcome, or None where there is none."""
        entry = self.entry(row)
        return lines.outcome_of(entry) if entry else None
