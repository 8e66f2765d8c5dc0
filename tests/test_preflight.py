"""The pass before anything is sent: marks, counts, and what is said of the rows that stay behind."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import batch.preflight
from batch.errors import InputUnusableError
from batch.input import open_source
from batch.job import Column, Conversation, RowError
from batch.model import Kind, Response, Status, Verdict
from batch.preflight import DUPLICATE, INVALID, SEND, Preflight, preflight, problem_of

HEX = re.compile("[0-9a-f]{32}").fullmatch
UUID = re.compile("[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}").fullmatch


class Pair(NamedTuple):
    one: str
    other: str


class PairJob:
    name = "pair"
    columns = (Column("fpga_image_id"), Column("image_id"))

    def parse(self, cells: Sequence[str]) -> Pair:
        one, other = cells
        if not HEX(one):
            one = one.strip().lower()
            if not HEX(one):
                raise RowError("fpga_image_id", f"'{one}' is not 32 hex digits")
        if not UUID(other):
            other = other.strip().lower()
            if not UUID(other):
                raise RowError("image_id", f"'{other}' is not a UUID")
        return Pair(one, other)

    def key(self, item: Pair) -> bytes:
        return bytes.fromhex(item.one) + bytes.fromhex(item.other.replace("-", ""))

    def conversation(self, item: Pair) -> Conversation:
        raise NotImplementedError(item)

    def shown_limit(self, response: Response) -> None:
        raise NotImplementedError

    def classify(self, response: Response) -> Verdict:
        return Verdict(Kind.REFUSED, str(response.status))


JOB = PairJob()


def pair(number: int) -> str:
    return f"{number:032x},ec500000-0000-4000-8000-{number:012x}"


def write(folder: Path, lines: Sequence[str]) -> str:
    path = folder / "pairs.csv"
    path.write_text("\n".join(["fpga_image_id,image_id", *lines]))
    return str(path)


def checked(folder: Path, lines: Sequence[str]) -> Preflight:
    with open_source(write(folder, lines), format=None, columns=JOB.columns) as source:
        return preflight(source, JOB)


def test_every_row_is_marked_and_counted(tmp_path: Path) -> None:
    found = checked(
        tmp_path, [pair(1), "xyz,xyz", pair(2), pair(1), "", pair(3).upper(), pair(3), pair(1), "x"]
    )
    assert list(found.marks) == [SEND, INVALID, SEND, DUPLICATE, SEND, DUPLICATE, DUPLICATE, INVALID]
    assert (found.total, found.sendable, found.invalid, found.duplicate) == (8, 3, 2, 3)


def test_a_duplicate_names_the_first_row_it_repeats(tmp_path: Path) -> None:
    found = checked(tmp_path, [pair(1), pair(2), pair(1), pair(2), pair(1)])
    assert [found.first_of(row) for row in (3, 4, 5)] == [1, 2, 1]


@pytest.mark.parametrize("row", [0, 1, 2, 4, 5])
def test_a_row_that_is_no_duplicate_repeats_none(tmp_path: Path, row: int) -> None:
    found = checked(tmp_path, [pair(1), pair(2), pair(1), pair(3)])
    with pytest.raises(KeyError):
        found.first_of(row)


def test_findings_tell_in_order_what_stays_behind_and_why(tmp_path: Path) -> None:
    found = checked(tmp_path, [pair(1), pair(1), "", f"{'0' * 32},xyz", "x", pair(1)])
    assert found.findings == [
        (2, 3, Status.DUPLICATE, "line 3: the same as row 1"),
        (3, 5, Status.INVALID, "line 5: image_id: 'xyz' is not a UUID"),
        (4, 6, Status.INVALID, "line 6: has 1 field, the header names 2"),
        (5, 7, Status.DUPLICATE, "line 7: the same as row 1"),
    ]


def test_findings_are_the_first_of_many(tmp_path: Path) -> None:
    found = checked(tmp_path, [pair(1), *[pair(1), "x,y"] * 50])
    assert [finding.row for finding in found.findings] == list(range(2, 22))


def test_the_problem_of_a_row_is_told_again_as_it_was_found(tmp_path: Path) -> None:
    with open_source(write(tmp_path, [pair(1), "x,y", "x"]), format=None, columns=JOB.columns) as source:
        found = preflight(source, JOB)
        problems = [problem_of(row, JOB) for row in source.rows()]
    assert problems == ["", *[finding.message for finding in found.findings]]


def test_an_input_that_is_unusable_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputUnusableError, match="never closed"):
        checked(tmp_path, [pair(1), '"x'])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(numbers=st.lists(st.none() | st.integers(0, 9), min_size=1, max_size=40), bits=st.integers(0, 3))
def test_rows_of_one_hash_and_different_keys_are_no_duplicates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, numbers: list[int | None], bits: int
) -> None:
    firsts: dict[int, int] = {}
    expected = [
        INVALID if number is None else SEND if firsts.setdefault(number, row) == row else DUPLICATE
        for row, number in enumerate(numbers, 1)
    ]
    with monkeypatch.context() as patch:
        patch.setattr(batch.preflight, "_HASH_BITS", (1 << bits) - 1)
        found = checked(tmp_path, ["x,y" if number is None else pair(number) for number in numbers])
    assert list(found.marks) == expected
    assert found.duplicate == expected.count(DUPLICATE)
    for row, number in enumerate(numbers, 1):
        if number is not None and expected[row - 1] == DUPLICATE:
            assert found.first_of(row) == firsts[number]
