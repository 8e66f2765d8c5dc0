"""The names of columns come from the list, and a spreadsheet runs what begins like a formula."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Ended, WatchedSandbox
from hypothesis import given
from hypothesis import strategies as st
from support import fpga, image

from batch.text import defused_name, original_name

Command = Callable[..., Ended]

LIVE = ("=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(1)", "\uff1d1", "'=1", "''@x")
FORMULA_STARTS = tuple("=+-@\t\r\n\uff1d")


def header(report: Path) -> list[str]:
    with report.open(newline="") as file:
        return next(csv.reader(file))


@pytest.fixture
def names(tmp_path: Path) -> list[str]:
    """Write a list whose columns have such names, with a row that is invalid; return its own columns."""
    rows = [
        {"fpga_image_id": fpga(1), "image_id": image(1), **dict.fromkeys(LIVE, "a")},
        {"fpga_image_id": "wrong", "image_id": image(2), **dict.fromkeys(LIVE, "b")},
    ]
    (tmp_path / "pairs.json").write_text(json.dumps(rows))
    return list(rows[0])


def test_no_header_of_a_csv_report_is_a_formula_and_it_stays_the_same_when_it_is_taken_up(
    command: Command, sandbox: WatchedSandbox, tmp_path: Path, names: list[str]
) -> None:
    assert command("associate", "pairs.json", service=sandbox.url).exit_code == 1
    report = tmp_path / "pairs.json.report.csv"
    written = header(report)
    assert not [name for name in written if name.startswith(FORMULA_STARTS)]
    assert [original_name(name) for name in written[2 : 2 + len(names)]] == names
    assert command("resume", report.name, service=sandbox.url).exit_code == 1
    assert header(report) == written
    assert command("resume", report.name, "--report", "all.json", service=sandbox.url).exit_code == 1
    (first, _) = json.loads((tmp_path / "all.json").read_text())
    assert set(names) < set(first)
    assert first["=cmd|' /C calc'!A0"] == first["'=1"] == "a"


def test_rows_cut_out_of_a_report_carry_the_same_columns_on(
    command: Command, sandbox: WatchedSandbox, tmp_path: Path, names: list[str]
) -> None:
    ended = command("associate", "pairs.json", "--failures", "left.csv", service=sandbox.url)
    assert ended.exit_code == 1
    assert command("associate", "left.csv", service=sandbox.url).exit_code == 1
    own = [name for name in header(tmp_path / "left.report.csv") if original_name(name) in names]
    assert own == [defused_name(name) for name in names]


@given(st.text("'=+-@\t\r\n\uff1dab", min_size=1))
def test_every_name_comes_back_and_none_is_a_formula(name: str) -> None:
    assert original_name(defused_name(name)) == name
    assert not defused_name(name).startswith(FORMULA_STARTS)
    if not name.startswith(FORMULA_STARTS):  # as it may stand in a list that somebody has made safe already
        assert defused_name(original_name(name)) == name
