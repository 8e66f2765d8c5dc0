"""What the commands do, print, leave behind and exit with: the real command against a real socket."""

import csv
import gzip
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import PATIENCE, Ended, WatchedSandbox, answering, arguments, environment
from support import PROJECT, fpga, image

from jobs.sandbox import Faults, RateLimit

Command = Callable[..., Ended]
Start = Callable[..., "subprocess.Popen[str]"]

HEADER = "fpga_image_id,image_id\n"
OUTCOME_COLUMNS = [
    "outcome",
    "reason",
    "http_status",
    "error_code",
    "error_message",
    "request_id",
    "attempts",
    "started_at",
    "finished_at",
    "duration_ms",
]
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
SILENCE = Ended(0, "", "")


def pair(number: int) -> str:
    return f"{fpga(number)},{image(number)}"


def write_pairs(path: Path, *numbers: int) -> None:
    path.write_text(HEADER + "".join(f"{pair(number)}\n" for number in numbers))


def write_crowd(path: Path, count: int) -> None:
    """Write pairs of one ECS image, which takes ten."""
    path.write_text(HEADER + "".join(f"{fpga(number)},{image(1)}\n" for number in range(count)))


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def outcomes(path: Path) -> list[str]:
    return [row["outcome"] for row in table(path)]


def columns(path: Path) -> list[str]:
    with path.open(newline="") as file:
        return next(csv.reader(file))


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_associate_verify_and_disassociate_agree_on_what_is_there(
    command: Command, sandbox: WatchedSandbox, tmp_path: Path
) -> None:
    write_pairs(tmp_path / "pairs.csv", 1, 2)
    report = tmp_path / "pairs.report.csv"

    assert command("associate", "pairs.csv", service=sandbox.url) == SILENCE
    assert outcomes(report) == ["succeeded", "succeeded"]
    assert set(sandbox.associations) == {(PROJECT, fpga(n), image(n)) for n in (1, 2)}

    assert command("associate", "pairs.csv", service=sandbox.url) == SILENCE
    assert outcomes(report) == ["unchanged", "unchanged"]

    write_pairs(tmp_path / "pairs.csv", 1, 2, 3)
    ended = command("verify", "pairs.csv", service=sandbox.url)
    assert (ended.exit_code, ended.stdout) == (1, "")
    assert [(row["outcome"], row["reason"]) for row in table(tmp_path / "pairs.verify.csv")] == [
        ("unchanged", ""),
        ("unchanged", ""),
        ("failed", "not_associated"),
    ]
    assert len(sandbox.associations) == 2

    assert command("disassociate", "pairs.csv", service=sandbox.url) == SILENCE
    assert outcomes(tmp_path / "pairs.disassociate.csv") == ["succeeded", "succeeded", "unchanged"]
    assert not list(sandbox.associations)
    assert outcomes(report) == ["unchanged", "unchanged"]
    assert outcomes(tmp_path / "pairs.report.csv~") == ["succeeded", "succeeded"]
    assert files(tmp_path) == [
        *("pairs.csv", "pairs.disassociate.csv", "pairs.report.csv", "pairs.report.csv~", "pairs.verify.csv")
    ]


