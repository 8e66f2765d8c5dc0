"""Runs that are cut short and taken up again: the real command, signals, outages, full disks."""

import csv
import json
import os
import re
import resource
import shlex
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import pytest
from conftest import PATIENCE, WatchedSandbox, at_once
from support import PROJECT, fpga, image
from test_command import (
    HEADER,
    OUTCOME_COLUMNS,
    SILENCE,
    Command,
    Start,
    files,
    outcomes,
    pair,
    table,
    write_crowd,
    write_pairs,
)

from batch.results.journal import Identity, Journal, journal_path
from batch.results.summary import Summary
from batch.settings import RunEnd
from jobs.commands.messages import next_command
from jobs.sandbox import Faults

REPORT_HEADER = ["row", "job", "fpga_image_id", "image_id", *OUTCOME_COLUMNS]
TIMES = ["2026-01-02T03:04:05.000Z", "2026-01-02T03:04:06.000Z", "1000"]


def write_report(path: Path, job: str, rows: Iterable[tuple[str, str]]) -> None:
    """Write a report as a run leaves it, with these outcomes and reasons."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(REPORT_HEADER)
        for number, (outcome, reason) in enumerate(rows, start=1):
            status = "204" if outcome == "succeeded" else ""
            sent = ["0", "", "", ""] if outcome == "pending" else ["1", *TIMES]
            told = [outcome, reason, status, "", "", "", *sent]
            writer.writerow([number, job, fpga(number), image(number), *told])


def write_pending(path: Path, count: int) -> None:
    write_report(path, "associate", [("pending", "not_sent")] * count)


def await_line(process: "subprocess.Popen[str]", text: str) -> str:
    """Read what a command says until a line holds a text; return that line."""
    assert process.stderr
    overdue = threading.Timer(PATIENCE, process.kill)
    overdue.start()
    said = []
    try:
        for line in process.stderr:
            said.append(line)
            if text in line:
                return line
    finally:
        overdue.cancel()
    pytest.fail(f"{text!r} was not said, but: {''.join(said)}")


def end_of(process: "subprocess.Popen[str]") -> tuple[int, str]:
    """Wait for a command; return its exit code and what it said on standard error since last asked."""
    _, said = process.communicate(timeout=PATIENCE)
    assert "Traceback" not in said
    return process.returncode, said


def following(said: str) -> list[str]:
    """Return the arguments of the command that is named as the next one."""
    (line,) = [line for line in said.splitlines() if line.startswith("next: ")]
    program, *arguments = shlex.split(line.removeprefix("next: "))
    assert program == "fpga-batch"
    return arguments


def await_requests(sandbox: WatchedSandbox, count: int) -> None:
    for _ in range(count):
        sandbox.await_request()


def associated(sandbox: WatchedSandbox) -> set[str]:
    return {fpga_image for _, fpga_image, _ in sandbox.associations}


def test_too_many_failures_stop_the_run_and_the_same_command_goes_on(
    command: Command, sandbox: WatchedSandbox, tmp_path: Path
) -> None:
    write_crowd(tmp_path / "pairs.csv", 15)
    run = partial(
        command, "associate", "pairs.csv", "--concurrency", "1", "--max-failures", "3", service=sandbox.url
    )
    report = tmp_path / "pairs.report.csv"
    ended = run()
    assert ended.exit_code == 3
    assert "fpga-batch: 3 rows failed: --max-failures 3\n" in ended.stderr
    assert outcomes(report) == ["succeeded"] * 10 + ["failed"] * 3 + ["pending"] * 2
    assert following(ended.stderr) == ["associate", "pairs.csv", "--concurrency", "1", "--max-failures", "3"]
    asked = sandbox.requests

    assert run().exit_code == 1
    assert sandbox.requests == asked + 4, "two rows, each with its reading back"
    assert outcomes(report) == ["succeeded"] * 10 + ["failed"] * 5
    assert files(tmp_path) == ["pairs.csv", "pairs.report.csv"]


def test_a_stopped_run_that_was_told_to_restart_goes_on_with_the_command_that_it_names(
    command: Command, sandbox: WatchedSandbox, tmp_path: Path
) -> None:
    write_crowd(tmp_path / "pairs.csv", 13)
    ended = command(
        *("associate", "pairs.csv", "--restart", "--concurrency", "1", "--max-failures", "2"),
        service=sandbox.url,
    )
    assert ended.exit_code == 3
    asked = sandbox.requests
    again = command(*following(ended.stderr), service=sandbox.url)
    assert again.exit_code == 1
    assert sandbox.requests - asked == 2, "the row that is left, and its reading back"


def test_a_run_that_has_lasted_long_enough_stops_and_the_same_command_goes_on_to_the_end(
    command: Command, sandbox: WatchedSandbox, tmp_path: Path
) -> None:
    count = 30
    write_pairs(tmp_path / "pairs.csv", *range(count))
    report = tmp_path / "pairs.report.csv"
    sandbox.faults = Faults(latency=0.2)
    run = partial(
        command, "associate", "pairs.csv", "--concurrency", "1", "--max-duration", "0.5", service=sandbox.url
    )
    ended = run()
    assert ended.exit_code == 75
    assert "fpga-batch: stopped after 0.5 s, as --max-duration says\n" in ended.stderr
    done = sandbox.requests
    assert outcomes(report) == ["succeeded"] * done + ["pending"] * (count - done)
    assert files(tmp_path) == ["pairs.csv", "pairs.report.csv", "pairs.report.csv.journal"]

    sandbox.faults = Faults()
    for _ in range(count):  # each time it gets on by a row at least
        ended = run()
        if ended.exit_code != 75:
            break
    assert ended == SILENCE
    assert sandbox.requests == count, "no row was sent twice"
    assert outcomes(report) == ["succeeded"] * count
    assert files(tmp_path) == ["pairs.csv", "pairs.report.csv"]


def closed_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
    return port


def test_an_outage_that_is_too_long_stops_the_run_with_the_rest_pending(
    command: Command, start: Start, sandbox: WatchedSandbox, tmp_path: Path
) -> None:
    write_pairs(tmp_path / "unreachable.csv", *range(20))
    write_pairs(tmp_path / "broken.csv", *range(60))
    sandbox.faults = Faults(error_before=1.0)
    broken = ("associate", "broken.csv", "--max-outage", "2.5", "--max-attempts", "20")
    slowly = ("--rate", "8/s")
    runs = [
        start(
            *("associate", "unreachable.csv", "--max-outage", "2.5", "--max-attempts", "20"),
            service=f"http://127.0.0.1:{closed_port()}",
        ),
        start(*broken, *slowly, service=sandbox.url),
    ]
    ends = [end_of(run) for run in runs]
    for exit_code, said in ends:
        assert exit_code == 69
        assert "fpga-batch: the service has been down for " in said
        assert "the service has been down for" in said
    assert outcomes(tmp_path / "unreachable.report.csv") == ["pending"] * 20
    cut_short = outcomes(tmp_path / "broken.report.csv")
    assert set(cut_short) == {"unconfirmed", "pending"}
    assert cut_short[-1] == "pending"
    assert following(ends[1][1]) == [*broken, *slowly]

    sandbox.faults = Faults()
    assert command(*broken, service=sandbox.url).exit_code == 0
    assert outcomes(tmp_path / "broken.report.csv") == ["succeeded"] * 60
    assert not (tmp_path / "broken.report.csv.journal").exists()


def test_a_run_goes_on_by_itself_when_an_outage_ends(
    start: Start, sandbox: WatchedSandbox, tmp_path: Path
) -> None:
    count = 6
    write_pairs(tmp_path / "pairs.csv", *range(count))
    sandbox.faults = Faults(error_before=1.0)
    process = start(
        "associate", "pairs.csv", "--max-attempts", "20", "--rate", "4/s", "-v", service=sandbox.url
    )
    await_line(process, "is down")
    sandbox.faults = Faults()
    exit_code, said = end_of(process)
    assert exit_code == 0
    assert "answers again" in said
    assert outcomes(tmp_path / "pairs.report.csv") == ["succeeded"] * count
    assert len(sandbox.associations) == count
    assert files(tmp_path) == ["pairs.csv", "pairs.report.csv"]


def test_a_run_that_is_asked_says_in_one_line_how_far_it_is_though_quiet_and_goes_on(
    start: Start, sandbox: WatchedSandbox, tmp_path: Path
) -> None:
    write_pairs(tmp_path / "pairs.csv", 1, 2, 3)
    sandbox.faults = Faults(latency=1.0)
    process = start("associate", "pairs.csv", "--concurrency", "1", "--quiet", service=sandbox.url)
    sandbox.await_request()
    process.send_signal(signal.SIGUSR1)
    line = await_line(process, "fpga-batch: ")
    assert re.search(r": [0-2] of 3 rows, [1-3] requests?, .*after ", line)
    sandbox.faults = Faults()
    assert end_of(process) == (0, "")
    assert outcomes(tmp_path / "pairs.report.csv") == ["succeeded"] * 3


def test_a_run_that_is_asked_before_it_sends_says_so_and_goes_on(
    start: Start, sandbox: WatchedSandbox, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "pairs.csv")
    process = start("associate", "pairs.csv", service=sandbox.url)
    with (tmp_path / "pairs.csv").open("w") as pipe:  # waits until the other end is open
        process.send_signal(signal.SIGUSR1)
        assert await_line(process, "fpga-batch: ") == "fpga-batch: nothing is being sent just now\n"
        assert sandbox.requests == 0
        pipe.write(f"{HEADER}{pair(1)}\n")
    assert end_of(process) == (0, "")
    assert outcomes(tmp_path / "pairs.report.csv") == ["succeeded"]


def test_report_tells_how_far_a_run_is_that_is_under_way_and_one_that_was_killed(
    command: Command, start: Start, sandbox: WatchedSandbox, tmp_path: Path
) -> None:
    count = 3000
    write_pairs(tmp_path / "pairs.csv", *range(count))
    process = start("associate", "pairs.csv", "--concurrency", "2", service=sandbox.url)
    await_requests(sandbox, 5)
    sandbox.faults = Faults(latency=2 * PATIENCE)
    ask = [partial(command, "report", "pairs.report.csv", *form) for form in ([], ["--json"])]

    for state, words in ("running", "under way"), ("interrupted", "interrupted"):
        text, as_json = at_once(ask)
        assert (text.exit_code, text.stderr, as_json.exit_code, as_json.stderr) == (0, "", 0, "")
        assert f"of {count:,} rows; {words}" in text.stdout
        assert f"process {process.pid} on " in text.stdout
        about = json.loads(as_json.stdout)
        assert about["run"]["state"] == state
        assert about["run"]["command"] == "associate"
        assert about["run"]["pid"] == process.pid
        assert about["run"]["rows"] == count
        assert 0 < about["rows"] == about["outcomes"]["succeeded"] < count
        process.kill()
        process.wait(PATIENCE)
    assert files(tmp_path) == ["pairs.csv", "pairs.report.csv.journal"]


def test_a_signal_to_a_resume_leaves_a_whole_report_and_no_journal_and_resume_finishes(
    command: Command, start: Start, sandbox: WatchedSandbox, tmp_path: Path
) -> None:
    count = 20
    report = tmp_path / "out.csv"
    write_pending(report, count)
    sandbox.faults = Faults(latency=0.3)
    process = start("resume", "out.csv", "--concurrency", "1", service=sandbox.url)
    sandbox.await_request()
    process.terminate()
    exit_code, said = end_of(process)
    assert exit_code == 143
    assert following(said) == ["resume", "out.csv", "--concurrency", "1"]
    done = sandbox.requests
    assert 1 <= done < count
    assert outcomes(report) == ["succeeded"] * done + ["pending"] * (count - done)
    assert [row["row"] for row in table(report)] == [str(n) for n in range(1, count + 1)]
    assert files(tmp_path) == ["out.csv"]

    sandbox.faults = Faults()
    assert command("resume", "out.csv", service=sandbox.url) == SILENCE
    assert outcomes(report) == ["succeeded"] * count
    assert sandbox.requests == count
    assert files(tmp_path) == ["out.csv"]


def test_a_report_is_not_undone_while_a_newer_one_has_not_come_to_its_place(
    command: Command, sandbox: WatchedSandbox, tmp_path: Path
) -> None:
    report = tmp_path / "out.csv"
    write_report(report, "associate", [("succeeded", "")])
    identity = Identity("associate", "associate", "ab" * 32, sandbox.url, input="pairs.csv")
    with Journal(journal_path(report), identity, 1) as journal:
        journal.note_written("cd" * 32, stopped=False)
    told, undone, resumed = at_once(
        partial(command, *args, service=sandbox.url)
        for args in (("report", "out.csv"), ("undo", "out.csv"), ("resume", "out.csv", "--report", "new.csv"))
    )
    assert (told.exit_code, undone.exit_code, resumed.exit_code) == (0, 65, 65)
    assert "interrupted" in told.stdout
    for refused in undone, resumed:
        assert "out.csv is not complete: associate of pairs.csv: 0 of 1 row; interrupted" in refused.stderr
    assert sandbox.requests == 0


def kill_a_resume(start: Start, sandbox: WatchedSandbox, tmp_path: Path) -> int:
    """Resume a report of 60 rows and kill the run; return how many outcomes its journal keeps."""
    write_pending(tmp_path / "out.csv", 60)
    sandbox.faults = Faults(latency=0.05)
    process = start("resume", "out.csv", "--concurrency", "4", service=sandbox.url)
    await_requests(sandbox, 20)
    process.kill()
    process.communicate(timeout=PATIENCE)
    sandbox.faults = Faults()
    assert files(tmp_path) == ["out.csv", "out.csv.journal"]
    return (tmp_path / "out.csv.journal").read_text().count('"outcome"')


def test_a_killed_resume_refuses_another_command_and_goes_on_with_the_same_one(
    command: Command, start: Start, sandbox: WatchedSandbox, tmp_path: Path
) -> None:
    kept = kill_a_resume(start, sandbox, tmp_path)
    before = (tmp_path / "out.csv").read_bytes()
    asked = sandbox.requests

    ended = command("resume", "out.csv", "--only", "not_sent", service=sandbox.url)
    assert ended.exit_code == 65
    assert "out.csv.journal was left by an interrupted resume of out.csv" in ended.stderr
    assert "--restart" in ended.stderr
    assert sandbox.requests == asked
    assert (tmp_path / "out.csv").read_bytes() == before

    assert command("resume", "out.csv", service=sandbox.url).exit_code == 0
    assert outcomes(tmp_path / "out.csv") == ["succeeded"] * 60
    assert sandbox.requests - asked <= 2 * (60 - kept)
    assert associated(sandbox) == {fpga(n) for n in range(1, 61)}
    assert files(tmp_path) == ["out.csv"]


def test_a_killed_resume_does_not_keep_the_next_nights_list_from_being_run(
    command: Command, start: Start, sandbox: WatchedSandbox, tmp_path: Path
) -> None:
    kept = kill_a_resume(start, sandbox, tmp_path)
    write_pairs(tmp_path / "pairs.csv", *range(1, 71))
    (tmp_path / "pairs.csv").chmod(0o600)

    ended = command("associate", "pairs.csv", "--report", "out.csv", service=sandbox.url)
    assert ended.exit_code == 0, ended
    assert "what an interrupted resume of out.csv has done is kept in out.interrupted-" in ended.stderr
    assert outcomes(tmp_path / "out.csv").count("pending") == 0
    (left,) = tmp_path.glob("out.interrupted-*.csv")
    assert outcomes(left).count("succeeded") == kept
    assert left.stat().st_mode & 0o777 == 0o600
    assert associated(sandbox) == {fpga(n) for n in range(1, 71)}


def test_a_second_signal_says_how_to_go_on_and_restart_is_the_way_to_do_something_else(
    command: Command, start: Start, sandbox: WatchedSandbox, tmp_path: Path
) -> None:
    write_pending(tmp_path / "out.csv", 3)
    before = (tmp_path / "out.csv").read_bytes()
    sandbox.faults = Faults(latency=2 * PATIENCE)
    process = start("resume", "out.csv", "--concurrency", "1", service=sandbox.url)
    sandbox.await_request()
    process.terminate()
    await_line(process, "a second signal aborts at once")
    process.terminate()
    exit_code, said = end_of(process)
    assert exit_code == 143
    assert "stopped by SIGTERM; no report is written, the same command goes on where the journal" in said
    assert (tmp_path / "out.csv").read_bytes() == before
    assert files(tmp_path) == ["out.csv", "out.csv.journal"]

    sandbox.faults = Faults()
    write_pairs(tmp_path / "pairs.csv", 1, 2)
    args = ("associate", "pairs.csv", "--report", "out.csv", "--restart")
    ended = command(*args, service=sandbox.url)
    assert (ended.exit_code, ended.stdout) == (0, "")
    assert "what an interrupted resume of out.csv has done is kept in out.interrupted-" in ended.stderr
    assert outcomes(tmp_path / "out.csv") == ["unchanged", "succeeded"], "the first had been sent"
    (kept,) = tmp_path.glob("out.interrupted-*.csv")
    assert [(row["row"], row["outcome"], row["reason"]) for row in table(kept)] == [
        ("1", "unconfirmed", "interrupted")
    ]
    assert files(tmp_path) == ["out.csv", "out.csv~", kept.name, "pairs.csv"]


def test_the_next_command_after_failures_works_word_for_word_with_the_options_that_were_given(
    command: Command, sandbox: WatchedSandbox, tmp_path: Path
) -> None:
    folder = tmp_path / "my pairs; and 'more'"
    folder.mkdir()
    write_crowd(folder / "pairs $1.csv", 12)
    options = {
        "--endpoint": sandbox.url,
        "--project-id": PROJECT,
        "--rate": "500/s",
        "--concurrency": "1",
        "--max-attempts": "2",
        "--timeout": "20.0",
        "--max-failures": "50%",
        "--max-outage": "20.0",
        "--max-duration": "60.0",
        "--failures": f"{folder.name}/left.csv",
    }
    given = [part for option in options.items() for part in option]
    ended = command("associate", f"{folder.name}/pairs $1.csv", *given, OS_TOKEN="a-token")
    assert ended.exit_code == 1
    resume, report, *carried = following(ended.stderr)
    assert (resume, report) == ("resume", f"{folder.name}/pairs $1.report.csv")
    assert sorted(zip(carried[::2], carried[1::2], strict=True)) == sorted(options.items())
    assert outcomes(folder / "left.csv") == ["failed"] * 2

    sandbox.associations.remove(PROJECT, fpga(0), image(1))
    sandbox.associations.remove(PROJECT, fpga(1), image(1))
    assert command(resume, report, *carried, OS_TOKEN="a-token") == SILENCE
    assert outcomes(folder / "pairs $1.report.csv") == ["succeeded"] * 12
    assert files(folder) == ["pairs $1.csv", "pairs $1.report.csv"]


def test_the_next_command_takes_no_report_for_an_option() -> None:
    end = RunEnd(Summary("associate"), None, Path("-x.report.csv"), None)
    _, _, *arguments = next_command(end, [], {})
    assert arguments[0] == "--" or not arguments[0].startswith("-")


def test_resume_of_some_reasons_sends_those_rows_and_leaves_the_others_as_they_are(
    command: Command, sandbox: WatchedSandbox, tmp_path: Path
) -> None:
    report = tmp_path / "out.csv"
    rows = [
        ("succeeded", ""),
        ("failed", "throttled"),
        ("failed", "image_full"),
        ("unconfirmed", "timeout"),
        ("pending", "not_sent"),
        ("duplicate", "duplicate_row"),
    ]
    write_report(report, "associate", rows)
    before = table(report)
    none = command("resume", "out.csv", "--only", "not_owner", service=sandbox.url)
    assert none.exit_code == 1
    assert "no row to send has the reason not_owner" in none.stderr
    assert sandbox.requests == 0
    assert table(report) == before

    ended = command("resume", "out.csv", "--only", "throttled,timeout", service=sandbox.url)
    assert ended.exit_code == 1
    assert associated(sandbox) == {fpga(2), fpga(4)}
    after = table(report)
    assert [row["outcome"] for row in after] == [
        *("succeeded", "succeeded", "failed", "succeeded", "pending", "duplicate")
    ]
    assert [after[place] for place in (0, 2, 4, 5)] == [before[place] for place in (0, 2, 4, 5)]
    assert after[1]["attempts"] == "2"
    assert following(ended.stderr) == ["resume", "out.csv"]
    assert files(tmp_path) == ["out.csv"]


def test_undo_takes_back_exactly_what_the_report_says_was_made(
    command: Command, sandbox: WatchedSandbox, tmp_path: Path
) -> None:
    rows = [("succeeded", ""), ("unchanged", ""), ("failed", "image_full"), ("succeeded", "")]
    write_report(tmp_path / "out.csv", "associate", rows)
    before = (tmp_path / "out.csv").read_bytes()
    for number in range(1, 5):
        sandbox.associations.add(PROJECT, fpga(number), image(number))

    assert command("undo", "out.csv", service=sandbox.url) == SILENCE
    assert associated(sandbox) == {fpga(2), fpga(3)}
    undone = table(tmp_path / "out.undo.csv")
    assert [(row["row"], row["job"], row["outcome"]) for row in undone] == [
        ("1", "disassociate", "succeeded"),
        ("4", "disassociate", "succeeded"),
    ]
    assert (tmp_path / "out.csv").read_bytes() == before
    assert files(tmp_path) == ["out.csv", "out.undo.csv"]


def test_what_is_no_report_to_resume_or_undo_is_refused_with_a_clear_text(
    command: Command, sandbox: WatchedSandbox, tmp_path: Path
) -> None:
    write_pairs(tmp_path / "pairs.csv", 1)
    write_report(tmp_path / "verified.csv", "verify", [("unchanged", "")])
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    resumed, undone, verified = at_once(
        partial(command, *args, service=sandbox.url)
        for args in (("resume", "pairs.csv"), ("undo", "pairs.csv"), ("undo", "verified.csv"))
    )
    assert {each.exit_code for each in (resumed, undone, verified)} == {65}
    for each in resumed, undone:
        assert "pairs.csv" in each.stderr
        assert "job" in each.stderr
        assert len(each.stderr.splitlines()) == 1
    assert "verified.csv: its job is 'verify', which associates nothing to undo" in verified.stderr
    assert sandbox.requests == 0
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_resume_of_a_clean_report_sends_nothing_and_leaves_the_same_bytes(
    command: Command, sandbox: WatchedSandbox, tmp_path: Path
) -> None:
    report = tmp_path / "out.csv"
    write_report(report, "associate", [("succeeded", ""), ("unchanged", ""), ("duplicate", "duplicate_row")])
    before = report.read_bytes()
    assert command("resume", "out.csv", service=sandbox.url) == SILENCE
    assert report.read_bytes() == before
    assert sandbox.requests == 0
    assert files(tmp_path) == ["out.csv"]


def test_a_failures_file_can_be_resumed_and_can_be_sent_as_pairs(
    command: Command, sandbox: WatchedSandbox, tmp_path: Path
) -> None:
    write_report(tmp_path / "left.csv", "associate", [("failed", "image_full"), ("pending", "not_sent")])
    shutil.copy(tmp_path / "left.csv", tmp_path / "copy.csv")
    assert command("resume", "left.csv", service=sandbox.url) == SILENCE
    assert outcomes(tmp_path / "left.csv") == ["succeeded"] * 2
    assert [row["attempts"] for row in table(tmp_path / "left.csv")] == ["2", "1"]
    assert command("associate", "copy.csv", service=sandbox.url) == SILENCE
    assert outcomes(tmp_path / "copy.report.csv") == ["unchanged"] * 2
    assert [row["attempts"] for row in table(tmp_path / "copy.report.csv")] == ["2", "2"]


def check_goes_on(command: Command, sandbox: WatchedSandbox, report: Path, count: int, *args: str) -> None:
    """Check that the same command sends what is left and ends with one outcome a row."""
    sandbox.faults = Faults()
    kept = report.with_name(f"{report.name}.journal").read_text(errors="replace").count('"outcome"')
    assert 0 < kept < count
    asked = sandbox.requests
    assert command(*args, service=sandbox.url).exit_code == 0
    assert [row["row"] for row in table(report)] == [str(n) for n in range(1, count + 1)]
    assert outcomes(report) == ["succeeded"] * count
    assert sandbox.requests - asked <= 2 * (count - kept)
    assert len(sandbox.associations) == count
    assert not report.with_name(f"{report.name}.journal").exists()


def test_a_journal_that_may_not_grow_stops_the_sending_and_the_same_command_goes_on(
    command: Command, start: Start, sandbox: WatchedSandbox, tmp_path: Path
) -> None:
    count = 300
    write_pairs(tmp_path / "pairs.csv", *range(count))
    sandbox.faults = Faults(latency=0.05)
    # Its own measurements would not fit under the limit either.
    unmeasured = {"COVERAGE_PROCESS_CONFIG": "", "COVERAGE_PROCESS_START": ""}
    process = start("associate", "pairs.csv", "--concurrency", "4", service=sandbox.url, **unmeasured)
    await_requests(sandbox, 10)
    size = (tmp_path / "pairs.report.csv.journal").stat().st_size
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size + 2000, resource.RLIM_INFINITY))
    exit_code, said = end_of(process)
    assert exit_code == 74
    assert "pairs.report.csv.journal: cannot be written: File too large; sending has stopped" in said
    assert "run the same command again: it continues where the journal ends" in said
    assert sandbox.requests < count
    assert files(tmp_path) == ["pairs.csv", "pairs.report.csv.journal"]
    check_goes_on(command, sandbox, tmp_path / "pairs.report.csv", count, "associate", "pairs.csv")


def test_the_reports_folder_going_away_stops_the_sending(
    start: Start, sandbox: WatchedSandbox, tmp_path: Path
) -> None:
    count = 4000
    write_pairs(tmp_path / "pairs.csv", *range(count))
    folder = tmp_path / "folder"
    folder.mkdir()
    sandbox.faults = Faults(latency=0.02)
    process = start(
        "associate", "pairs.csv", "--report", "folder/out.csv", "--concurrency", "4", service=sandbox.url
    )
    await_requests(sandbox, 10)
    shutil.rmtree(folder)
    exit_code, said = end_of(process)
    assert exit_code == 74
    assert "folder/out.csv.journal has been moved or removed" in said
    assert "the same command sends every row again" in said
    assert sandbox.requests < count
    assert files(tmp_path) == ["pairs.csv"]


Disk = Callable[[str], Path]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """Mount a small disk in the test's folder, or give it other options: `disk("size=16k")`."""
    place = tmp_path / "disk"
    mount = shutil.which("mount")
    if os.geteuid() != 0 or mount is None:
        pytest.skip("only root may mount a file system")

    def mounted(options: str) -> Path:
        again = "remount," * place.is_mount()
        place.mkdir(exist_ok=True)
        done = subprocess.run(
            [mount, "-t", "tmpfs", "-o", again + options, "tmpfs", place],
            capture_output=True,
            check=False,
            text=True,
        )
        if done.returncode:
            pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
        return place

    yield mounted
    if place.is_mount():
        subprocess.run(["umount", place], check=True)


