"""Files as databases, spreadsheets, shells and packers write them, through the real command."""

import bz2
import csv
import gzip
import json
import lzma
import os
import pty
import subprocess
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import orjson
import pytest
from conftest import PATIENCE, Ended, WatchedSandbox, arguments, at_once, environment
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import PROJECT, fpga, image

from batch.errors import InputUnusableError
from batch.input import Format, json_text, open_source
from batch.input.keys import key_named_twice
from batch.job import Column
from batch.model import Dialect

Command = Callable[..., Ended]

COLUMNS = (Column("fpga_image_id"), Column("image_id", aliases=("ecs_image_id",), path=("image", "id")))
HEADER = "fpga_image_id,image_id\n"
MARK = "\ufeff"
ONE, TWO = f"{fpga(1)},{image(1)}", f"{fpga(2)},{image(2)}"
OBJECT_ONE, OBJECT_TWO = ({"fpga_image_id": fpga(number), "image_id": image(number)} for number in (1, 2))
JSON_ONE, JSON_TWO = json.dumps(OBJECT_ONE), json.dumps(OBJECT_TWO)
PRETTY_ONE, PRETTY_TWO = json.dumps(OBJECT_ONE, indent=2), json.dumps(OBJECT_TWO, indent=2)
CLEAN = f"{HEADER}{ONE}\n{TWO}\n"
BARE = image(1).replace("-", "")
ZIPPED = gzip.compress(CLEAN.encode())
PROPERTY = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def outcomes(report: Path) -> list[dict[str, str]]:
    """Read a report, which is written with the separator of its input."""
    with report.open(newline="") as file:
        header = file.readline()
        separator = next((each for each in "\t;" if each in header), ",")
        file.seek(0)
        return list(csv.DictReader(file, delimiter=separator))


def each_checked(command: Command, folder: Path, contents: dict[str, str | bytes]) -> dict[str, Ended]:
    """Write each content to a file of its name, and let `check` look at all of them."""
    for name, content in contents.items():
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return dict(zip(contents, at_once(partial(command, "check", name) for name in contents), strict=True))