def test_a_report_frames_the_inputs_own_columns_unchanged_and_in_order(
    command: Command, sandbox: WatchedSandbox, tmp_path: Path
) -> None:
    own = {
        "Zone": 'a "b", c',
        "IMAGE_ID": image(1).upper(),
        "note": "  =1+1\nsecond line ",
        "fpga_image_id": f" {fpga(1)}",
        "Ünit": "é",
        "empty": "",
    }
    with (tmp_path / "pairs.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([own.keys(), own.values()])
    assert command("associate", "pairs.csv", service=sandbox.url) == SILENCE
    report = tmp_path / "pairs.report.csv"
    assert columns(report) == ["row", "job", *own, *OUTCOME_COLUMNS]
    (row,) = table(report)
    assert {name: row[name] for name in own} == own
    assert (row["row"], row["job"]) == ("1", "associate")
    assert [row[name] for name in OUTCOME_COLUMNS[:5]] == ["succeeded", "", "204", "", ""]
    assert re.fullmatch("[0-9a-f]{32}", row["request_id"])
    assert row["attempts"] == "1"
    assert TIME.fullmatch(row["started_at"])
    assert row["started_at"] <= row["finished_at"]
    assert TIME.fullmatch(row["finished_at"])
    assert int(row["duration_ms"]) >= 0


@pytest.mark.parametrize("suffix", ["json", "jsonl"])
def test_a_report_in_json_keeps_values_and_numbers_as_they_are(
    command: Command, sandbox: WatchedSandbox, tmp_path: Path, suffix: str
) -> None:
    own = {"tags": ["a", {"b": None}], "fpga_image_id": fpga(1), "size": 4.5, "image_id": image(1)}
    (tmp_path / "pairs.json").write_text(json.dumps([own, {**own, "image_id": "x", "late": True}]))
    report = tmp_path / f"out.{suffix}"
    ended = command("associate", "pairs.json", "--report", report.name, service=sandbox.url)
    assert ended.exit_code == 1
    text = report.read_text()
    first, second = json.loads(text) if suffix == "json" else map(json.loads, text.splitlines())
    assert list(first) == ["row", "job", *own, "late", *OUTCOME_COLUMNS]
    assert {name: first[name] for name in own} == own
    assert (first["row"], first["job"], first["outcome"]) == (1, "associate", "succeeded")
    assert (first["http_status"], first["attempts"], first["late"]) == (204, 1, None)
    assert (second["outcome"], second["late"], second["http_status"]) == ("invalid", True, None)
    assert files(tmp_path) == sorted(["pairs.json", report.name])


def test_the_failures_file_holds_what_did_not_get_through_and_can_be_sent_again(
    command: Command, sandbox: WatchedSandbox, tmp_path: Path
) -> None:
    write_crowd(tmp_path / "pairs.csv", 12)
    failures = tmp_path / "left.csv"
    ended = command(
        *("associate", "pairs.csv", "--failures", "left.csv", "--concurrency", "1"), service=sandbox.url
    )
    assert ended.exit_code == 1
    assert "rows that did not get through: left.csv" in ended.stderr
    assert columns(failures) == columns(tmp_path / "pairs.report.csv")
    assert [(row["row"], row["reason"]) for row in table(failures)] == [
        ("11", "image_full"),
        ("12", "image_full"),
    ]

    sandbox.associations.remove(PROJECT, fpga(0), image(1))
    sandbox.associations.remove(PROJECT, fpga(1), image(1))
    assert command("associate", "left.csv", service=sandbox.url) == SILENCE
    report = tmp_path / "left.report.csv"
    assert columns(report) == columns(failures)
    assert [(row["row"], row["fpga_image_id"], row["outcome"]) for row in table(report)] == [
        ("1", fpga(10), "succeeded"),
        ("2", fpga(11), "succeeded"),
    ]


def test_an_older_failures_file_goes_when_every_row_gets_through(
    command: Command, sandbox: WatchedSandbox, tmp_path: Path
) -> None:
    write_pairs(tmp_path / "pairs.csv", 1)
    old = "job,outcome,fpga_image_id,image_id\nassociate,failed,,\n"
    (tmp_path / "left.csv").write_text(old)
    assert command("associate", "pairs.csv", "--failures", "left.csv", service=sandbox.url) == SILENCE
    assert files(tmp_path) == ["pairs.csv", "pairs.report.csv"]
    assert outcomes(tmp_path / "pairs.report.csv") == ["succeeded"]


def test_verify_of_standard_input_writes_the_report_to_standard_output_and_nothing_else(
    command: Command, sandbox: WatchedSandbox, tmp_path: Path
) -> None:
    sandbox.associations.add(PROJECT, fpga(1), image(1))
    ended = command("verify", "-", service=sandbox.url, stdin=f"{HEADER}{pair(1)}\n")
    assert (ended.exit_code, ended.stderr) == (0, "")
    header, row = csv.reader(ended.stdout.splitlines())
    assert header == ["row", "job", "fpga_image_id", "image_id", *OUTCOME_COLUMNS]
    assert row[:5] == ["1", "verify", fpga(1), image(1), "unchanged"]
    assert files(tmp_path) == []


def test_a_run_of_standard_input_puts_its_report_into_the_working_folder(
    command: Command, sandbox: WatchedSandbox, tmp_path: Path
) -> None:
    text = f'\n{{"fpga_image_id": "{fpga(1)}", "image_id": "{image(1)}"}}\n'
    assert command("associate", "-", service=sandbox.url, stdin=text) == SILENCE
    assert files(tmp_path) == ["fpga-batch.report.csv"]
    assert outcomes(tmp_path / "fpga-batch.report.csv") == ["succeeded"]


def test_the_report_stands_beside_the_input_whatever_its_suffixes(
    command: Command, sandbox: WatchedSandbox, tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "all.pairs.csv.gz").write_bytes(gzip.compress(f"{HEADER}{pair(1)}\n".encode()))
    assert command("associate", "folder/all.pairs.csv.gz", service=sandbox.url) == SILENCE
    assert files(folder) == ["all.pairs.csv.gz", "all.pairs.report.csv"]
    assert files(tmp_path) == ["folder"]


def test_variables_set_options_and_the_command_line_overrides_them(
    command: Command, sandbox: WatchedSandbox, tmp_path: Path
) -> None:
    write_crowd(tmp_path / "pairs.list", 11)
    variables = {
        "FPGA_BATCH_REPORT": "out.jsonl",
        "FPGA_BATCH_FAILURES": "left.json",
        "FPGA_BATCH_FORMAT": "csv",
        "FPGA_BATCH_CONCURRENCY": "0",
        "FPGA_BATCH_MAX_ATTEMPTS": "1",
    }
    ended = command("associate", "pairs.list", "--concurrency", "2", service=sandbox.url, **variables)
    assert ended.exit_code == 1
    assert files(tmp_path) == ["left.json", "out.jsonl", "pairs.list"]
    ended = command("associate", "pairs.list", service=sandbox.url, FPGA_BATCH_DRY_RUN="1")
    assert ended.exit_code == 0
    assert "would be sent" in ended.stderr


def test_a_failure_is_told_with_a_digest_the_report_and_the_next_command(
    command: Command, sandbox: WatchedSandbox, tmp_path: Path
) -> None:
    write_crowd(tmp_path / "my pairs.csv", 12)
    ended = command("associate", "my pairs.csv", "--quiet", service=sandbox.url)
    assert (ended.exit_code, ended.stdout) == (1, "")
    digest, succeeded, failed, report, following = ended.stderr.splitlines()
    assert digest.startswith("associate: 12 rows, 14 requests in ")
    assert succeeded == "  10 succeeded"
    assert failed == "   2 failed (image_full 2)"
    assert report == "report: my pairs.report.csv"
    assert following.startswith("next: fpga-batch ")


def run_on_terminal(start: Start, *args: str, service: str) -> tuple[int, str]:
    """Run a command whose standard error is a terminal; return its exit code and what it says there."""
    ours, theirs = pty.openpty()
    process = start(*args, service=service, stderr=theirs)
    os.close(theirs)
    said = b""
    with open(ours, "rb", buffering=0) as terminal:
        while True:
            try:
                part = terminal.read(4096)
            except OSError:  # what Linux tells at the end of a terminal
                break
            if not part:
                break
            said += part
    return process.wait(PATIENCE), said.decode()


def test_a_terminal_is_told_of_success_unless_quiet(
    start: Start, sandbox: WatchedSandbox, tmp_path: Path
) -> None:
    write_pairs(tmp_path / "pairs.csv", 1)
    exit_code, said = run_on_terminal(start, "associate", "pairs.csv", service=sandbox.url)
    assert exit_code == 0
    assert "1 succeeded" in said
    assert "report: pairs.report.csv" in said
    assert "next:" not in said
    assert run_on_terminal(start, "associate", "pairs.csv", "-q", service=sandbox.url) == (0, "")


def test_a_dry_run_says_what_would_be_sent_and_leaves_nothing(
    command: Command, sandbox: WatchedSandbox, tmp_path: Path
) -> None:
    (tmp_path / "pairs.csv").write_text(f"{HEADER}{pair(1)}\nbad,{image(1)}\n{pair(1)}\n{pair(2)}\n")
    ended = command(
        *("associate", "pairs.csv", "--dry-run", "--failures", "left.csv", "--rate", "60/min"),
        service=sandbox.url,
    )
    assert (ended.exit_code, ended.stdout) == (0, "")
    assert "pairs.csv: CSV, 4 rows: 2 to send, 1 invalid, 1 duplicate" in ended.stderr
    assert "row 2, line 3: " in ended.stderr
    assert "row 3, line 4: the same as row 1 (duplicate)" in ended.stderr
    assert f"would be sent to {sandbox.url}/v1/{PROJECT}/" in ended.stderr
    assert "at 60/min: 2 requests at least, in 2.0 s or more" in ended.stderr
    assert sandbox.requests == 0
    assert files(tmp_path) == ["pairs.csv"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "at a rate found on the way: 1 request at least\n"),
        (
            ("--max-rate", "30/min"),
            "at a rate found on the way, 30/min at most: 1 request at least, in 2.0 s",
        ),
    ],
)
def test_a_dry_run_does_not_promise_a_rate_that_is_to_be_found(
    command: Command, tmp_path: Path, options: tuple[str, ...], said: str
) -> None:
    write_pairs(tmp_path / "pairs.csv", 1)
    ended = command(
        "associate", "pairs.csv", "--dry-run", "--rate", "auto", *options, service="https://x.example"
    )
    assert ended.exit_code == 0
    assert said in ended.stderr


