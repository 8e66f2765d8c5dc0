"""Pure: what an earlier report leaves to do, and how its outcomes and new ones become one."""

from collections.abc import Collection
from datetime import datetime

from batch.model import READ_BACK, UNREAD, Outcome, Record, Result, Status

_NEVER_SENT = (Status.INVALID, Status.DUPLICATE, Status.PENDING)


def is_open(record: Record, only: Collection[str] = ()) -> bool:
    """Whether a row is to be sent again.

    Args:
        record: what the earlier report says of it.
        only: reasons to take up, or nothing for all.

    """
    return not record.status.is_through and (not only or record.reason in only)


def is_in_doubt(ended: Record | Result) -> bool:
    """Whether an earlier run may have had an effect that it did not see, or that is not known any more."""
    if isinstance(ended, Record) and ended.status is Status.PENDING:
        # Of a row that was sent and has another reason, a hand has emptied the outcome.
        return ended.attempts > 0 and ended.reason not in ("interrupted", UNREAD)
    return ended.status is Status.UNCONFIRMED and ended.reason != UNREAD


def was_sent(record: Record) -> bool:
    """Whether an earlier run has sent a row, as far as its outcome or its attempts tell."""
    return record.attempts > 0 or record.status not in _NEVER_SENT


def undoable(record: Record, *, read_back: bool = False) -> Record | None:
    """Return a row's record before anything is undone, or None where there is nothing to undo.

    Args:
        record: what the earlier report says of the row.
        read_back: whether to undo also what a read-back found done after an answer was lost. It may have been
            so before the run.

    """
    if record.status is not Status.SUCCEEDED or (record.reason == READ_BACK and not read_back):
        return None
    return Record(record.row, Status.PENDING, "not_sent")


def merged(earlier: Record | None, new: Record) -> Record:
    """Return the record of a row over two runs: the new outcome, the attempts of both.

    The duration still runs from the first attempt to the result, and is at least what both runs measured.
    """
    if earlier is None or not earlier.attempts:
        return new
    started_at, finished_at = earlier.started_at or new.started_at, new.finished_at or earlier.finished_at
    measured = (earlier.duration_ms or 0) + (new.duration_ms or 0)
    between = _milliseconds(started_at, finished_at) if new.attempts else 0
    return new._replace(
        attempts=earlier.attempts + new.attempts,
        started_at=started_at,
        finished_at=finished_at,
        duration_ms=max(measured, between),
    )


def continued(earlier: Outcome | None, new: Outcome) -> Outcome:
    """Return the outcome of a row that a stop cut short and the same run took up again; see `merged`."""
    if earlier is None or not earlier.attempts:
        return new
    started_at, finished_at = earlier.started_at or new.started_at, new.finished_at or earlier.finished_at
    measured = (earlier.duration_ms or 0) + (new.duration_ms or 0)
    between = round(((finished_at or 0) - (started_at or 0)) * 1000) if new.attempts else 0
    return new._replace(
        attempts=earlier.attempts + new.attempts,
        started_at=started_at,
        finished_at=finished_at,
        duration_ms=max(measured, between),
    )


def _milliseconds(start: str | None, end: str | None) -> int:
    if start is None or end is None:
        return 0
    return round((datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds() * 1000)
