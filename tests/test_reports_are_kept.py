"""No report is replaced unawares, no work is forgotten, and what was taken back is not believed any more."""

import bz2
import gzip
import itertools
import os
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import orjson
import pytest
from conftest import PATIENCE, Ended, WatchedSandbox
from support import PROJECT, fpga, image
from test_command import HEADER, SILENCE, Command, Start, files, outcomes, pair, table, write_pairs
from test_interruptions import associated, await_requests, end_of, write_report

from batch.results.journal import lines
from jobs.sandbox import Faults

Run = Callable[..., Ended]
COUNT = 12
DONE = 5


def stop_early(start: Start, sandbox: WatchedSandbox, *args: str) -> None:
    """Start a command and stop it in good order when some rows are done."""
    sandbox.faults = Faults(latency=0.05)
    process = start(*args, "--concurrency", "1", service=sandbox.url)
    await_requests(sandbox, DONE)
    process.terminate()
    exit_code, _ = end_of(process)
    assert exit_code == 143
    sandbox.faults = Faults()


def kill_early(start: Start, sandbox: WatchedSandbox, *args: str, done: int = DONE) -> None:
    """Start a command and kill it when some rows are done."""
    sandbox.forget_requests()
    sandbox.faults = Faults(latency=0.05)
    process = start(*args, "--concurrency", "1", service=sandbox.url)
    await_requests(sandbox, done)
    process.kill()
    process.communicate(timeout=PATIENCE)
    sandbox.faults = Faults()


def named(sandbox: WatchedSandbox) -> set[str]:
    """Return the FPGA images that are associated."""
    return associated(sandbox)


def told(report: Path, *these: str) -> set[str]:
    """Return the FPGA images of the rows with these outcomes."""
    return {row["fpga_image_id"] for row in table(report) if row["outcome"] in these}


def test_a_run_that_was_stopped_and_undone_sends_again_what_was_taken_back(
    command: Command, start: Start, sandbox: WatchedSandbox, tmp_path: Path
) -> None:
    write_pairs(tmp_path / "pairs.csv", *range(COUNT))
    stop_early(start, sandbox, "associate", "pairs.csv")
    assert command("undo", "pairs.report.csv", service=sandbox.url).exit_code == 0
    assert named(sandbox) == set()
    assert command("associate", "pairs.csv", service=sandbox.url) == SILENCE
    assert outcomes(tmp_path / "pairs.report.csv") == ["succeeded"] * COUNT
    assert named(sandbox) == {fpga(number) for number in range(COUNT)}


STEPS: dict[str, Sequence[str]] = {
    "the same command": ("associate", "pairs.csv"),
    "resume": ("resume", "pairs.report.csv"),
    "undo": ("undo", "pairs.report.csv"),
    "disassociate": ("disassociate", "pairs.csv"),
    "resume of disassociate": ("resume", "pairs.disassociate.csv"),
}


ORDERS = [
    # Those that `disassociate` is a part of take half a minute.
    pytest.param(order, marks=[pytest.mark.slow] * ("disassociate" in order), id=" then ".join(order))
    for order in itertools.permutations(list(STEPS)[:4], 3)
]


@pytest.mark.parametrize("order", ORDERS)
def test_in_whatever_order_commands_follow_a_stopped_run_the_last_report_is_true(
    command: Command, start: Start, sandbox: WatchedSandbox, tmp_path: Path, order: tuple[str, ...]
) -> None:
    write_pairs(tmp_path / "pairs.csv", *range(COUNT))
    stop_early(start, sandbox, "associate", "pairs.csv")
    for step in order:
        ended = command(*STEPS[step], service=sandbox.url)
        assert ended.exit_code == 0, ended.stderr
        now = named(sandbox)
        if step == "undo":
            undone = tmp_path / "pairs.report.undo.csv"
            assert not undone.exists() or not told(undone, "succeeded", "unchanged") & now
        elif step == "disassociate":
            assert now == set()
        else:
            assert told(tmp_path / "pairs.report.csv", "succeeded", "unchanged") == now
            assert len(now) == COUNT


