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
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch.errors import InputMissingError, InputUnusableError, OutputError, UsageError
from batch.folder import Folder
from batch.input import open_source
from batch.model import Outcome, Record, Result, Row, Status
from batch.results.report import (
    LEADING_COLUMNS,
    OUTCOME_COLUMNS,
    REPORT_COLUMNS,
    ReportFormat,
    ReportWriter,
    check_writable,
    open_report,
    read_summary,
    recorded,
    remove_report,
    report_format,
    timestamp,
)
from batch.results.report.cells import NOTHING
from batch.text import defused, printable

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
fractions = st.floats(-(2.0**62), 2.0**62)
scalars = st.none() | st.booleans() | integers | fractions
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
    st.lists(
        st.tuples(st.lists(cells | formulas, min_size=2, max_size=2).filter(any), outcomes),
        min_size=1,
        max_size=4,
    )
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
    hostile = NO._replace(result=NO.result._replace(**{name: formula}))
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
    def fails(*_: object, **_folders: object) -> None:
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
    monkeypatch.setattr(
        os, "replace", lambda *names, **folders: (calls.append("replace"), move(*names, **folders))
    )
    write(path, [(["x"], DONE)])
    assert calls == ["fsync", "replace", "fsync"]


LIMITED = """
import os, resource, sys
from pathlib import Path
from batch.errors import OutputError
from batch.model import Outcome, Result, Status
from batch.results.report import ReportWriter, recorded

soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
path = Path(sys.argv[1])
try:
    with ReportWriter(path, "associate", ["note"]) as writer:
        for row in range(1, 10_001):
            writer.write(["x" * 100], recorded(row, Outcome(Result(Status.SUCCEEDED))))
        writer.finish()
        writer.commit()
except OutputError as error:
    print(str(path) in str(error), os.listdir(path.parent))
finally:
    # What measures coverage writes a larger file when this ends.
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
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


def test_where_a_file_system_keeps_no_modes_a_report_is_written_all_the_same(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_file: int, _mode: int) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "fchmod", refuse)
    with ReportWriter(path, JOB, ["note"]) as writer:
        writer.finish()
        writer.commit()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


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


def names_of(length: int) -> list[str]:
    """Return names of so many bytes."""
    return [
        "x" * (length - 4) + ".csv",
        "\N{SNOWMAN}" * ((length - 4) // 3) + "y" * ((length - 4) % 3) + ".csv",
    ]


@pytest.mark.parametrize("name", names_of(255), ids=["letters", "bytes"])
@pytest.mark.parametrize("mark", ["", "out.csv"])
def test_a_name_that_is_just_allowed_can_be_written(tmp_path: Path, name: str, mark: str) -> None:
    path = tmp_path / name
    for _ in range(2):
        check_writable(path)
        with ReportWriter(path, JOB, ["note"], mark=mark) as writer:
            writer.write(["x"], recorded(1, DONE))
            assert len(os.listdir(tmp_path)) - path.exists() == 1
            finish_and_commit(writer)
        assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("name", names_of(256), ids=["letters", "bytes"])
def test_a_name_that_is_too_long_is_found_before_the_run(tmp_path: Path, name: str) -> None:
    with pytest.raises(OutputError, match="File name too long; nothing was sent"):
        check_writable(tmp_path / name)


def run_or_skip(*command: str | Path) -> None:
    try:
        done = subprocess.run(command, capture_output=True, check=False, text=True)
    except FileNotFoundError as error:
        pytest.skip(str(error))
    if done.returncode:
        pytest.skip(f"not possible here: {done.stderr.strip()}")


def test_a_file_that_is_mounted_cannot_be_replaced_and_that_is_found_before_the_run(path: Path) -> None:
    path.write_text("old")
    run_or_skip("mount", "--bind", path, path)
    try:
        with pytest.raises(OutputError, match="Device or resource busy; nothing was sent"):
            check_writable(path)
        with pytest.raises(OutputError, match="cannot be removed: Device or resource busy"):
            remove_report(path, Folder(path.parent))
    finally:
        subprocess.run(["umount", path], check=True)
    assert path.read_text() == "old"
    check_writable(path)


def test_a_report_in_a_folder_that_is_a_link_to_a_mount_can_be_replaced(tmp_path: Path) -> None:
    disk, link = tmp_path / "disk", tmp_path / "link"
    disk.mkdir()
    run_or_skip("mount", "-t", "tmpfs", "tmpfs", disk)
    try:
        link.symlink_to(disk)
        (link / "r.csv").write_text("old")
        check_writable(link / "r.csv")
        check_writable(disk / "r.csv")
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_file_that_may_not_be_changed_cannot_be_replaced_and_that_is_found_before_the_run(
    path: Path,
) -> None:
    path.write_text("old")
    run_or_skip("chattr", "+i", path)
    try:
        with pytest.raises(OutputError, match="Operation not permitted; nothing was sent"):
            check_writable(path)
    finally:
        subprocess.run(["chattr", "-i", path], check=True)
    assert path.read_text() == "old"


@pytest.mark.parametrize("target", ["/dev/null", "nowhere"])
def test_a_link_to_elsewhere_can_be_replaced(path: Path, target: str) -> None:
    path.symlink_to(target)
    check_writable(path)
    assert path.is_symlink()


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
        ("r.csv", "job,outcome,reason,attempts,started_at,finished_at\nx,perfect,,1,,\n"),
        ("r.csv", "job,outcome,reason,attempts,started_at,finished_at\nx,failed,,1,,,surplus\n"),
        ("r.csv", 'job,outcome,reason,attempts,started_at,finished_at\nx,"failed,,1,,\n'),
        ("r.json", "5"),
        ("r.json", '{"outcome": "failed"}'),
        ("r.json", '[{"fpga_image_id": "a", "image_id": "b"}]'),
        ("r.json", '[1, "x", null]'),
        ("r.json", '[{"job": "x", "outcome": "failed", "attempts": 1'),
        ("r.json", '[{"job": "x", "outcome": ["failed"], "reason": "", "attempts": 1}]'),
        ("r.jsonl", '{"fpga_image_id": "a"}\n'),
        ("r.jsonl", "{}\n"),
        ("r.jsonl", "no json\n"),
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
    with pytest.raises(InputUnusableError, match=rf"line {line} \(row 2\): ") as caught:
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


TOLD = ("reason", "error_code", "error_message", "request_id")
NUMBERS = ("http_status", "attempts", "duration_ms")

names = st.text(any_letter, min_size=1, max_size=8).map(str.strip)
own_columns = st.lists(
    names.filter(lambda name: name and name.lower() not in REPORT_COLUMNS), max_size=3, unique=True
)
times = st.none() | st.floats(0, 4e9).map(timestamp)
told_texts = (formulas | st.text(any_letter, max_size=20)).filter(
    lambda text: not text or text not in NOTHING
)


def certain(record: Record) -> Record:
    """Return a record that gives a reason where a row succeeded without the service's word."""
    if record.status is Status.SUCCEEDED and not record.reason:
        return record._replace(http_status=204)
    return record


