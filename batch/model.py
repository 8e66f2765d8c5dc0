"""The values that the parts of the runner hand to one another. All are immutable."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum
from types import MappingProxyType
from typing import Any, NamedTuple


class Status(StrEnum):
    """What became of a row. The words stand in the report's column `outcome`."""

    SUCCEEDED = "succeeded"
    UNCHANGED = "unchanged"
    FAILED = "failed"
    UNCONFIRMED = "unconfirmed"
    INVALID = "invalid"
    DUPLICATE = "duplicate"
    PENDING = "pending"

    @property
    def is_through(self) -> bool:
        """Whether nothing is left to do for such a row."""
        return self in _THROUGH


_THROUGH = frozenset({Status.SUCCEEDED, Status.UNCHANGED, Status.DUPLICATE})


UNREAD = "unread"
"""A reason to be unconfirmed: refused for one of two causes, and which could not be read back.

It is the one such reason that leaves no doubt of the run itself: it has changed nothing.
"""

READ_BACK = "read_back"
"""A reason to have succeeded: an answer was lost, and a read-back shows that it is done.

It may have been done before the run.
"""


READ_BACK = "read_back"
"""A reason to be succeeded: an answer was lost, and a read-back shows that it is done.

It may have been so before.
"""


class Record(NamedTuple):
    """What a report says of a row beside the input's own columns.

    Attributes:
        row: number of the row in the input of the first run.
        status: what became of it.
        reason: the cause, one word, or empty.
        http_status: of the last answer, or None.
        error_code: the service's own.
        error_message: the service's own, or what is wrong with the row.
        request_id: of the last answer.
        attempts: requests sent for it, in all runs that saw an end of it; what a killed one tried without an
            outcome does not count.
        started_at: first attempt, RFC 3339, or None if nothing was sent.
        finished_at: end of the last attempt, likewise.
        duration_ms: from the first attempt to the result.

    """

    row: int
    status: Status
    reason: str = ""
    http_status: int | None = None
    error_code: str = ""
    error_message: str = ""
    request_id: str = ""
    attempts: int = 0
    started_at: str | None = None
    finished_at: str | None = None
    duration_ms: int | None = None


class Row(NamedTuple):
    """One row of the input.

    Attributes:
        number: position in the input, from 1; a CSV header is not counted.
        line: line of the file on which the row starts (in JSON: on which it ends), from 1.
        cells: text of the columns the job asked for, in the job's order; empty where absent.
        values: the input's own columns in their order, to be carried to the report. In JSON input a
            value is any JSON value; a row may be shorter than the input has columns.
        problem: why the row cannot be used, or empty.
        earlier: what the report says of it that the row was read from, or None where it is no report's.

    """

    number: int
    line: int
    cells: tuple[str, ...]
    values: Sequence[Any]
    problem: str = ""
    earlier: Record | None = None

    @property
    def label(self) -> int:
        """The number that reports and messages call the row by: that of the first input it stood in."""
        return self.earlier.row if self.earlier else self.number


class Dialect(NamedTuple):
    r"""How a CSV file is written.

    Attributes:
        delimiter: comma, semicolon or tab.
        line_end: `\n` or `\r\n`.
        mark: whether it begins with a byte-order mark.

    """

    delimiter: str = ","
    line_end: str = "\n"
    mark: bool = False


class Request(NamedTuple):
    """One call of the service, complete but for credentials.

    Attributes:
        method: HTTP method.
        url: absolute URL with the query as it is sent, percent-encoded.
        body: body as sent, JSON, or None.
        scope: what the service counts a rate limit by; requests of one scope share one limiter.

    """

    method: str
    url: str
    body: bytes | None = None
    scope: str = ""

    @property
    def writes(self) -> bool:
        """Whether the request is meant to change something."""
        return self.method not in ("GET", "HEAD")


class Response(NamedTuple):
    """What came back on the wire.

    Attributes:
        status: HTTP status.
        headers: response headers, looked up without regard to letter case.
        body: the first 64 KiB of the body, unpacked.
        credential: what the request was authorised with; only its sender looks into it.
        unreadable: why the body could not be unpacked, or empty.

    """

    status: int
    headers: Mapping[str, str] = MappingProxyType({})
    body: bytes = b""
    credential: object = None
    unreadable: str = ""

    def __repr__(self) -> str:
        """Show nothing that may be secret: tokens come in headers, keys in bodies."""
        return f"Response({self.status}, {len(self.body)} bytes)"


class Window(NamedTuple):
    """A service's limit: so many requests in so many seconds."""

    permits: float
    seconds: float

    @property
    def per_second(self) -> float:
        """Requests a second."""
        return self.permits / self.seconds


class Kind(Enum):
    """What an attempt's end means for the run."""

    DONE = "done"
    REFUSED = "refused"  # for good: another attempt would be answered the same
    THROTTLED = "throttled"  # too fast: everyone in this scope slows down
    TRANSIENT = "transient"  # worth another attempt
    UNAUTHENTICATED = "unauthenticated"  # credentials not accepted: newer ones may be
    DENIED = "denied"  # credentials refused for good: the run stops
    NO_SERVICE = "no_service"  # nothing of this kind at this address: the run stops


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the job makes of one attempt's end.

    Attributes:
        kind: what to do.
        reason: the report's word for the cause, empty when done.
        maybe_applied: whether the request may have had its effect although no answer says so.
        code: the service's own error code.
        message: the service's own error message, printable.
        pause: seconds to wait that the service asked for, or None.
        max_attempts: bound on attempts for this cause, below the run's own, or None.
        maybe_later: whether the service took the request without doing it: it may still do so.
        limit: the service's rate limit where a refusal tells it, or None.
        foreign: whether nothing in the answer is of this service: a redirect, or somebody's page.

    """

    kind: Kind
    reason: str = ""
    maybe_applied: bool = False
    code: str = ""
    message: str = ""
    pause: float | None = None
    max_attempts: int | None = None
    maybe_later: bool = False
    limit: Window | None = None
    foreign: bool = False


class Answer(NamedTuple):
    """The final answer to a request, after all attempts: what a job's conversation is sent.

    Attributes:
        verdict: what the last attempt came to.
        response: the last attempt's response; None where none arrived.
        in_doubt: whether some write of this conversation, the last included, may have been applied without
            an answer that says so. Then only reading back tells what is true.
        maybe_later: whether some write of this conversation was taken to be done later. Then not even reading
            back tells what will be true.
        hidden: whether some write was answered by somebody else's page, which may hide what the service said.
        unanswered: whether some write ended without the service's own answer, in this run or an earlier one:
            it may still be under way.

    """

    verdict: Verdict
    response: Response | None = None
    in_doubt: bool = False
    maybe_later: bool = False
    unanswered: bool = False
    hidden: bool = False


class Result(NamedTuple):
    """What a job says of a row when its conversation ends."""

    status: Status
    reason: str = ""
    http_status: int | None = None
    error_code: str = ""
    error_message: str = ""
    request_id: str = ""


class Outcome(NamedTuple):
    """A row's result with what the engine knows of it: everything the report says beyond the input.

    Attributes:
        result: what became of the row.
        attempts: requests sent for it, read-backs included.
        started_at: first attempt, seconds since the epoch; None if nothing was sent.
        finished_at: end of the last attempt, likewise.
        duration_ms: from the first attempt to the result, by a clock that does not jump.

    """

    result: Result
    attempts: int = 0
    started_at: float | None = None
    finished_at: float | None = None
    duration_ms: int | None = None
