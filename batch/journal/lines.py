"""The lines of a journal: what they hold, and which of them are sound.

{"journal": 1, "command": ..., ...}     first: what run this is
{"pid": ..., "host": ..., "since": ...} each time a process takes it up
{"sent": 7}                             before the first request that may change something for row 7
{"row": 7, "outcome": ..., ...}         the outcome of row 7
{"written": ..., "stopped": ..., ...}   a report of all this is whole, under this SHA-256
{"placed": true}                        that report is in its place
"""

from dataclasses import asdict, dataclass, field, fields
from typing import Any

import orjson

from batch.model import Outcome, Result, Status

FORM = 1

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

    """

    command: str
    job: str
    sha256: str
    target: str
    only: tuple[str, ...] = ()
    input: str = field(default="", compare=False)
    program: str = field(default="", compare=False)


def header(identity: Identity) -> bytes:
    """Return the first line."""
    return _line({"journal": FORM, **asdict(identity)})


def holder(pid: int, host: str, since: str, rows: int) -> bytes:
    """Return the line of a process that takes up a journal of so many rows."""
    return _line({"pid": pid, "host": host, "since": since, "rows": rows})


def sent(row: int) -> bytes:
    """Return the line that says that a row may have been sent."""
    return b'{"sent":%d}\n' % row


def written(sha256: str, in_doubt: list[int], *, stopped: bool) -> bytes:
    """Return the line that says that the report is whole.

    Args:
        sha256: of the report.
        in_doubt: rows that may have been sent and were not answered.
        stopped: whether the run stopped before its end.

    """
    return _line({"written": sha256, "stopped": stopped, "in_doubt": in_doubt})


def placed() -> bytes:
    """Return the line that says that the report has come to its place."""
    return _line({"placed": True})


def outcome(row: int, outcome: Outcome) -> bytes:
    """Return the line of a row's outcome."""
    result = outcome.result
    return _line(
        {
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
    )


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


def is_sound(entry: dict[str, Any], rows: int) -> bool:
    """Whether a line after the first is one that a run of so many rows has written."""
    if "row" in entry:
        return (
            _is_row(entry["row"], rows)
            and entry.keys() >= _FIELDS
            and isinstance(entry["outcome"], str)
            and entry["outcome"] in _STATUSES
            and type(entry["attempts"]) is int
            and all(isinstance(entry[each], str) for each in _TEXTS)
            and all(isinstance(entry[each], int | None) for each in _COUNTS)
            and all(_is_time(entry[each]) for each in _TIMES)
        )
    if "sent" in entry:
        return _is_row(entry["sent"], rows)
    if "written" in entry:
        doubts = entry.get("in_doubt")
        return (
            isinstance(entry["written"], str)
            and isinstance(entry.get("stopped"), bool)
            and isinstance(doubts, list)
            and all(_is_row(row, rows) for row in doubts)
        )
    return is_holder(entry) or entry.get("placed") is True


def is_holder(entry: dict[str, Any]) -> bool:
    """Whether a line names the process that took a journal up."""
    return (
        type(entry.get("pid")) is int
        and isinstance(entry.get("host"), str)
        and isinstance(entry.get("since"), str)
        and type(entry.get("rows")) is int
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
    if entry.get("journal") != FORM:
        return f"its form was {entry.get('journal')!r} and is {FORM!r} now"
    for each in fields(identity):
        was, now = entry.get(each.name), getattr(identity, each.name)
        now = list(now) if isinstance(now, tuple) else now
        if each.compare and was != now:
            if each.name == "sha256":
                return "the input has changed since"
            return f"{each.name} was {was!r} and is {now!r} now"
    return ""


def _line(entry: dict[str, Any]) -> bytes:
    return orjson.dumps(entry) + b"\n"


def _is_row(number: Any, rows: int) -> bool:
    return type(number) is int and 0 < number <= rows


def _is_time(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and 0 <= value <= _END_OF_TIME)
