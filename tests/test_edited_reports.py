"""Reports that spreadsheets, data frames and hands have changed: every command reads them."""

import csv
import io
import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from conftest import Ended, WatchedSandbox, at_once
from hypothesis import given
from hypothesis import strategies as st
from support import PROJECT, fpga, image

from batch.job import RowError
from batch.model import READ_BACK, UNREAD, Record, Status
from batch.results.report import LEADING_COLUMNS, OUTCOME_COLUMNS, REPORT_COLUMNS, open_report, read_summary
from batch.results.report.cells import NOTHING, bare, moment, whole_number
from batch.results.report.records import as_written, edited
from batch.results.resume import is_in_doubt, merged, was_sent

Command = Callable[..., Ended]
Rows = list[dict[str, Any]]
Edit = Callable[[Rows], Any]

OWN = ("fpga_image_id", "image_id", "customer")
COLUMNS = (*LEADING_COLUMNS, *OWN, *OUTCOME_COLUMNS)
NUMBERS = ("row", "http_status", "attempts", "duration_ms")
TIMES = ("started_at", "finished_at")
TEXTS = ("reason", "error_code", "error_message", "request_id")
SHOWN = ("row", *(name for name in OUTCOME_COLUMNS if name != "outcome"))
START, END = "2026-11-25T07:16:31.019Z", "2026-11-25T07:16:31.021Z"
HUGE = "9" * 25


def line(row: int, outcome: str, reason: str, http_status: str, **cells: str) -> dict[str, str]:
    blank = dict.fromkeys(COLUMNS, "")
    pair = {"fpga_image_id": fpga(row), "image_id": image(row), "customer": "00123"}
    sent = {"attempts": "1", "started_at": START, "finished_at": END, "duration_ms": "1"}
    told = {"outcome": outcome, "reason": reason, "http_status": http_status, "request_id": f"r{row}"}
    return {**blank, "row": str(row), "job": "associate", **pair, **told, **sent, **cells}


def written() -> Rows:
    """Return the rows of a report as the program writes it: one is to be sent again, and one is invalid."""
    wrong = {"image_id": "bad", "error_message": "line 5: image_id: 'bad' is not a UUID", "request_id": ""}
    never = {"attempts": "0", "started_at": "", "finished_at": "", "duration_ms": ""}
    return [
        line(1, "succeeded", "", "204"),
        line(2, "failed", "not_private", "400", error_code="Ecs.0005", error_message="not private, it says"),
        line(3, "succeeded", "", "204"),
        line(4, "invalid", "invalid_row", "", **wrong, **never),
    ]


def as_csv(rows: Rows, **how: Any) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0], lineterminator="\n", **how)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def as_lines(rows: Rows) -> str:
    return "".join(f"{json.dumps(row)}\n" for row in rows)


def put(column: str, *cells: Any) -> Edit:
    """Put cells into a column, from the first row on."""

    def edit(rows: Rows) -> None:
        for row, cell in zip(rows, cells, strict=False):
            row[column] = cell

    return edit


def everywhere(cell: Any, *columns: str) -> Edit:
    """Put a cell into columns of all rows."""

    def edit(rows: Rows) -> None:
        for row in rows:
            row.update(dict.fromkeys(columns, cell))

    return edit


def each(columns: tuple[str, ...], change: Callable[[str], Any]) -> Edit:
    """Change all cells of some columns that are not empty."""

    def edit(rows: Rows) -> None:
        for row in rows:
            for column in columns:
                if row[column] != "":
                    row[column] = change(row[column])

    return edit


def nothing_said_as(word: str) -> Edit:
    def edit(rows: Rows) -> None:
        for row in rows:
            row.update({column: word for column in SHOWN if not row[column]})

    return edit


def as_data_frame(rows: Rows) -> None:
    """Do what a data frame does: numbers become fractions, times milliseconds, nothing becomes null."""
    for row in rows:
        for column in REPORT_COLUMNS:
            if row[column] == "":
                row[column] = None
            elif column in ("http_status", "duration_ms"):
                row[column] = float(row[column])
            elif column in NUMBERS:
                row[column] = int(row[column])
            elif column in TIMES:
                row[column] = 1795590991019 if row[column] == START else 1795590991021


