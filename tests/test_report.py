"""The outcome file: what it carries, when it appears, and how it is read back."""

import csv
import errno
import io
import json
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch.errors import InputMissingError, InputUnusableError, OutputError, UsageError
from batch.model import Outcome, Result, Status
from batch.report import (
    REPORT_COLUMNS,
    ReportFormat,
    ReportWriter,
    check_writable,
    read_summary,
    recorded,
    report_format,
    timestamp,
)
from batch.source import open_source
from batch.text import printable

FORMATS = ["csv", "json", "jsonl"]
JOB = "associate"
DONE = Outcome(Result(Status.SUCCEEDED, "", 204, "", "", "r1"), 1, 1_700_000_000.25, 1_700_000_001.5, 1250)
FULL = Result(Status.FAILED, "image_full", 400, "E1", "no", "r2")
NO = Outcome(FULL, 2, 1_700_000_002.0, 1_700_000_009.0, 7000)
PENDING = Outcome(Result(Status.PENDING, "not_sent"))

any_letter = st.characters(exclude_categories=("Cs",))
cells = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\r"), max_size=20)
formulas = st.builds(lambda start, rest: start + rest, st.sampled_from(list("=+-@\t")), cells)
integers = st.integers(-(2**63) + 1, 2**63 - 1)
scalars = st.none() | st.booleans() | integers | st.floats(allow_nan=False, allow_infinity=False)
texts = formulas | st.text(any_letter, max_size=20)
values = st.recursive(
    scalars | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
service_texts = (formulas | st.text(st.characters(exclude_categories=()), max_size=30)).map(printable)
outcomes = st.builds(
    Outcome,
    st.builds(
        Result,
        st.sampled_from(Status),
        st.sampled_from(["", "image_full", "timeout"]),
        st.none() | st.integers(100, 599),
        service_texts,
        service_texts,
        service_texts,
    ),
    st.integers(0, 1000),
    st.floats(0, 4e9),
    st.floats(0, 4e9),
    st.integers(0, 10**9),
)


def write(
    path: Path, rows: Sequence[tuple[Sequence[Any], Outcome]], columns: Sequence[str] = ("note",)
) -> None:
    with ReportWriter(path, JOB, columns) as writer:
        for number, (own, outcome) in enumerate(rows, 1):
            writer.write(own, recorded(number, outcome))
        writer.finish()
        writer.commit()


def own_values(path: Path) -> tuple[list[str], list[list[Any]]]:
    """Read the input's own columns back as a resumed run does."""
    with open_source(str(path), format=None, columns=(), reserved=REPORT_COLUMNS) as source:
        rows = [list(row.values) for row in source.rows()]
        return source.columns, rows


def records(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".csv":
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file, strict=True))
    if path.suffix == ".json":
        found: list[dict[str, Any]] = json.loads(path.read_text("utf-8"))
        return found
    return [json.loads(line) for line in path.read_text("utf-8").split("\n")[:-1]]


def finish_and_commit(writer: ReportWriter) -> None:
    writer.finish()
    writer.commit()


@pytest.fixture(params=FORMATS)
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / f"pairs.report.{request.param}"


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def test_a_row_holds_all_columns_in_their_order(path: Path) -> None:
    write(path, [(["a", "b"], NO)], ["id", "note"])
    (record,) = records(path)
    assert list(record) == [
        *("row", "job", "id", "note", "outcome", "reason", "http_status", "error_code", "error_message"),
        *("request_id", "attempts", "started_at", "finished_at", "duration_ms"),
    ]
    assert {name: str(value) for name, value in record.items()} == {
        "row": "1",
        "job": "associate",
        "id": "a",
        "note": "b",
        "outcome": "failed",
        "reason": "image_full",
        "http_status": "400",
        "error_code": "E1",
        "error_message": "no",
        "request_id": "r2",
        "attempts": "2",
        "started_at": "2023-11-14T22:13:22.000Z",
        "finished_at": "2023-11-14T22:13:29.000Z",
        "duration_ms": "7000",
    }


def test_what_is_not_known_is_empty_in_csv_and_null_in_json(path: Path) -> None:
    write(path, [([None], PENDING)])
    (record,) = records(path)
    nothing = "" if path.suffix == ".csv" else None
    for name in ("note", "http_status", "started_at", "finished_at", "duration_ms"):
        assert record[name] == nothing
    assert str(record["attempts"]) == "0"


