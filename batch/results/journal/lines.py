"""The lines of a journal: what they hold, and which of them are sound.

{"journal": 3, "command": ..., ...}     first: what run this is
{"pid": ..., "host": ..., "since": ...} each time a process takes it up
{"sent": 7, "cells": [...]}             before the first request that may change something for row 7
{"row": 7, "cells": [...], ...}         the outcome of row 7
{"written": ..., "stopped": ..., ...}   a report of all this is whole, under this SHA-256
{"placed": true}                        that report is in its place

`cells` are the row's texts in the columns that the job reads: they say what was done when the input is gone.
Form 2, written by version 0.1, has none of them.

Each ends with `"crc"`, a checksum of what stands before it in the line and of all lines before: one that was
changed, left out, repeated or moved shows.
"""

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from typing import Any, BinaryIO

import orjson

from batch.model import Outcome, Result, Status
from batch.text import printable

FORM = 3
OLD_FORMS = frozenset({2})
"""Forms of earlier versions that are read and continued; their rows have no cells."""

_CHECKSUM = b',"crc":'

LONGEST = 16 * 1024 * 1024
"""Bytes of a line at most; no run writes a longer one."""

_LISTS = ("only", "columns")
_TEXTS = frozenset({"reason", "error_code", "error_message", "request_id"})
_COUNTS = frozenset({"http_status", "duration_ms"})
_TIMES = frozenset({"started_at", "finished_at"})
_FIELDS = {"outcome", "attempts"} | _TEXTS | _COUNTS | _TIMES
_END_OF_TIME = 253_402_300_799  # the last second of the year 9999
_STATUSES = frozenset(Status)


@dataclass(frozen=True, slots=True)
class Identity:
    """What makes two runs the same run: a journal is continued by no other.

    Attributes:
        command: the command that runs.
        job: name of the job.
        sha256: digest of the input's bytes, in hex.
        target: where the requests go when a row does not say otherwise.
        only: reasons that are taken up, sorted; all if there are none.
        input: what messages call the input. Not compared, for a file may move.
        program: name and version of the program. Not compared.
        columns: names of the columns that the job reads. Not compared.

    """

    command: str
    job: str
    sha256: str
    target: str
    only: tuple[str, ...] = ()
    input: str = field(default="", compare=False)
    program: str = field(default="", compare=False)
    columns: tuple[str, ...] = field(default=(), compare=False)


def sealed(entry: bytes, crc: int) -> tuple[bytes, int]:
    """Return the line of an entry that follows the checksum `crc`, and the checksum that the line carries."""
    start = entry[:-1]
    crc = zlib.crc32(start, crc)
    return b'%b,"crc":%d}\n' % (start, crc), crc


def checksum(line: bytes, crc: int) -> int | None:
    """Return the checksum that a line carries, or None if it is not as it was written after `crc`."""
    start = line[: line.rfind(_CHECKSUM)]
    crc = zlib.crc32(start, crc)
    return crc if line == b'%b,"crc":%d}\n' % (start, crc) else None


def header(identity: Identity) -> bytes:
    """Return the first entry."""
    return orjson.dumps({"journal": FORM, **asdict(identity)})


def holder(pid: int, host: str, since: str, rows: int, to_settle: int) -> bytes:
    """Return the entry of a process that takes up a run of so many rows, so many of them to be settled."""
    return orjson.dumps({"pid": pid, "host": host, "since": since, "rows": rows, "to_settle": to_settle})


def sent(row: int, cells: Sequence[str] = ()) -> bytes:
    """Return the entry that says that a row may have been sent."""
    return b'{"sent":%d,"cells":%b}' % (row, orjson.dumps(cells)) if cells else b'{"sent":%d}' % row


def written(sha256: str, in_doubt: list[int], unsettled: Mapping[int, Outcome], *, stopped: bool) -> bytes:
    """Return the entry that says that the report is whole.

    Args:
        sha256: of the report.
        in_doubt: rows that may have been sent and were not answered.
        unsettled: outcomes of rows that a stop cut short.
        stopped: whether the run stopped before its end.

    """
    told = [_told(row, outcome) for row, outcome in unsettled.items()]
    return orjson.dumps({"written": sha256, "stopped": stopped, "in_doubt": in_doubt, "unsettled": told})


def placed() -> bytes:
    """Return the entry that says that the report has come to its place."""
    return orjson.dumps({"placed": True})


def outcome(row: int, outcome: Outcome, cells: Sequence[str] = ()) -> bytes:
    """Return the entry of a row's outcome."""
    entry = _told(row, outcome)
    if cells:
        entry["cells"] = cells
    return orjson.dumps(entry)