def shuffled_labels(rows: Rows) -> None:
    for row, label in zip(rows, ("2", "2", "", "Total"), strict=True):
        row["row"] = label


EDITS: dict[str, Edit] = {
    "as it was written": lambda _: None,
    "fractions": each(("http_status", "duration_ms", "attempts", "row"), "{}.0".format),
    "decimal commas": each(NUMBERS, "{},0".format),
    "truth values": each(("attempts", "duration_ms"), lambda cell: str(cell == "1")),
    "truth values in capitals": each(("attempts", "duration_ms"), lambda cell: str(cell == "1").upper()),
    **{f"{word} for nothing": nothing_said_as(word) for word in sorted(NOTHING - {""})},
    "milliseconds": each(TIMES, lambda cell: "1795590991019" if cell == START else "1795590991021.0"),
    "German dates": everywhere("25.11.2026 07:16", "started_at"),
    "American dates": everywhere("11/25/2026 7:16 AM", *TIMES),
    "dates without a zone": everywhere("2026-11-25 07:16:31", *TIMES),
    "a data frame's dates": each(TIMES, lambda cell: f"{cell[:10]} {cell[11:-1]}000+00:00"),
    "outcomes in capitals": each(("outcome",), str.title),
    "outcomes with blanks": each(("outcome", "job"), "  {}\u00a0".format),
    "jobs in capitals": each(("job",), str.upper),
    "a job in one row only": put("job", "", "", "associate", ""),
    "labels that are double, missing or none": shuffled_labels,
    "apostrophes": each((*REPORT_COLUMNS,), "'{}".format),
    "a spreadsheet's literals": each((*LEADING_COLUMNS, *NUMBERS), '="{}"'.format),
    "thousands apart": each(("duration_ms",), lambda _: "1,234"),
    "numbers of 25 digits": everywhere(HUGE, *NUMBERS),
    "numbers of 19 digits": everywhere("9999999999999999999", *NUMBERS),
    "nonsense in all that is only shown": everywhere("\u202e?!", *SHOWN),
    "a column of nothing": everywhere("", "Unnamed: 15"),
}
FORMS: dict[str, Callable[[Rows], str]] = {
    ".csv": as_csv,
    "; .csv": partial(as_csv, delimiter=";"),
    '" .csv': partial(as_csv, delimiter="\t", quoting=csv.QUOTE_ALL),
    ".jsonl": as_lines,
    ".json": json.dumps,
}
JSON_EDITS: dict[str, Edit] = {
    "a data frame's values": as_data_frame,
    "lists and objects in all that is only shown": everywhere([{"a": 1}], *SHOWN),
    "true in all that is only shown": everywhere(True, *SHOWN),
    "null in all that is only shown": everywhere(None, *SHOWN),
    "numbers of 19 digits as numbers": everywhere(9223372036854775807, *NUMBERS, *TIMES),
    "fractions of 300 digits as numbers": everywhere(1e300, *NUMBERS, *TIMES),
}
BY_HAND = {
    "a spreadsheet's empty rows": (".csv", as_csv(written()) + ",,,,\n" + "," * 14 + "\n"),
    "cells left out at the end of a row": (".csv", re.sub("0,,,\n", "0\n", as_csv(written()))),
    "cells added at the end of the rows": (".csv", as_csv(written()).replace(",1\n", ",1,,\n")),
    "a header with an empty name": (".csv", as_csv(written()).replace("\n", ",\n")),
    "a mark and CRLF": (".csv", "\ufeff" + as_csv(written(), delimiter=";").replace("\n", "\r\n")),
    "numbers of 30 digits as numbers": (
        ".jsonl",
        as_lines(written()).replace('"attempts": "1"', f'"attempts": {HUGE}99999'),
    ),
}