def test_a_row_shorter_than_the_input_has_columns_is_filled_up(path: Path) -> None:
    write(path, [(["a"], DONE), (["a", "b", "c"], DONE)], ["x", "y", "z"])
    short, _ = records(path)
    assert (short["x"], short["outcome"]) == ("a", "succeeded")
    assert not short["y"]
    assert not short["z"]


def test_each_row_is_one_line(path: Path) -> None:
    write(path, [(["plain"], DONE), (["caf\u00e9, \u2028 'x'"], NO), ([{"a": ["\n", "\r\n"]}], NO)])
    lines = path.read_bytes().split(b"\n")
    assert lines.pop() == b""
    extra = {".csv": 1, ".json": 2, ".jsonl": 0}[path.suffix]
    assert len(lines) == 3 + extra


def test_an_own_text_of_several_lines_is_one_row(path: Path) -> None:
    write(path, [(["a\nb\n\nc"], DONE), (['"\n",\n'], NO)])
    assert [record["note"] for record in records(path)] == ["a\nb\n\nc", '"\n",\n']
    assert own_values(path) == (["note"], [["a\nb\n\nc"], ['"\n",\n']])


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.tuples(st.lists(cells | formulas, min_size=2, max_size=2), outcomes), min_size=1, max_size=4)
)
def test_cells_of_a_csv_input_are_carried_through_a_csv_report_unchanged(
    rows: list[tuple[list[str], Outcome]],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        given = Path(folder, "pairs.csv")
        with given.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, quoting=csv.QUOTE_ALL).writerows([["Size", "a note"], *[own for own, _ in rows]])
        columns, own = own_values(given)
        report = Path(folder, "report.csv")
        write(report, [(cells, outcome) for cells, (_, outcome) in zip(own, rows, strict=True)], columns)
        assert own_values(report) == (["Size", "a note"], [own for own, _ in rows])


@pytest.mark.parametrize("form", ["json", "jsonl"])
@settings(max_examples=80, deadline=None)
@given(rows=st.lists(st.tuples(st.lists(values, min_size=2, max_size=2), outcomes), min_size=1, max_size=4))
def test_values_of_a_json_input_are_carried_through_a_json_report_unchanged(
    form: str, rows: list[tuple[list[Any], Outcome]]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        given = Path(folder, "pairs.json")
        given.write_text(json.dumps([dict(zip(["Size", "a note"], own, strict=True)) for own, _ in rows]))
        columns, own = own_values(given)
        report = Path(folder, f"report.{form}")
        write(report, [(values, outcome) for values, (_, outcome) in zip(own, rows, strict=True)], columns)
        assert own_values(report) == (["Size", "a note"], [own for own, _ in rows])


@pytest.mark.parametrize("form", FORMATS)
@settings(max_examples=60, deadline=None)
@given(told=st.lists(outcomes, min_size=1, max_size=6))
def test_what_the_service_said_is_read_back(form: str, told: list[Outcome]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"report.{form}")
        write(path, [(["x"], outcome) for outcome in told])
        found = records(path)
        summary = read_summary(str(path))
    for record, outcome in zip(found, told, strict=True):
        for name in ("error_code", "error_message", "request_id"):
            said, cell = getattr(outcome.result, name), record[name]
            assert cell == said or (form == "csv" and cell == f"'{said}")
            assert form != "csv" or not cell.startswith(tuple("=+-@\t\r\n"))
    assert summary.job == JOB
    assert summary.rows == len(told)
    assert summary.attempts == sum(outcome.attempts for outcome in told)
    for status in Status:
        of_status = [outcome for outcome in told if outcome.result.status is status]
        assert summary.outcomes[status] == len(of_status)
        for reason in ("image_full", "timeout"):
            rows = sum(outcome.result.reason == reason for outcome in of_status)
            assert summary.reasons[status, reason] == rows
    assert summary.started_at == min(str(timestamp(outcome.started_at)) for outcome in told)
    assert summary.finished_at == max(str(timestamp(outcome.finished_at)) for outcome in told)


@pytest.mark.parametrize("formula", ["=1+1", "+1", "-1", "@SUM(A1)", "=cmd|' /C calc'!A0", "\t=1", '="",1'])
@pytest.mark.parametrize("name", ["error_code", "error_message", "request_id", "reason"])
def test_a_formula_from_the_service_is_defused_in_csv_and_not_in_json(
    path: Path, name: str, formula: str
) -> None:
    hostile = replace(NO, result=replace(NO.result, **{name: formula}))
    write(path, [(["x"], hostile), (["x"], DONE)])
    expected = f"'{formula}" if path.suffix == ".csv" else formula
    assert records(path)[0][name] == expected
    assert records(path)[1]["outcome"] == "succeeded"


@pytest.mark.parametrize("formula", ["=1+1", "+49 30 1234", "-5", "@home", "'quoted", "\t"])
def test_the_inputs_own_cells_are_not_touched(path: Path, formula: str) -> None:
    write(path, [([formula], DONE)])
    assert records(path)[0]["note"] == formula


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        (True, "true"),
        (0, "0"),
        (-1, "-1"),
        (1.5, "1.5"),
        ([], "[]"),
        ({"a": [1, None, "\u00e9"]}, '{"a":[1,null,"\u00e9"]}'),
        ("null", "null"),
        (2**63 - 1, "9223372036854775807"),
        (2**70, "1180591620717411303424"),
    ],
)
def test_a_json_value_stands_in_csv_as_json(tmp_path: Path, value: Any, cell: str) -> None:
    write(tmp_path / "r.csv", [([value], DONE)])
    assert records(tmp_path / "r.csv")[0]["note"] == cell