told = st.builds(
    Record,
    st.integers(1, 10**9),
    st.sampled_from(Status),
    told_texts,
    st.none() | st.integers(100, 599),
    told_texts,
    told_texts,
    told_texts,
    st.integers(0, 10**9),
    times,
    times,
    st.none() | st.integers(0, 10**12),
).map(certain)
Told = tuple[list[str], list[tuple[list[Any], Record]]]


def reports_of(own: st.SearchStrategy[Any]) -> st.SearchStrategy[Told]:
    """Return reports whose own columns hold such values."""
    return own_columns.flatmap(
        lambda columns: st.tuples(
            st.just(columns),
            st.lists(
                st.tuples(st.lists(own, min_size=len(columns), max_size=len(columns)), told),
                min_size=1,
                max_size=4,
            ),
        )
    )


def put(path: Path, columns: Sequence[str], rows: Sequence[tuple[Sequence[Any], Record]]) -> Path:
    """Write a report of these rows."""
    with ReportWriter(path, JOB, columns) as writer:
        for own, record in rows:
            writer.write(own, record)
        finish_and_commit(writer)
    return path


def read_rows(path: Path) -> tuple[list[str], list[Row]]:
    with open_report(str(path)) as report:
        rows = list(report.rows())
        assert report.job == JOB
        return report.columns, rows


