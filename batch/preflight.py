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

    """

    total: int
    sendable: int
    invalid: int
    duplicate: int
    marks: bytearray
    findings: Sequence[Finding]
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
    hashes, other_hashes = array("q"), array("q")
    keep, keep_other = hashes.append, other_hashes.append
    seen: set[int] = set()
    see = seen.add
    doubtful: set[int] = set()
    suspected: list[Row] = []
    invalid = array("q")
    findings: list[Finding] = []
    for row in source.rows():
        problem = row.problem
        if not problem:
            try:
                key = key_of(parse(row.cells))
            except RowError as error:
                problem = f"{error.column}: {error}"
            else:
                code = hash(key) & _HASH_BITS
                keep(code)
                keep_other(hash(key[::-1]))
                if code not in seen:
                    see(code)
                else:
                    doubtful.add(code)
                    if len(suspected) < _FINDINGS_SHOWN:
                        suspected.append(row)
                continue
        keep(_NO_HASH)
        keep_other(_NO_HASH)
        invalid.append(row.number)
        if len(findings) < _FINDINGS_SHOWN:
            findings.append(Finding(row.number, row.line, Status.INVALID, _at(row, problem)))
    seen.clear()
    repeats, firsts = _repeated(hashes, other_hashes, doubtful)
    marks = _marked(len(hashes), invalid, repeats)
    findings += _duplicates(suspected, repeats, firsts)
    return Preflight(
        total=len(marks),
        sendable=marks.count(SEND),
        invalid=len(invalid),
        duplicate=len(repeats),
        marks=marks,
        findings=sorted(findings)[:_FINDINGS_SHOWN],
        _repeats=repeats,
        _firsts=firsts,
    )


def _repeated(
    hashes: "array[int]", other_hashes: "array[int]", doubtful: set[int]
) -> "tuple[array[int], array[int]]":
    """Return the numbers of the rows that repeat an earlier one, and beside each that one's number."""
    repeats, firsts = array("q"), array("q")
    first_by_key: dict[int, int] = {}
    if doubtful:
        for number, (code, other) in enumerate(zip(hashes, other_hashes, strict=True), 1):
            if code in doubtful:
                first = first_by_key.setdefault((code << _OTHER_HASH_WIDTH) + other, number)
                if first != number:
                    repeats.append(number)
                    firsts.append(first)
    return repeats, firsts


def _marked(total: int, invalid: "array[int]", repeats: "array[int]") -> bytearray:
    marks = bytearray(total)
    for number in invalid:
        marks[number - 1] = INVALID
    for number in repeats:
        marks[number - 1] = DUPLICATE
    return marks


def _duplicates(suspected: list[Row], repeats: "array[int]", firsts: "array[int]") -> Iterator[Finding]:
    """Yield what is to be said of those rows under suspicion that do repeat another."""
    first_by_row = dict(zip(repeats[:_FINDINGS_SHOWN], firsts[:_FINDINGS_SHOWN], strict=True))
    for row in suspected:
        if first := first_by_row.get(row.number):
            message = _at(row, f"the same as row {first}")
            yield Finding(row.number, row.line, Status.DUPLICATE, message)


def _at(row: Row, problem: str) -> str:
    return f"line {row.line}: {problem}"