def edited_reports() -> dict[str, tuple[str, str]]:
    """Return the suffix and the text of every report."""
    reports = dict(BY_HAND)
    for what, edit in {**EDITS, **JSON_EDITS}.items():
        for suffix in FORMS if what in EDITS else (".jsonl", ".json"):
            rows = written()
            edit(rows)
            reports[f"{what} {suffix}".replace("/", "_")] = (
                f".{suffix.partition('.')[2]}",
                FORMS[suffix](rows),
            )
    return reports


REPORTS = edited_reports()
SPREAD = {f"{what}{suffix}": text for what, (suffix, text) in list(REPORTS.items())[::8]}
"""Some of every kind by the name of their file, for the command itself."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with edited reports."""
    for name, text in SPREAD.items():
        (tmp_path / name).write_text(text, "utf-8", newline="")
    return tmp_path


@pytest.mark.parametrize("what", sorted(REPORTS))
def test_an_edited_report_says_of_each_row_what_it_said(tmp_path: Path, what: str) -> None:
    suffix, text = REPORTS[what]
    path = tmp_path / f"r{suffix}"
    path.write_text(text, "utf-8", newline="")
    with open_report(str(path)) as report:
        assert report.job == "associate"
        rows = list(report.rows())
        place = [name.lower() for name in report.columns].index("fpga_image_id")
    statuses = [row.earlier.status for row in rows if row.earlier]
    assert statuses == [Status.SUCCEEDED, Status.FAILED, Status.SUCCEEDED, Status.INVALID]
    assert [row.values[place] for row in rows] == [fpga(number) for number in (1, 2, 3, 4)]


@pytest.mark.usefixtures("folder")
def test_report_sums_up_an_edited_report(command: Command) -> None:
    ends = at_once(partial(command, "report", "--json", name) for name in SPREAD)
    for name, ended in zip(SPREAD, ends, strict=True):
        assert (ended.exit_code, ended.stderr) == (0, ""), name
        told = json.loads(ended.stdout)
        assert (told["job"], told["rows"]) == ("associate", 4), name
        found = {outcome: rows for outcome, rows in told["outcomes"].items() if rows}
        assert found == {"succeeded": 2, "failed": 1, "invalid": 1}, name


def of_projects(command: Command, sandbox: WatchedSandbox, names: Any) -> Callable[[str, str], Ended]:
    """Return a function that runs a command on one of the reports, in a project of the report's own.

    Its rows 1 and 3 are associated there, as the report says.
    """
    projects = {name: f"{number:032x}" for number, name in enumerate(names)}
    for project in projects.values():
        for row in (1, 3):
            sandbox.associations.add(project, fpga(row), image(row))

    def run(what: str, name: str) -> Ended:
        return command(what, name, service=sandbox.url, FPGA_BATCH_PROJECT_ID=projects[name])

    return run


def pairs_by_project(sandbox: WatchedSandbox) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for project, fpga_image_id, _ in sandbox.associations:
        found.setdefault(project, set()).add(fpga_image_id)
    return found


def test_resume_sends_what_an_edited_report_leaves_to_do(
    command: Command, sandbox: WatchedSandbox, folder: Path
) -> None:
    run = of_projects(command, sandbox, SPREAD)
    ends = at_once(partial(run, "resume", name) for name in SPREAD)
    for name, ended in zip(SPREAD, ends, strict=True):
        assert ended.exit_code == 1, (name, ended)
        assert re.search(r"^ +3 succeeded", ended.stderr, re.MULTILINE), (name, ended)
        with open_report(str(folder / name)) as report:
            records = [row.earlier for row in report.rows() if row.earlier]
        assert [record.status.value for record in records] == [*["succeeded"] * 3, "invalid"], name
        assert (records[1].http_status, records[1].reason) == (204, ""), name
    found = pairs_by_project(sandbox)
    assert len(found) == len(SPREAD)
    assert all(pairs == {fpga(1), fpga(2), fpga(3)} for pairs in found.values())


