"""No report is replaced unawares, no work is forgotten, and what was taken back is not believed any more."""

import itertools
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pytest
from conftest import PATIENCE, Ended, WatchedSandbox
from support import PROJECT, fpga, image
from test_command import HEADER, SILENCE, Command, Start, files, outcomes, pair, table, write_pairs
from test_interruptions import associated, await_requests, end_of, write_report

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
    asked = sandbox.requests
    sandbox.faults = Faults(latency=0.05)
    process = start(*args, "--concurrency", "1", service=sandbox.url)
    await_requests(sandbox, asked + done)
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
    write_pairs(tmp_path / "pairs.csv", *range(COUNT))
    stop_early(start, sandbox, "associate", "pairs.csv")
    assert command("undo", "pairs.report.csv", service=sandbox.url).exit_code == 0
    assert named(sandbox) == set()
    return tmp_path / "pairs.report.undo.csv"


@pytest.mark.parametrize(
    ("spoilt", "again"),
    [
        ("outcome", "resume"),
        ("outcome", "the same command"),
        ("id", "resume"),
        ("link", "the same command"),
        ("form", "resume"),
        ("wide", "the same command"),
    ],
)
def test_what_was_undone_is_sent_again_however_the_report_of_that_was_treated(
    command: Command, start: Start, sandbox: WatchedSandbox, tmp_path: Path, spoilt: str, again: str
) -> None:
    undo = undone_after_a_stop(command, start, sandbox, tmp_path)
    lines = undo.read_text().splitlines(keepends=True)
    if spoilt == "outcome":
        undo.write_text("".join([lines[0], lines[1].replace(",succeeded,", ",suceeded!,"), *lines[2:]]))
    elif spoilt == "id":
        undo.write_text("".join([lines[0], lines[1].replace(fpga(0), "gone"), *lines[2:]]))
    elif spoilt == "link":
        (tmp_path / "kept").mkdir()
        undo.rename(tmp_path / "kept" / "undo.csv")
        undo.symlink_to("kept/undo.csv")
    elif spoilt == "form":
        undo.rename(tmp_path / "UNDONE.CSV")
    else:
        wide = ",".join(f"c{n}" for n in range(9_000)) + ","
        undo.write_text(wide + lines[0] + "".join("," * 9_000 + line for line in lines[1:]))
    ended = command(*STEPS[again], "-v", service=sandbox.url)
    assert ended.exit_code == 0
    assert outcomes(tmp_path / "pairs.report.csv") == ["succeeded"] * COUNT
    missing = {fpga(0)} if spoilt == "id" else set()
    assert named(sandbox) == {fpga(number) for number in range(COUNT)} - missing
    if spoilt == "outcome":
        assert "as it may take back anything, what was done before is sent again" in ended.stderr


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
    assert command(*STEPS["resume"], service=sandbox.url).exit_code == 0
    assert "pending" not in outcomes(tmp_path / "pairs.report.csv")


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