def test_a_bound_on_a_fixed_rate_is_wrong_usage(command: Command, tmp_path: Path) -> None:
    write_pairs(tmp_path / "pairs.csv", 1)
    ended = command(
        "associate", "pairs.csv", "--rate", "20/s", "--max-rate", "50/s", service="https://x.example"
    )
    assert ended.exit_code == 2
    assert "--max-rate" in ended.stderr
    assert files(tmp_path) == ["pairs.csv"]


def test_a_rate_that_is_found_gets_every_row_through_and_is_hardly_ever_throttled(
    command: Command, sandbox: WatchedSandbox, tmp_path: Path
) -> None:
    sandbox.faults = Faults(rate_limit=RateLimit(10, 1))
    write_pairs(tmp_path / "pairs.csv", *range(40))
    assert command("associate", "pairs.csv", "--rate", "auto", service=sandbox.url) == SILENCE
    assert outcomes(tmp_path / "pairs.report.csv") == ["succeeded"] * 40
    statuses = sandbox.stats()["statuses"]
    assert statuses["204"] == 40
    assert statuses.get("429", 0) <= 8


def test_a_run_tells_the_rate_that_it_has_found(
    start: Start, sandbox: WatchedSandbox, tmp_path: Path
) -> None:
    write_pairs(tmp_path / "pairs.csv", *range(100))
    process = start("associate", "pairs.csv", "--rate", "auto", service=sandbox.url)
    sandbox.await_request()
    process.send_signal(signal.SIGUSR1)
    assert process.stderr
    assert re.search(r", rate 5/s, after ", process.stderr.readline())
    process.terminate()
    process.wait(PATIENCE)