@pytest.mark.parametrize("number", [2**63, 2**64 - 1, 2**64, -(2**63) - 1, 10**40])
def test_a_huge_integer_keeps_all_its_digits(path: Path, number: int) -> None:
    write(path, [([number], DONE), ([[number]], DONE)])
    first, second = records(path)
    assert (str(first["note"]), str(second["note"])) == (str(number), f"[{number}]")


def test_half_a_surrogate_pair_does_not_keep_a_report_from_being_written(path: Path) -> None:
    write(path, [(["\ud800"], DONE)])
    assert len(records(path)) == 1


@pytest.mark.parametrize("name", ["a,b", 'a "b"', "a\nb", "=1", "\u00e9\u4f60", "row_", "Outcome2"])
def test_an_own_column_of_any_name_is_carried(path: Path, name: str) -> None:
    write(path, [(["x", "y"], DONE)], [name, "other"])
    assert own_values(path) == ([name, "other"], [["x", "y"]])


def test_the_reports_own_columns_are_recognised_and_not_carried_twice(path: Path) -> None:
    write(path, [(["x"], NO)])
    with open_source(str(path), format=None, columns=(), reserved=REPORT_COLUMNS) as source:
        list(source.rows())
        assert source.columns == ["note"]
        assert source.dropped == list(REPORT_COLUMNS)


def test_the_old_report_stays_until_the_new_one_is_whole(path: Path) -> None:
    path.write_text("old")
    with ReportWriter(path, JOB, ["note"]) as writer:
        for number in range(1, 5001):
            writer.write(["x" * 100], recorded(number, DONE))
        assert path.read_text() == "old"
        writer.finish()
        writer.commit()
        assert len(records(path)) == writer.rows == 5000
    assert os.listdir(path.parent) == [path.name]


def test_a_report_without_commit_leaves_nothing_behind(path: Path) -> None:
    with ReportWriter(path, JOB, ["note"]) as writer:
        writer.write(["x"], recorded(1, DONE))
        assert not path.exists()
    assert os.listdir(path.parent) == []