def read_back(path: Path) -> Told:
    columns, rows = read_rows(path)
    return columns, [(list(row.values), earlier) for row in rows if (earlier := row.earlier)]


def copied(path: Path, name: str) -> Path:
    """Write a report anew from what is read of it."""
    return put(path.with_name(name), *read_back(path))


def in_csv(record: Record) -> Record:
    return record._replace(**{name: defused(getattr(record, name)) for name in TOLD})


@pytest.mark.parametrize(("form", "own"), [("csv", texts), ("json", values), ("jsonl", values)])
def test_a_report_that_is_read_and_written_again_is_the_same_byte_for_byte(
    form: str, own: st.SearchStrategy[Any]
) -> None:
    @settings(max_examples=80)
    @given(reports_of(own))
    def check(report: Told) -> None:
        columns, rows = report
        with tempfile.TemporaryDirectory() as folder:
            path = put(Path(folder, f"first.{form}"), columns, rows)
            expected = [(own, in_csv(record) if form == "csv" else record) for own, record in rows]
            assert read_back(path) == (columns, expected)
            assert copied(path, f"second.{form}").read_bytes() == path.read_bytes()

    check()


@settings(max_examples=60)
@given(reports_of(values))
def test_a_csv_report_of_json_values_holds_their_texts_and_stays_as_it_is(report: Told) -> None:
    columns, rows = report
    with tempfile.TemporaryDirectory() as folder:
        path = put(Path(folder, "first.csv"), columns, rows)
        for (given, _), (found, _) in zip(rows, read_back(path)[1], strict=True):
            for value, cell in zip(given, found, strict=True):
                assert value == (cell if isinstance(value, str) else json.loads(cell or "null"))
        assert copied(path, "second.csv").read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    "way", [("csv", "json", "csv"), ("csv", "jsonl", "json", "csv"), ("json", "jsonl", "json")], ids="-".join
)
@settings(max_examples=40)
@given(report=reports_of(texts))
def test_a_report_keeps_what_it_says_from_form_to_form(way: tuple[str, ...], report: Told) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = first = put(Path(folder, f"0.{way[0]}"), *report)
        for number, form in enumerate(way[1:], 1):
            path = copied(path, f"{number}.{form}")
            assert read_back(path) == read_back(first)
        assert path.read_bytes() == first.read_bytes()


def test_numbers_and_nothing_are_themselves_again_in_json(tmp_path: Path) -> None:
    path = put(tmp_path / "r.csv", [], [([], recorded(1, NO)), ([], recorded(2, PENDING))])
    full, pending = records(copied(path, "r.json"))
    assert [full[name] for name in ("row", *NUMBERS)] == [1, 400, 2, 7000]
    assert [pending[name] for name in ("row", *NUMBERS)] == [2, None, 0, None]
    assert (pending["started_at"], pending["finished_at"]) == (None, None)


@pytest.mark.parametrize("name", ["a\rb", "a\r\nb", "a;b", "a\tb"])
def test_a_column_with_a_line_end_or_a_separator_in_its_name_is_read_back(path: Path, name: str) -> None:
    put(path, [name, "other"], [(["x", "y"], recorded(1, DONE))])
    assert read_back(path) == ([name, "other"], [(["x", "y"], recorded(1, DONE))])


def test_rows_are_numbered_by_place_and_called_by_their_label(path: Path) -> None:
    put(path, ["note"], [(["x"], recorded(7, DONE)), (["y"], recorded(3, NO))])
    _, rows = read_rows(path)
    assert [(row.number, row.label, list(row.values)) for row in rows] == [(1, 7, ["x"]), (2, 3, ["y"])]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("width", [2, 5, 13, 20])
