"""The form of a written report: its input's separators and privacy, and fit to be input again."""

import csv
import gzip
import json
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from conftest import Ended, WatchedSandbox
from hypothesis import example, given
from hypothesis import strategies as st
from support import PROJECT, fpga, image
from test_report import Told, any_letter, put, read_back, reports_of

from batch.input import open_source
from batch.input.names import completed
from batch.job import Column
from batch.model import Dialect, Record, Status
from batch.results.report import REPORT_COLUMNS, ReportWriter, open_report, read_summary

Command = Callable[..., Ended]

DIALECTS = [
    Dialect(d, end, mark) for d in (",", ";", "\t") for end in ("\n", "\r\n") for mark in (False, True)
]
GOOD = {"fpga_image_id": fpga(1), "image_id": image(1)}
LONG = "x" * 200_000


def table(path: Path, dialect: Dialect = DIALECTS[0]) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8-sig" if dialect.mark else "utf-8") as file:
        return list(csv.DictReader(file, delimiter=dialect.delimiter))


def pairs_in(dialect: Dialect) -> bytes:
    """Return two pairs, the second of which is invalid, and cells that hold every separator."""
    rows = [
        ["fpga_image_id", "a,b;c", "image_id"],
        [fpga(1), 'x,y;z\tä "q"', image(1)],
        ["bad", "", image(2)],
    ]
    quoted = [['"' + cell.replace('"', '""') + '"' for cell in row] for row in rows]
    lines = [dialect.delimiter.join(row) + dialect.line_end for row in quoted]
    return ("\ufeff" * dialect.mark + "".join(lines)).encode()


def dialect_of(path: Path) -> Dialect:
    """Return how the bytes of a report are written, as far as its header and its line ends tell."""
    text = path.read_bytes().decode("utf-8-sig")
    ends = text.count("\r\n")
    assert ends in (0, text.count("\n"))
    return Dialect(
        text.replace('"', "")[len("row")],
        "\r\n" if ends else "\n",
        path.read_bytes().startswith(b"\xef\xbb\xbf"),
    )


@pytest.mark.parametrize("dialect", DIALECTS[1::3], ids=repr)
def test_report_and_failures_are_written_as_their_input_is(
    command: Command, sandbox: WatchedSandbox, tmp_path: Path, dialect: Dialect
) -> None:
    (tmp_path / "pairs.csv").write_bytes(pairs_in(dialect))
    run = ["associate", "pairs.csv", "--failures", "failed.csv"]
    assert command(*run, service=sandbox.url).exit_code == 1
    report, failures = tmp_path / "pairs.report.csv", tmp_path / "failed.csv"
    assert dialect_of(report) == dialect_of(failures) == dialect
    assert [row["a,b;c"] for row in table(report, dialect)] == ['x,y;z\tä "q"', ""]
    assert [row["outcome"] for row in table(failures, dialect)] == ["invalid"]
    ended = command("resume", "pairs.report.csv", "--report", "next.csv", service=sandbox.url)
    assert ended.exit_code == 1
    assert (tmp_path / "next.csv").read_bytes() == report.read_bytes()
    assert command("undo", "pairs.report.csv", service=sandbox.url) == Ended(0, "", "")
    assert dialect_of(tmp_path / "pairs.report.undo.csv") == dialect


def test_the_form_of_a_packed_input_and_of_standard_input_is_found_too(
    command: Command, sandbox: WatchedSandbox, tmp_path: Path
) -> None:
    dialect = Dialect(";", "\r\n", mark=True)
    (tmp_path / "pairs.csv.gz").write_bytes(gzip.compress(pairs_in(dialect)))
    assert command("associate", "pairs.csv.gz", service=sandbox.url).exit_code == 1
    assert dialect_of(tmp_path / "pairs.report.csv") == dialect
    text = f"fpga_image_id;image_id\n{fpga(1)};{image(1)}\n"
    ended = command("verify", "-", service=sandbox.url, stdin=text)
    assert ended.stdout.startswith(f"row;job;fpga_image_id;image_id;outcome;{';'.join(REPORT_COLUMNS[3:])}\n")


@pytest.mark.parametrize("name", ["pairs.json", "pairs.jsonl"])
def test_a_csv_report_of_a_json_input_has_commas_and_line_feeds(
    command: Command, sandbox: WatchedSandbox, tmp_path: Path, name: str
) -> None:
    text = json.dumps(GOOD)
    (tmp_path / name).write_text(f"\ufeff[{text}]" if name == "pairs.json" else f"\ufeff{text}\r\n")
    assert command("associate", name, service=sandbox.url) == Ended(0, "", "")
    assert dialect_of(tmp_path / f"{name}.report.csv") == Dialect()


