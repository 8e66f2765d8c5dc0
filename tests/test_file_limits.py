"""Files that would take for ever, or more memory than there is, through the real command."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from conftest import Ended, WatchedSandbox, arguments, environment
from support import fpga, image

from batch.input import json_text, open_source
from batch.job import Column

Command = Callable[..., Ended]

COLUMNS = (Column("fpga_image_id"), Column("image_id"))
MEMORY = 300 * 1024 * 1024
MIB = 1024 * 1024
HEADER = "fpga_image_id,image_id"
PAIR = f'"fpga_image_id":"{fpga(1)}","image_id":"{image(1)}"'
TOO_LONG = "a row takes 16 MiB at most"
TOO_WIDE = "a row has 10,000 columns at most"
TOO_MANY = "a row holds 1,000,000 values at most"

# What starts the command waits for it, and tells how much memory it took at most.
MEASURED = """
import resource, subprocess, sys
ended = subprocess.run(sys.argv[1:], check=False)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024, file=sys.stderr)
sys.exit(ended.returncode)
"""


class Checked(NamedTuple):
    """How a command ended, and the memory that it took, in bytes."""

    exit_code: int
    said: str
    memory: int


def measured(folder: Path, *words: str, service: str | None = None) -> Checked:
    """Run a command of the program."""
    ended = subprocess.run(
        [sys.executable, "-c", MEASURED, *arguments(*words)],
        cwd=folder,
        env=environment(folder, service, {}),
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    said, _, memory = ended.stderr.strip().rpartition("\n")
    return Checked(ended.returncode, said or ended.stdout, int(memory))


@pytest.fixture
def check(tmp_path: Path) -> Callable[[str, str], Checked]:
    """Write a file and let the command check it."""

    def run(name: str, content: str) -> Checked:
        (tmp_path / name).write_text(content)
        return measured(tmp_path, "check", name)

    return run


def members(count: int, value: Any) -> str:
    """Return the text of members with different keys and one value."""
    text = json.dumps(value)
    return ",".join(f'"k{key}":{text}' for key in range(count))


CELL = "0123456789abcde\n"
REFUSED: dict[str, tuple[str, Callable[[], str], str]] = {
    "a string of 40 MiB in a list": (
        "pairs.json",
        lambda: f'[{{{PAIR}}},\n {{{PAIR},"n":"{"x" * 40 * MIB}"}}]',
        f"line 2, column 2: {TOO_LONG}",
    ),
    "a string of 40 MiB in a line": (
        "pairs.jsonl",
        lambda: f'{{{PAIR}}}\n{{{PAIR},"n":"{"x" * 40 * MIB}"}}\n',
        f"line 2, column 1: {TOO_LONG}",
    ),
    "a cell of 40 MiB": (
        "pairs.csv",
        lambda: f"{HEADER}\n{fpga(1)},{'x' * 40 * MIB}\n",
        f"line 2, column 1: {TOO_LONG}",
    ),
    "a quote that is never closed": (
        "pairs.csv",
        lambda: f'{HEADER}\n{fpga(1)},"' + CELL * (40 * MIB // 16),
        f"line 2, column 1: {TOO_LONG}, or a quote opened there is never closed",
    ),
    "broken JSON behind a long string": (
        "pairs.json",
        lambda: f'[{{{PAIR},"n":"{"x" * 8 * MIB}"}} oops]',
        f"line 1, column {len(PAIR) + 12 + 8 * MIB}: broken JSON: expected ',', found 'o'",
    ),
    "a string that is never closed": (
        "pairs.json",
        lambda: f'[{{{PAIR},\n"n":"{"x" * 8 * MIB}',
        f"line 2, column {5 + 8 * MIB + 1}: broken JSON: it ends too early",
    ),
    "a quote too few in a line": (
        "pairs.jsonl",
        lambda: f'{{{PAIR}}}\n{{{PAIR},"n":"x}}\n' + f"{{{PAIR}}}\n" * (20 * MIB // 100),
        f"line 2, column {len(PAIR) + 10}: broken JSON: a string is not closed on its line",
    ),
    "a bracket too few in a line": (
        "pairs.jsonl",
        lambda: f'{{{PAIR}}}\n{{{PAIR},"n":[1\n' + f"{{{PAIR}}}\n" * (20 * MIB // 100),
        "line 3, column 1: broken JSON: unexpected character, expected ',' or ']'",
    ),
    "an object of 100,000 keys": (
        "pairs.json",
        lambda: f"[{{{PAIR},{members(100_000, 1)}}}]",
        f"line 1, column 2: {TOO_WIDE}",
    ),
    "a line of 100,000 keys": (
        "pairs.jsonl",
        lambda: f"{{{PAIR}}}\n{{{members(100_000, 1)}}}\n",
        f"line 2, column 1: {TOO_WIDE}",
    ),
    "a header of 60,000 columns": (
        "pairs.csv",
        lambda: f"{HEADER},{','.join(f'c{column:05}' for column in range(60_000))}\n",
        f"line 1, column {len(HEADER) + 2 + 9_998 * 7}: {TOO_WIDE}",
    ),
    "a header of 15 Mi commas": (
        "pairs.csv",
        lambda: f"{HEADER}{',' * 15 * MIB}\n",
        f"line 1, column {len(HEADER) + 1 + 9_999}: {TOO_WIDE}",
    ),
    "a row of 15 Mi commas": (
        "pairs.csv",
        lambda: f"\n{HEADER}\n{fpga(1)},{image(1)}{',' * 15 * MIB}\n",
        f"line 3, column {32 + 1 + 36 + 1 + 9_999}: {TOO_WIDE}",
    ),
    "a short row of too many cells": (
        "pairs.csv",
        lambda: f"{HEADER}\n{fpga(1)};{image(1)}{';' * 9_999}\n".replace(",", ";"),
        f"line 2, column {32 + 1 + 36 + 1 + 9_999}: {TOO_WIDE}",
    ),
    "a row of many cells over many lines": (
        "pairs.csv",
        lambda: f"{HEADER}\n{fpga(1)},{image(1)}" + f',"\n"{",ab" * 15_000}' * 300,
        f"line 2, column 1: {TOO_WIDE}",
    ),
    "15 MiB of [] in a list": (
        "pairs.json",
        lambda: f'[{{{PAIR},"n":[{",".join(["[]"] * 5 * MIB)}]}}]',
        f"line 1, column 2: {TOO_MANY}",
    ),
    "15 MiB of [] in a line": (
        "pairs.jsonl",
        lambda: f'{{{PAIR}}}\n{{{PAIR},"n":[{",".join(["[]"] * 5 * MIB)}]}}\n',
        f"line 2, column 1: {TOO_MANY}",
    ),
    "15 MiB of [] without an end": (
        "pairs.json",
        lambda: f'[{{{PAIR},"n":[{",".join(["[]"] * 5 * MIB)}',
        f"line 1, column 2: {TOO_MANY}",
    ),
    "a number of 15 Mi digits": (
        "pairs.json",
        lambda: f'[{{{PAIR},"n":{"1" * 15 * MIB}}}]',
        f"line 1, column {len(PAIR) + 8}: broken JSON: number is infinity",
    ),
    "a list in lists without end": (
        "pairs.json",
        lambda: "[" * 8 * MIB,
        "line 1, column 1001: nested deeper than 1000 levels",
    ),
    "an object of lists that are none of rows": (
        "pairs.json",
        lambda: f"{{{members(20, ['x' * MIB])}}}",
        f"line 1, column 1: {TOO_LONG}",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_row_that_is_too_large_or_broken_is_told_with_its_place_in_bounded_memory(
    check: Callable[[str, str], Checked], what: str
) -> None:
    name, content, told = REFUSED[what]
    checked = check(name, content())
    assert checked.exit_code == 65, checked
    assert checked.said.startswith(f"fpga-batch: {name}, {told}")
    assert checked.memory < MEMORY


READ: dict[str, tuple[str, Callable[[], str]]] = {
    "a string of 15 MiB": ("pairs.json", lambda: f'[{{{PAIR},"n":"{"x" * 15 * MIB}\U0001f600"}}]'),
    "a string of 15 MiB in a line": ("pairs.jsonl", lambda: f'{{{PAIR},"n":"{"x:" * 7 * MIB}\U0001f600"}}\n'),
    "a string of quotes": ("pairs.json", lambda: f"[{{{PAIR},{members(1, chr(34) * 7 * MIB)}}}]"),
    "a string of backslashes": ("pairs.json", lambda: f"[{{{PAIR},{members(1, chr(92) * 7 * MIB)}}}]"),
    "a cell of 15 MiB": (
        "pairs.csv",
        lambda: f"{HEADER},n\n{fpga(1)},{image(1)},{'x' * 15 * MIB}\U0001f600\n",
    ),
    "a cell of 15 MiB over many lines": (
        "pairs.csv",
        lambda: f'{HEADER},n\n{fpga(1)},{image(1)},"{CELL * (15 * MIB // 16)}\U0001f600"\n',
    ),
    "900,000 values": (
        "pairs.json",
        lambda: f'[{{{PAIR},"n":{json.dumps(["ab:", ["e"]] * 300_000)}}}]',
    ),
    "a comment of 15 MiB": ("pairs.csv", lambda: f"# {'x' * 15 * MIB}\n{HEADER}\n{fpga(1)},{image(1)}\n"),
    "columns of one name": (
        "pairs.csv",
        lambda: f"{HEADER}{',note' * 9_998}\n{fpga(1)},{image(1)}\n",
    ),
    "40 MiB of blanks": ("pairs.json", lambda: f"[{' ' * 40 * MIB}{{{PAIR}}}{' ' * 9 * MIB}]"),
    "a wrapped list": (
        "pairs.json",
        lambda: f'{{"n": 1, "pairs": [{{{PAIR}}}], "z": "{"x" * 15 * MIB}"}}',
    ),
}


@pytest.mark.parametrize("what", READ)
def test_a_large_row_within_the_limits_is_read_in_bounded_memory(
    check: Callable[[str, str], Checked], what: str
) -> None:
    name, content = READ[what]
    checked = check(name, content())
    assert checked.exit_code == 0, checked
    assert ", 1 row: 1 to send, 0 invalid, 0 duplicate" in checked.said
    assert checked.memory < MEMORY


LARGEST: dict[str, tuple[str, Callable[[], str]]] = {
    "a cell of quotation marks": (
        "pairs.csv",
        lambda: f'{HEADER},n\n{fpga(1)},{image(1)},"{chr(34) * (16 * MIB - 80)}"\n',
    ),
    "10,000 columns": (
        "pairs.csv",
        lambda: f"{HEADER}{''.join(map(',n{}'.format, range(9_998)))}\n{fpga(1)},{image(1)}{',' * 9_998}\n",
    ),
    "10,000 keys": ("pairs.json", lambda: f"[{{{PAIR},{members(9_998, 1)}}}]"),
    "a million values": ("pairs.jsonl", lambda: f'{{{PAIR},"n":{json.dumps([[]] * 499_990)}}}\n'),
}


@pytest.mark.parametrize(
    ("what", "report"),
    [
        ("a cell of quotation marks", "report.csv"),
        ("a cell of quotation marks", "report.json"),
        ("10,000 columns", "report.csv"),
        ("10,000 columns", "report.json"),
        ("10,000 keys", "report.csv"),
        ("a million values", "report.jsonl"),
    ],
)
def test_the_report_of_the_largest_row_can_be_read_again(
    command: Command, sandbox: WatchedSandbox, tmp_path: Path, what: str, report: str
) -> None:
    name, content = LARGEST[what]
    (tmp_path / name).write_text(content())
    assert command("associate", name, "--report", report, service=sandbox.url) == Ended(0, "", "")
    summed = command("report", report, "--json")
    assert (summed.exit_code, json.loads(summed.stdout)["outcomes"]["succeeded"]) == (0, 1)
    assert command("undo", report, service=sandbox.url).exit_code == 0
    assert not sandbox.associations


def test_a_wrapped_list_longer_than_a_row_is_read_piece_by_piece(
    check: Callable[[str, str], Checked],
) -> None:
    checked = check("pairs.json", f'{{"n": [1],\n"pairs": [{",".join([f"{{{PAIR}}}"] * 200_000)}]}}')
    assert checked.exit_code == 0, checked
    assert "200,000 rows: 1 to send, 0 invalid, 199,999 duplicate" in checked.said
    assert checked.memory < MEMORY // 3


@pytest.mark.parametrize("start", ['{"journal":3,', ""])
def test_a_journal_that_is_one_endless_line_is_refused_in_bounded_memory(
    sandbox: WatchedSandbox, tmp_path: Path, start: str
) -> None:
    (tmp_path / "pairs.csv").write_text(f"{HEADER}\n{fpga(1)},{image(1)}\n")
    with (tmp_path / "pairs.report.csv.journal").open("w") as journal:
        journal.write(start)
        journal.truncate(400 * MIB)
    ended = measured(tmp_path, "associate", "pairs.csv", service=sandbox.url)
    assert ended.exit_code == 74
    assert "pairs.report.csv.journal, line 1: not a line of this run's journal" in ended.said
    assert ended.memory < MEMORY
    assert not sandbox.associations


def test_a_long_string_is_looked_at_a_few_times_however_long_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is copied while a row is put together stays in proportion to the row."""
    more = json_text.JsonText.more
    copied = 0

    def counting(text: json_text.JsonText) -> bool:
        nonlocal copied
        has_more = more(text)
        copied += len(text.buffer)
        return has_more

    monkeypatch.setattr(json_text.JsonText, "more", counting)
    path = tmp_path / "pairs.json"
    path.write_text(f'[{{{PAIR},"n":"{"x" * 8 * MIB}"}}]')
    with open_source(str(path), format=None, columns=COLUMNS) as source:
        copied = 0
        assert len(list(source.rows())) == 1
    assert copied < 4 * path.stat().st_size