def test_undo_takes_back_what_an_edited_report_says_was_done(
    command: Command, sandbox: WatchedSandbox, tmp_path: Path
) -> None:
    names = [
        *("as it was written .csv", "fractions ; .csv", "milliseconds .csv", "outcomes in capitals .json"),
        *("a job in one row only .csv", "German dates .csv", "NaN for nothing .csv"),
        *("a data frame's values .jsonl", "a mark and CRLF", "apostrophes ; .csv"),
    ]
    for name in names:
        (tmp_path / f"{name}{REPORTS[name][0]}").write_text(REPORTS[name][1], "utf-8", newline="")
    files = [f"{name}{REPORTS[name][0]}" for name in names]
    run = of_projects(command, sandbox, files)
    for name, ended in zip(files, at_once(partial(run, "undo", name) for name in files), strict=True):
        assert ended == Ended(0, "", ""), name
    assert pairs_by_project(sandbox) == {}


def summary_of(path: Path, text: str) -> dict[str, Any]:
    path.write_text(text, "utf-8")
    return read_summary(str(path)).as_json()


@pytest.mark.parametrize("suffix", FORMS)
@pytest.mark.parametrize(
    ("cell", "started_at"),
    [
        (START, START),
        ("2026-11-25T08:16:31.019+01:00", START),
        ("2026-11-25 07:16:31.019000+00:00", START),
        ("2026-11-25 07:16:31.019 UTC", START),
        ("1795590991019", START),
        ("1795590991019000000", START),
        ("25.11.2026 07:16", None),
        ("11/25/2026 7:16 AM", None),
        ("2026-11-25 07:16:31", None),
    ],
)
def test_a_report_tells_times_that_are_certain_in_utc_and_no_others(
    tmp_path: Path, suffix: str, cell: str, started_at: str | None
) -> None:
    rows = written()
    everywhere(cell, "started_at")(rows)
    told = summary_of(tmp_path / f"r.{suffix.rpartition('.')[2]}", FORMS[suffix](rows))
    assert (told["started_at"], told["finished_at"]) == (started_at, END)
    assert told["seconds"] == (0.002 if started_at else None)
    assert told["attempts"] == 3


def test_the_first_of_times_in_different_zones_is_the_earliest(tmp_path: Path) -> None:
    rows = written()
    put("started_at", "2026-11-25T08:30:00.000+02:00", "2026-11-25T07:00:00.000Z", "1795590000000")(rows)
    assert summary_of(tmp_path / "r.csv", as_csv(rows))["started_at"] == "2026-11-25T06:30:00.000Z"


def run_on(command: Command, path: Path, text: str, url: str) -> list[Ended]:
    path.write_text(text, "utf-8")
    return [
        command("report", path.name),
        command("resume", "--dry-run", path.name, service=url),
        command("undo", "--dry-run", path.name, service=url),
    ]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_rows_of_two_jobs_are_refused_with_line_and_row(
    command: Command, sandbox: WatchedSandbox, tmp_path: Path, suffix: str
) -> None:
    rows = written()
    put("job", "associate", "", "verify")(rows)
    for ended in run_on(command, tmp_path / f"r{suffix}", FORMS[suffix](rows), sandbox.url):
        assert (ended.exit_code, ended.stdout) == (65, "")
        assert f"r{suffix}, line {4 if suffix == '.csv' else 3} (row 3): " in ended.stderr
        assert "job: 'verify' after 'associate'" in ended.stderr


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_where_no_row_says_its_job_the_column_is_to_be_filled(
    command: Command, sandbox: WatchedSandbox, tmp_path: Path, suffix: str
) -> None:
    rows = written()
    everywhere("", "job")(rows)
    for ended in run_on(command, tmp_path / f"r{suffix}", FORMS[suffix](rows), sandbox.url):
        assert (ended.exit_code, ended.stdout) == (65, "")
        assert "column job is empty in every row" in ended.stderr
        assert "fill it with one of associate, disassociate, verify" in ended.stderr