def test_a_full_disk_stops_the_sending_and_the_same_command_goes_on_when_there_is_room(
    command: Command, sandbox: WatchedSandbox, tmp_path: Path, disk: Disk
) -> None:
    count = 300
    write_pairs(tmp_path / "pairs.csv", *range(count))
    report = disk("size=16k") / "out.csv"
    args = ("associate", "pairs.csv", "--report", "disk/out.csv", "--concurrency", "4")
    ended = command(*args, service=sandbox.url)
    assert ended.exit_code == 74
    assert "disk/out.csv.journal: cannot be written: No space left on device; sending has" in ended.stderr
    assert "Make room and run the same command again" in ended.stderr
    assert files(report.parent) == ["out.csv.journal"]
    disk("size=4m")
    check_goes_on(command, sandbox, report, count, *args)


def test_a_disk_with_room_for_the_journal_and_not_for_the_report_keeps_every_outcome(
    command: Command, sandbox: WatchedSandbox, tmp_path: Path, disk: Disk
) -> None:
    count = 60
    write_pairs(tmp_path / "pairs.csv", *range(count))
    report = disk("size=28k") / "out.csv"
    args = ("associate", "pairs.csv", "--report", "disk/out.csv")
    ended = command(*args, service=sandbox.url)
    assert ended.exit_code == 74
    assert "disk/out.csv: cannot be written: No space left on device; what was done is kept" in ended.stderr
    assert "in disk/out.csv.journal: when there is room" in ended.stderr
    assert "run the same command again" in ended.stderr
    assert sandbox.requests == count
    assert files(report.parent) == ["out.csv.journal"]
    disk("size=4m")
    assert command(*args, service=sandbox.url).exit_code == 0
    assert sandbox.requests == count, "nothing is sent again"
    assert outcomes(report) == ["succeeded"] * count