@pytest.mark.parametrize("between", [("associate", "pairs.csv"), ("verify", "pairs.csv")])
def test_a_stopped_disassociation_takes_back_again_what_was_associated_since(
    command: Command, start: Start, sandbox: WatchedSandbox, tmp_path: Path, between: tuple[str, ...]
) -> None:
    write_pairs(tmp_path / "pairs.csv", *range(COUNT))
    for number in range(COUNT):
        sandbox.associations.add(PROJECT, fpga(number), image(number))
    stop_early(start, sandbox, "disassociate", "pairs.csv")
    command(*between, service=sandbox.url)
    asked = sandbox.requests
    assert command(*STEPS["resume of disassociate"], service=sandbox.url) == SILENCE
    assert named(sandbox) == set()
    again = sandbox.requests - asked
    assert again == COUNT if between[0] == "associate" else again < COUNT


def test_three_nights_with_a_new_list_each_are_never_stuck_and_forget_nothing(
    command: Command, start: Start, sandbox: WatchedSandbox, tmp_path: Path
) -> None:
    pairs = tmp_path / "pairs.csv"
    write_pairs(pairs, *range(COUNT))
    kill_early(start, sandbox, "associate", "pairs.csv")

    write_pairs(pairs, *range(20, 20 + COUNT))
    sandbox.faults = Faults(latency=0.2)
    second = command(
        *("associate", "pairs.csv", "--concurrency", "1", "--max-duration", "0.5"), service=sandbox.url
    )
    sandbox.faults = Faults()
    assert second.exit_code == 75
    (kept,) = tmp_path.glob("pairs.report.interrupted-*.csv")
    said = f"fpga-batch: what an interrupted associate of pairs.csv has done is kept in {kept.name}"
    assert f"{said}; this run begins anew\n" in second.stderr
    first_night = {fpga(number) for number in range(COUNT)} & named(sandbox)
    assert told(kept, "succeeded", "unconfirmed") >= first_night
    assert told(kept, "succeeded") <= first_night
    second_night = told(tmp_path / "pairs.report.csv", "succeeded")

    write_pairs(pairs, *range(40, 40 + COUNT))
    sandbox.faults = Faults(error_before=1.0)
    third = command("associate", "pairs.csv", "--max-outage", "1", service=sandbox.url)
    sandbox.faults = Faults()
    assert third.exit_code == 69
    assert told(tmp_path / "pairs.report.csv~", "succeeded") == second_night

    assert command("resume", kept.name, service=sandbox.url) == SILENCE
    assert command("undo", kept.name, "--read-back", service=sandbox.url) == SILENCE
    assert not named(sandbox) & first_night


def test_a_restart_keeps_what_the_interrupted_run_did_and_quiet_says_nothing(
    command: Command, start: Start, sandbox: WatchedSandbox, tmp_path: Path
) -> None:
    write_pairs(tmp_path / "pairs.csv", *range(COUNT))
    kill_early(start, sandbox, "associate", "pairs.csv")
    assert command("associate", "pairs.csv", "--restart", "--quiet", service=sandbox.url) == SILENCE
    (kept,) = tmp_path.glob("pairs.report.interrupted-*.csv")
    assert files(tmp_path) == sorted(["pairs.csv", "pairs.report.csv", kept.name])
    both = table(kept), table(tmp_path / "pairs.report.csv")
    made = [row["fpga_image_id"] for rows in both for row in rows if row["outcome"] == "succeeded"]
    assert len(made) == len(set(made)), "no association is told as made twice"


def test_a_report_that_is_replaced_stays_unless_it_has_nothing_to_undo_and_the_one_before_has(
    command: Command, sandbox: WatchedSandbox, tmp_path: Path
) -> None:
    write_pairs(tmp_path / "pairs.csv", 1, 2)
    run = partial(command, "associate", "pairs.csv", service=sandbox.url)
    kept = tmp_path / "pairs.report.csv~"
    assert run() == SILENCE
    assert not kept.exists()
    for _ in range(3):
        assert run() == SILENCE
        assert outcomes(kept) == ["succeeded"] * 2
        assert outcomes(tmp_path / "pairs.report.csv") == ["unchanged"] * 2
    ended = command("undo", "pairs.report.csv", service=sandbox.url)
    assert ended.exit_code == 0
    assert "there is nothing to undo; pairs.report.csv~, which it has replaced, has something" in ended.stderr
    assert len(sandbox.associations) == 2