def test_rows_of_empty_cells_that_a_spreadsheet_leaves_are_blank_lines(
    tmp_path: Path, delimiter: str, width: int
) -> None:
    path = save(tmp_path / "r.csv", two_rows(), delimiter=delimiter, lineterminator="\n")
    whole = read_rows(path)
    header, first, second = path.read_text().splitlines()
    empty = delimiter * (width - 1)
    path.write_text(f"{header}\n{empty}\n{first}\n{empty}\n{empty}\n{second}\n{empty}\n{empty}\n")
    columns, rows = read_rows(path)
    assert (columns, [row._replace(line=line) for row, line in zip(rows, (2, 3), strict=True)]) == whole
    assert [row.line for row in rows] == [3, 6]
    assert read_summary(str(path)).rows == 2


def test_rows_that_are_not_selected_do_not_count(path: Path) -> None:
    put(path, ["note"], [([str(label)], recorded(label, DONE if label % 2 else NO)) for label in range(1, 7)])
    with open_report(
        str(path), select=lambda record: record if record.status is Status.FAILED else None
    ) as report:
        rows = [list(report.rows()) for _ in range(2)]
        assert rows[0] == rows[1]
        assert [(row.number, row.label, list(row.values)) for row in rows[0]] == [
            (1, 2, ["2"]),
            (2, 4, ["4"]),
            (3, 6, ["6"]),
        ]


Cells = list[dict[str, Any]]


def two_rows() -> Cells:
    cell = dict.fromkeys(OUTCOME_COLUMNS, "")
    return [
        {"row": "7", "job": JOB, "note": "x", **cell, "outcome": "succeeded", "attempts": "1"},
        {"row": "9", "job": JOB, "note": "y", **cell, "outcome": "failed", "reason": "timeout"},
    ]


def save(path: Path, rows: Cells, **dialect: Any) -> Path:
    """Write a report as somebody else does."""
    if path.suffix == ".csv":
        with path.open("w", encoding=dialect.pop("encoding", "utf-8"), newline="") as file:
            writer = csv.DictWriter(file, rows[0], **dialect)
            writer.writeheader()
            writer.writerows(rows)
    else:
        before, between, after = ("[", ",\n", "]") if path.suffix == ".json" else ("", "\n", "\n")
        path.write_text(before + between.join(map(json.dumps, rows)) + after, "utf-8")
    return path


def refusal(path: Path) -> str:
    """Return what is said of a report that cannot be used, without its path."""
    with pytest.raises(InputUnusableError) as caught:
        read_summary(str(path))
    start, _, text = str(caught.value).partition(str(path))
    assert not start
    assert text.isprintable()
    return text


@pytest.mark.parametrize("column", ["job", "outcome"])
def test_a_report_without_a_column_that_it_must_have_is_refused_by_its_name(path: Path, column: str) -> None:
    rows = two_rows()
    for row in rows:
        del row[column]
    text = refusal(save(path, rows))
    assert text.startswith(", line 1: " if path.suffix == ".csv" else ": ")
    assert f"column {column}" in text or f"column '{column}'" in text


@pytest.mark.parametrize(
    ("column", "cell", "said"),
    [
        ("outcome", "perfect", "outcome: 'perfect' is unknown: write one of succeeded, unchanged, failed,"),
        ("outcome", "\x1b[2J", r"outcome: '\x1b[2J' is unknown"),
        ("job", "verify", "job: 'verify' after 'associate': a report has rows of one job"),
        ("job", "\u202e", r"job: '\u202e' after 'associate'"),
    ],
)
def test_a_job_or_an_outcome_that_no_report_has_is_refused_with_its_line_row_and_column(
    path: Path, column: str, cell: str, said: str
) -> None:
    first, second = two_rows()
    line = 3 if path.suffix == ".csv" else 2
    text = refusal(save(path, [first, {**second, column: cell}]))
    assert text.startswith(f", line {line} (row 9): not a row of a report: {said}")