def test_strict_refuses_the_whole_file_for_one_invalid_row(
    command: Command, sandbox: WatchedSandbox, tmp_path: Path
) -> None:
    (tmp_path / "pairs.csv").write_text(f"{HEADER}{pair(1)}\n{pair(1)}\n{fpga(2)}\n")
    ended = command("associate", "pairs.csv", "--strict", service=sandbox.url)
    assert ended.exit_code == 65
    assert "pairs.csv: 1 row of 3 invalid, so nothing was sent (--strict)" in ended.stderr
    assert "row 3, line 4: has 1 field, the header names 2" in ended.stderr
    assert sandbox.requests == 0
    assert files(tmp_path) == ["pairs.csv"]


def test_check_tells_of_the_whole_file_offline(command: Command, tmp_path: Path) -> None:
    write_crowd(tmp_path / "pairs.csv", 12)
    ended = command("check", "pairs.csv")
    assert (ended.exit_code, ended.stderr) == (0, "")
    assert ended.stdout.splitlines() == [
        "pairs.csv: CSV, 12 rows: 12 to send, 0 invalid, 0 duplicate",
        "1 ECS image with more than the 10 FPGA images that one takes: 2 rows too many",
        f"  {image(1)}: 12 pairs",
        "12 requests or more: 1.2 s at 10/s",
    ]
    assert files(tmp_path) == ["pairs.csv"]


