"""The pass over the whole input before anything is sent: which rows are sound, and which repeat another."""

from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from batch.errors import InputUnusableError
from batch.job import Job, RowError
from batch.model import Row, Status
from batch.source import Source

SEND, INVALID, DUPLICATE = range(3)

_FINDINGS_SHOWN = 20
# An int of up to 60 bits takes 32 bytes, the key of 32 bytes it stands for takes 80.
_HASH_BITS = (1 << 60) - 1
_NO_HASH = -1

Item = TypeVar("Item")


class Finding(NamedTuple):
    """A row that will not be sent, for display.

    Attributes:
        row: number of the row.
        line: its line in the input.
        status: `invalid` or `duplicate`.
        message: why, with the line.

    """

    row: int
    line: int
    status: Status
    message: str


@dataclass(frozen=True, slots=True)
class Preflight:
    """What is known of an input's rows before any is sent.

    Attributes:
        total: number of rows.
        sendable: number of rows to send.
        invalid: number of rows that cannot be used.
        duplicate: number of rows that would do the same as an earlier one.
        marks: for each row `SEND`, `INVALID` or `DUPLICATE`.
        findings: the first rows that will not be sent.
        first_invalid: the first row that cannot be used, or None.

    """

    total: int
    sendable: int
    invalid: int
    duplicate: int
    marks: bytearray
    findings: Sequence[Finding]
    first_invalid: Finding | None
    _repeats: "array[int]" = field(repr=False)
    _firsts: "array[int]" = field(repr=False)

    def first_of(self, row_number: int) -> int:
        """Return the number of the earlier row that a duplicate repeats.

        Raises:
            KeyError: the row is no duplicate.

        """
        place = bisect_left(self._repeats, row_number)
        if place == len(self._repeats) or self._repeats[place] != row_number:
            raise KeyError(row_number)
        return self._firsts[place]


def problem_of(row: Row, job: Job[Item]) -> str:
    """Return why a row cannot be used, with its line, or nothing if it can."""
    problem = row.problem
    if not problem:
        try:
            job.parse(row.cells)
        except RowError as error:
            problem = f"{error.column}: {error}"
    return _at(row, problem) if problem else ""


def preflight(source: Source, job: Job[Item]) -> Preflight:
    """Read the whole input and mark each row.

    Only hashes of the rows' keys are kept meanwhile. If some are equal, the rows concerned are read a second
    time to compare the keys themselves.

    Raises:
        InputUnusableError: the input as a whole cannot be used.

    """
    parse, key_of = job.parse, job.key
    hashes = array("q")
    keep = hashes.append
    invalid = array("q")
    findings: list[Finding] = []
    for row in source.rows():
        problem = row.problem
        if not problem:
            try:
                keep(hash(key_of(parse(row.cells))) & _HASH_BITS)
                continue
            except RowError as error:
                problem = f"{error.column}: {error}"
        keep(_NO_HASH)
        invalid.append(row.number)
        if len(findings) < _FINDINGS_SHOWN:
            findings.append(Finding(row.number, row.line, Status.INVALID, _at(row, problem)))
    marks = bytearray(len(hashes))
    for number in invalid:
        marks[number - 1] = INVALID
    repeats, firsts = array("q"), array("q")
    if doubtful := _doubtful(hashes):
        for row, first in _repeated(source, job, hashes, doubtful):
            marks[row.number - 1] = DUPLICATE
            repeats.append(row.number)
            firsts.append(first)
            if len(repeats) <= _FINDINGS_SHOWN:
                message = _at(row, f"the same as row {first}")
                findings.append(Finding(row.number, row.line, Status.DUPLICATE, message))
    return Preflight(
        total=len(marks),
        sendable=marks.count(SEND),
        invalid=marks.count(INVALID),
        duplicate=marks.count(DUPLICATE),
        marks=marks,
        findings=sorted(findings)[:_FINDINGS_SHOWN],
        first_invalid=next((each for each in findings if each.status is Status.INVALID), None),
        _repeats=repeats,
        _firsts=firsts,
    )


def _doubtful(hashes: "array[int]") -> set[int]:
    """Return the hashes that stand there more than once."""
    unseen = set(hashes)
    doubtful: set[int] = set()
    if len(unseen) < len(hashes):
        for code in hashes:
            if code in unseen:
                unseen.remove(code)
            else:
                doubtful.add(code)
    return doubtful - {_NO_HASH}


def _repeated(
    source: Source, job: Job[Item], hashes: "array[int]", doubtful: set[int]
) -> Iterator[tuple[Row, int]]:
    """Yield the rows that repeat an earlier one, each with that one's number.

    The rows of equal hashes are read again, and their keys are compared.
    """
    first_by_key: dict[bytes, int] = {}
    for row, code in zip(source.rows(), hashes, strict=False):
        if code in doubtful:
            try:
                key = job.key(job.parse(row.cells))
            except RowError:
                raise InputUnusableError(f"{source.name} was changed while in use") from None
            first = first_by_key.setdefault(key, row.number)
            if first != row.number:
                yield row, first


def _at(row: Row, problem: str) -> str:
    return f"line {row.line}: {problem}"
