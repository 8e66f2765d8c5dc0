"""Wrong input, outputs and settings, through the real command: what is said, and that nothing is sent."""

import csv
import gzip
import os
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from conftest import Ended, WatchedSandbox, at_once
from support import PROJECT, fpga, image

Command = Callable[..., Ended]

HEADER = "fpga_image_id,image_id,note\n"
GOOD = f"{HEADER}{fpga(1)},{image(1)},a\n"


def outcomes(report: Path) -> list[dict[str, str]]:
    with report.open(newline="", encoding="utf-8-sig") as file:
        separator = file.read(len("row,"))[-1]
        file.seek(0)
        return list(csv.DictReader(file, delimiter=separator))


def assert_refused(ended: Ended, exit_code: int, *told: str) -> None:
    assert ended.exit_code == exit_code, ended
    assert ended.stdout == ""
    assert ended.stderr.startswith("fpga-batch: ")
    assert ended.stderr.count("\n") == 1
    for text in told:
        assert text in ended.stderr


def assert_misused(ended: Ended, *told: str) -> None:
    assert ended.exit_code == 2, ended
    assert ended.stdout == ""
    for text in told:
        assert text in ended.stderr


def assert_nothing_happened(sandbox: WatchedSandbox, folder: Path, *files: str) -> None:
    assert sandbox.requests == 0
    assert sorted(path.name for path in folder.iterdir()) == sorted(files)


UNUSABLE = {
    "an empty file": ("pairs.csv", b"", ["pairs.csv is empty"]),
    "a blank file": ("pairs.csv", b" \r\n\n\t\n", ["pairs.csv is empty"]),
    "no header": (
        "pairs.csv",
        f"{fpga(1)},{image(1)}\n".encode(),
        ["pairs.csv, line 1: there is no header", "must name the columns 'fpga_image_id', 'image_id'"],
    ),
    "a missing column": (
        "pairs.csv",
        f"note,fpga_image_id\na,{fpga(1)}\n".encode(),
        ["pairs.csv, line 1: column 'image_id' is missing", "the header names 'note', 'fpga_image_id'"],
    ),
    "a misspelt column": (
        "pairs.csv",
        f"fpga_image_id,imgae_id\n{fpga(1)},{image(1)}\n".encode(),
        ["pairs.csv, line 1: column 'image_id' is missing", "'imgae_id' was probably meant: rename it"],
    ),
    "a header below blank lines": (
        "pairs.csv",
        f"\n\nfpga_image_id,note\n{fpga(1)},a\n".encode(),
        ["pairs.csv, line 3: column 'image_id' is missing"],
    ),
    "a column twice": (
        "pairs.csv",
        f"image_id,fpga_image_id,IMAGE_ID\n{image(1)},{fpga(1)},{image(2)}\n".encode(),
        ["pairs.csv, line 1: column 'image_id' is named twice"],
    ),
    "JSON under the name of CSV": (
        "pairs.csv",
        f'[{{"fpga_image_id": "{fpga(1)}"}}]'.encode(),
        ["pairs.csv, line 1: this is JSON, not CSV: use --format json"],
    ),
    "a quote that is never closed": (
        "pairs.csv",
        f'{GOOD}{fpga(2)},{image(1)},"b\n{fpga(3)},{image(1)},c\n'.encode(),
        ["pairs.csv, line 3: a quote opened there is never closed"],
    ),
    "CSV that is not UTF-8": (
        "pairs.csv",
        GOOD.encode() + f"{fpga(2)},{image(1)},caf".encode() + b"\xe9\n",
        [f"pairs.csv, line 3, column {32 + 1 + 36 + 1 + 4}: this is not UTF-8: save the file as UTF-8"],
    ),
    "JSON that is not UTF-8": (
        "pairs.json",
        b'[\n  {"note": "\xc3\xa9t\xe9"}]',
        ["pairs.json, line 2, column 15: this is not UTF-8"],
    ),
    "JSON Lines that are not UTF-8": (
        "pairs.jsonl",
        b'{"note": "a"}\n{"note": "\xe9"}\n',
        ["pairs.jsonl, line 2, column 11: this is not UTF-8"],
    ),
    "UTF-16": ("pairs.csv", GOOD.encode("utf-16"), ["pairs.csv is UTF-16 or UTF-32", "save it as UTF-8"]),
    "a workbook": (
        "pairs.csv",
        b"PK\x03\x04\x14\x00\x06\x00",
        ["pairs.csv is", "save it as"],
    ),
    "gzip data cut off": (
        "pairs.csv.gz",
        gzip.compress(GOOD.encode())[:-9],
        ["pairs.csv.gz is cut off: its gzip data end too early"],
    ),
    "a JSON scalar": ("pairs.json", b'"pairs"', ["pairs.json is a string, wanted is a list of objects"]),
    "a JSON number": ("pairs.json", b"42\n", ["pairs.json is a number, wanted is a list of objects"]),
    "a broken array": (
        "pairs.json",
        b'[\n  {"fpga_image_id": "a",\n   "image_id" = "b"}\n]\n',
        ["pairs.json, line 3, column 15: broken JSON: "],
    ),
    "an array without its end": (
        "pairs.json",
        b'[\n{"fpga_image_id": "a"}',
        ["pairs.json, line 2, column 23: broken JSON: it ends too early"],
    ),
    "a broken line of JSON Lines": (
        "pairs.jsonl",
        b'{"note": "a"}\n{"note": b}\n',
        ["pairs.jsonl, line 2, column 10: broken JSON: "],
    ),
}