def test_check_names_each_row_that_would_not_be_sent(command: Command) -> None:
    text = f"{HEADER}{pair(1)}\n{fpga(1)},\n{pair(1)}\n"
    ended = command("check", "-", stdin=text)
    assert (ended.exit_code, ended.stderr) == (1, "")
    assert "standard input: CSV, 3 rows: 1 to send, 1 invalid, 1 duplicate" in ended.stdout
    assert re.search(r"^  row 2, line 3: .*image_id: is missing \(invalid\)$", ended.stdout, re.MULTILINE)
    assert "  row 3, line 4: the same as row 1 (duplicate)\n" in ended.stdout


@pytest.mark.parametrize("name", ["out.csv", "out.json", "out.jsonl"])
def test_report_sums_up_a_report_of_any_form(
    command: Command, sandbox: WatchedSandbox, tmp_path: Path, name: str
) -> None:
    write_crowd(tmp_path / "pairs.csv", 12)
    with (tmp_path / "pairs.csv").open("a") as file:
        file.write(f"{fpga(0)},{image(1)}\nbad,{image(1)}\n")
    ran = command("associate", "pairs.csv", "--report", name, service=sandbox.url)

    ended = command("report", name)
    assert (ended.exit_code, ended.stderr) == (0, "")
    assert ended.stdout == ran.stderr.partition("report: ")[0]

    ended = command("report", name, "--json")
    assert (ended.exit_code, ended.stderr) == (0, "")
    summary = json.loads(ended.stdout)
    assert (summary["job"], summary["rows"], summary["attempts"]) == ("associate", 14, 14)
    assert {name: count for name, count in summary["outcomes"].items() if count} == {
        "succeeded": 10,
        "failed": 2,
        "invalid": 1,
        "duplicate": 1,
    }
    assert {"outcome": "failed", "reason": "image_full", "rows": 2} in summary["reasons"]
    assert summary["started_at"] <= summary["finished_at"]


def test_refused_credentials_stop_the_run_after_one_request(command: Command, tmp_path: Path) -> None:
    write_pairs(tmp_path / "pairs.csv", 1, 2, 3)
    message = "Incorrect IAM authentication information: decrypt token fail"
    body = json.dumps({"error_msg": message, "error_code": "APIGW.0301", "request_id": "r-1"}).encode()
    with answering(401, body, Content_Type="application/json") as service:
        ended = command("associate", "pairs.csv", "--concurrency", "1", service=service.url)
        assert service.requests == 1
    assert (ended.exit_code, ended.stdout) == (77, "")
    assert f"APIGW.0301 {message}" in ended.stderr
    assert "a-token" not in ended.stderr
    first, *others = table(tmp_path / "pairs.report.csv")
    assert (first["http_status"], first["error_code"], first["request_id"]) == ("401", "APIGW.0301", "r-1")
    assert (first["outcome"], first["reason"]) == ("failed", "denied")
    assert [(row["outcome"], row["attempts"]) for row in others] == [("pending", "0")] * 2

    with answering(204) as service:
        again = command("associate", "pairs.csv", "--restart", service=service.url)
    assert again.exit_code == 0
    assert outcomes(tmp_path / "pairs.report.csv") == ["succeeded"] * 3
    assert files(tmp_path) == ["pairs.csv", "pairs.report.csv", "pairs.report.csv~"]


def test_a_page_that_is_not_found_means_that_there_is_no_such_service(
    command: Command, tmp_path: Path
) -> None:
    write_pairs(tmp_path / "pairs.csv", 1, 2)
    page = b"<html><body><h1>404 Not Found</h1>nginx</body></html>"
    with answering(404, page, Content_Type="text/html") as service:
        ended = command("associate", "pairs.csv", "--concurrency", "1", service=service.url)
        assert service.requests == 2
    assert ended.exit_code == 69
    assert "404 Not Found" in ended.stderr
    assert outcomes(tmp_path / "pairs.report.csv") == ["pending"] * 2


