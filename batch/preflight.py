"""The pass over the whole input before anything is sent: which rows are sound, and which repeat another."""

from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from batch.errors import InputUnusableError
from batch.input import Input
from batch.job import Job, RowError
from batch.model import Record, Row, Status
from batch.results.resume import is_open, was_sent
from batch.results.summary import Summary

SEND, INVALID, DUPLICATE, KEPT, VOID = range(5)

_FINDINGS_SHOWN = 20
_NEVER_SENT = (Status.INVALID, Status.DUPLICATE)
# An int of up to 60 bits takes 32 bytes, the key of 32 bytes it stands for takes 80.
_HASH_BITS = (1 << 60) - 1
_NO_HASH = -1

Item = TypeVar("Item")


class Finding(NamedTuple):
    """A row that will not be sent, for display.

    Attributes:
        row: label of the row.
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
        kept: summary of the rows whose earlier outcome stands.
        marks: for each row `SEND`, `INVALID`, `DUPLICATE`, `KEPT` where its earlier outcome stands, or `VOID`
            where another run has overtaken that since.
        findings: the first rows that will not be sent.
        first_invalid: the first row that cannot be used, or None.

    """

    total: int
    sendable: int
    invalid: int
    duplicate: int
    kept: Summary
    marks: bytearray
    findings: Sequence[Finding]
    first_invalid: Finding | None
    _repeats: "array[int]" = field(repr=False)
    _firsts: "array[int]" = field(repr=False)

    def first_of(self, row_number: int) -> int:
        """Return the label of the earlier row that a duplicate repeats.

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


def preflight(source: Input, job: Job[Item], wanted: Callable[[Record], bool] = is_open) -> Preflight:
    """Read the whole input and mark each row.

    Only hashes of the rows' keys are kept meanwhile. If some are equal, the rows concerned are read a second
    time to compare the keys themselves.

    Args:
        source: the input.
        job: what its rows are for.
        wanted: says of a row with an earlier outcome whether it is to be sent again.

    Raises:
        InputUnusableError: the input as a whole cannot be used.

    """
    found = _first_pass(source, job, wanted)
    hashes, findings = found.hashes, found.findings
    if found.kept and len(found.kept) + len(found.invalid) < len(hashes):
        _add_kept(source, job, wanted, hashes)
    marks = bytearray(len(hashes))
    for number in found.invalid:
        marks[number - 1] = INVALID
    for number in found.kept:
        marks[number - 1] = KEPT
    repeats, firsts = array("q"), array("q")
    if doubtful := _doubtful(hashes):
        for row, first in _repeated(source, job, hashes, doubtful, is_report=found.is_report):
            if marks[row.number - 1] == KEPT:
                continue
            marks[row.number - 1] = DUPLICATE
            repeats.append(row.number)
            firsts.append(first)
            if len(repeats) <= _FINDINGS_SHOWN:
                message = _at(row, f"the same as row {first}")
                findings.append(Finding(row.label, row.line, Status.DUPLICATE, message))
    return Preflight(
        total=len(marks),
        sendable=marks.count(SEND),
        invalid=marks.count(INVALID),
        duplicate=marks.count(DUPLICATE),
        kept=found.summary,
        marks=marks,
        findings=sorted(findings)[:_FINDINGS_SHOWN],
        first_invalid=next((each for each in findings if each.status is Status.INVALID), None),
        _repeats=repeats,
        _firsts=firsts,
    )


@dataclass(slots=True)
class _Found:
    """What the first pass found: for each row a hash or `_NO_HASH`, and which rows are not sent."""

    summary: Summary
    hashes: "array[int]" = field(default_factory=lambda: array("q"))
    invalid: "array[int]" = field(default_factory=lambda: array("q"))
    kept: "array[int]" = field(default_factory=lambda: array("q"))
    findings: list[Finding] = field(default_factory=list)
    is_report: bool = False


def _first_pass(source: Input, job: Job[Item], wanted: Callable[[Record], bool]) -> _Found:
    parse, key_of = job.parse, job.key
    found = _Found(Summary(job.name))
    keep = found.hashes.append
    earlier = None
    for row in source.rows():
        problem, earlier = row.problem, row.earlier
        if earlier is not None and not wanted(earlier):
            found.kept.append(row.number)
            found.summary.add(earlier)
            keep(_NO_HASH)
            continue
        if not problem:
            try:
                keep(hash(key_of(parse(row.cells))) & _HASH_BITS)
                continue
            except RowError as error:
                problem = f"{error.column}: {error}"
        keep(_NO_HASH)
        found.invalid.append(row.number)
        if len(found.findings) < _FINDINGS_SHOWN:
            found.findings.append(Finding(row.label, row.line, Status.INVALID, _at(row, problem)))
    found.is_report = earlier is not None
    return found


def _add_kept(source: Input, job: Job[Item], wanted: Callable[[Record], bool], hashes: "array[int]") -> None:
    """Add the hashes of rows that are not sent again, as one that is may repeat them.

    No row repeats one that was never sent itself.
    """
    for row in source.rows():
        earlier = row.earlier
        if earlier is not None and earlier.status not in _NEVER_SENT and not wanted(earlier):
            with suppress(RowError):
                hashes[row.number - 1] = hash(job.key(job.parse(row.cells))) & _HASH_BITS


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
    source: Input, job: Job[Item], hashes: "array[int]", doubtful: set[int], *, is_report: bool
) -> Iterator[tuple[Row, int]]:
    """Yield the rows that repeat another one, each with that one's label.

    The rows of equal hashes are read again, and their keys are compared.
    """
    first_by_key: dict[bytes, tuple[int, int]] = {}
    if is_report:
        # A pair that an earlier run has sent is that row's, wherever in the file another one names it too.
        for row, key in _keys(source, job, hashes, doubtful):
            if row.earlier is not None and was_sent(row.earlier):
                first_by_key.setdefault(key, (row.number, row.label))
    for row, key in _keys(source, job, hashes, doubtful):
        number, label = first_by_key.setdefault(key, (row.number, row.label))
        if number != row.number:
            yield row, label


def _keys(
    source: Input, job: Job[Item], hashes: "array[int]", doubtful: set[int]
) -> Iterator[tuple[Row, bytes]]:
    """Read the rows of some hashes again, each with its key."""
    for row, code in zip(source.rows(), hashes, strict=False):
        if code in doubtful:
            try:
                yield row, job.key(job.parse(row.cells))
            except RowError:
                raise InputUnusableError(f"{source.name} was changed while in use") from None


def _at(row: Row, problem: str) -> str:
    return f"line {row.line}: {problem}"