def split(file: BinaryIO) -> Iterator[bytes]:
    """Yield the lines of a journal, each with its end. A line above `LONGEST` is cut there."""
    return iter(partial(file.readline, LONGEST), b"")


def parsed(line: bytes) -> dict[str, Any] | None:
    """Return the object on a line, or None where it is torn or none."""
    try:
        entry = orjson.loads(line) if line.endswith(b"\n") else None
    except orjson.JSONDecodeError:
        return None
    return entry if isinstance(entry, dict) else None


def may_be_header(line: bytes) -> bool:
    """Whether a torn line is the start of a first line."""
    start = b'{"journal":'
    return start.startswith(line) or line.startswith(start)


def is_header(entry: dict[str, Any]) -> bool:
    """Whether a first line says what run this is."""
    return (
        "journal" in entry
        and all(isinstance(entry.get(each.name), str) for each in fields(Identity) if each.name not in _LISTS)
        and _are_texts(entry.get("only"))
        and _are_texts(entry.get("columns", []))
    )


def is_sound(entry: dict[str, Any], rows: int, after: dict[str, Any]) -> bool:
    """Whether a line after the first is one that a run of so many rows has written.

    Args:
        entry: what the line holds.
        rows: of the run.
        after: what the line before it holds.

    """
    if "pid" in entry:
        return is_holder(entry)
    if "placed" in entry:
        return "written" in after and entry["placed"] is True
    if "written" in after or "placed" in after:
        return False
    if "row" in entry:
        return _is_outcome(entry, rows)
    if "sent" in entry:
        return _is_row(entry["sent"], rows) and _are_texts(entry.get("cells", []))
    doubts, unsettled = entry.get("in_doubt"), entry.get("unsettled")
    return (
        isinstance(entry.get("written"), str)
        and isinstance(entry.get("stopped"), bool)
        and isinstance(doubts, list)
        and all(_is_row(row, rows) for row in doubts)
        and isinstance(unsettled, list)
        and all(isinstance(each, dict) and _is_outcome(each, rows) for each in unsettled)
    )


def is_holder(entry: dict[str, Any]) -> bool:
    """Whether a line names the process that took a journal up."""
    return (
        _is_count(entry.get("pid"))
        and isinstance(entry.get("host"), str)
        and isinstance(entry.get("since"), str)
        and _is_count(entry.get("rows"))
        and _is_count(entry.get("to_settle"))
    )


def outcome_of(entry: dict[str, Any]) -> Outcome:
    """Return the outcome that a sound line holds."""
    return Outcome(
        Result(
            Status(entry["outcome"]),
            entry["reason"],
            entry["http_status"],
            entry["error_code"],
            entry["error_message"],
            entry["request_id"],
        ),
        entry["attempts"],
        entry["started_at"],
        entry["finished_at"],
        entry["duration_ms"],
    )


def difference(entry: dict[str, Any], identity: Identity) -> str:
    """Say in what another run's first line differs from this run, or nothing."""
    for each in fields(identity):
        was, now = entry[each.name], getattr(identity, each.name)
        if each.name == "only":
            was, now = _only(was), _only(now)
        if each.compare and was != now:
            if each.name == "sha256":
                return "the input has changed since"
            if each.name == "only":
                return f"it was run with {was} and is run with {now} now"
            return f"{each.name} was {was!r} and is {now!r} now"
    return ""


def _only(reasons: Sequence[str]) -> str:
    """Say with which reasons a run was told to take up rows, as the command line has it."""
    return f"--only {printable(','.join(reasons))}" if reasons else "no --only"


def _told(row: int, outcome: Outcome) -> dict[str, Any]:
    result = outcome.result
    return {
        "row": row,
        "outcome": result.status,
        "reason": result.reason,
        "http_status": result.http_status,
        "error_code": result.error_code,
        "error_message": result.error_message,
        "request_id": result.request_id,
        "attempts": outcome.attempts,
        "started_at": outcome.started_at,
        "finished_at": outcome.finished_at,
        "duration_ms": outcome.duration_ms,
    }


def _is_outcome(entry: dict[str, Any], rows: int) -> bool:
    return (
        _is_row(entry.get("row"), rows)
        and _are_texts(entry.get("cells", []))
        and entry.keys() >= _FIELDS
        and isinstance(entry["outcome"], str)
        and entry["outcome"] in _STATUSES
        and _is_count(entry["attempts"])
        and all(isinstance(entry[each], str) for each in _TEXTS)
        and all(entry[each] is None or _is_count(entry[each]) for each in _COUNTS)
        and all(_is_time(entry[each]) for each in _TIMES)
    )


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _is_row(number: Any, rows: int) -> bool:
    return type(number) is int and 0 < number <= rows


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_time(value: Any) -> bool:
    return value is None or (type(value) in (int, float) and 0 <= value <= _END_OF_TIME)