def test_a_redirect_is_never_followed(command: Command, sandbox: WatchedSandbox, tmp_path: Path) -> None:
    write_pairs(tmp_path / "pairs.csv", 1)
    for job, name in ("associate", "pairs.report.csv"), ("verify", "pairs.verify.csv"):
        with answering(302, Location=f"{sandbox.url}/elsewhere") as service:
            ended = command(job, "pairs.csv", service=service.url)
            assert service.requests == 1
        assert ended.exit_code == 69
        assert f"302 a redirect to {sandbox.url.removeprefix('http://')}" in ended.stderr
        assert outcomes(tmp_path / name) == ["pending"]
    assert sandbox.requests == 0


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_a_run_with_a_whole_report_and_the_same_command_goes_on(
    command: Command, start: Start, sandbox: WatchedSandbox, tmp_path: Path, number: int, exit_code: int
) -> None:
    count = 20
    write_pairs(tmp_path / "pairs.csv", *range(count))
    sandbox.faults = Faults(latency=0.3)
    process = start("associate", "pairs.csv", "--concurrency", "1", service=sandbox.url)
    sandbox.await_request()
    process.send_signal(number)
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == exit_code
    name = signal.Signals(number).name
    assert said.startswith(f"{name}: no new rows")
    assert f"fpga-batch: stopped by {name}\n" in said
    assert "report: pairs.report.csv\n" in said
    assert "Traceback" not in said
    done = sandbox.requests
    assert outcomes(tmp_path / "pairs.report.csv") == ["succeeded"] * done + ["pending"] * (count - done)
    assert 1 <= done < count
    assert files(tmp_path) == ["pairs.csv", "pairs.report.csv", "pairs.report.csv.journal"]

    sandbox.faults = Faults()
    assert command("associate", "pairs.csv", service=sandbox.url).exit_code == 0
    assert sandbox.requests == count
    assert outcomes(tmp_path / "pairs.report.csv") == ["succeeded"] * count
    assert files(tmp_path) == ["pairs.csv", "pairs.report.csv"]


def test_a_second_signal_aborts_at_once_and_the_journal_stays_for_the_next_run(
    command: Command, start: Start, sandbox: WatchedSandbox, tmp_path: Path
) -> None:
    write_pairs(tmp_path / "pairs.csv", 1, 2)
    sandbox.faults = Faults(latency=5)
    began = time.monotonic()
    process = start("verify", "pairs.csv", "--concurrency", "1", service=sandbox.url)
    assert process.stderr
    sandbox.await_request()
    process.terminate()
    process.stderr.readline()
    process.terminate()
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 143
    assert time.monotonic() - began < 5
    assert files(tmp_path) == ["pairs.csv", "pairs.verify.csv.journal"]

    sandbox.faults = Faults()
    assert command("verify", "pairs.csv", service=sandbox.url).exit_code == 1
    assert outcomes(tmp_path / "pairs.verify.csv") == ["failed", "failed"]
    assert files(tmp_path) == ["pairs.csv", "pairs.verify.csv"]


def test_a_second_run_on_the_same_report_is_told_who_is_at_work(
    command: Command, start: Start, sandbox: WatchedSandbox, tmp_path: Path
) -> None:
    write_pairs(tmp_path / "pairs.csv", 1)
    sandbox.faults = Faults(latency=20)
    process = start("associate", "pairs.csv", service=sandbox.url)
    sandbox.await_request()
    ended = command("associate", "pairs.csv", service=sandbox.url)
    assert ended.exit_code == 75
    assert f"process {process.pid} on " in ended.stderr
    assert sandbox.requests == 1


def test_the_sandbox_prints_its_address_when_ready_and_ends_cleanly_on_a_signal(start: Start) -> None:
    process = start("sandbox", "--port", "0", "--fault", "bad-gateway=0.5", "--rate-limit", "5/min")
    assert process.stdout
    address = process.stdout.readline()
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+\n", address)
    with urllib.request.urlopen(f"{address.strip()}/_sandbox/stats", timeout=PATIENCE) as answer:
        stats: dict[str, Any] = json.load(answer)
    assert stats["requests"] == 0
    process.terminate()
    stdout, stderr = process.communicate(timeout=PATIENCE)
    assert (process.returncode, stdout, stderr.count("\n")) == (0, "", 1)
    assert stderr.startswith(f"export FPGA_BATCH_ENDPOINT={address.strip()} OS_AUTH_URL=")