@pytest.mark.parametrize("column", ["job", "outcome"])
@pytest.mark.parametrize(("value", "kind"), [(1.5, "a number"), ([1], "a list"), ({"a": 1}, "an object")])
def test_a_job_or_an_outcome_that_is_no_text_is_refused_with_its_line_and_column(
    tmp_path: Path, column: str, value: Any, kind: str
) -> None:
    first, second = two_rows()
    text = refusal(save(tmp_path / "r.jsonl", [first, {**second, column: value}]))
    assert text == f", line 2 (row 9): not a row of a report: {column} is {kind}, not a string"


def test_a_row_with_surplus_cells_is_refused_with_its_line(tmp_path: Path) -> None:
    path = save(tmp_path / "r.csv", two_rows())
    with path.open("a") as file:
        file.write(f"1,associate,x,failed{',' * 9},surplus\n")
    assert refusal(path).startswith(
        ", line 4 (row 1): not a row of a report: has 14 fields, the header names 13; the surplus begins"
    )


def test_the_first_row_is_refused_like_any_other(path: Path) -> None:
    first, second = two_rows()
    line = 2 if path.suffix == ".csv" else 1
    text = refusal(save(path, [{**first, "outcome": "perfect"}, second]))
    assert text.startswith(f", line {line} (row 7): not a row of a report: outcome: 'perfect' is unknown")


def test_rows_are_called_by_their_places_where_there_is_no_column_for_it(path: Path) -> None:
    rows = [{name: cell for name, cell in row.items() if name != "row"} for row in two_rows()]
    _, found = read_rows(save(path, rows))
    assert [row.label for row in found] == [1, 2]


def test_a_row_without_a_label_of_its_own_is_called_by_its_place(path: Path) -> None:
    first, second = two_rows()
    _, found = read_rows(save(path, [first, {**second, "row": ""}]))
    assert [row.label for row in found] == [7, 2]


@pytest.mark.parametrize(
    "spelled", [str.upper, str.title, lambda name: f" {name} "], ids=["A", "Aa", "blank"]
)
def test_columns_are_found_in_any_order_and_letter_case(path: Path, spelled: Any) -> None:
    columns, rows = read_rows(save(path, two_rows()))
    shuffled = [{spelled(name): row[name] for name in sorted(row)} for row in two_rows()]
    found_columns, found = read_rows(save(path, shuffled))
    assert found_columns == [spelled(name).strip() for name in columns]
    assert [(row.label, list(row.values), row.earlier) for row in found] == [
        (row.label, list(row.values), row.earlier) for row in rows
    ]


spreadsheet_cells = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=20)


@pytest.mark.parametrize(
    "dialect",
    [
        {"delimiter": ";", "lineterminator": "\r\n", "encoding": "utf-8-sig"},
        {"delimiter": "\t", "lineterminator": "\r\n"},
        {"delimiter": ",", "lineterminator": "\n", "quoting": csv.QUOTE_ALL},
    ],
    ids=["semicolons", "tabs", "quotes"],
)
@settings(max_examples=40)
@given(report=reports_of(spreadsheet_cells))
def test_a_report_saved_by_a_spreadsheet_reads_the_same(dialect: dict[str, Any], report: Told) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = put(Path(folder, "r.csv"), *report)
        saved = save(path.with_name("saved.csv"), records(path), **dialect)
        assert read_back(saved) == read_back(path)
        assert copied(saved, "again.csv").read_bytes() == path.read_bytes()


def test_the_leading_columns_lead_and_the_outcome_ends_whatever_order_was_read(tmp_path: Path) -> None:
    shuffled = [{name: row[name] for name in sorted(row)} for row in two_rows()]
    path = copied(save(tmp_path / "r.csv", shuffled), "again.csv")
    assert list(records(path)[0]) == [*LEADING_COLUMNS, "note", *OUTCOME_COLUMNS]
