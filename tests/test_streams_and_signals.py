"""Standard streams in every state, signals at every moment, odd names and limits: the real command."""

import contextlib
import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import typer
from conftest import NOBODY, PATIENCE, Ended, WatchedSandbox, answering, arguments, at_once, environment
from hypothesis import given
from hypothesis import strategies as st
from support import OK, PROJECT, TOKEN, Run, fpga, image
from test_command import (
    HEADER,
    SILENCE,
    Command,
    Start,
    files,
    outcomes,
    pair,
    table,
    write_pairs,
)
from test_interruptions import await_line, end_of, write_report
from typer.testing import CliRunner

from batch.engine.pool import GRACE
from batch.errors import ConfigurationError
from batch.model import Status
from jobs.cli import app
from jobs.commands.open_files import soft_limit
from jobs.sandbox import Faults

STOPS = [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]

CLOSED_STREAMS = ["2>&-", "<&- >&- 2>&-", "2>/dev/full", ">/dev/full 2>/dev/full"]
"""Redirections that leave the program no standard error, and some no other stream either."""

NO_OUTPUT = [">&-", ">&- 2>&-", "<&- >&- 2>&-", ">/dev/full", ">/dev/full 2>/dev/full", "1</dev/null"]
"""Redirections that leave the program no standard output."""


Redirected = Callable[..., Ended]


@pytest.fixture
def redirected(tmp_path: Path) -> Redirected:
    """Run the command through a shell: `redirected(redirections, *args, before=SHELL, service=URL)`."""

    def run(
        redirections: str, *args: str, before: str = ":", service: str | None = None, **variables: str
    ) -> Ended:
        ended = subprocess.run(
            ["sh", "-c", f'{before}; exec "$@" {redirections}', "sh", *arguments(*args)],
            cwd=tmp_path,
            env=environment(tmp_path, service, variables),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PATIENCE,
            check=False,
            encoding="utf-8",
            errors="surrogateescape",
        )
        assert "Traceback" not in ended.stderr, ended.stderr
        assert "Exception ignored" not in ended.stderr, ended.stderr
        return Ended(ended.returncode, ended.stdout, ended.stderr)

    return run


Unwritable = Callable[[], None]


@contextlib.contextmanager
def unwritable(kind: str) -> Iterator[tuple[int, Unwritable]]:
    """Give a descriptor to write to, and what makes it unwritable."""
    if kind == "full disk":
        theirs = os.open("/dev/full", os.O_WRONLY)
        ours = os.open(os.devnull, os.O_RDONLY)
    else:
        ours, theirs = pty.openpty() if kind == "closed terminal" else os.pipe()
    closing = contextlib.ExitStack()
    closing.callback(os.close, ours)
    with contextlib.ExitStack() as stack:
        stack.callback(closing.close)
        stack.callback(os.close, theirs)
        yield theirs, closing.close


def full_pipe() -> tuple[int, int]:
    """Return the ends of a pipe that takes nothing more and that nobody reads."""
    ours, theirs = os.pipe()
    os.set_blocking(theirs, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(theirs, bytes(4096))
    os.set_blocking(theirs, True)
    return ours, theirs


def patched(folder: Path, code: str) -> dict[str, str]:
    """Return the variables with which the command runs some code first, as a broken system would."""
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(code)
    return {"PYTHONPATH": str(folder)}


NO_TEMPORARY_FOLDER = "import tempfile\ntempfile._candidate_tempdir_list = lambda: ['/proc/nowhere']\n"


# Standard error


@pytest.mark.parametrize("kind", ["closed pipe", "closed terminal", "full disk"])
@pytest.mark.parametrize(("number", "exit_code"), STOPS)
def test_the_first_signal_stops_the_run_though_standard_error_cannot_be_written(
    start: Start, sandbox: WatchedSandbox, tmp_path: Path, kind: str, number: int, exit_code: int
) -> None:
    count = 30
    write_pairs(tmp_path / "pairs.csv", *range(count))
    sandbox.faults = Faults(latency=0.3)
    with unwritable(kind) as (stderr, break_it):
        process = start(
            "associate", "pairs.csv", "-vv", "--concurrency", "1", service=sandbox.url, stderr=stderr
        )
        sandbox.await_request()
        break_it()
        process.send_signal(number)
        assert process.wait(PATIENCE) == exit_code
    done = sandbox.requests
    assert 1 <= done < count
    assert outcomes(tmp_path / "pairs.report.csv") == ["succeeded"] * done + ["pending"] * (count - done)


@pytest.mark.parametrize("kind", ["closed pipe", "closed terminal", "full disk"])
def test_the_second_signal_aborts_at_once_though_standard_error_cannot_be_written(
    start: Start, sandbox: WatchedSandbox, tmp_path: Path, kind: str
) -> None:
    write_pairs(tmp_path / "pairs.csv", 1, 2)
    sandbox.faults = Faults(latency=2 * PATIENCE)
    with unwritable(kind) as (stderr, break_it):
        process = start("associate", "pairs.csv", "--concurrency", "1", service=sandbox.url, stderr=stderr)
        sandbox.await_request()
        break_it()
        process.send_signal(signal.SIGTERM)
        # A signal that is still pending swallows the same one; another one is taken in any case.
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) in (143, 130)
    assert files(tmp_path) == ["pairs.csv", "pairs.report.csv.journal"]