def by_hand(**cells: str) -> dict[str, str]:
    return {**dict.fromkeys(COLUMNS, ""), **cells}


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_rows_without_an_outcome_are_sent_if_their_ids_are_good_and_are_invalid_else(
    command: Command, sandbox: WatchedSandbox, tmp_path: Path, suffix: str
) -> None:
    rows = written()[:3]
    rows[1]["outcome"] = ""
    rows += [
        by_hand(fpga_image_id=fpga(7).upper(), image_id=image(7)),
        by_hand(row="Total", attempts="3", duration_ms="3"),
        by_hand(customer="Sum", attempts="3,0", started_at=START),
        by_hand(fpga_image_id=fpga(8), image_id="bad"),
    ]
    report = tmp_path / f"r{suffix}"
    summary, dry, undo = run_on(command, report, FORMS[suffix](rows), sandbox.url)
    assert summary.stdout.splitlines() == [
        "associate: 7 rows, 3 requests in 0.0 s",
        "  2 succeeded",
        "  3 invalid (invalid_row 3)",
        "  2 pending (not_private 1, not_sent 1)",
    ]
    assert "7 rows: 2 to send, 3 invalid, 0 duplicate, 2 left as they are" in dry.stderr
    assert "2 rows: 2 to send" in undo.stderr

    assert command("resume", report.name, service=sandbox.url).exit_code == 1
    assert set(sandbox.associations) == {(PROJECT, fpga(row), image(row)) for row in (2, 7)}
    with open_report(str(report)) as opened:
        records = [row.earlier for row in opened.rows() if row.earlier]
    assert [(record.row, record.status.value, record.attempts) for record in records] == [
        *((1, "succeeded", 1), (2, "succeeded", 2), (3, "succeeded", 1), (4, "succeeded", 1)),
        *((5, "invalid", 0), (6, "invalid", 0), (7, "invalid", 0)),
    ]
    assert [record.error_message.partition(": ")[2] for record in records[4:]] == [
        "fpga_image_id: is missing",
        "fpga_image_id: is missing",
        "image_id: 'bad' is not a UUID (hexadecimal, 8-4-4-4-12)",
    ]


@pytest.mark.parametrize("reason", ["", "timeout", "interrupted"])
def test_a_row_that_was_sent_and_whose_outcome_was_emptied_is_not_called_unchanged(
    command: Command, sandbox: WatchedSandbox, tmp_path: Path, reason: str
) -> None:
    sandbox.associations.add(PROJECT, fpga(1), image(1))
    (tmp_path / "r.csv").write_text(as_csv([line(1, "", reason, "")]))
    assert command("resume", "r.csv", service=sandbox.url) == Ended(0, "", "")
    with open_report(str(tmp_path / "r.csv")) as report:
        (record,) = [row.earlier for row in report.rows() if row.earlier]
    assert (record.status, record.reason, record.attempts) == (Status.SUCCEEDED, READ_BACK, 3)


def test_only_narrows_rows_without_an_outcome_by_the_reason_that_they_have(
    command: Command, sandbox: WatchedSandbox, tmp_path: Path
) -> None:
    rows = [line(1, "", "timeout", ""), line(2, "", "not_private", "")]
    (tmp_path / "r.csv").write_text(as_csv(rows))
    assert command("resume", "r.csv", "--only", "timeout", service=sandbox.url).exit_code == 1
    assert set(sandbox.associations) == {(PROJECT, fpga(1), image(1))}


def test_numbers_that_no_report_holds_end_no_command_and_are_readable_in_json(
    command: Command, sandbox: WatchedSandbox, tmp_path: Path
) -> None:
    rows = written()
    everywhere(HUGE, *NUMBERS)(rows)
    most = "999999999999999"
    many = [{**row, "row": most, "attempts": most} for row in rows * 5000]
    summary, dry, undo = run_on(command, tmp_path / "r.csv", as_csv([*many, *rows]), sandbox.url)
    assert (summary.exit_code, dry.exit_code, undo.exit_code) == (0, 0, 0)
    assert f"row {most}, line 7: the same as row {most}" in dry.stderr
    ended = command("report", "--json", "r.csv")
    assert json.loads(ended.stdout)["attempts"] == 20_000 * 999_999_999_999_999
    (tmp_path / "r.csv").write_text(as_csv(rows), "utf-8")
    assert command("resume", "r.csv", "--report", "out.json", service=sandbox.url).exit_code == 1
    assert command("resume", "out.json", "--report", "out.jsonl", service=sandbox.url).exit_code == 1
    told = [json.loads(row) for row in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["row"] for row in told] == [1, 2, 3, 4]
    assert [row["http_status"] for row in told] == [None, 204, None, None]