@pytest.mark.parametrize("option", ["--report", "--failures"])
@pytest.mark.parametrize("content", [HEADER + pair(9), "my notes\n", '{"a": 1}'])
def test_a_file_that_is_no_outcome_file_of_the_job_is_replaced_only_when_asked_for(
    command: Command, sandbox: WatchedSandbox, tmp_path: Path, option: str, content: str
) -> None:
    write_pairs(tmp_path / "pairs.csv", 1)
    other = tmp_path / "other.csv"
    other.write_text(content)
    run = partial(command, "associate", "pairs.csv", option, "other.csv", service=sandbox.url)
    ended = run()
    assert (ended.exit_code, other.read_text(), sandbox.requests) == (2, content, 0)
    assert "other.csv is not an outcome file of associate, so it is not replaced" in ended.stderr
    assert "--overwrite" in ended.stderr
    assert run("--overwrite") == SILENCE
    assert not other.exists() or outcomes(other) == ["succeeded"]


def test_an_empty_file_and_a_report_of_the_same_job_are_replaced_and_one_of_another_job_is_not(
    command: Command, sandbox: WatchedSandbox, tmp_path: Path
) -> None:
    write_pairs(tmp_path / "pairs.csv", 1)
    (tmp_path / "empty.csv").touch()
    write_report(tmp_path / "verified.csv", "verify", [("unchanged", "")])
    run = partial(command, "associate", "pairs.csv", service=sandbox.url)
    assert run("--report", "empty.csv") == SILENCE
    assert run("--report", "empty.csv") == SILENCE
    assert run("--report", "verified.csv").exit_code == 2


def test_an_edit_saved_while_resume_works_in_place_is_kept_and_the_result_is_beside_it(
    start: Start, sandbox: WatchedSandbox, tmp_path: Path
) -> None:
    report = tmp_path / "out.csv"
    write_report(report, "associate", [("pending", "not_sent")] * 3)
    sandbox.faults = Faults(latency=0.5)
    process = start("resume", "out.csv", service=sandbox.url)
    sandbox.await_request()
    (tmp_path / "edited").write_text("edited by hand\n")
    os.replace(tmp_path / "edited", report)
    exit_code, said = end_of(process)
    assert exit_code == 74
    assert "out.csv was changed by somebody else during the run" in said
    assert "the result of the run is in out.result.csv" in said
    assert report.read_text() == "edited by hand\n"
    assert outcomes(tmp_path / "out.result.csv") == ["succeeded"] * 3
    assert files(tmp_path) == ["out.csv", "out.result.csv"]


@pytest.mark.parametrize("in_place", [True, False])
@pytest.mark.parametrize("how", ["touched", "removed"])
def test_a_report_that_was_touched_or_removed_during_the_run_loses_nothing_by_being_replaced(
    start: Start, sandbox: WatchedSandbox, tmp_path: Path, how: str, *, in_place: bool
) -> None:
    report = tmp_path / "out.csv"
    write_report(report, "associate", [("pending", "not_sent")] * 3)
    write_pairs(tmp_path / "pairs.csv", 1, 2, 3)
    sandbox.faults = Faults(latency=0.5)
    args = ("resume", "out.csv") if in_place else ("associate", "pairs.csv", "--report", "out.csv")
    process = start(*args, service=sandbox.url)
    sandbox.await_request()
    if how == "removed":
        report.unlink()
    elif in_place:
        report.touch()
    exit_code, said = end_of(process)
    assert exit_code == 0, said
    assert outcomes(report) == ["succeeded"] * 3
    assert [each for each in files(tmp_path) if each.startswith("out.")] in (
        ["out.csv"],
        ["out.csv", "out.csv~"],
    )


# Where the report of an undoing may be


def undone_after_a_stop(command: Command, start: Start, sandbox: WatchedSandbox, tmp_path: Path) -> Path:
    """Stop a run early and undo its report; return the report of that. Other things are beside it."""
    for name in ("empty.json", "empty.csv", "empty.report.csv.journal"):
        (tmp_path / name).touch()
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "nowhere.csv").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "noise.jsonl").write_bytes(bytes(range(256)) + b"outcome")
    os.utime(tmp_path / "noise.jsonl", (0, 0))  # a file of before the run, whatever it is
    write_pairs(tmp_path / "pairs.csv", *range(COUNT))
    stop_early(start, sandbox, "associate", "pairs.csv")
    assert command("undo", "pairs.report.csv", service=sandbox.url).exit_code == 0
    assert named(sandbox) == set()
    return tmp_path / "pairs.report.undo.csv"