@pytest.mark.parametrize("fails", [False, True])
def test_a_failures_file_that_cannot_take_its_place_is_told_and_costs_no_report(
    start: Start, sandbox: WatchedSandbox, tmp_path: Path, *, fails: bool
) -> None:
    write_pairs(tmp_path / "pairs.csv", 1)
    if fails:
        with (tmp_path / "pairs.csv").open("a") as file:
            file.write("no,pair\n")
    sandbox.faults = Faults(latency=0.5)
    args = ("associate", "pairs.csv", "--failures", "left.csv")
    process = start(*args, service=sandbox.url)
    sandbox.await_request()
    (tmp_path / "left.csv" / "in the way").mkdir(parents=True)
    exit_code, said = end_of(process)
    assert exit_code == 74
    assert "left.csv was changed by somebody else during the run, so it is not replaced" in said
    assert outcomes(tmp_path / "pairs.report.csv") == ["succeeded", *["invalid"] * fails]
    beside = ["left.result.csv"] * fails
    assert files(tmp_path) == ["left.csv", *beside, "pairs.csv", "pairs.report.csv"]
    if fails:
        assert outcomes(tmp_path / "left.result.csv") == ["invalid"]
        assert "rows that did not get through: left.result.csv" in said


@pytest.mark.parametrize("how", ["touched", "its folder removed"])
def test_what_becomes_of_a_failures_file_costs_no_report(
    start: Start, sandbox: WatchedSandbox, tmp_path: Path, how: str
) -> None:
    write_pairs(tmp_path / "pairs.csv", 1)
    with (tmp_path / "pairs.csv").open("a") as file:
        file.write("no,pair\n")
    left = tmp_path / "there" / "left.csv"
    left.parent.mkdir()
    write_report(left, "associate", [("failed", "timeout")])
    sandbox.faults = Faults(latency=0.5)
    process = start("associate", "pairs.csv", "--failures", "there/left.csv", service=sandbox.url)
    sandbox.await_request()
    if how == "touched":
        left.touch()
    else:
        shutil.rmtree(left.parent)
    exit_code, said = end_of(process)
    assert outcomes(tmp_path / "pairs.report.csv") == ["succeeded", "invalid"]
    if how == "touched":
        assert exit_code == 1
        assert outcomes(left) == ["invalid"]
    else:
        assert exit_code == 74
        assert "the report has the rows that did not get through" in said