def test_a_success_of_version_0_1_without_the_status_204_counts_as_read_back(
    command: Command, sandbox: WatchedSandbox, tmp_path: Path
) -> None:
    rows = [line(1, "succeeded", "", "200"), line(2, "succeeded", "", "204"), line(3, "unchanged", "", "200")]
    (tmp_path / "r.csv").write_text(as_csv(rows))
    assert command("report", "r.csv").stdout.splitlines()[1:] == [
        "  2 succeeded (read_back 1)",
        "  1 unchanged",
    ]
    assert command("resume", "r.csv", "--report", "out.csv", service=sandbox.url) == Ended(0, "", "")
    with (tmp_path / "out.csv").open() as file:
        assert [row["reason"] for row in csv.DictReader(file)] == [READ_BACK, "", ""]


@pytest.mark.parametrize(
    ("cell", "number"),
    [
        *(("204", 204), (" 204\u00a0", 204), ("0", 0), ("007", 7), ("999999999999999", 10**15 - 1)),
        *(("204.0", 204), ("204.00", 204), ("204,0", 204), ("1250,000", 1250), ("0.000", 0)),
        *(("1,250", 1250), ("1.250", 1250), ("1 250", 1250), ("1'250", 1250), ("1\u202f250", 1250)),
        *(("1,250,000", 1250000), ("1.000.000", 1000000), ("1,000.0", 1000), ("1.000,00", 1000)),
        *(("True", 1), ("false", 0), ("TRUE", 1), ("'204", 204), ('="204"', 204)),
        *(("1,000", None), ("1.000", None), ("204.5", None), ("0,250", None), ("1,25", None)),
        *(("-5", None), ("+5", None), ("1e3", None), ("2.04E+02", None), ("1_000", None), ("0x10", None)),
        *(("", None), ("NaN", None), ("many", None), ("\u0664", None), ("1,2500", None), ("1,250.5", None)),
        *(("1000000000000000", None), (HUGE, None), ("1,250'000", None)),
    ],
)
def test_a_number_is_understood_where_it_is_certain(cell: str, number: int | None) -> None:
    assert whole_number(cell) == number


@pytest.mark.parametrize(
    ("cell", "time"),
    [
        ("2026-11-25T07:16:31.019Z", START),
        ("2026-11-25T07:16:31.019999Z", START),
        ("2026-11-25T07:16:31,019Z", START),
        ("2026-W48-3T07:16:31.019Z", START),
        ("20261125T071631.019Z", START),
        ("'2026-11-25T07:16:31.019Z", START),
        ("2026-11-25 07:16:31.019 GMT", START),
        ("2026-11-25 02:16:31.019-05:00", START),
        ("1795590991019", START),
        ("1795590991019.0", START),
        ("1795590991019,5", START),
        ("1795590991019123", START),
        ("1795590991019123456", START),
        ("1795590991", None),
        ("179559099101", None),
        ("46351.303", None),
        ("1.795590991019e+12", None),
        ("2026-11-25", None),
        ("2026-11-25Z", None),
        ("2026-02-30T07:16:31.019Z", None),
        ("0001-01-01T00:00:00+14:00", None),
        ("9999-12-31T23:59:59-14:00", None),
        ("2026-11-25T07:16:31.019 CET", None),
        ("25.11.2026 07:16 UTC", None),
        ("NaT", None),
        ("", None),
    ],
)
def test_a_time_is_understood_where_it_is_certain(cell: str, time: str | None) -> None:
    assert moment(cell) == time


@given(st.text(max_size=30) | st.from_regex(r"[0-9TZ:., +-]{1,30}", fullmatch=True))
def test_any_cell_is_a_number_that_json_holds_a_time_of_the_reports_form_or_nothing(cell: str) -> None:
    number, time = whole_number(cell), moment(cell)
    assert number is None or 0 <= number < 10**15
    assert time is None or re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", time)
    assert time is None or moment(time) == time
    assert bare(bare(cell)) == bare(cell) or cell.strip().startswith(("'", "="))