@pytest.mark.parametrize("suffix", ["json", "jsonl"])
def test_a_json_report_of_a_csv_input_is_json(
    command: Command, sandbox: WatchedSandbox, tmp_path: Path, suffix: str
) -> None:
    (tmp_path / "pairs.csv").write_bytes(pairs_in(Dialect(";", "\r\n", mark=True)))
    report = tmp_path / f"out.{suffix}"
    assert command("associate", "pairs.csv", "--report", report.name, service=sandbox.url).exit_code == 1
    text = report.read_bytes().decode()
    rows = json.loads(text) if suffix == "json" else [json.loads(row) for row in text.splitlines()]
    assert [row["a,b;c"] for row in rows] == ['x,y;z\tä "q"', ""]
    assert "\r" not in text


own_cells = st.text(any_letter, max_size=20) | st.sampled_from(
    [",", ";", "\t", "a;b,c", '"', "\r", "\r\n", "\n", "\ufeff", "\0", "'=1"]
)


@pytest.mark.parametrize("dialect", DIALECTS, ids=repr)
@given(report=reports_of(own_cells))
def test_whatever_a_report_holds_its_form_is_found_again(dialect: Dialect, report: Told) -> None:
    columns, rows = report
    with tempfile.TemporaryDirectory() as folder:
        plain = put(Path(folder, "plain.csv"), columns, rows)
        path = Path(folder, "r.csv")
        with ReportWriter(path, "associate", columns, dialect=dialect) as writer:
            for own, record in rows:
                writer.write(own, record)
            writer.finish()
            writer.commit()
        with open_report(str(path)) as opened:
            assert opened.dialect == dialect
        assert read_back(path) == read_back(plain)


@pytest.mark.parametrize("dialect", DIALECTS[::2], ids=repr)
@pytest.mark.parametrize("cell", ["a,b", "a;b", "a\tb", "a\rb"])
def test_a_cell_at_which_a_spreadsheet_might_split_is_quoted_with_its_row(
    tmp_path: Path, dialect: Dialect, cell: str
) -> None:
    path = tmp_path / "r.csv"
    with ReportWriter(path, "associate", ["note"], dialect=dialect) as writer:
        writer.write([cell], Record(1, Status.PENDING))
        writer.finish()
        writer.commit()
    assert f'"{cell}"'.encode() in path.read_bytes()


@pytest.fixture
def umask() -> Iterator[Callable[[int], None]]:
    before = os.umask(0o022)

    def change(mask: int) -> None:
        os.umask(mask)

    yield change
    os.umask(before)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize(
    ("given", "mask", "mode"),
    [
        (0o600, 0o022, 0o600),
        (0o640, 0o022, 0o640),
        (0o644, 0o022, 0o644),
        (0o644, 0o077, 0o600),
        (0o664, 0o002, 0o664),
        (0o444, 0o022, 0o644),
        (0o400, 0o022, 0o600),
        (0o777, 0o022, 0o644),
    ],
)
def test_report_and_failures_are_as_private_as_their_input(
    command: Command,
    sandbox: WatchedSandbox,
    tmp_path: Path,
    umask: Callable[[int], None],
    given: int,
    mask: int,
    mode: int,
) -> None:
    pairs = tmp_path / "pairs.csv"
    pairs.write_bytes(pairs_in(Dialect()))
    pairs.chmod(given)
    umask(mask)
    assert command("associate", "pairs.csv", "--failures", "failed.csv", service=sandbox.url).exit_code == 1
    assert mode_of(tmp_path / "failed.csv") == mode_of(tmp_path / "pairs.report.csv") == mode


@pytest.mark.parametrize(
    ("given", "before", "mode"),
    [(0o644, 0o600, 0o600), (0o600, 0o644, 0o600), (0o640, 0o604, 0o600), (0o664, 0o664, 0o664)],
)
def test_a_report_that_replaces_another_is_as_private_as_either(
    command: Command,
    sandbox: WatchedSandbox,
    tmp_path: Path,
    umask: Callable[[int], None],
    given: int,
    before: int,
    mode: int,
) -> None:
    umask(0o022)
    pairs, report = tmp_path / "pairs.csv", tmp_path / "pairs.report.csv"
    pairs.write_bytes(pairs_in(Dialect()))
    assert command("associate", "pairs.csv", service=sandbox.url).exit_code == 1
    pairs.chmod(given)
    report.chmod(before)
    assert command("associate", "pairs.csv", service=sandbox.url).exit_code == 1
    assert mode_of(report) == mode


