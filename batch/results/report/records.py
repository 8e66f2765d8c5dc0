"""The record that the cells of a report's row stand for, as they were written or changed since. Pure.

Only job and outcome must be understood. Whatever else cannot be understood counts as nothing.
"""

from collections.abc import Callable, Sequence
from datetime import datetime

from batch.job import RowError
from batch.model import READ_BACK, Record, Status
from batch.results.report.cells import MOST_DIGITS, NOTHING, bare, moment, whole_number
from batch.text import quoted

_STATUSES = {status.value: status for status in Status}
_HTTP_STATUSES: dict[str, int | None] = {"": None, **{str(status): status for status in range(100, 1000)}}
# The signs in 2026-11-25T07:16:31.019Z, but for the last.
_SIGNS, _SIGNS_AT = "--T::.", slice(4, 22, 3)
_from_iso = datetime.fromisoformat
_DONE = "204"

# A named tuple's own constructor is a function in Python, and takes twice the time.
_new_record = tuple.__new__


def as_written(place: int, cells: Sequence[str], job: str) -> Record:
    """Return the record of cells that are as the writer has written them.

    Raises:
        KeyError, ValueError: they are not.

    """
    row, of, outcome, reason, http_status, code, message, request_id, attempts, start, end, took = cells
    status = _STATUSES[outcome]
    numbers = row + attempts + took
    if (
        of != job
        or len(numbers) > MOST_DIGITS
        or not (row and attempts and numbers.isdigit())
        or (start and (start[_SIGNS_AT] != _SIGNS or start[23:] != "Z" or _from_iso(start).tzinfo is None))
        or (end and (end[_SIGNS_AT] != _SIGNS or end[23:] != "Z" or _from_iso(end).tzinfo is None))
    ):
        raise ValueError
    if reason or code or message:
        reason, code, message = _told(reason), _told(code), _told(message)
    if http_status != _DONE and not reason and status is Status.SUCCEEDED:
        reason = READ_BACK  # version 0.1 did not say so
    return _new_record(
        Record,
        (
            int(row) or place,
            status,
            reason,
            _HTTP_STATUSES[http_status],
            code,
            message,
            "" if request_id in NOTHING else request_id,
            int(attempts),
            start or None,
            end or None,
            int(took) if took else None,
        ),
    )


def edited(place: int, cells: Sequence[str], job: str, is_sound: Callable[[], bool]) -> Record:
    """Return the record of cells that have been changed since they were written.

    A row without an outcome is to be sent again, and what else it says is kept. If it cannot be sent, it was
    never sent: its numbers may be totals of the rows above.

    Args:
        place: of the row among all, the label of a row that has none.
        cells: of the report's columns.
        job: that the other rows have, in lower case.
        is_sound: whether the row could be sent.

    Raises:
        RowError: job or outcome cannot be understood.

    """
    _, of, outcome, reason, http_status, code, message, request_id, attempts, start, end, took = cells
    if bare(of).lower() not in ("", job):
        raise RowError("job", f"{quoted(of)} after {quoted(job)}: a report has rows of one job, so split it")
    label, word = label_of(cells) or place, bare(outcome).lower()
    if not word and not is_sound():
        return Record(label, Status.INVALID, "invalid_row")
    if word and word not in _STATUSES:
        words = ", ".join(_STATUSES)
        raise RowError(
            "outcome", f"{quoted(outcome)} is unknown: write one of {words}, or nothing to send the row again"
        )
    status = _STATUSES[word or Status.PENDING]
    answered = _HTTP_STATUSES.get(str(whole_number(http_status)))
    found_later = status is Status.SUCCEEDED and answered != _HTTP_STATUSES[_DONE]
    record = Record(
        label,
        status,
        _told(reason) or (READ_BACK if found_later else ""),
        answered,
        _told(code),
        _told(message),
        _told(request_id),
        whole_number(attempts) or 0,
        moment(start),
        moment(end),
        whole_number(took),
    )
    return record if word else _without_outcome(record)


def label_of(cells: Sequence[str]) -> int | None:
    """Return the number that a row has in its column `row`, or None."""
    return whole_number(cells[0]) or None


def _without_outcome(record: Record) -> Record:
    """Return the record of a row that is to be sent again because its outcome has been emptied.

    It is pending for the reason that it has. Only of an interrupted row this would say that its attempts had
    no effect, and that is not known any more.
    """
    if not record.attempts:
        return record._replace(reason=record.reason or "not_sent")
    status = Status.UNCONFIRMED if record.reason == "interrupted" else Status.PENDING
    return record._replace(status=status)


def _told(text: str) -> str:
    return "" if text in NOTHING else text