def replaced(old: str, new: str) -> Callable[[Path], object]:
    """Return a function that edits a file."""
    return lambda path: path.write_text(path.read_text().replace(old, new))


def moved(name: str) -> Callable[[Path], object]:
    """Return a function that renames a file."""
    return lambda path: path.rename(path.parent / name)


def linked(path: Path) -> None:
    """Move a file into a folder of its own, and leave a link to it."""
    (path.parent / "kept").mkdir()
    path.rename(path.parent / "kept" / "undo.csv")
    path.symlink_to("kept/undo.csv")


def widened(path: Path) -> None:
    """Put thousands of columns before a report's own."""
    head, *rest = path.read_text().splitlines(keepends=True)
    wide = ",".join(f"c{n}" for n in range(9_000)) + ","
    path.write_text(wide + head + "".join("," * 9_000 + line for line in rest))


def packed(path: Path) -> None:
    """Pack a file, and leave nothing else."""
    path.with_name("undone.csv.gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()


def packed_and_cut(path: Path) -> None:
    """Pack a file, and lose its end."""
    path.with_name("undone.csv.bz2").write_bytes(bz2.compress(path.read_bytes())[:-20])
    path.unlink()


def json_lines(path: Path) -> None:
    """Write a report as JSON Lines, under that form's other name."""
    path.with_name("undone.ndjson").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in table(path)))
    path.unlink()


def tabs(path: Path) -> None:
    """Write a report with tabs between its cells."""
    path.with_name("undone.tsv").write_text(path.read_text().replace(",", "\t"))
    path.unlink()


def utf16(path: Path) -> None:
    """Save a report as a spreadsheet's Unicode text."""
    path.with_name("undone.txt").write_text(path.read_text().replace(",", "\t"), encoding="utf-16")
    path.unlink()


def whole_minutes(path: Path) -> None:
    """Cut the times, as a spreadsheet does that shows no seconds."""
    path.write_text(re.sub(r"T(\d\d:\d\d):\d\d\.\d{3}Z", r"T\1Z", path.read_text()))


HARMLESS = {
    "a link": linked,
    "another name": moved("UNDONE.CSV"),
    "thousands of columns": widened,
    "packed": packed,
    "JSON Lines": json_lines,
    "tabs": tabs,
    "kept": moved("undone.csv~"),
    "a cut time": whole_minutes,
    "emptied outcomes": replaced(",succeeded,", ",,"),
}
"""What may be done to a report and leave it one that can be read."""

SPOILT = {
    "an outcome": replaced(",succeeded,", ",suceeded!,"),
    "an id": replaced(fpga(0), "gone"),
    "an id of a spreadsheet's": replaced(fpga(0), "4.02881E+31"),
    "an emptied id": replaced(fpga(0), ""),
    "its jobs": replaced(",disassociate,", ",,"),
    "a column": replaced("fpga_image_id", "fpga"),
    "its header": lambda path: path.write_text(path.read_text().partition("\n")[2]),
    "its quotes": replaced(",succeeded,", ',"succeeded,'),
    "its encoding": utf16,
    "what is packed": packed_and_cut,
    "what it is": lambda path: path.write_bytes(b"PK\3\4" + path.read_bytes()),
}
"""What makes a report one that cannot be read, or not to its end."""


@pytest.mark.parametrize("again", ["the same command", "resume"])
def test_what_was_undone_is_sent_again_however_the_report_of_that_was_treated(
    command: Command, start: Start, sandbox: WatchedSandbox, tmp_path: Path, again: str
) -> None:
    undo = undone_after_a_stop(command, start, sandbox, tmp_path)
    before = {path: (path.read_bytes(), path.stat()) for path in tmp_path.iterdir() if path.is_file()}
    for name, treat in {**HARMLESS, **SPOILT}.items():
        treat(undo)
        ended = command(*STEPS[again], "-v", service=sandbox.url)
        assert ended.exit_code == 0, (name, ended.stderr)
        assert outcomes(tmp_path / "pairs.report.csv") == ["succeeded"] * COUNT, name
        assert named(sandbox) == {fpga(number) for number in range(COUNT)}, name
        is_told = "as it may take back anything, what was done before is sent again" in ended.stderr
        assert is_told == (name in SPOILT), (name, ended.stderr)
        for path in tmp_path.iterdir():
            if path.is_file() or path.is_symlink():
                path.unlink()
        for path, (content, state) in before.items():
            path.write_bytes(content)
            os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
        for pair_there in sorted(sandbox.associations):
            sandbox.associations.remove(*pair_there)