def test_the_demo_succeeds_in_short_time_and_leaves_only_the_files_it_names(
    command: Command, tmp_path: Path
) -> None:
    began = time.monotonic()
    ended = command("demo")
    assert time.monotonic() - began < 10
    assert (ended.exit_code, ended.stdout) == (0, "")
    left = [path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()]
    assert sorted(map(str, left)) == ["fpga-batch-demo/pairs.csv", "fpga-batch-demo/pairs.report.csv"]
    for name in left:
        assert f": {name}\n" in ended.stderr
    assert {"succeeded", "failed", "invalid", "duplicate"} == set(
        outcomes(tmp_path / "fpga-batch-demo" / "pairs.report.csv")
    )


def test_the_version_is_told_on_standard_output(command: Command) -> None:
    ended = command("--version")
    assert (ended.exit_code, ended.stderr) == (0, "")
    assert re.fullmatch(r"fpga-batch \d+\.\d+\.\d+\S*, Python \d+\.\d+\.\d+\S*\n", ended.stdout)


@pytest.mark.parametrize("line", ["--help", "associate --help", "check pairs.csv"])
def test_what_sends_nothing_does_not_wait_for_what_sends(command: Command, tmp_path: Path, line: str) -> None:
    write_pairs(tmp_path / "pairs.csv", 1)
    ended = command(*line.split(), PYTHONPROFILEIMPORTTIME="1")
    imported = {told.rpartition("|")[2].strip() for told in ended.stderr.splitlines()}
    assert "jobs.cli" in imported
    assert imported.isdisjoint({"aiohttp", "ssl"})


def test_an_unknown_command_is_wrong_usage(command: Command) -> None:
    ended = command("asociate", "pairs.csv")
    assert (ended.exit_code, ended.stdout) == (2, "")
    assert "No such command 'asociate'" in ended.stderr


@pytest.mark.parametrize(
    ("pairs", "report", "failures"),
    [
        ("pairs.csv", "sub/../pairs.csv", None),
        ("link.csv", "pairs.csv", None),
        ("pairs.csv", "out.csv", "sub/../out.csv"),
        ("out.csv.journal", "out.csv", None),
    ],
)
def test_one_file_by_two_names_is_refused_and_nothing_is_touched(
    command: Command,
    sandbox: WatchedSandbox,
    tmp_path: Path,
    pairs: str,
    report: str,
    failures: str | None,
) -> None:
    write_pairs(tmp_path / "pairs.csv", 1)
    write_pairs(tmp_path / "out.csv.journal", 1)
    (tmp_path / "sub").mkdir()
    (tmp_path / "link.csv").symlink_to("pairs.csv")
    before = (tmp_path / "pairs.csv").read_bytes()
    more = ("--failures", failures) if failures else ()
    ended = command(
        "associate", pairs, "--format", "csv", "--report", report, "--restart", *more, service=sandbox.url
    )
    assert ended.exit_code == 2
    assert (tmp_path / "pairs.csv").read_bytes() == (tmp_path / "out.csv.journal").read_bytes() == before
    assert sandbox.requests == 0


def test_strict_names_the_first_invalid_row_behind_many_duplicates(
    command: Command, sandbox: WatchedSandbox, tmp_path: Path
) -> None:
    rows = "\n".join([pair(1)] * 30)
    (tmp_path / "pairs.csv").write_text(f"{HEADER}{rows}\nx,y\n")
    ended = command("associate", "pairs.csv", "--strict", service=sandbox.url)
    assert ended.exit_code == 65
    assert "row 31, line 32: fpga_image_id: 'x'" in ended.stderr


def test_a_row_of_the_wrong_width_stays_invalid_in_the_failures_file(
    command: Command, sandbox: WatchedSandbox, tmp_path: Path
) -> None:
    (tmp_path / "pairs.csv").write_text(f"{HEADER}{pair(1)},surplus\n")
    command("associate", "pairs.csv", "--failures", "left.csv", service=sandbox.url)
    assert command("associate", "left.csv", service=sandbox.url).exit_code == 1
    assert outcomes(tmp_path / "left.report.csv") == ["invalid"]
    assert sandbox.requests == 0