READ = {
    "null.csv": "fpga_image_id,image_id,project_id,region\n"
    f"{ONE},NULL,None\n{TWO},NaN,n/a\n{fpga(3)},{image(3)},\\N,null\n{fpga(4)},{image(4)},<NA>,\n",
    "null.jsonl": json.dumps({**OBJECT_ONE, "project_id": "NULL", "region": None})
    + json.dumps({**OBJECT_TWO, "project_id": r"\N", "region": "N/A"}),
    "null.tsv": f"fpga_image_id\timage_id\tregion\n{fpga(1)}\t{image(1)}\t\\N\n{fpga(2)}\t{image(2)}\tnan\n",
    "cells-left-out.csv": f"fpga_image_id,image_id,a,b\n{ONE},x\n{TWO}\n",
    "cells-added.csv": f"{HEADER}{ONE},\n{TWO},,,\n",
    "comma-in-header.csv": f"fpga_image_id,image_id,\n{ONE}\n{TWO}\n",
    "rows-of-commas.csv": f"fpga_image_id,image_id,a\n,,\n{ONE},x\n,,\n{TWO},y\n,,\n,,\n",
    "one-object.json": PRETTY_ONE,
    "one-object.jsonl": JSON_ONE,
    "objects-over-many-lines.jsonl": f"{PRETTY_ONE}\n{PRETTY_TWO}\n",
    "objects-over-many-lines.json": f"{PRETTY_ONE}\n\n{PRETTY_TWO}",
    "objects-without-a-line-end.jsonl": JSON_ONE + JSON_TWO,
    "lines.json": f"{JSON_ONE}\n{JSON_TWO}\n",
    "list.jsonl": f"[{PRETTY_ONE}, {PRETTY_TWO}]",
    "lists-put-together.json": f"[{JSON_ONE}]\n{MARK}[{JSON_TWO}]\n",
    "list-in-an-object.json": json.dumps({"page": {"of": [1]}, "pairs": [OBJECT_ONE, OBJECT_TWO], "n": 2}),
    "list-in-an-object.jsonl": json.dumps({"pairs": [OBJECT_ONE, OBJECT_TWO]}, indent=1),
    "object-with-a-list.json": json.dumps({"tags": [{"a": 1}], **OBJECT_ONE}),
    "comment.csv": f"# exported\n#\n\n# by hand, and twice\n{CLEAN}",
    "sep.csv": f"sep=;\r\n{CLEAN}".replace(",", ";"),
    "quoted-sep.csv": f'{MARK}"sep=,"\n{CLEAN}',
    "type.csv": f"#TYPE System.Management.Automation.PSCustomObject\r\n{CLEAN}",
    "number-sign-as-column.csv": f"#,fpga_image_id,image_id\n1,{ONE}\n2,{TWO}\n",
    "packed.csv.bz2": bz2.compress(CLEAN.encode()),
    "packed.csv.xz": lzma.compress(CLEAN.encode()),
    "packed.jsonl.xz": lzma.compress(JSON_ONE.encode()) + lzma.compress(f"\n{JSON_TWO}".encode()),
    "packed-under-another-name.csv": bz2.compress(CLEAN.encode()),
    "packed-twice.csv.gz": gzip.compress(ZIPPED),
    "packed-three-ways.csv": lzma.compress(bz2.compress(ZIPPED)),
    "braces.csv": f"{HEADER}{{{fpga(1)}}},{{{image(1).upper()}}}\n{fpga(2)},{{{image(2)}}}\n",
    "urn.csv": f"{HEADER}{fpga(1)},urn:uuid:{image(1)}\n{fpga(2)},URN:UUID:{image(2)}\n",
    "without-dashes.csv": f"{HEADER}{fpga(1)},{BARE}\n{TWO}\n",
    "apostrophes.csv": f"{HEADER}'{fpga(1)},'{image(1)}\n'{fpga(2)}',`{image(2)}`\n",
    "formulas.csv": f'{HEADER}"=""{fpga(1)}""","=""{image(1)}"""\n{TWO}\n',
    "unseen.csv": f"{HEADER}\u200b{fpga(1)},{image(1)}\u2060\n"
    f"\u00a0{fpga(2)}\u202f,{image(2)[:9]}\u200d{image(2)[9:]}\n",
    "marks-at-the-start.csv": f"{MARK}{MARK}{CLEAN}",
    "marks-at-the-start.jsonl": f"{MARK}{MARK}{JSON_ONE}\n",
    "mark-in-the-middle.jsonl": f"{JSON_ONE}\n{MARK}{JSON_TWO}\n",
    "mark-in-the-middle.csv": f'{HEADER}{ONE}\n{MARK}"{fpga(2)}",{image(2)}\n',
    "put-together.csv": f"{MARK}{HEADER}{ONE}\n{MARK}{HEADER}{TWO}\n",
    "mark-in-the-middle.json": f"{MARK}[{JSON_ONE},{MARK}\n{JSON_TWO}]",
    "two-ids-the-same.csv": f"fpga_image_id,image_id,ecs_image_id\n{ONE},{image(1).upper()}\n{TWO},\n",
    "two-ids-written-differently.csv": "fpga_image_id,image_id,ecs_image_id\n"
    f"{fpga(1)},{{{image(1)}}},{image(1)}\n{fpga(2)},{image(2).replace('-', '')},urn:uuid:{image(2)}\n",
    "header-in-apostrophes.csv": f"'fpga_image_id','image_id'\n'{fpga(1)}','{image(1)}'\n",
    "header-quoted-behind-blanks.csv": f'"fpga_image_id", "image_id"\n"{fpga(1)}", "{image(1)}"\n',
    "header-with-unseen-letters.csv": f"\u200bfpga_image_id,image_id\u2060\n{ONE}\n",
    "header-as-formulas.csv": f'"=""fpga_image_id""","=""image_id"""\n{ONE}\n',
    "one-of-two-ids.csv": f"fpga_image_id,image_id,ecs_image_id\n{fpga(1)},,{image(1)}\n"
    f"{fpga(2)}, ,{image(2)}\n",
    "one-of-two-ids.jsonl": json.dumps({"fpga_image_id": fpga(1), "image_id": None, "ecs_image_id": image(1)})
    + json.dumps({**OBJECT_TWO, "image": {"id": image(2)}}),
}