def test_a_report_left_by_an_error_leaves_the_old_one_and_nothing_else(path: Path) -> None:
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), ReportWriter(path, JOB, ["note"]) as writer:  # noqa: PT012
        writer.write(["x"], recorded(1, DONE))
        raise ZeroDivisionError
    assert path.read_text() == "old"
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_commit_that_fails_is_an_output_error_and_leaves_the_old_report(
    path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def fails(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path.write_text("old")
    with ReportWriter(path, JOB, ["note"]) as writer:
        writer.write(["x"], recorded(1, DONE))
        monkeypatch.setattr(os, call, fails)
        with pytest.raises(OutputError, match="No space left") as caught:
            finish_and_commit(writer)
        assert str(path) in str(caught.value)
    assert path.read_text() == "old"
    assert os.listdir(path.parent) == [path.name]


def test_the_file_is_on_disk_before_it_takes_its_place(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    fsync, move = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: (calls.append("fsync"), fsync(file)))
    monkeypatch.setattr(os, "replace", lambda *names: (calls.append("replace"), move(*names)))
    write(path, [(["x"], DONE)])
    assert calls == ["fsync", "replace", "fsync"]


LIMITED = """
import os, resource, sys
from pathlib import Path
from batch.errors import OutputError
from batch.model import Outcome, Result, Status
from batch.report import ReportWriter, recorded

resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
path = Path(sys.argv[1])
try:
    with ReportWriter(path, "associate", ["note"]) as writer:
        for row in range(1, 10_001):
            writer.write(["x" * 100], recorded(row, Outcome(Result(Status.SUCCEEDED))))
        writer.finish()
        writer.commit()
except OutputError as error:
    print(str(path) in str(error), os.listdir(path.parent))
"""


def test_a_disk_that_fills_while_rows_are_written_is_an_output_error(path: Path) -> None:
    path.write_text("old")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", LIMITED, str(path)],
        check=True,
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert done.stdout == f"True {[path.name]}\n"
    assert done.stderr == ""
    assert path.read_text() == "old"


@pytest.mark.usefixtures("umask")
@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664), (0o027, 0o640)])
def test_permissions_follow_the_umask(path: Path, mask: int, mode: int) -> None:
    os.umask(mask)
    write(path, [(["x"], DONE)])
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert os.umask(mask) == mask


@pytest.mark.parametrize("name", ["r.csv", "r.CSV", "a.b.Csv", "r.json", "r.jsonl"])
def test_the_suffix_names_the_form(name: str) -> None:
    assert report_format(Path(name)) == ReportFormat(name.lower().rpartition(".")[2])


@pytest.mark.parametrize("name", ["r", "r.txt", "r.csv.gz", ".csv", "r.", "r.xlsx", "csv"])
def test_another_suffix_is_wrong_usage(tmp_path: Path, name: str) -> None:
    for attempt in (report_format, check_writable):
        with pytest.raises(UsageError, match=r"\.csv, \.json or \.jsonl"):
            attempt(tmp_path / name)
    with pytest.raises(UsageError):
        ReportWriter(tmp_path / name, JOB, [])
    assert os.listdir(tmp_path) == []


def test_a_folder_that_takes_files_is_writable_and_stays_as_it_was(path: Path) -> None:
    check_writable(path)
    assert os.listdir(path.parent) == []
    path.write_text("old")
    check_writable(path)
    assert path.read_text() == "old"
    assert os.listdir(path.parent) == [path.name]


def test_a_directory_in_the_reports_place_is_found_before_the_run(path: Path) -> None:
    path.mkdir()
    with pytest.raises(OutputError, match="directory"):
        check_writable(path)


@pytest.mark.parametrize("attempt", [check_writable, lambda path: ReportWriter(path, JOB, [])])
def test_a_missing_folder_is_found_before_the_run(path: Path, attempt: Any) -> None:
    with pytest.raises(OutputError, match="cannot be written: No such file") as caught:
        attempt(path.parent / "missing" / path.name)
    assert "missing" in str(caught.value)