def of_form_2(journal: Path) -> None:
    """Write a journal as version 0.1 did, which named no pairs."""
    crc, old = 0, b""
    for line in journal.read_bytes().splitlines():
        entry = {
            key: value for key, value in orjson.loads(line).items() if key not in ("crc", "cells", "columns")
        }
        if "journal" in entry:
            entry["journal"] = 2
        sealed, crc = lines.sealed(orjson.dumps(entry), crc)
        old += sealed
    journal.write_bytes(old)


JOURNALS = {
    "as it was left": (lambda _path: None, False),
    "with a torn line at its end": (lambda path: path.write_bytes(path.read_bytes() + b'{"sent":'), False),
    "without its first line": (lambda path: path.write_bytes(path.read_bytes().partition(b"\n")[2]), True),
    "with a damaged line": (replaced('"sent":1', '"sent":2'), True),
    "of version 0.1": (of_form_2, True),
}


@pytest.mark.parametrize(("treat", "is_told"), JOURNALS.values(), ids=JOURNALS)
def test_what_an_undoing_may_have_undone_before_it_was_killed_is_sent_again(
    command: Command,
    start: Start,
    sandbox: WatchedSandbox,
    tmp_path: Path,
    treat: Callable[[Path], object],
    *,
    is_told: bool,
) -> None:
    write_pairs(tmp_path / "pairs.csv", *range(COUNT))
    stop_early(start, sandbox, "associate", "pairs.csv")
    kill_early(start, sandbox, "undo", "pairs.report.csv", done=2)
    treat(tmp_path / "pairs.report.undo.csv.journal")
    ended = command("associate", "pairs.csv", "-v", service=sandbox.url)
    assert ended.exit_code == 0, ended.stderr
    # What was sent again and had not been undone is there already.
    assert set(outcomes(tmp_path / "pairs.report.csv")) <= {"succeeded", "unchanged"}
    assert named(sandbox) == {fpga(number) for number in range(COUNT)}
    assert ("as it may take back anything" in ended.stderr) == is_told, ended.stderr


@pytest.mark.parametrize("link", ["report", "folder"])
def test_what_was_undone_beside_a_link_to_the_report_is_sent_again(
    command: Command, start: Start, sandbox: WatchedSandbox, tmp_path: Path, link: str
) -> None:
    (tmp_path / "real").mkdir()
    if link == "folder":
        (tmp_path / "here").symlink_to("real")
    else:
        (tmp_path / "here").mkdir()
        (tmp_path / "here" / "out.csv").symlink_to("../real/out.csv")
    write_pairs(tmp_path / "pairs.csv", *range(COUNT))
    run = ("associate", "pairs.csv", "--report", "here/out.csv")
    stop_early(start, sandbox, *run)
    assert command("undo", "here/out.csv", service=sandbox.url).exit_code == 0
    assert named(sandbox) == set()
    assert command(*run, service=sandbox.url) == SILENCE
    assert named(sandbox) == {fpga(number) for number in range(COUNT)}


def test_what_was_undone_is_sent_again_by_a_resume_whose_report_is_elsewhere(
    command: Command, start: Start, sandbox: WatchedSandbox, tmp_path: Path
) -> None:
    undone_after_a_stop(command, start, sandbox, tmp_path)
    (tmp_path / "b").mkdir()
    resume = ("resume", "pairs.report.csv", "--report", "b/new.csv")
    assert command(*resume, service=sandbox.url) == SILENCE
    assert outcomes(tmp_path / "b" / "new.csv") == ["succeeded"] * COUNT
    assert named(sandbox) == {fpga(number) for number in range(COUNT)}