@pytest.mark.parametrize("kind", ["closed pipe", "closed terminal", "full disk"])
@pytest.mark.parametrize("options", [["--progress"], ["-vv"], ["-vv", "--log-format", "json"]])
def test_a_run_goes_on_to_its_end_when_standard_error_breaks(
    start: Start, sandbox: WatchedSandbox, tmp_path: Path, kind: str, options: list[str]
) -> None:
    write_pairs(tmp_path / "pairs.csv", 1, 2, 3)
    sandbox.faults = Faults(latency=0.4)
    with unwritable(kind) as (stderr, break_it):
        process = start(
            "associate", "pairs.csv", "--concurrency", "1", *options, service=sandbox.url, stderr=stderr
        )
        sandbox.await_request()
        break_it()
        process.send_signal(signal.SIGUSR1)
        assert process.wait(PATIENCE) == 0
    assert outcomes(tmp_path / "pairs.report.csv") == ["succeeded"] * 3


def test_a_standard_error_that_nobody_reads_holds_up_neither_the_run_nor_a_signal(
    start: Start, sandbox: WatchedSandbox, tmp_path: Path
) -> None:
    count = 30
    write_pairs(tmp_path / "pairs.csv", *range(count))
    sandbox.faults = Faults(latency=0.3)
    ours, theirs = full_pipe()
    process = start("associate", "pairs.csv", "-vv", "--concurrency", "1", service=sandbox.url, stderr=theirs)
    for _ in range(3):
        sandbox.await_request()
    process.terminate()
    assert process.wait(PATIENCE) == 143
    for each in ours, theirs:
        os.close(each)
    assert "pending" in outcomes(tmp_path / "pairs.report.csv")


IN_THE_BACKGROUND = """
import fcntl, os, signal, subprocess, sys, termios
fcntl.ioctl(2, termios.TIOCSCTTY, 0)
attributes = termios.tcgetattr(2)
attributes[3] |= termios.TOSTOP
termios.tcsetattr(2, termios.TCSANOW, attributes)
process = subprocess.Popen(sys.argv[1:], process_group=0)
_, status = os.waitpid(process.pid, os.WUNTRACED)
if os.WIFSTOPPED(status):
    process.kill()
    sys.exit(99)
sys.exit(os.waitstatus_to_exitcode(status))
"""


def test_a_job_in_the_background_is_not_stopped_for_writing_to_a_terminal_that_forbids_it(
    tmp_path: Path, sandbox: WatchedSandbox
) -> None:
    (tmp_path / "pairs.csv").write_text(f"{HEADER}{pair(1)}\nx,y\n")
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", IN_THE_BACKGROUND, *arguments("associate", "pairs.csv", "-v")],
        cwd=tmp_path,
        env=environment(tmp_path, sandbox.url, {}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=theirs,
        start_new_session=True,
    )
    assert process.wait(PATIENCE) == 1, "one row is invalid; 99 would be a job that was stopped"
    os.close(theirs)
    assert b"1 succeeded" in os.read(ours, 65536)
    os.close(ours)


def test_an_exit_code_is_the_contracts_whatever_becomes_of_the_streams(
    redirected: Redirected, tmp_path: Path
) -> None:
    (tmp_path / "invalid.csv").write_text(f"{HEADER}x,y\n")
    (tmp_path / "empty.csv").write_text("")
    write_pairs(tmp_path / "pairs.csv", 1)
    target = {"FPGA_BATCH_ENDPOINT": NOBODY, "FPGA_BATCH_PROJECT_ID": PROJECT, "OS_TOKEN": TOKEN}
    with answering(401) as service:
        refusing = target | {"FPGA_BATCH_ENDPOINT": service.url}
        cases: list[tuple[int, tuple[str, ...], dict[str, str]]] = [
            (1, ("associate", "invalid.csv"), target),
            (2, ("associate", "pairs.csv", "--bogus"), target),
            (65, ("associate", "empty.csv"), target),
            (66, ("associate", "nowhere.csv"), target),
            (74, ("associate", "pairs.csv", "--report", "pairs.csv/out.csv"), target),
            (77, ("associate", "pairs.csv"), refusing),
            (78, ("associate", "pairs.csv"), {"OS_TOKEN": TOKEN}),
        ]
        for exit_code, args, variables in cases:
            ends = at_once(
                partial(redirected, each, *args[:2], *(args[2:] or ("--report", f"{n}.csv")), **variables)
                for n, each in enumerate(CLOSED_STREAMS)
            )
            codes = {each: ended.exit_code for each, ended in zip(CLOSED_STREAMS, ends, strict=True)}
            assert codes == dict.fromkeys(CLOSED_STREAMS, exit_code), args