def test_a_resume_in_place_keeps_the_mode_and_one_elsewhere_takes_it_over(
    command: Command, sandbox: WatchedSandbox, tmp_path: Path, umask: Callable[[int], None]
) -> None:
    report = put(tmp_path / "r.csv", list(GOOD), [(list(GOOD.values()), Record(1, Status.PENDING))])
    report.chmod(0o640)
    umask(0o007)
    assert command("resume", "r.csv", "--report", "next.csv", service=sandbox.url) == Ended(0, "", "")
    umask(0o077)
    assert command("resume", "r.csv", service=sandbox.url) == Ended(0, "", "")
    assert (mode_of(report), mode_of(tmp_path / "next.csv")) == (0o640, 0o640)


def test_the_report_of_standard_input_follows_the_umask(
    command: Command, sandbox: WatchedSandbox, tmp_path: Path, umask: Callable[[int], None]
) -> None:
    umask(0o027)
    text = pairs_in(Dialect()).decode()
    ended = command("associate", "-", "--report", "out.csv", service=sandbox.url, stdin=text)
    assert ended.exit_code == 1
    assert mode_of(tmp_path / "out.csv") == 0o640


UNNAMED: dict[str, list[Any]] = {
    "no row names one id": [{"image_id": image(1)}, {"image_id": image(2), "note": "x"}],
    "no row names either": [{"note": 1}, {"note": None}],
    "no row is an object": [1, None],
    "some row names it otherwise": [{"fpga_image": fpga(1), "image": {"id": image(1)}}],
}


@pytest.mark.parametrize(
    ("what", "suffix"),
    [*zip(UNNAMED, ["csv"] * 4, strict=True), *zip(UNNAMED, ["json", "jsonl"], strict=False)],
)
def test_a_report_has_the_columns_that_its_job_asks_for_though_no_row_of_the_input_does(
    command: Command, sandbox: WatchedSandbox, tmp_path: Path, what: str, suffix: str
) -> None:
    rows = UNNAMED[what]
    (tmp_path / "pairs.json").write_text(json.dumps(rows))
    report = f"out.{suffix}"
    ended = command("associate", "pairs.json", "--report", report, service=sandbox.url)
    assert ended.exit_code == 1
    assert f"next: correct the invalid rows there, then fpga-batch resume {report}" in ended.stderr
    ended = command("resume", report, service=sandbox.url)
    assert (ended.exit_code, ended.stdout) == (1, "")
    assert f"{len(rows)} invalid (invalid_row {len(rows)})" in ended.stderr
    ended = command("resume", "--dry-run", report, service=sandbox.url)
    assert "fpga_image_id: is missing" in ended.stderr
    if suffix == "csv":
        assert {"fpga_image_id", "image_id"} < table(tmp_path / report)[0].keys()


def test_the_columns_that_a_job_must_have_stand_behind_those_that_are_named() -> None:
    columns = (Column("a"), Column("b", aliases=("c",)), Column("d", required=False))
    assert completed(["x", "C"], columns) == ["x", "C", "a"]
    assert completed(["A", "b"], columns) == ["A", "b"]
    assert completed([], columns) == ["a", "b"]


@pytest.mark.parametrize(
    ("name", "suffix"), [("pairs.csv", "csv"), ("pairs.csv", "jsonl"), ("pairs.json", "json")]
)
def test_the_report_of_an_input_without_rows_can_be_taken_up_and_leaves_nothing_to_do(
    command: Command, sandbox: WatchedSandbox, tmp_path: Path, name: str, suffix: str
) -> None:
    (tmp_path / name).write_text("fpga_image_id,image_id\n" if name == "pairs.csv" else "[]")
    report = tmp_path / f"out.{suffix}"
    assert command("associate", name, "--report", report.name, service=sandbox.url) == Ended(0, "", "")
    whole = report.read_bytes()
    if suffix == "json":
        assert json.loads(whole) == []
    ended = command("report", report.name)
    assert (ended.exit_code, ended.stdout) == (0, "0 rows\n")
    ended = command("report", "--json", report.name)
    assert (ended.exit_code, json.loads(ended.stdout)["rows"]) == (0, 0)
    assert command("resume", report.name, service=sandbox.url) == Ended(0, "", "")
    ended = command("undo", report.name, service=sandbox.url)
    assert (ended.exit_code, ended.stderr) == (0, f"{report.name}: there is nothing to undo\n")
    assert report.read_bytes() == whole
    again = f"next.{suffix}"
    assert command("resume", report.name, "--report", again, service=sandbox.url) == Ended(0, "", "")
    assert read_summary(str(tmp_path / again)).rows == 0
    assert sandbox.requests == 0