@pytest.mark.parametrize("length", [218, 239])
def test_a_list_with_a_long_name_is_run_every_night(
    command: Command, start: Start, sandbox: WatchedSandbox, tmp_path: Path, length: int
) -> None:
    pairs = "x" * (length - 4) + ".csv"
    write_pairs(tmp_path / pairs, *range(COUNT))
    kill_early(start, sandbox, "associate", pairs)
    first_night = named(sandbox)
    write_pairs(tmp_path / pairs, *range(20, 20 + COUNT))
    ended = command("associate", pairs, service=sandbox.url)
    assert ended.exit_code == 0, ended
    kept = ended.stderr.partition(" is kept in ")[2].partition(";")[0]
    assert told(tmp_path / kept, "succeeded", "unconfirmed") >= first_night
    assert command("resume", kept, service=sandbox.url) == SILENCE
    write_pairs(tmp_path / pairs, *range(30, 30 + COUNT))
    assert command("associate", pairs, service=sandbox.url) == SILENCE
    assert len(files(tmp_path)) == 4


def test_rows_that_a_journal_has_beyond_those_to_be_sent_keep_no_other_row_from_being_sent(
    command: Command, start: Start, sandbox: WatchedSandbox, tmp_path: Path
) -> None:
    """An undoing voids rows; the resume that sends them is killed, and the report of the undoing goes."""
    undo = undone_after_a_stop(command, start, sandbox, tmp_path)
    kill_early(start, sandbox, *STEPS["resume"], done=2)
    undo.unlink()
    command(*STEPS["resume"], service=sandbox.url)
    assert "pending" not in outcomes(tmp_path / "pairs.report.csv")
    command(*STEPS["resume"], service=sandbox.url)
    assert outcomes(tmp_path / "pairs.report.csv") == ["succeeded"] * COUNT


def test_what_was_found_by_reading_back_is_undone_only_when_asked_for(
    command: Command, sandbox: WatchedSandbox, tmp_path: Path
) -> None:
    write_report(tmp_path / "out.csv", "associate", [("succeeded", ""), ("succeeded", "read_back")])
    for number in (1, 2):
        sandbox.associations.add(PROJECT, fpga(number), image(number))
    assert command("undo", "out.csv", service=sandbox.url) == SILENCE
    assert named(sandbox) == {fpga(2)}
    assert command("undo", "out.csv", "--read-back", service=sandbox.url) == SILENCE
    assert named(sandbox) == set()


@pytest.mark.parametrize(
    ("command_name", "name", "report"),
    [
        ("associate", "pairs.csv", "pairs.report.csv"),
        ("associate", "PAIRS.CSV", "PAIRS.report.csv"),
        ("associate", "pairs.txt", "pairs.txt.report.csv"),
        ("associate", "pairs.csv.00", "pairs.csv.00.report.csv"),
        ("verify", "pairs.csv", "pairs.verify.csv"),
        ("disassociate", "pairs.csv", "pairs.disassociate.csv"),
    ],
)
def test_no_two_inputs_and_no_two_jobs_have_one_report(
    command: Command, sandbox: WatchedSandbox, tmp_path: Path, command_name: str, name: str, report: str
) -> None:
    write_pairs(tmp_path / name, 1)
    sandbox.associations.add(PROJECT, fpga(1), image(1))
    assert command(command_name, name, service=sandbox.url) == SILENCE
    assert files(tmp_path) == sorted([name, report])


def test_a_list_without_rows_has_an_empty_report(
    command: Command, sandbox: WatchedSandbox, tmp_path: Path
) -> None:
    (tmp_path / "pairs.csv").write_text(HEADER)
    assert command("associate", "pairs.csv", service=sandbox.url) == SILENCE
    assert table(tmp_path / "pairs.report.csv") == []
    assert sandbox.requests == 0


def test_ones_own_link_is_followed_for_report_and_failures_alike(
    command: Command, sandbox: WatchedSandbox, tmp_path: Path
) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    write_report(folder / "left.csv", "associate", [("failed", "timeout")])
    (tmp_path / "left.csv").symlink_to("elsewhere/left.csv")
    (tmp_path / "pairs.report.csv").symlink_to("elsewhere/report.csv")
    (tmp_path / "pairs.csv").write_text(f"{HEADER}{pair(1)}\n{fpga(2)},wrong\n")
    run = partial(command, "associate", "pairs.csv", "--failures", "left.csv", service=sandbox.url)
    assert run().exit_code == 1
    assert outcomes(folder / "report.csv") == ["succeeded", "invalid"]
    assert outcomes(folder / "left.csv") == ["invalid"]
    assert (tmp_path / "left.csv").is_symlink()
    assert (tmp_path / "pairs.report.csv").is_symlink()