def test_no_file_takes_the_number_of_a_stream_that_was_closed(
    tmp_path: Path, sandbox: WatchedSandbox
) -> None:
    write_pairs(tmp_path / "pairs.csv", *range(3))
    sandbox.faults = Faults(latency=0.3)
    process = subprocess.Popen(
        ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *arguments("associate", "pairs.csv", "-vv")],
        cwd=tmp_path,
        env=environment(tmp_path, sandbox.url, {}),
    )
    sandbox.await_request()
    streams = [os.readlink(f"/proc/{process.pid}/fd/{number}") for number in range(3)]
    assert process.wait(PATIENCE) == 0
    assert streams == [os.devnull] * 3
    assert outcomes(tmp_path / "pairs.report.csv") == ["succeeded"] * 3


# Standard output


def test_standard_output_that_cannot_be_written_ends_every_command_that_was_asked_for_something(
    redirected: Redirected, tmp_path: Path, sandbox: WatchedSandbox
) -> None:
    write_pairs(tmp_path / "pairs.csv", 1)
    write_report(tmp_path / "out.csv", "associate", [("succeeded", "")])
    commands = [
        ("--version",),
        ("--help",),
        ("associate", "--help"),
        ("check", "pairs.csv"),
        ("report", "out.csv"),
        ("report", "out.csv", "--json"),
        ("login",),
        ("sandbox", "--port", "0"),
    ]
    cases = [(each, args) for args in commands for each in (">&-", ">/dev/full")]
    cases += [(each, ("check", "pairs.csv")) for each in NO_OUTPUT]
    ends = at_once(partial(redirected, each, *args, service=sandbox.url) for each, args in cases)
    for case, ended in zip(cases, ends, strict=True):
        assert ended.exit_code == 74, case
        if "2>" not in case[0]:
            assert ended.stderr.startswith("fpga-batch: standard output "), case
            assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize("args", [["report", "out.csv"], ["check", "pairs.csv"], ["--help"]])
def test_a_reader_of_standard_output_that_has_gone_is_output_that_cannot_be_written(
    tmp_path: Path, args: list[str]
) -> None:
    write_pairs(tmp_path / "pairs.csv", 1)
    write_report(tmp_path / "out.csv", "associate", [("succeeded", "")])
    with unwritable("closed pipe") as (stdout, break_it):
        break_it()
        ended = subprocess.run(
            arguments(*args),
            cwd=tmp_path,
            env=environment(tmp_path, None, {}),
            stdout=stdout,
            stderr=subprocess.PIPE,
            timeout=PATIENCE,
            check=False,
            encoding="utf-8",
        )
    assert ended.returncode == 74
    assert ended.stderr == "fpga-batch: standard output cannot be written: Broken pipe\n"