@pytest.mark.parametrize(
    ("name", "suffix"),
    [("pairs.csv", "csv"), ("pairs.json", "csv"), ("pairs.csv", "json"), ("pairs.csv", "jsonl")],
)
def test_a_report_with_a_long_cell_is_read_by_every_command(
    command: Command, sandbox: WatchedSandbox, tmp_path: Path, name: str, suffix: str
) -> None:
    rows = [{**GOOD, "note": LONG}, {"fpga_image_id": "bad", "image_id": image(2), "note": LONG}]
    with (tmp_path / "pairs.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    (tmp_path / "pairs.json").write_text(json.dumps(rows))
    report = f"out.{suffix}"
    assert command("associate", name, "--report", report, service=sandbox.url).exit_code == 1
    assert command("report", report).stdout.splitlines()[1:] == [
        "  1 succeeded",
        "  1 invalid (invalid_row 1)",
    ]
    assert command("resume", report, "--report", f"next.{suffix}", service=sandbox.url).exit_code == 1
    with open_report(str(tmp_path / f"next.{suffix}")) as opened:
        assert [row.values[opened.columns.index("note")] for row in opened.rows()] == [LONG, LONG]
    assert command("undo", f"next.{suffix}", service=sandbox.url) == Ended(0, "", "")
    assert not list(sandbox.associations)


CARRIED = [
    *("", "12345678901234567890123", "1e400", "NaN", "null", "[1", '{"a":', "'=1+1", "=1+1", "-0"),
    *("\0", "\x01\x1f\x7f", "\u2028\u2029", "\ud7ff\ue000\uffff", "\U0010ffff", "\\ud800", "a\r\nb\rc\n"),
    *("\ufeff", "\u202e", '"', "\\", "</script>", " x ", "\t"),
]


def test_what_is_carried_from_csv_to_json_to_json_lines_and_back_is_the_same(
    command: Command, sandbox: WatchedSandbox, tmp_path: Path
) -> None:
    columns = ["fpga_image_id", "image_id", "note", "a\nb", "Größe", 'q"', "a\u2028b", "image"]
    rows = [[fpga(n), image(n), cell, cell, cell, cell, cell, cell] for n, cell in enumerate(CARRIED)]
    first = put(
        tmp_path / "0.csv",
        columns,
        [(row, Record(number, Status.PENDING, "not_sent")) for number, row in enumerate(rows, 1)],
    )
    files = [first.name, "1.json", "2.jsonl", "3.json", "4.csv"]
    for before, after in pairwise(files):
        assert command("resume", before, "--report", after, service=sandbox.url) == Ended(0, "", "")
        with open_report(str(tmp_path / after)) as report:
            assert [list(row.values) for row in report.rows()] == rows
            assert report.columns == columns
    assert len(sandbox.associations) == len(rows)
    assert all(project == PROJECT for project, _, _ in sandbox.associations)


numbers = st.integers().map(str) | st.floats().map(str) | st.text(max_size=5) | st.just("9" * 30)
texts = st.text(any_letter, max_size=10)


@pytest.mark.parametrize("suffix", ["json", "jsonl"])
@given(
    told=st.fixed_dictionaries(
        {
            **dict.fromkeys(("row", "http_status", "attempts", "started_at", "finished_at"), numbers),
            **dict.fromkeys(("duration_ms", "reason", "error_code", "error_message"), numbers | texts),
        }
    ),
    note=own_cells,
)
@example(told={"row": "9" * 19, "attempts": "9" * 19, "duration_ms": "9" * 19}, note="9" * 19)
def test_an_edited_csv_report_is_readable_as_json(suffix: str, told: dict[str, str], note: str) -> None:
    cells: dict[str, Any] = {"job": "associate", "note": note, "outcome": "failed", **told}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "r.csv")
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, cells, quoting=csv.QUOTE_ALL)
            writer.writeheader()
            writer.writerow(cells)
        columns, rows = read_back(path)
        copied = put(Path(folder, f"r.{suffix}"), columns, rows)
        assert read_back(copied) == (columns, rows)
        with open_source(str(copied), format=None, columns=(), reserved=REPORT_COLUMNS) as source:
            assert [list(row.values) for row in source.rows()] == [[note]]
        assert read_summary(str(copied)) == read_summary(str(path))