def test_a_file_in_the_folders_place_is_found_before_the_run(path: Path) -> None:
    path.write_text("a file")
    with pytest.raises(OutputError, match="Not a directory"):
        check_writable(path / path.name)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_takes_no_files_is_found_before_the_run(path: Path) -> None:
    path.parent.chmod(0o555)
    try:
        with pytest.raises(OutputError, match="Permission denied"):
            check_writable(path)
    finally:
        path.parent.chmod(0o755)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("r.csv", "fpga_image_id,image_id\na,b\n"),
        ("r.csv", "row,job,note\n1,associate,x\n"),
        ("r.csv", "just a text\n"),
        ("r.csv", ""),
        ("r.csv", "\n\n"),
        ("r.csv", "row,job,outcome,reason,attempts,started_at,finished_at\n"),
        ("r.csv", "job,outcome,reason,attempts,started_at,finished_at\nx,perfect,,1,,\n"),
        ("r.csv", "job,outcome,reason,attempts,started_at,finished_at\nx,,,1,,\n"),
        ("r.csv", "job,outcome,reason,attempts,started_at,finished_at\nx,failed,,many,,\n"),
        ("r.csv", "job,outcome,reason,attempts,started_at,finished_at\nx,failed,,1,yesterday,\n"),
        ("r.csv", "job,outcome,reason,attempts,started_at,finished_at\nx,failed,,1\n"),
        ("r.csv", "job,outcome,reason,attempts,started_at,finished_at\nx,failed,,1,,,surplus\n"),
        ("r.csv", 'job,outcome,reason,attempts,started_at,finished_at\nx,"failed,,1,,\n'),
        ("r.json", "[]"),
        ("r.json", '{"outcome": "failed"}'),
        ("r.json", '[{"fpga_image_id": "a", "image_id": "b"}]'),
        ("r.json", '[1, "x", null]'),
        ("r.json", '[{"job": "x", "outcome": "failed", "attempts": 1'),
        ("r.json", '[{"job": "x", "outcome": ["failed"], "reason": "", "attempts": 1}]'),
        ("r.json", '[{"job": "x", "outcome": "failed", "reason": "", "attempts": 1.5}]'),
        ("r.jsonl", '{"fpga_image_id": "a"}\n'),
        ("r.jsonl", "{}\n"),
        ("r.jsonl", "no json\n"),
        ("r.jsonl", ""),
    ],
)
def test_a_file_that_is_no_report_is_unusable_and_the_message_names_it(
    tmp_path: Path, name: str, content: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InputUnusableError) as caught:
        read_summary(str(tmp_path / name))
    assert str(tmp_path / name) in str(caught.value)


def test_a_report_with_one_row_that_is_none_names_its_line(path: Path) -> None:
    write(path, [(["x"], DONE), (["y"], NO), (["z"], DONE)])
    escape = "\x1b" if path.suffix == ".csv" else "\\u001b"
    path.write_text(path.read_text().replace("failed", f"fa{escape}iled"))
    line = {".csv": 3, ".json": 3, ".jsonl": 2}[path.suffix]
    with pytest.raises(InputUnusableError, match=f"line {line}: ") as caught:
        read_summary(str(path))
    assert str(caught.value).isprintable()


def test_a_report_that_is_not_there_is_missing(path: Path) -> None:
    with pytest.raises(InputMissingError, match="No such file"):
        read_summary(str(path))


def test_a_summary_counts_what_was_written(path: Path) -> None:
    write(path, [(["a"], DONE), (["b"], NO), (["c"], NO), (["d"], PENDING)])
    summary = read_summary(str(path))
    assert summary.as_json() == {
        "job": "associate",
        "rows": 4,
        "outcomes": {
            **{status.value: 0 for status in Status},
            "succeeded": 1,
            "failed": 2,
            "pending": 1,
        },
        "reasons": [
            {"outcome": "failed", "reason": "image_full", "rows": 2},
            {"outcome": "pending", "reason": "not_sent", "rows": 1},
        ],
        "attempts": 5,
        "started_at": "2023-11-14T22:13:20.250Z",
        "finished_at": "2023-11-14T22:13:29.000Z",
        "seconds": 8.75,
    }


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, None),
        (0.0, "1970-01-01T00:00:00.000Z"),
        (1_700_000_000.25, "2023-11-14T22:13:20.250Z"),
        (4_102_444_799.999, "2099-12-31T23:59:59.999Z"),
    ],
)
def test_times_are_rfc_3339_in_utc_with_milliseconds(seconds: float | None, text: str | None) -> None:
    assert timestamp(seconds) == text


def test_a_csv_report_is_plain_utf_8_and_ends_its_lines_with_line_feeds(
    tmp_path: Path,
) -> None:
    write(tmp_path / "r.csv", [(["\u00e9"], DONE)])
    content = (tmp_path / "r.csv").read_bytes()
    assert content.startswith(b"row,job,note,outcome,")
    assert "\u00e9".encode() in content
    assert b"\r" not in content
    assert next(csv.reader(io.StringIO(content.decode())))[0] == "row"