def verifying(tmp_path: Path, service: str, redirection: str, stdout: int) -> "subprocess.Popen[str]":
    """Start to verify two pairs from standard input."""
    process = subprocess.Popen(
        ["sh", "-c", f'exec "$@" {redirection}', "sh", *arguments("verify", "-")],
        cwd=tmp_path,
        env=environment(tmp_path, service, {"TMPDIR": str(tmp_path)}),
        stdin=subprocess.PIPE,
        stdout=stdout,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    assert process.stdin
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(f"{HEADER}{pair(1)}\n{pair(2)}\n")
        process.stdin.close()
    process.stdin = None
    return process


@pytest.mark.parametrize("redirection", [">&-", "1</dev/null", ">/dev/full", "gone"])
def test_verify_finds_out_before_it_sends_that_its_report_has_nowhere_to_go(
    tmp_path: Path, sandbox: WatchedSandbox, redirection: str
) -> None:
    with unwritable("closed pipe") as (stdout, break_it):
        break_it()
        there = "" if redirection == "gone" else redirection
        exit_code, said = end_of(verifying(tmp_path, sandbox.url, there, stdout))
    assert exit_code == 74
    assert said.startswith("fpga-batch: standard output ")
    assert said.endswith("; nothing was sent\n")
    assert (sandbox.requests, files(tmp_path)) == (0, [])


def test_verify_keeps_and_names_the_report_that_standard_output_does_not_take(
    tmp_path: Path, sandbox: WatchedSandbox
) -> None:
    sandbox.associations.add(PROJECT, fpga(1), image(1))
    sandbox.faults = Faults(latency=0.5)
    with unwritable("closed pipe") as (stdout, break_it):
        process = verifying(tmp_path, sandbox.url, "", stdout)
        sandbox.await_request()
        break_it()
        exit_code, ended = end_of(process)
    assert exit_code == 74
    said, place = ended.strip().split("; the report is ")
    assert said == "fpga-batch: standard output cannot be written: Broken pipe"
    assert outcomes(Path(place)) == ["unchanged", "failed"]
    assert Path(place).parent.stat().st_mode & 0o777 == 0o700


def test_a_second_signal_to_verify_of_standard_input_promises_nothing_that_is_gone(
    tmp_path: Path, sandbox: WatchedSandbox
) -> None:
    sandbox.faults = Faults(latency=2 * PATIENCE)
    process = verifying(tmp_path, sandbox.url, "", subprocess.PIPE)
    sandbox.await_request()
    process.terminate()
    await_line(process, "a second signal aborts at once")
    process.terminate()
    assert end_of(process) == (143, "fpga-batch: stopped by SIGTERM\n")
    assert files(tmp_path) == []


# Standard input


def test_a_pipe_that_does_not_block_is_read_to_its_end(tmp_path: Path) -> None:
    ours, theirs = os.pipe()
    os.set_blocking(ours, False)
    process = subprocess.Popen(
        arguments("check", "-"),
        cwd=tmp_path,
        env=environment(tmp_path, None, {}),
        stdin=ours,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    await_handler(process)
    process.send_signal(signal.SIGUSR1)
    await_line(process, "nothing is being sent")
    deadline = time.monotonic() + 5  # as long as it takes to get to the reading; it is blocking from then on
    while not os.get_blocking(ours) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.write(theirs, f"{HEADER}{pair(1)}\n".encode())
    os.close(theirs)
    stdout, stderr = process.communicate(timeout=PATIENCE)
    os.close(ours)
    assert (process.returncode, stderr) == (0, "")
    assert "1 row: 1 to send" in stdout


def test_a_standard_input_that_cannot_be_read_is_missing_input(redirected: Redirected) -> None:
    for redirection, reason in ("0>/dev/null", "Bad file descriptor"), ("<&-", "closed"):
        ended = redirected(redirection, "check", "-")
        assert ended.exit_code == 66
        assert reason in ended.stderr


def test_standard_input_is_kept_beside_the_report_where_there_is_no_temporary_folder(
    command: Command, sandbox: WatchedSandbox, tmp_path: Path
) -> None:
    broken = patched(tmp_path / "broken", NO_TEMPORARY_FOLDER)
    folder = tmp_path / "folder"
    folder.mkdir()
    text = f"{HEADER}{pair(1)}\n"
    for job, name in ("verify", "verified.csv"), ("associate", "out.csv"):
        ended = command(job, "-", "--report", f"folder/{name}", service=sandbox.url, stdin=text, **broken)
        assert ended.exit_code == (1 if job == "verify" else 0)
        assert (folder / name).exists()
    report = (folder / "out.csv").read_text()
    ended = command("resume", "-", "--report", "folder/new.csv", service=sandbox.url, stdin=report, **broken)
    assert ended == SILENCE


def test_without_any_folder_for_temporary_files_the_user_is_told_what_to_do(
    command: Command, sandbox: WatchedSandbox, tmp_path: Path
) -> None:
    broken = patched(tmp_path / "broken", NO_TEMPORARY_FOLDER)
    for args in ("verify", "-"), ("check", "-"):
        ended = command(*args, service=sandbox.url, stdin=f"{HEADER}{pair(1)}\n", **broken)
        assert ended.exit_code == 74
        assert "set TMPDIR to a folder" in ended.stderr
    assert sandbox.requests == 0


# Signals


def await_handler(process: "subprocess.Popen[str]") -> None:
    """Wait until the command has installed its handlers."""
    deadline = time.monotonic() + PATIENCE
    status = Path(f"/proc/{process.pid}/status")
    while time.monotonic() < deadline:
        caught = re.search(r"^SigCgt:\s+(\w+)", status.read_text(), re.MULTILINE)
        if caught and int(caught[1], 16) >> (signal.SIGUSR1 - 1) & 1:
            return
        time.sleep(0.01)
    pytest.fail("the command has installed no handlers")


@pytest.mark.parametrize("job", ["associate", "verify", "check", "resume", "undo", "report"])
def test_a_signal_while_the_input_is_read_leaves_nothing_behind(
    start: Start, sandbox: WatchedSandbox, tmp_path: Path, job: str
) -> None:
    os.mkfifo(tmp_path / "pairs.csv")
    process = start(job, "pairs.csv", service=sandbox.url)
    await_handler(process)
    with (tmp_path / "pairs.csv").open("w") as pipe:
        pipe.write(HEADER)
        pipe.flush()
        process.send_signal(signal.SIGINT)
        assert end_of(process) == (130, "fpga-batch: stopped by SIGINT\n")
    assert (sandbox.requests, files(tmp_path)) == (0, ["pairs.csv"])


@pytest.mark.parametrize("job", ["associate", "login"])
@pytest.mark.parametrize(("number", "exit_code"), STOPS)
def test_a_signal_while_credentials_are_waited_for_ends_the_command_at_once(
    start: Start, sandbox: WatchedSandbox, tmp_path: Path, job: str, number: int, exit_code: int
) -> None:
    write_pairs(tmp_path / "pairs.csv", 1)
    user = {"OS_USERNAME": "u", "OS_PASSWORD": "p", "OS_USER_DOMAIN_NAME": "d", "OS_TOKEN": ""}
    with socket.create_server(("127.0.0.1", 0)) as silent:
        place = f"http://127.0.0.1:{silent.getsockname()[1]}/v3"
        args = [job, "pairs.csv"] if job == "associate" else [job]
        process = start(*args, service=sandbox.url, OS_AUTH_URL=place, **user)
        silent.settimeout(PATIENCE)
        connection, _ = silent.accept()
        with connection:
            connection.recv(1)
            process.send_signal(number)
            name = signal.Signals(number).name
            assert end_of(process) == (exit_code, f"fpga-batch: stopped by {name}\n")
    assert (sandbox.requests, files(tmp_path)) == (0, ["pairs.csv"])


SWALLOWING = {
    "a handler of errors": """
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)
    except Exception:
        pass
""",
    "a finalizer": """
    class Last:
        def __del__(self):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(1)
    Last()
""",
}


@pytest.mark.parametrize("where", SWALLOWING)
def test_a_signal_is_not_lost_where_what_it_raises_would_be(
    start: Start, sandbox: WatchedSandbox, tmp_path: Path, where: str
) -> None:
    code = f"""
import os, signal, stat, time
def is_regular(mode, known=stat.S_ISREG):
    stat.S_ISREG = known
{SWALLOWING[where]}
    time.sleep({3 * PATIENCE})
stat.S_ISREG = is_regular
"""
    write_pairs(tmp_path / "pairs.csv", 1)
    process = start("associate", "pairs.csv", service=sandbox.url, **patched(tmp_path / "broken", code))
    assert end_of(process) == (143, "fpga-batch: stopped by SIGTERM\n")
    assert sandbox.requests == 0


SLOW_NAMES = f"""
import socket, sys, time
def getaddrinfo(*_, **__):
    print("looking up", file=sys.stderr, flush=True)
    time.sleep({3 * PATIENCE})
socket.getaddrinfo = getaddrinfo
"""


def test_a_name_that_is_being_looked_up_does_not_hold_up_the_end(start: Start, tmp_path: Path) -> None:
    slow = patched(tmp_path / "broken", SLOW_NAMES)
    process = start("login", service="https://ecs.example.com", OS_AUTH_URL="https://iam.example.com", **slow)
    await_line(process, "looking up")
    process.terminate()
    assert end_of(process) == (143, "fpga-batch: stopped by SIGTERM\n")

    write_pairs(tmp_path / "pairs.csv", 1)
    process = start("associate", "pairs.csv", service="https://ecs.example.com", **slow)
    await_line(process, "looking up")
    process.terminate()
    await_line(process, "no new rows; 8 s for those under way")
    process.terminate()
    exit_code, said = end_of(process)
    assert exit_code == 143
    assert "the same command goes on where the journal ends" in said


SLOW_MOVING = """
import os, sys, time
def replace(*places, move=os.replace, **folders):
    print("moving", file=sys.stderr, flush=True)
    while not os.path.exists("go"):
        time.sleep(0.01)
    move(*places, **folders)
os.replace = replace
"""


def test_one_signal_while_the_report_is_written_lets_it_be_written(
    start: Start, sandbox: WatchedSandbox, tmp_path: Path
) -> None:
    write_pairs(tmp_path / "pairs.csv", 1)
    slow = patched(tmp_path / "broken", SLOW_MOVING)
    process = start("associate", "pairs.csv", service=sandbox.url, **slow)
    await_line(process, "moving")
    process.terminate()
    await_line(process, "SIGTERM: the report is being written; a second signal aborts at once")
    (tmp_path / "go").touch()
    assert end_of(process) == (0, "")
    assert outcomes(tmp_path / "pairs.report.csv") == ["succeeded"]


@pytest.mark.parametrize("second", STOPS)
def test_two_signals_while_the_report_is_written_leave_the_journal_and_no_half_report(
    command: Command, start: Start, sandbox: WatchedSandbox, tmp_path: Path, second: tuple[int, int]
) -> None:
    write_pairs(tmp_path / "pairs.csv", 1)
    slow = patched(tmp_path / "broken", SLOW_MOVING)
    number, exit_code = second
    process = start("associate", "pairs.csv", service=sandbox.url, **slow)
    await_line(process, "moving")
    process.terminate()
    await_line(process, "the report is being written")
    process.send_signal(number)
    ended = end_of(process)
    assert ended[0] == exit_code
    assert "the same command goes on where the journal ends" in ended[1]
    assert files(tmp_path) == ["broken", "pairs.csv", "pairs.report.csv.journal"]

    assert command("associate", "pairs.csv", service=sandbox.url) == SILENCE
    assert outcomes(tmp_path / "pairs.report.csv") == ["succeeded"]
    assert sandbox.requests == 1


def test_a_stopped_run_is_over_before_a_container_is_killed() -> None:
    run = Run(OK, takes=100).go(stop_after=5.0, grace=GRACE)
    assert run.took == 5.0 + 8.0, "a container is killed after 10 s, and the report has to be written"
    assert run.engine.unsettled[1].result.status is Status.UNCONFIRMED


def test_a_signal_ends_the_demo_with_its_exit_code(start: Start, tmp_path: Path) -> None:
    process = start("demo")
    await_line(process, "a sandbox is at ")
    process.terminate()
    exit_code, _ = end_of(process)
    assert exit_code == 143
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_sandbox_under_nohup_outlives_the_hangup_and_ends_cleanly_on_other_signals(start: Start) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        process = start("sandbox", "--port", "0")
    finally:
        signal.signal(signal.SIGHUP, before)
    assert process.stdout
    assert process.stdout.readline()
    await_line(process, "export FPGA_BATCH_ENDPOINT=")
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGUSR1)
    await_line(process, "nothing is being sent just now")
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert end_of(process) == (0, "")


# The limit on open files


def test_the_soft_limit_on_open_files_is_raised_to_what_the_concurrency_needs(
    redirected: Redirected, sandbox: WatchedSandbox, tmp_path: Path
) -> None:
    count = 120
    write_pairs(tmp_path / "pairs.csv", *range(count))
    sandbox.faults = Faults(latency=0.5)
    ended = redirected(
        "",
        *("associate", "pairs.csv", "--concurrency", str(count), "-vv"),
        before="ulimit -Sn 60",
        service=sandbox.url,
    )
    assert ended.exit_code == 0
    assert "Too many open files" not in ended.stderr
    assert sandbox.requests == count
    assert {row["attempts"] for row in table(tmp_path / "pairs.report.csv")} == {"1"}


def test_a_hard_limit_that_is_too_low_is_told_before_anything_is_sent_and_the_advice_holds(
    redirected: Redirected, sandbox: WatchedSandbox, tmp_path: Path
) -> None:
    write_pairs(tmp_path / "pairs.csv", *range(200))
    limited = partial(redirected, "", "associate", "pairs.csv", before="ulimit -n 128", service=sandbox.url)
    ended = limited("--concurrency", "500")
    assert ended.exit_code == 78
    told = re.search(
        r"200 connections at once \(--concurrency\) need (\d+) open files, and the limit is 128; "
        r"nothing was sent: use --concurrency (\d+) or raise the limit \(ulimit -Hn\)\n",
        ended.stderr,
    )
    assert told
    assert int(told[1]) > 128
    assert (sandbox.requests, files(tmp_path)) == (0, ["pairs.csv"])
    assert limited("--concurrency", told[2]).exit_code == 0


def test_rows_that_need_fewer_connections_than_allowed_need_no_more_open_files(
    redirected: Redirected, sandbox: WatchedSandbox, tmp_path: Path
) -> None:
    write_pairs(tmp_path / "pairs.csv", 1, 2)
    ended = redirected(
        "",
        *("associate", "pairs.csv", "--concurrency", "10000"),
        before="ulimit -n 128",
        service=sandbox.url,
    )
    assert ended == SILENCE


@given(
    soft=st.integers(1, 5000), hard=st.integers(1, 5000), in_use=st.integers(0, 50), n=st.integers(1, 5000)
)
def test_the_soft_limit_is_never_lowered_and_suffices_or_is_refused(
    soft: int, hard: int, in_use: int, n: int
) -> None:
    soft = min(soft, hard)
    try:
        limit = soft_limit(soft, hard, in_use, n)
    except ConfigurationError as error:
        assert hard < in_use + n + 33
        if advised := re.search(r"use --concurrency ([\d,]+)", str(error)):
            soft_limit(soft, hard, in_use, int(advised[1].replace(",", "")))
    else:
        assert soft <= limit <= hard
        assert limit >= in_use + n


# Odd names and settings


def given_as_text() -> list[tuple[str, str]]:
    """List each command with each of its parameters that takes a text."""
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    return [
        (name, max(each.opts, key=len))
        for name, made in commands.items()
        for each in made.params
        if not getattr(each, "is_flag", False) and not getattr(each, "count", False)
        if each.param_type_name == "argument" or each.opts[0].startswith("-")
        if each.opts[0] not in ("--help", "-h")
    ]


@pytest.mark.parametrize(("name", "parameter"), given_as_text())
def test_an_empty_argument_is_wrong_usage_and_named(name: str, parameter: str) -> None:
    is_option = parameter.startswith("-")
    needed = [] if name in ("login", "sandbox") else ["pairs.csv"]
    args = [name, *needed, parameter, ""] if is_option else [name, ""]
    ended = CliRunner().invoke(app, args)
    assert ended.exit_code == 2
    named = parameter if is_option else "(PAIRS|REPORT)"
    assert re.search(f"Error: Invalid value for '{named}'", ended.stderr)


def test_an_empty_argument_is_told_for_what_it_mostly_is(command: Command, tmp_path: Path) -> None:
    write_pairs(tmp_path / "pairs.csv", 1)
    for args in (("associate", ""), ("associate", "pairs.csv", "--report="), ("sandbox", "--tls", "")):
        ended = command(*args)
        assert ended.exit_code == 2
        assert "it is empty (is a variable not set?)" in ended.stderr


def test_an_empty_variable_counts_as_not_set(
    command: Command, sandbox: WatchedSandbox, tmp_path: Path
) -> None:
    write_pairs(tmp_path / "pairs.csv", 1)
    needed = {"FPGA_BATCH_ENDPOINT", "FPGA_BATCH_PROJECT_ID", "FPGA_BATCH_RATE"}
    variables = {
        f"FPGA_BATCH_{parameter.lstrip('-').upper().replace('-', '_')}": ""
        for name, parameter in given_as_text()
        if name == "associate" and parameter.startswith("-")
    }
    empty = {name: "" for name in variables if name not in needed} | {
        "OS_CACERT": "",
        "FPGA_BATCH_STRICT": "",
    }
    assert command("associate", "pairs.csv", service=sandbox.url, **empty) == SILENCE
    assert files(tmp_path) == ["pairs.csv", "pairs.report.csv"]


LONG = "x" * 251 + ".csv"
LONGER = "x" * 300 + ".csv"


def test_an_odd_name_is_told_for_what_it_is(
    command: Command, sandbox: WatchedSandbox, tmp_path: Path
) -> None:
    write_pairs(tmp_path / "pairs.csv", 1)
    write_pairs(tmp_path / LONG, 1)
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "loop.csv").symlink_to("other.csv")
    (tmp_path / "other.csv").symlink_to("loop.csv")
    before = files(tmp_path)
    names = {
        "loop.csv": "Too many levels of symbolic links",
        LONGER: "File name too long",
        "folder.csv": "directory",
        "pairs.csv/below.csv": "Not a directory",
        "nowhere/out.csv": "No such file or directory",
    }
    inputs = [
        (66, (job, name), reason)
        for job in ("associate", "check", "resume", "undo", "report")
        for name, reason in (names | {".": "Is a directory", "/": "Is a directory"}).items()
    ]
    outputs = [
        (74, ("associate", "pairs.csv", option, name), reason)
        for option in ("--report", "--failures")
        for name, reason in names.items()
    ]
    others = [
        (74, ("associate", LONG), "File name too long; nothing was sent"),
        (2, ("associate", "pairs.csv", "--report", "."), "the name of a report ends in .csv"),
        (2, ("associate", "pairs.csv", "--report", "/"), "the name of a report ends in .csv"),
        (66, ("sandbox", "--port", "0", "--catalogue", LONGER), "no such file"),
        (74, ("sandbox", "--port", "0", "--tls", "loop.csv"), "Too many levels of symbolic links"),
        (78, ("sandbox", "--port", "0", "--host", "x" * 300), "not a valid host name"),
        (78, ("associate", "pairs.csv", "--ca-file", "loop.csv"), "Too many levels of symbolic links"),
    ]
    cases = [*inputs, *outputs, *others]
    ends = at_once(partial(command, *args, service=sandbox.url) for _, args, _ in cases)
    for (exit_code, args, reason), ended in zip(cases, ends, strict=True):
        assert (ended.exit_code, reason in ended.stderr) == (exit_code, True), (args, ended)
    assert (sandbox.requests, files(tmp_path)) == (0, before)