def test_an_unusable_file_is_refused_with_its_place_and_nothing_is_sent(
    command: Command, sandbox: WatchedSandbox, tmp_path: Path
) -> None:
    paths = [tmp_path / what / name for what, (name, _, _) in UNUSABLE.items()]
    for path, (_, content, _) in zip(paths, UNUSABLE.values(), strict=True):
        path.parent.mkdir()
        path.write_bytes(content)
    run = partial(command, "associate", service=sandbox.url)
    ends = at_once(partial(run, str(path.relative_to(tmp_path))) for path in paths)
    for ended, path, (what, (_, _, told)) in zip(ends, paths, UNUSABLE.items(), strict=True):
        assert_refused(ended, 65, f"fpga-batch: {what}/", *told)
        assert list(path.parent.iterdir()) == [path]
    assert sandbox.requests == 0


def test_check_refuses_an_unusable_file_as_a_run_does(command: Command, tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text("fpga_image_id;imageid\n1;2\n")
    ended = command("check", "pairs.csv")
    assert_refused(ended, 65, "pairs.csv, line 1: ", "'imageid' was probably meant")


def test_standard_input_is_named_so_when_it_is_unusable(command: Command, sandbox: WatchedSandbox) -> None:
    ended = command("verify", "-", service=sandbox.url, stdin="[1,\n")
    assert_refused(ended, 65, "standard input, line 2, column 1: broken JSON")
    assert sandbox.requests == 0


ACCEPTED = {
    "a byte-order mark": f"\ufeff{GOOD}",
    "semicolons": GOOD.replace(",", ";"),
    "tabs": GOOD.replace(",", "\t"),
    "CRLF": GOOD.replace("\n", "\r\n"),
    "a quoted newline": f'{HEADER}{fpga(1)},{image(1)},"a\nb"\n',
    "blank lines between rows": f"\n{GOOD}\n\n{fpga(2)},{image(2)},b\n",
    "no newline at the end": GOOD.rstrip(),
    "all of them at once": '\ufeff"Image_ID";note;FPGA_image_id\r\n' + f'{image(1)};"a;\r\nb";{fpga(1)}\r\n',
}


def test_a_table_in_an_accepted_form_runs_to_success(
    command: Command, sandbox: WatchedSandbox, tmp_path: Path
) -> None:
    projects = {what: f"{number:032x}" for number, what in enumerate(ACCEPTED)}
    for what, content in ACCEPTED.items():
        (tmp_path / f"{what}.csv").write_bytes(content.encode())
    run = partial(command, "associate", service=sandbox.url)
    ends = at_once(
        partial(run, f"{what}.csv", FPGA_BATCH_PROJECT_ID=project) for what, project in projects.items()
    )
    sent = 0
    for ended, (what, project) in zip(ends, projects.items(), strict=True):
        assert ended == Ended(0, "", ""), what
        rows = outcomes(tmp_path / f"{what}.report.csv")
        assert {row["outcome"] for row in rows} == {"succeeded"}, what
        assert (project, fpga(1), image(1)) in sandbox.associations
        sent += len(rows)
    assert len(sandbox.associations) == sandbox.requests == sent == len(ACCEPTED) + 1


def test_rows_too_short_or_too_long_are_invalid_while_the_others_run(
    command: Command, sandbox: WatchedSandbox, tmp_path: Path
) -> None:
    (tmp_path / "pairs.csv").write_text(
        f'{HEADER}{fpga(1)},{image(1)},"a\nb"\n{fpga(2)}\n'
        f"{fpga(3)},{image(1)},b,surplus,more\n{fpga(4)},{image(1)},c\n"
    )
    ended = command("associate", "pairs.csv", service=sandbox.url)
    assert ended.exit_code == 1
    assert "2 invalid (invalid_row 2)" in ended.stderr
    rows = outcomes(tmp_path / "pairs.report.csv")
    assert [row["outcome"] for row in rows] == ["succeeded", "invalid", "invalid", "succeeded"]
    assert rows[1]["error_message"] == "line 4: has 1 field, the header names 3"
    assert rows[2]["error_message"].startswith("line 5: has 5 fields, the header names 3")
    assert "'surplus'" in rows[2]["error_message"]
    assert [rows[2][name] for name in ("attempts", "http_status", "started_at")] == ["0", "", ""]
    assert sandbox.requests == 2


def test_ids_in_upper_case_or_with_spaces_around_are_sent_trimmed_and_in_lower_case(
    command: Command, sandbox: WatchedSandbox, tmp_path: Path
) -> None:
    shouted = f"{fpga(0xABC).upper()},{image(0xDEF).upper()}"
    (tmp_path / "pairs.csv").write_text(
        f"fpga_image_id,image_id\n{shouted}\n  {fpga(2)} ,\t{image(2)}\u00a0\n"
    )
    assert command("associate", "pairs.csv", service=sandbox.url) == Ended(0, "", "")
    expected = {(PROJECT, fpga(0xABC), image(0xDEF)), (PROJECT, fpga(2), image(2))}
    assert set(sandbox.associations) == expected
    rows = outcomes(tmp_path / "pairs.report.csv")
    assert rows[0]["fpga_image_id"] == fpga(0xABC).upper()


BAD_IDS = {
    "../../v1": "'../../v1'",
    f"{fpga(1)}%2F": "",
    f"{fpga(1)[:-3]}%2f": f"'{fpga(1)[:-3]}%2f'",
    f"{fpga(1)[:-1]}/": f"'{fpga(1)[:-1]}/'",
    f"{fpga(1)[:-1]}\0": rf"'{fpga(1)[:-1]}\x00'",
    f"{fpga(1)[:16]} {fpga(1)[16:]}": f"'{fpga(1)[:16]} {fpga(1)[16:]}'",
    fpga(1)[:-1]: f"'{fpga(1)[:-1]}'",
    f"{fpga(1)[:-1]}\N{FULLWIDTH DIGIT ONE}": "",
    f"{fpga(1)}\x1b[2J": r"\x1b[2J'",
    "": "fpga_image_id: is missing",
}


def test_ids_that_are_none_are_invalid_row_by_row_and_never_sent(
    command: Command, sandbox: WatchedSandbox, tmp_path: Path
) -> None:
    lines = [f"{bad},{image(1)}\n" for bad in BAD_IDS]
    with (tmp_path / "pairs.csv").open("w", encoding="utf-8", newline="") as file:
        file.write(
            "fpga_image_id,image_id\n" + "".join(lines) + f"{fpga(1)},../{image(1)}\n{fpga(1)},{image(1)}\n"
        )
    ended = command("associate", "pairs.csv", service=sandbox.url)
    assert ended.exit_code == 1
    rows = outcomes(tmp_path / "pairs.report.csv")
    assert [row["outcome"] for row in rows] == ["invalid"] * (len(BAD_IDS) + 1) + ["succeeded"]
    for line, (row, shown) in enumerate(zip(rows, BAD_IDS.values(), strict=False), 2):
        assert row["error_message"].startswith(f"line {line}: fpga_image_id")
        assert shown in row["error_message"]
    assert rows[-2]["error_message"].startswith(f"line {len(BAD_IDS) + 2}: image_id")
    assert "is not a UUID" in rows[-2]["error_message"]
    assert sandbox.requests == 1


def test_elements_of_an_array_that_are_no_pairs_are_invalid_while_the_others_run(
    command: Command, sandbox: WatchedSandbox, tmp_path: Path
) -> None:
    (tmp_path / "pairs.json").write_text(
        f'[\n"{fpga(1)}",\nnull,\n{{"fpga_image_id": 7, "image_id": "{image(1)}"}},\n'
        f'{{"fpga_image_id": "{fpga(1)}", "imageid": "{image(1)}"}},\n'
        f'{{"fpga_image_id": "{fpga(1)}", "image": {{"id": "{image(1)}"}}}}\n]\n'
    )
    assert command("associate", "pairs.json", service=sandbox.url).exit_code == 1
    rows = outcomes(tmp_path / "pairs.json.report.csv")
    assert [row["outcome"] for row in rows] == ["invalid"] * 4 + ["succeeded"]
    assert rows[0]["error_message"] == "line 2: is a string, not an object"
    assert rows[1]["error_message"] == "line 3: is null, not an object"
    assert rows[2]["error_message"] == "line 4: fpga_image_id is a number, not a string"
    assert rows[3]["error_message"] == "line 5: image_id is missing; 'imageid' was probably meant"
    assert sandbox.requests == 1


def test_a_repeated_pair_is_a_duplicate_that_names_the_earlier_row(
    command: Command, sandbox: WatchedSandbox, tmp_path: Path
) -> None:
    (tmp_path / "pairs.csv").write_text(
        f"{HEADER}bad,{image(9)},x\n{fpga(0xA)},{image(1)},a\n{fpga(2)},{image(1)},b\n"
        f" {fpga(0xA).upper()} ,{image(1).upper()},c\n"
    )
    assert command("associate", "pairs.csv", service=sandbox.url).exit_code == 1
    rows = outcomes(tmp_path / "pairs.report.csv")
    assert [row["outcome"] for row in rows] == ["invalid", "succeeded", "succeeded", "duplicate"]
    assert rows[3]["error_message"] == "the same as row 2"
    assert rows[3]["reason"] == "duplicate_row"
    assert sandbox.requests == 2


def test_a_file_of_one_pair_and_its_duplicates_is_no_failure(
    command: Command, sandbox: WatchedSandbox, tmp_path: Path
) -> None:
    (tmp_path / "pairs.csv").write_text(GOOD + GOOD.removeprefix(HEADER) * 2)
    assert command("associate", "pairs.csv", service=sandbox.url) == Ended(0, "", "")
    assert sandbox.requests == 1


def test_an_input_that_is_not_there_is_told_by_its_name(
    command: Command, sandbox: WatchedSandbox, tmp_path: Path
) -> None:
    ended = command("associate", "no/such.csv", service=sandbox.url)
    assert_refused(ended, 66, "no/such.csv: No such file or directory")
    assert_refused(command("check", "pairs.csv"), 66, "pairs.csv: No such file or directory")
    assert_refused(command("report", "old.csv"), 66, "old.csv: No such file or directory")
    assert_nothing_happened(sandbox, tmp_path)


def test_an_input_that_is_a_directory_or_a_socket_is_told_so(
    command: Command, sandbox: WatchedSandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)  # a socket's path may be no longer than 108 bytes
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
        assert_refused(command("associate", "folder", service=sandbox.url), 66, "folder: Is a directory")
        assert_refused(
            command("associate", "socket", service=sandbox.url), 66, "socket: No such device or address"
        )
    assert_nothing_happened(sandbox, tmp_path, "folder", "socket")


@pytest.mark.skipif(
    not Path("/proc/self/mem").exists(), reason="there is no file that opens but cannot be read"
)
def test_an_input_that_opens_but_cannot_be_read_is_told_so(command: Command, sandbox: WatchedSandbox) -> None:
    ended = command("associate", "/proc/self/mem", "--report", "out.csv", service=sandbox.url)
    assert_refused(ended, 66, "/proc/self/mem: Input/output error")
    assert sandbox.requests == 0


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_input_that_may_not_be_read_is_told_so(
    command: Command, sandbox: WatchedSandbox, tmp_path: Path
) -> None:
    pairs = tmp_path / "pairs.csv"
    pairs.write_text(GOOD)
    pairs.chmod(0)
    assert_refused(command("associate", "pairs.csv", service=sandbox.url), 66, "pairs.csv: Permission denied")
    assert_nothing_happened(sandbox, tmp_path, "pairs.csv")


UNWRITABLE = [
    ("missing/out.csv", "No such file or directory"),
    ("folder.csv", "it is a directory"),
    ("pairs.csv/out.csv", "Not a directory"),
    ("/proc/out.csv", ""),
]


@pytest.mark.parametrize("option", ["--report", "--failures"])
def test_an_output_that_cannot_be_written_is_found_before_anything_is_sent(
    command: Command, sandbox: WatchedSandbox, tmp_path: Path, option: str
) -> None:
    (tmp_path / "pairs.csv").write_text(GOOD)
    (tmp_path / "folder.csv").mkdir()
    run = partial(command, "associate", "pairs.csv", option, service=sandbox.url)
    ends = at_once(partial(run, place) for place, _ in UNWRITABLE)
    for ended, (place, why) in zip(ends, UNWRITABLE, strict=True):
        assert_refused(ended, 74, f"{place}: cannot be written: {why}")
    assert_nothing_happened(sandbox, tmp_path, "pairs.csv", "folder.csv")


def test_input_report_and_failures_in_one_file_are_refused(
    command: Command, sandbox: WatchedSandbox, tmp_path: Path
) -> None:
    (tmp_path / "pairs.csv").write_text(GOOD)
    run = partial(command, "associate", "pairs.csv", service=sandbox.url)
    for ended in at_once(
        partial(run, *options)
        for options in (
            ["--report", "pairs.csv"],
            ["--report", "./pairs.csv"],
            ["--failures", "pairs.csv"],
            ["--failures", "pairs.report.csv"],
            ["--report", "out.csv", "--failures", "out.csv"],
        )
    ):
        assert_refused(ended, 2, "must be different files")
    assert (tmp_path / "pairs.csv").read_text() == GOOD
    assert_nothing_happened(sandbox, tmp_path, "pairs.csv")


def test_a_report_of_unknown_form_is_refused(
    command: Command, sandbox: WatchedSandbox, tmp_path: Path
) -> None:
    (tmp_path / "pairs.csv").write_text(GOOD)
    wrong = [("--report", "out.xml"), ("--report", "out"), ("--failures", "out.csv.gz")]
    run = partial(command, "associate", "pairs.csv", service=sandbox.url)
    for ended, (_, name) in zip(at_once(partial(run, *each) for each in wrong), wrong, strict=True):
        assert_refused(ended, 2, f"{name}: the name of a report ends in .csv, .json or .jsonl")
    assert_nothing_happened(sandbox, tmp_path, "pairs.csv")


MISCONFIGURED: list[tuple[list[str], dict[str, str], list[str]]] = [
    ([], {"FPGA_BATCH_ENDPOINT": ""}, ["set --region", "or --endpoint"]),
    ([], {"FPGA_BATCH_PROJECT_ID": ""}, ["which project? set --project-id"]),
    (["--project-id", "../x"], {}, ["--project-id '../x': letters, digits"]),
    (["--region", "a.b/"], {"FPGA_BATCH_ENDPOINT": ""}, ["--region 'a.b/'", "cn-north-1"]),
    ([], {"OS_TOKEN": ""}, ["no credentials: set HUAWEICLOUD_SDK_AK and HUAWEICLOUD_SDK_SK, or OS_TOKEN"]),
    ([], {"OS_TOKEN": " \n"}, ["no credentials"]),
    ([], {"OS_TOKEN": "se\ncret"}, ["OS_TOKEN holds characters that no key"]),
    ([], {"OS_TOKEN": "", "OS_AUTH_TOKEN": "se cret"}, ["OS_AUTH_TOKEN holds characters that no"]),
    (["--endpoint", "http://ecs.example.com"], {}, ["--endpoint", "plain http", "use https"]),
    (["--endpoint", "ftp://127.0.0.1"], {}, ["--endpoint", "https://"]),
    (["--endpoint", "https://h/?a=b"], {}, ["--endpoint", "only scheme, host, port and path"]),
]


def test_a_setting_that_is_missing_or_wrong_is_named_with_what_to_do(
    command: Command, sandbox: WatchedSandbox, tmp_path: Path
) -> None:
    (tmp_path / "pairs.csv").write_text(GOOD)
    run = partial(command, "associate", "pairs.csv", service=sandbox.url)
    ends = at_once(partial(run, *options, **variables) for options, variables, _ in MISCONFIGURED)
    for ended, (_, _, told) in zip(ends, MISCONFIGURED, strict=True):
        assert_refused(ended, 78, *told)
        assert "cret" not in ended.stderr
    assert_nothing_happened(sandbox, tmp_path, "pairs.csv")


def test_a_malformed_rate_is_wrong_usage(command: Command, sandbox: WatchedSandbox, tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text(GOOD)
    rates = ["0", "-1", "ten", "10/day", "10/", "nan"]
    run = partial(command, "associate", "pairs.csv", service=sandbox.url)
    for ended, rate in zip(at_once(partial(run, f"--rate={rate}") for rate in rates), rates, strict=True):
        assert_refused(ended, 2, f"--rate '{rate}'", "20/s, 600/min or 5000/h")
    assert_nothing_happened(sandbox, tmp_path, "pairs.csv")


OUT_OF_BOUNDS = [
    (["--concurrency", "0"], ["--concurrency", "greater than or equal to 1"]),
    (["--concurrency", "many"], ["--concurrency", "integer"]),
    (["--max-attempts", "0"], ["--max-attempts", "greater than or equal to 1"]),
    (["--timeout", "0"], ["--timeout", "greater than or equal to 0.1"]),
    (["--format", "xml"], ["--format", "'xml'", "csv", "json"]),
    (["--nonsense"], ["--nonsense"]),
    (["more.csv"], ["more.csv"]),
]


def test_an_option_out_of_bounds_is_wrong_usage(
    command: Command, sandbox: WatchedSandbox, tmp_path: Path
) -> None:
    (tmp_path / "pairs.csv").write_text(GOOD)
    run = partial(command, "associate", "pairs.csv", service=sandbox.url)
    ends = at_once(partial(run, *options) for options, _ in OUT_OF_BOUNDS)
    for ended, (_, told) in zip(ends, OUT_OF_BOUNDS, strict=True):
        assert_misused(ended, *told)
    assert_nothing_happened(sandbox, tmp_path, "pairs.csv")


def test_a_wrong_variable_is_named_as_the_option_it_sets(command: Command, sandbox: WatchedSandbox) -> None:
    ended = command("associate", "pairs.csv", service=sandbox.url, FPGA_BATCH_CONCURRENCY="0")
    assert_misused(ended, "FPGA_BATCH_CONCURRENCY", "greater than or equal to 1")


WRONG_CATALOGUES = [
    ('{\n"images": ]', "not JSON"),
    ("[]", "the catalogue: must be an object"),
    ('{"image": []}', "unknown key 'image'; known are images, fpga_images"),
    ('{"images": [{"id": "1", "type": "private"}]}', "images[0].id: '1' is not a lower-case UUID"),
    (f'{{"images": [{{"id": "{image(1)}", "type": "odd"}}]}}', "images[0].type: 'odd' is none of private"),
    ('{"fpga_images": [{"id": 1}]}', "fpga_images[0].id: 1 is not 32 lower-case hex digits"),
]


def test_a_wrong_catalogue_is_refused_with_the_file_and_the_key(command: Command, tmp_path: Path) -> None:
    names = [f"catalogue{number}.json" for number in range(len(WRONG_CATALOGUES))]
    for name, (content, _) in zip(names, WRONG_CATALOGUES, strict=True):
        (tmp_path / name).write_text(content)
    run = partial(command, "sandbox", "--port", "0", "--catalogue")
    for ended, name, (_, told) in zip(
        at_once(partial(run, name) for name in names), names, WRONG_CATALOGUES, strict=True
    ):
        assert_refused(ended, 65, f"{name}: ", told)


WRONG_FAULTS = [
    (["--fault", "error-befor=0.1"], "fault 'error-befor' is unknown; known are error-before, "),
    (["--fault", "error-before=2"], "error-before 2.0: expected a probability from 0 to 1"),
    (["--fault", "error-before=often"], "fault 'error-before=often': expected NAME=PROBABILITY"),
    (["--fault", "silence"], "fault 'silence': expected NAME=PROBABILITY, as silence=0.05"),
    (["--fault", "silence=0.6", "--fault", "drop-after=0.6"], "add up to 1.2, more than 1"),
    (["--fault", "silence=0.1", "--fault", "silence=0.1"], "silence is given twice"),
    (["--rate-limit", "5"], "rate limit '5': expected a number of calls"),
]


def test_a_wrong_fault_or_limit_of_the_sandbox_is_wrong_usage(command: Command) -> None:
    ends = at_once(partial(command, "sandbox", "--port", "0", *options) for options, _ in WRONG_FAULTS)
    for ended, (_, told) in zip(ends, WRONG_FAULTS, strict=True):
        assert_refused(ended, 2, told)


def test_a_port_that_is_taken_is_told_with_its_number(command: Command, sandbox: WatchedSandbox) -> None:
    port = sandbox.url.rpartition(":")[2]
    assert_refused(command("sandbox", "--port", port), 78, f"cannot listen on 127.0.0.1, port {port}")


def test_a_file_that_is_no_report_is_told_so(command: Command, tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text(GOOD)
    assert_refused(command("report", "pairs.csv"), 65, "pairs.csv, line 1: ", "'outcome'", "missing")