def test_a_file_as_it_comes_does_what_a_clean_one_does(
    command: Command, sandbox: WatchedSandbox, tmp_path: Path
) -> None:
    projects = {name: f"{number:032x}" for number, name in enumerate(READ)}
    for name, content in READ.items():
        (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    ends = at_once(
        partial(
            command,
            "associate",
            name,
            "--report",
            f"{name}.report.csv",
            service=sandbox.url,
            FPGA_BATCH_PROJECT_ID=project,
        )
        for name, project in projects.items()
    )
    for ended, (name, project) in zip(ends, projects.items(), strict=True):
        assert ended == Ended(0, "", ""), name
        rows = outcomes(tmp_path / f"{name}.report.csv")
        assert {row["outcome"] for row in rows} == {"succeeded"}, name
        made = {each[1:] for each in sandbox.associations if each[0] == project}
        assert made == {(fpga(number), image(number)) for number in range(1, len(rows) + 1)}, name


@pytest.mark.parametrize("form", ["json", "jsonl"])
def test_a_format_that_is_given_takes_any_of_the_forms_of_json(
    command: Command, tmp_path: Path, form: str
) -> None:
    contents = {
        "list": f"[{JSON_ONE},\n{JSON_TWO}]",
        "lines": f"{JSON_ONE}\n{JSON_TWO}\n",
        "pretty": f"{PRETTY_ONE}\n{PRETTY_TWO}\n",
        "wrapped": json.dumps({"pairs": [OBJECT_ONE, OBJECT_TWO]}),
    }
    for name, content in contents.items():
        (tmp_path / name).write_text(content)
    for ended in at_once(partial(command, "check", name, "--format", form) for name in contents):
        assert ended.exit_code == 0, ended
        assert f"{form.upper()}, 2 rows: 2 to send, 0 invalid" in ended.stdout


INVALID: dict[str, tuple[str | bytes, str]] = {
    "scientific.csv": (
        f"{HEADER}4.01E+31,{image(1)}\n",
        "row 1, line 2: fpga_image_id: '4.01E+31' is a number: a spreadsheet has most likely changed the id",
    ),
    "german.csv": (f"fpga_image_id;image_id\n4,01E+31;{image(1)}\n", "'4,01E+31' is a number: a spreadsheet"),
    "capitals.csv": (f"{HEADER}{fpga(1)},EC5-NOT-A-UUID\n", "image_id: 'EC5-NOT-A-UUID' is not a UUID"),
    "project.csv": (
        f"fpga_image_id,image_id,project_id\n{ONE},My/Project\n",
        "project_id: 'My/Project' is not letters",
    ),
    "region.csv": (f"fpga_image_id,image_id,region\n{ONE},CN North\n", "region: 'CN North' is not a region"),
    "null-id.csv": (f"{HEADER}NULL,{image(1)}\n", "fpga_image_id: 'NULL' is not 32 hexadecimal digits"),
    "two-ids.csv": (
        f"fpga_image_id,image_id,ecs_image_id\n{ONE},{image(2)}\n",
        f"line 2: image_id is '{image(1)}', ecs_image_id is '{image(2)}': which is meant?",
    ),
    "two-ids.jsonl": (
        json.dumps({**OBJECT_ONE, "ecs_image_id": image(2)}),
        f"image_id is '{image(1)}', ecs_image_id is '{image(2)}': which is meant?",
    ),
    "two-ids-one-inside.json": (
        json.dumps([{**OBJECT_ONE, "image": {"id": image(2)}}]),
        f"image_id is '{image(1)}', image.id is '{image(2)}': which is meant?",
    ),
    "key-twice.jsonl": (
        f'{JSON_ONE[:-1]}, "image_id": "{image(2)}"}}\n',
        "line 1: names 'image_id' twice: which is meant?",
    ),
    "key-twice-pretty.json": (
        f'[{PRETTY_ONE[:-1]}, "fpga_image_id" : "{fpga(2)}"}}]\n',
        "names 'fpga_image_id' twice: which is meant?",
    ),
    "key-twice-escaped.json": (
        f'[{JSON_ONE[:-1]}, "im\\u0061ge_id": "{image(2)}"}}]\n',
        "names 'image_id' twice: which is meant?",
    ),
    "key-twice-inside.jsonl": (
        f'{{"fpga_image_id": "{fpga(1)}", "image": {{"id": "{image(1)}", "id": "{image(2)}"}}}}\n',
        "names 'id' twice: which is meant?",
    ),
    "no-key.json": ("[{}]", "row 1, line 1: fpga_image_id: is missing"),
    "too-short.csv": (
        f"note,fpga_image_id,image_id\nx,{fpga(1)}\n",
        "line 2: has 2 fields, the header names 3",
    ),
    "too-long.csv": (f"{HEADER}{ONE},,x\n", "has 4 fields, the header names 2; the surplus begins with 'x'"),
    "comment.csv": (
        f"# a\n# b\n\n{HEADER}{ONE}\nx,{image(1)}\n",
        "row 2, line 6: fpga_image_id: 'x' is not 32",
    ),
}


def test_a_row_that_may_mean_two_things_or_none_is_invalid_and_shown_as_it_stands_there(
    command: Command, tmp_path: Path
) -> None:
    ends = each_checked(command, tmp_path, {name: content for name, (content, _) in INVALID.items()})
    for name, (_, told) in INVALID.items():
        assert ends[name].exit_code == 1, (name, ends[name])
        assert "1 invalid" in ends[name].stdout, name
        assert told in ends[name].stdout, (name, ends[name].stdout)


UNUSABLE: dict[str, tuple[str | bytes, str]] = {
    "quoted.csv": (
        f'"fpga_image_id,image_id"\n"{ONE}"\n',
        "quoted.csv, line 1: each line stands in quotation marks as a whole: take them off",
    ),
    "title.csv": (
        f"FPGA images of November,\n{CLEAN}",
        "title.csv, line 1: the header seems to stand in line 2: remove what is above it",
    ),
    "blank-cells.csv": (f",,\n{CLEAN}", "line 1: the header seems to stand in line 2: remove what is above"),
    "two-titles.csv": (f"a\n\nb;c\n{CLEAN}".replace(",", ";"), "line 1: the header seems to stand in line 4"),
    "packed.csv.zst": (
        b"\x28\xb5\x2f\xfd\x24\x5d",
        "packed.csv.zst is packed with zstd: unpack it, or pack it",
    ),
    "pairs.7z": (b"7z\xbc\xaf\x27\x1c\x00\x04", "pairs.7z is a 7z archive: unpack it"),
    "pairs.zip": (b"PK\x03\x04\x14\x00", "pairs.zip is a zip archive or a workbook: save it as CSV"),
    "pairs.tar": (b"pairs.csv".ljust(257, b"\0") + b"ustar\x0000", "pairs.tar is a tar archive: unpack it"),
    "pairs.tgz": (
        gzip.compress(b"pairs.csv".ljust(257, b"\0") + b"ustar  \0"),
        "pairs.tgz is a tar archive: unpack it",
    ),
    "pairs.csv.lz4": (b"\x04\x22\x4d\x18\x64\x40", "is packed with lz4: unpack it"),
    "pairs.xls": (b"\xd0\xcf\x11\xe0\xa1\xb1", "is an old workbook: save it as CSV"),
    "packed-too-often.csv": (
        gzip.compress(gzip.compress(gzip.compress(ZIPPED))),
        "packed-too-often.csv is packed more than 3 times: unpack it",
    ),
    "cut-off.csv.bz2": (bz2.compress(CLEAN.encode())[:-9], "is cut off: its bzip2 data end too early"),
    "cut-off.csv.xz": (lzma.compress(CLEAN.encode())[:-9], "is cut off: its xz data end too early"),
    "damaged.csv.xz": (lzma.compress(CLEAN.encode())[:-9] + b"123456789", "damaged.csv.xz is damaged: "),
    "damaged.csv.bz2": (bz2.compress(CLEAN.encode()) + b"junk", "damaged.csv.bz2 is damaged: "),
    "two-lists.json": (
        json.dumps({"old": [OBJECT_ONE], "n": 1, "new": [OBJECT_TWO]}),
        "two-lists.json is one object with 2 arrays of objects, 'old', 'new': keep the one that holds",
    ),
}


def test_a_file_of_another_kind_is_called_what_it_is(command: Command, tmp_path: Path) -> None:
    ends = each_checked(command, tmp_path, {name: content for name, (content, _) in UNUSABLE.items()})
    for name, (_, told) in UNUSABLE.items():
        assert ends[name].exit_code == 65, (name, ends[name])
        assert ends[name].stderr.count("\n") == 1, name
        assert told in ends[name].stderr, (name, ends[name].stderr)


def test_own_columns_keep_their_values_under_names_that_no_report_has(
    command: Command, sandbox: WatchedSandbox, tmp_path: Path
) -> None:
    (tmp_path / "pairs.csv").write_text(
        "row,job,fpga_image_id,image_id,reason,attempts,Outcome,note,note,row_\n"
        f"7,JOB-1,{ONE},decommission,high,wanted,n,m,r\n8,JOB-2,x,{image(2)},why,low,not,,k,s\n"
    )
    assert command("associate", "pairs.csv", service=sandbox.url).exit_code == 1
    row, other = outcomes(tmp_path / "pairs.report.csv")
    own = {
        "row_": "r",
        "row_1": "7",
        "job_": "JOB-1",
        "reason_": "decommission",
        "attempts_": "high",
        "Outcome_": "wanted",
        "note": "n",
        "note_": "m",
    }
    assert own.items() <= row.items()
    assert (row["row"], row["job"], row["outcome"], row["reason"]) == ("1", "associate", "succeeded", "")
    assert other["row_1"] == "8"

    text = (tmp_path / "pairs.report.csv").read_text().replace(",x,", f",{fpga(2)},")
    (tmp_path / "pairs.report.csv").write_text(text)
    assert command("resume", "pairs.report.csv", service=sandbox.url) == Ended(0, "", "")
    assert own.items() <= outcomes(tmp_path / "pairs.report.csv")[0].items()


def test_own_keys_keep_their_values_under_names_that_no_report_has(
    command: Command, sandbox: WatchedSandbox, tmp_path: Path
) -> None:
    item = {**OBJECT_ONE, "row": 7, "Outcome": {"wanted": True}, "job": None}
    (tmp_path / "pairs.json").write_text(json.dumps([item, {**OBJECT_TWO, "row": 8}]))
    ended = command("associate", "pairs.json", "--report", "out.jsonl", service=sandbox.url)
    assert ended == Ended(0, "", "")
    first, second = map(orjson.loads, (tmp_path / "out.jsonl").read_bytes().splitlines())
    assert (first["row"], first["row_"], first["Outcome_"]) == (1, 7, {"wanted": True})
    assert first["outcome"] == second["outcome"] == "succeeded"
    assert second["row_"] == 8


@pytest.mark.parametrize("form", ["csv", "json", "jsonl"])
def test_a_report_sent_as_pairs_is_numbered_anew_and_its_outcomes_are_not_carried(
    command: Command, sandbox: WatchedSandbox, tmp_path: Path, form: str
) -> None:
    (tmp_path / "pairs.csv").write_text(f"fpga_image_id,image_id,note\nx,{image(1)},a\n{TWO},b\n")
    report = f"out.{form}"
    assert command("associate", "pairs.csv", "--report", report, service=sandbox.url).exit_code == 1
    checked = command("check", report)
    assert "not carried over, as columns of an earlier report: row, job, outcome, " in checked.stdout
    assert f"this is a report of an earlier run; `fpga-batch resume {report}` takes it up" in checked.stdout
    assert command("associate", report, "--report", "again.csv", service=sandbox.url).exit_code == 1
    with (tmp_path / "again.csv").open() as file:
        header = file.readline().strip().split(",")
    assert header[:6] == ["row", "job", "fpga_image_id", "image_id", "note", "outcome"]
    assert len(header) == 15


def run_on_a_terminal(folder: Path, service: str, *args: str) -> str:
    """Run the command with a terminal for standard error; return what it shows there."""
    ours, theirs = pty.openpty()
    subprocess.run(
        arguments(*args),
        cwd=folder,
        env=environment(folder, service, {}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=theirs,
        timeout=PATIENCE,
        check=False,
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            shown += os.read(ours, 65536)
        except OSError:  # the other end is closed
            os.close(ours)
            return shown.decode()


def test_a_report_sent_as_pairs_gets_one_hint_on_a_terminal(
    command: Command, sandbox: WatchedSandbox, tmp_path: Path
) -> None:
    (tmp_path / "pairs.csv").write_text(CLEAN)
    assert command("associate", "pairs.csv", service=sandbox.url) == Ended(0, "", "")
    hint = "this is a report of an earlier run; `fpga-batch resume pairs.report.csv` takes it up"
    shown = run_on_a_terminal(tmp_path, sandbox.url, "associate", "pairs.report.csv", "--report", "a.csv")
    assert shown.count(hint) == 1
    assert {row["outcome"] for row in outcomes(tmp_path / "a.csv")} == {"unchanged"}
    assert hint not in run_on_a_terminal(tmp_path, sandbox.url, "associate", "pairs.csv", "--report", "b.csv")
    assert hint not in run_on_a_terminal(tmp_path, sandbox.url, "resume", "pairs.report.csv")
    silent = command("associate", "pairs.report.csv", "--report", "c.csv", service=sandbox.url)
    assert silent == Ended(0, "", "")


EMPTY = {
    "header.csv": HEADER,
    "header.tsv": "image_id\tfpga_image_id\tnote\r\n",
    "list.json": "[]",
    "commas.csv": f"{HEADER},\n",
}


def test_a_list_that_came_out_empty_ends_with_an_empty_report(
    command: Command, sandbox: WatchedSandbox, tmp_path: Path
) -> None:
    jobs = ["associate", "disassociate", "verify"]
    for name, content in EMPTY.items():
        (tmp_path / name).write_text(content)
    reports = {(name, job): f"{job}.{name}.csv" for name, job in product(EMPTY, jobs)}
    for ended in at_once(
        partial(command, job, name, "--report", report, service=sandbox.url)
        for (name, job), report in reports.items()
    ):
        assert ended == Ended(0, "", "")
    for report in reports.values():
        lines = (tmp_path / report).read_text().splitlines()
        assert len(lines) == 1
        assert "fpga_image_id" in lines[0]
        assert "outcome" in lines[0]
    empty = partial(command, "resume", service=sandbox.url)
    assert empty(reports["header.csv", "associate"]) == Ended(0, "", "")
    assert empty(reports["list.json", "verify"]) == Ended(0, "", "")
    ended = command("undo", reports["list.json", "associate"], service=sandbox.url)
    assert (ended.exit_code, ended.stderr) == (0, "associate.list.json.csv: there is nothing to undo\n")
    assert "0 rows" in command("report", reports["list.json", "associate"]).stdout
    for name in EMPTY:
        checked = command("check", name)
        assert checked.exit_code == 0
        assert ", 0 rows: 0 to send, 0 invalid, 0 duplicate" in checked.stdout
    assert command("verify", "-", service=sandbox.url, stdin=HEADER).stdout.count("\n") == 1
    assert sandbox.requests == 0


def test_a_header_over_cells_that_are_all_empty_is_nothing_to_do_under_strict(
    command: Command, sandbox: WatchedSandbox, tmp_path: Path
) -> None:
    (tmp_path / "pairs.csv").write_text(f"{HEADER},\n,\n")
    assert command("associate", "pairs.csv", "--strict", service=sandbox.url) == Ended(0, "", "")


def test_a_long_cell_is_carried_to_a_report_that_the_program_reads(
    command: Command, sandbox: WatchedSandbox, tmp_path: Path
) -> None:
    note = "a long note, " * 16_000
    with (tmp_path / "pairs.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [["fpga_image_id", "image_id", "note"], [fpga(1), image(1), note], ["x", image(2), note]]
        )
    assert command("associate", "pairs.csv", service=sandbox.url).exit_code == 1
    assert "1 succeeded" in command("report", "pairs.report.csv").stdout
    report = tmp_path / "pairs.report.csv"
    report.write_text(report.read_text().replace(",x,", f",{fpga(2)},"))
    assert command("resume", "pairs.report.csv", service=sandbox.url) == Ended(0, "", "")
    assert (PROJECT, fpga(2), image(2)) in sandbox.associations
    assert report.read_text().count(note) == 2


@pytest.mark.parametrize(
    ("content", "dialect"),
    [
        (CLEAN, Dialect(",", "\n", mark=False)),
        (f"{MARK}{CLEAN}".replace(",", ";").replace("\n", "\r\n"), Dialect(";", "\r\n", mark=True)),
        (f"\r\n{CLEAN}".replace(",", "\t").replace("\n", "\r\n"), Dialect("\t", "\r\n", mark=False)),
        (f"sep=;\r\n{CLEAN}".replace(",", ";").replace("\n", "\r\n"), Dialect(";", "\r\n", mark=False)),
        (HEADER.rstrip(), Dialect(",", "\n", mark=False)),
        (f"[{JSON_ONE}]\r\n", Dialect()),
    ],
)
def test_an_input_tells_how_it_is_written(tmp_path: Path, content: str, dialect: Dialect) -> None:
    path = tmp_path / "pairs"
    path.write_bytes(content.encode())
    with open_source(str(path), format=None, columns=COLUMNS) as source:
        assert source.dialect == dialect


def test_an_input_tells_the_permissions_of_its_file(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text(CLEAN)
    path.chmod(0o640)
    with open_source(str(path), format=None, columns=COLUMNS) as source:
        assert source.mode == 0o640


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text('ab"\\{}[],:\u00e9\n', max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=2), inner, max_size=3),
    max_leaves=6,
)
OBJECTS = st.dictionaries(st.sampled_from(["note", "size", "a b"]), VALUES, max_size=3)


@PROPERTY
@given(
    items=st.lists(OBJECTS, min_size=1, max_size=8),
    blank=st.sampled_from(["", " ", "\n", "\r\n", f"\n{MARK}", " \n\n "]),
    indent=st.sampled_from([None, 0, 2]),
    form=st.sampled_from(["list", "wrapped", "lists", "objects"]),
    piece=st.sampled_from([1, 2, 3, 7, 50, 65536]),
)
def test_objects_in_any_form_and_in_pieces_of_any_size_are_read_as_they_are(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    items: list[dict[str, Any]],
    blank: str,
    indent: int | None,
    form: str,
    piece: int,
) -> None:
    objects = [{"fpga_image_id": str(number), **item} for number, item in enumerate(items)]
    texts = [json.dumps(item, indent=indent, ensure_ascii=False) for item in objects]
    whole = f"[{blank}{f'{blank},{blank}'.join(texts)}{blank}]{blank}"
    text = {
        "list": whole,
        "wrapped": f'{blank}{{"n": {{"a": [1, {{}}]}},"pairs": {whole.replace(MARK, "")},\n"z": [1]}}',
        "lists": f"{whole}[]{blank}",
        "objects": blank + blank.join(texts) + blank,
    }[form]
    path = tmp_path / "pairs.json"
    path.write_bytes(text.encode())
    with monkeypatch.context() as patch:
        patch.setattr(json_text, "_PIECE", piece)
        with open_source(str(path), format=None, columns=COLUMNS) as source:
            rows = list(source.rows())
            read = [dict(zip(source.columns, row.values, strict=False)) for row in rows]
    assert [row.number for row in rows] == list(range(1, len(items) + 1))
    for values, item in zip(read, objects, strict=True):
        assert {key: values[key] for key in item} == item


@PROPERTY
@given(
    text=st.text('{}[]",:\\ab1 \n', max_size=40),
    start=st.sampled_from(["", "[", "{", '{"a":', '[{"a":"b"},', '{"p":[{"a":1}']),
    piece=st.sampled_from([1, 3, 65536]),
)
def test_what_is_no_json_is_refused_and_what_is_read_is_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, start: str, piece: int
) -> None:
    """The parser that is in Python says which is which."""
    path = tmp_path / "pairs.json"
    path.write_text(start + text)
    with monkeypatch.context() as patch:
        patch.setattr(json_text, "_PIECE", piece)
        try:
            with open_source(str(path), format=Format.JSONL, columns=COLUMNS) as source:
                list(source.rows())
        except InputUnusableError:
            return
    decoder, rest = json.JSONDecoder(), (start + text).strip()
    while rest:
        _, end = decoder.raw_decode(rest)
        rest = rest[end:].strip()


@given(
    pairs=st.lists(st.tuples(st.text('ab":\\', max_size=2), VALUES), max_size=4),
    blank=st.sampled_from(["", " ", "\n\t"]),
)
def test_a_key_that_is_there_twice_is_found_whatever_else_is_there(
    pairs: list[tuple[str, Any]], blank: str
) -> None:
    members = [f"{json.dumps(key)}{blank}:{json.dumps(value)}" for key, value in pairs]
    text = f"{{{','.join(members)}}}".encode()
    keys = [key for key, _ in pairs]
    twice = key_named_twice(text, orjson.loads(text))
    assert (twice is not None) == (len(set(keys)) < len(keys))
    assert twice is None or keys.count(twice) > 1