def test_a_name_that_is_not_utf8_does_no_harm(sandbox: WatchedSandbox, tmp_path: Path) -> None:
    name = os.fsdecode(b"p\xff.csv")
    write_pairs(tmp_path / name, 1)
    (tmp_path / "keys").mkdir()
    keys = tmp_path / "keys" / os.fsdecode(b"k\xff")
    keys.write_text("[basic]\nak = a\nsk = b\n")
    keys.chmod(0o644)
    variables = {"HUAWEICLOUD_SDK_CREDENTIALS_FILE": str(keys), "OS_TOKEN": "", "LC_ALL": "C"}
    for form in "text", "json":
        ended = subprocess.run(
            arguments("associate", name, "-vv", "--log-format", form, "--max-attempts", "1"),
            cwd=tmp_path,
            env=environment(tmp_path, sandbox.url, variables),
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
        assert ended.returncode == 77
        said = ended.stderr.decode()
        assert "Traceback" not in said
        assert "k\\udcff holds secrets" in said.replace("\\\\", "\\")
        if form == "json":
            logged = [line for line in said.splitlines() if line.startswith("{")]
            assert any("holds secrets" in json.loads(line)["message"] for line in logged)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8:strict", "utf-16"])
def test_no_encoding_of_the_streams_ends_a_command(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "é☃.csv").write_text(f"{HEADER}{pair(1)}\n")
    ended = subprocess.run(
        arguments("check", "é☃.csv"),
        cwd=tmp_path,
        env=environment(tmp_path, None, {"PYTHONIOENCODING": encoding}),
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, b"")


def test_a_key_log_that_cannot_be_opened_is_a_wrong_setting_of_those_commands_that_need_it(
    command: Command, sandbox: WatchedSandbox, tmp_path: Path
) -> None:
    write_pairs(tmp_path / "pairs.csv", 1)
    place = str(tmp_path / "nowhere" / "keys.log")
    for args in ("associate", "pairs.csv"), ("login",), ("sandbox", "--port", "0"), ("demo",):
        ended = command(*args, service=sandbox.url, SSLKEYLOGFILE=place)
        assert ended.exit_code == 78
        said = f"fpga-batch: SSLKEYLOGFILE={place}: cannot be opened: No such file or directory\n"
        assert ended.stderr == said
    assert command("check", "pairs.csv", SSLKEYLOGFILE=place).exit_code == 0
    assert sandbox.requests == 0


def test_a_working_directory_that_was_removed_is_told(
    redirected: Redirected, sandbox: WatchedSandbox, tmp_path: Path
) -> None:
    write_pairs(tmp_path / "pairs.csv", 1)
    gone = {"before": "mkdir gone && cd gone && rmdir ../gone", "PYTHONPATH": str(Path.cwd())}
    run = partial(redirected, service=sandbox.url, **gone)
    ended = run("", "associate", str(tmp_path / "pairs.csv"), "--report", "out.csv")
    assert (ended.exit_code, ended.stderr) == (
        78,
        "fpga-batch: the working directory does not exist any more\n",
    )
    assert run("", "check", "pairs.csv").exit_code == 66
    assert run("", "associate", str(tmp_path / "pairs.csv")) == SILENCE
    assert outcomes(tmp_path / "pairs.report.csv") == ["succeeded"]


def test_without_a_home_the_credentials_are_looked_for_elsewhere(
    redirected: Redirected, sandbox: WatchedSandbox, tmp_path: Path
) -> None:
    write_pairs(tmp_path / "pairs.csv", 1)
    assert redirected("", "associate", "pairs.csv", before="unset HOME", service=sandbox.url) == SILENCE
    nobody = redirected("", "login", before="unset HOME", service=sandbox.url, OS_TOKEN="")
    assert nobody.exit_code in (69, 78)