texts = st.sampled_from(["", "timeout", "a, b", "'=1", READ_BACK])
counts = st.integers(0, 9999).map(str)
times = st.sampled_from(["", START, END])


@given(
    st.tuples(
        st.integers(1, 10**6).map(str),
        st.just("associate"),
        st.sampled_from(Status).map(str),
        texts,
        st.sampled_from(["", "200", "204", "503"]),
        texts,
        texts,
        texts,
        counts,
        times,
        times,
        st.just("") | counts,
    )
)
def test_cells_that_nobody_has_changed_are_read_the_same_the_long_way(cells: tuple[str, ...]) -> None:
    assert as_written(7, cells, "associate") == edited(7, cells, "associate", lambda: True)


CELL = dict(zip(REPORT_COLUMNS, ("7", "associate", "failed", *[""] * 5, "2", START, END, "2"), strict=True))


@pytest.mark.parametrize("column", SHOWN)
@given(cell=st.text(max_size=20))
def test_no_cell_that_is_only_shown_can_spoil_a_row(column: str, cell: str) -> None:
    cells = tuple({**CELL, column: cell}.values())
    record = edited(3, cells, "associate", lambda: True)
    assert (record.status, record.row) in ((Status.FAILED, 7), (Status.FAILED, whole_number(cell) or 3))


@pytest.mark.parametrize(("column", "cell"), [("outcome", "done"), ("job", "verify")])
def test_a_job_or_an_outcome_that_cannot_be_understood_is_an_error_of_its_column(
    column: str, cell: str
) -> None:
    with pytest.raises(RowError) as caught:
        edited(3, tuple({**CELL, column: cell}.values()), "associate", lambda: True)
    assert caught.value.column == column


def test_a_row_that_was_sent_is_in_doubt_without_its_outcome_unless_its_reason_says_better() -> None:
    def pending(reason: str, attempts: int) -> Record:
        return Record(1, Status.PENDING, reason, attempts=attempts)

    assert is_in_doubt(pending("timeout", 1))
    assert is_in_doubt(pending("", 1))
    assert not is_in_doubt(pending("not_sent", 0))
    assert not is_in_doubt(pending("interrupted", 2))
    assert not is_in_doubt(pending(UNREAD, 1))


@pytest.mark.parametrize("status", Status)
def test_what_an_outcome_says_was_sent_was_sent_though_the_attempts_are_lost(status: Status) -> None:
    never = status in (Status.PENDING, Status.INVALID, Status.DUPLICATE)
    assert was_sent(Record(1, status)) is not never
    assert was_sent(Record(1, status, attempts=1))


def test_a_corrected_row_that_repeats_a_row_of_unknown_attempts_is_its_duplicate(
    command: Command, sandbox: WatchedSandbox, tmp_path: Path
) -> None:
    sandbox.associations.add(PROJECT, fpga(1), image(1))
    rows = [
        line(1, "invalid", "invalid_row", "", attempts="0"),
        line(2, "succeeded", "", "204", attempts="?"),
    ]
    rows[1].update(fpga_image_id=fpga(1), image_id=image(1))
    (tmp_path / "r.csv").write_text(as_csv(rows))
    assert command("resume", "r.csv", service=sandbox.url) == Ended(0, "", "")
    with (tmp_path / "r.csv").open() as file:
        assert [row["outcome"] for row in csv.DictReader(file)] == ["duplicate", "succeeded"]
    assert sandbox.requests == 0


def test_two_runs_of_a_row_of_which_a_time_is_lost_merge_into_what_is_known() -> None:
    earlier = Record(1, Status.FAILED, "timeout", attempts=2, finished_at=END, duration_ms=7)
    new = Record(1, Status.SUCCEEDED, attempts=1, started_at=END, finished_at=END, duration_ms=5)
    assert merged(earlier, new)._replace(status=Status.SUCCEEDED) == new._replace(attempts=3, duration_ms=12)