def test_an_ignored_hangup_stays_ignored_as_under_nohup(
    start: Start, sandbox: WatchedSandbox, tmp_path: Path
) -> None:
    write_pairs(tmp_path / "pairs.csv", 1, 2, 3)
    sandbox.faults = Faults(latency=0.2)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        process = start("associate", "pairs.csv", "--concurrency", "1", service=sandbox.url)
    finally:
        signal.signal(signal.SIGHUP, before)
    sandbox.await_request()
    process.send_signal(signal.SIGHUP)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert outcomes(tmp_path / "pairs.report.csv") == ["succeeded"] * 3


def test_a_full_standard_output_is_no_bug(tmp_path: Path) -> None:
    write_pairs(tmp_path / "pairs.csv", 1)
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            arguments("check", "pairs.csv"),
            cwd=tmp_path,
            env=environment(tmp_path, None, {}),
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=PATIENCE,
            check=False,
            encoding="utf-8",
        )
    assert ended.returncode == 74
    assert "standard output cannot be written" in ended.stderr


def test_a_killed_run_goes_on_with_the_same_command(
    command: Command, start: Start, sandbox: WatchedSandbox, tmp_path: Path
) -> None:
    count = 60
    write_pairs(tmp_path / "pairs.csv", *range(count))
    sandbox.faults = Faults(latency=0.05)
    process = start("associate", "pairs.csv", "--concurrency", "4", service=sandbox.url)
    for _ in range(40):
        sandbox.await_request()
    process.kill()
    process.communicate(timeout=PATIENCE)
    assert files(tmp_path) == ["pairs.csv", "pairs.report.csv.journal"]
    kept = (tmp_path / "pairs.report.csv.journal").read_text().count('"outcome"')
    asked = sandbox.requests

    sandbox.faults = Faults()
    assert command("associate", "pairs.csv", service=sandbox.url).exit_code == 0
    report = table(tmp_path / "pairs.report.csv")
    assert [int(row["row"]) for row in report] == list(range(1, count + 1))
    assert {row["outcome"] for row in report} == {"succeeded"}, "the killed run made none that it found"
    assert len(sandbox.associations) == count
    assert 0 < kept < count
    # A row that was sent and not kept is asked for a second time and read back; one that was kept never.
    assert sandbox.requests - asked <= 2 * (count - kept)
    assert files(tmp_path) == ["pairs.csv", "pairs.report.csv"]


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_verbose_run_logs_each_retry_in_the_form_asked_for(
    command: Command, sandbox: WatchedSandbox, tmp_path: Path, form: str
) -> None:
    write_pairs(tmp_path / "pairs.csv", 1)
    sandbox.faults = Faults(error_before=1.0)
    ended = command(
        *("associate", "pairs.csv", "-v", "--log-format", form, "--max-attempts", "2"), service=sandbox.url
    )
    logged = [line for line in ended.stderr.splitlines() if "attempt 1" in line]
    assert len(logged) == 2  # the association, and reading it back
    if form == "json":
        entry = json.loads(logged[0])
        assert list(entry) == ["time", "level", "message"]
        assert entry["level"] == "info"
        assert entry["message"].startswith("row 1: server_error: attempt 1, the next in ")
    else:
        assert re.match(r"\d{4}-\d\d-\d\dT[\d:.]+Z INFO row 1: server_error: attempt 1, ", logged[0])


def test_an_unexpected_error_of_the_system_is_called_a_bug_without_a_traceback(tmp_path: Path) -> None:
    program = (
        "import sys, jobs.cli, jobs.main as main\n"
        "def broken(): raise OSError(5, 'Input/output error')\n"
        "jobs.cli.app = broken\n"
        "main.main()\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=environment(tmp_path, None, {}),
        capture_output=True,
        timeout=PATIENCE,
        check=False,
        encoding="utf-8",
    )
    assert ended.returncode == 70
    assert "please report it" in ended.stderr
    assert "Traceback" not in ended.stderr