def test_a_disk_too_full_for_the_failures_gets_no_half_of_them(
    command: Command, disk: Disk, tmp_path: Path, sandbox: WatchedSandbox
) -> None:
    disk("size=4k")
    rows = "".join(f"{'x' * 40},{n}\n" for n in range(200))
    (tmp_path / "pairs.csv").write_text(f"fpga_image_id,image_id\n{fpga(1)},{image(1)}\n{rows}")
    ended = command("associate", "pairs.csv", "--failures", "disk/left.csv", service=sandbox.url)
    assert ended.exit_code == 74
    assert "left.csv: cannot be written: No space left on device; the report has the rows" in ended.stderr
    assert outcomes(tmp_path / "pairs.report.csv") == ["succeeded", *["invalid"] * 200]
    assert not list((tmp_path / "disk").iterdir())


def test_a_report_whose_journal_would_have_too_long_a_name_is_told_before_anything_is_sent(
    command: Command, sandbox: WatchedSandbox, tmp_path: Path
) -> None:
    write_pairs(tmp_path / "pairs.csv", 1)
    report = "x" * 246 + ".csv"
    ended = command("associate", "pairs.csv", "--report", report, service=sandbox.url)
    assert ended.exit_code == 74
    assert f"{report}.journal: cannot be written: File name too long; nothing was sent" in ended.stderr
    assert (sandbox.requests, files(tmp_path)) == (0, ["pairs.csv"])


def test_a_folder_that_cannot_be_written_is_told_before_anything_is_sent(
    command: Command, sandbox: WatchedSandbox, tmp_path: Path, disk: Disk
) -> None:
    write_pairs(tmp_path / "pairs.csv", 1)
    disk("size=64k,ro")
    write = "associate", "pairs.csv", "--report"
    ended = command(*write, "disk/out.csv", service=sandbox.url)
    assert ended.exit_code == 74
    assert "disk/out.csv: cannot be written: Read-only file system; nothing was sent" in ended.stderr
    assert sandbox.requests == 0
