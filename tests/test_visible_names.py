"""What the name of a file holds is shown, on a terminal and in a log; and the command can be pasted."""

import json
import os
import pty
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import COMMAND, PATIENCE, Ended, WatchedSandbox, arguments, environment
from hypothesis import given
from hypothesis import strategies as st
from support import fpga, image

from batch.text import copyable

Command = Callable[..., Ended]

BASH = shutil.which("bash")
ODD = (
    b"\x1b[2Jpairs.csv",
    b"a\nreport: none\n.csv",
    b"a\rb\tc.csv",
    b"caf\xe9.csv",
    b"it's \\ \x07 $HOME `id`.csv",
    "\u202etxt.csv".encode(),
    "\x9b31m\u0085.csv".encode(),
    "naïve ☃ x.csv".encode(),
)
PLAIN = "nightly-pairs_1.csv"


def write(folder: Path, name: bytes, text: str | None = None) -> str:
    """Write a list of one good and one wrong pair under a name; return the name as Python has it."""
    text = text or f"fpga_image_id,image_id\n{fpga(1)},{image(1)}\nx,{image(2)}\n"
    (folder / os.fsdecode(name)).write_text(text)
    return os.fsdecode(name)


def assert_visible(text: str, *, tabs: bool = False) -> None:
    for line in text.split("\n"):
        shown = line.replace("\t", "") if tabs else line
        assert shown.isprintable(), ascii(line)


@pytest.mark.parametrize("name", ODD)
def test_a_run_names_its_files_in_one_line_each_and_the_next_command_can_be_pasted(
    command: Command, sandbox: WatchedSandbox, tmp_path: Path, name: bytes
) -> None:
    ended = command("associate", write(tmp_path, name), service=sandbox.url)
    assert ended.exit_code == 1
    assert_visible(ended.stderr)
    lines = ended.stderr.splitlines()
    assert [line.partition(":")[0] for line in lines if not line.startswith("  ")][-2:] == ["report", "next"]
    assert len([line for line in lines if line.startswith("report:")]) == 1
    pasted = lines[-1].removeprefix("next: correct the invalid rows there, then ")
    if BASH is None:
        return
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "fpga-batch").symlink_to(COMMAND)
    variables = {"PATH": f"{tmp_path / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"}
    again = subprocess.run(
        [BASH, "-c", pasted],
        cwd=tmp_path,
        env=environment(tmp_path, sandbox.url, variables),
        capture_output=True,
        timeout=PATIENCE,
        check=False,
        text=True,
    )
    assert again.returncode == 1, again.stderr  # it found the report, whose wrong row is still wrong
    assert "1 invalid" in again.stderr


def test_an_ordinary_name_is_told_as_it_is(command: Command, sandbox: WatchedSandbox, tmp_path: Path) -> None:
    ended = command("associate", write(tmp_path, PLAIN.encode()), service=sandbox.url)
    assert ended.stderr.endswith("then fpga-batch resume nightly-pairs_1.report.csv\n")


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("name", ODD)
def test_a_log_in_either_form_shows_them(
    command: Command, tmp_path: Path, sandbox: WatchedSandbox, name: bytes, form: str
) -> None:
    pairs = write(tmp_path, name)
    credentials = tmp_path / os.fsdecode(b"keys-" + name)
    credentials.write_text("[basic]\nak = SANDBOXACCESSKEY0000\nsk = sandbox-secret-key\n")
    credentials.chmod(0o644)  # what is warned of
    ended = command(
        *("associate", pairs, "-vv", "--log-format", form),
        service=sandbox.url,
        OS_TOKEN="",
        FPGA_BATCH_PROJECT_ID="0123456789abcdef0123456789abcdef",
        HUAWEICLOUD_SDK_CREDENTIALS_FILE=str(credentials),
    )
    assert ended.exit_code == 1
    assert_visible(ended.stderr)
    (told,) = (line for line in ended.stderr.splitlines() if "chmod 600" in line)
    if form == "json":
        assert_visible(json.loads(told)["message"])


@pytest.mark.parametrize("name", ODD[:4])
@pytest.mark.parametrize("words", [("check",), ("report",), ("resume",), ("check", "more")])
def test_an_error_about_a_file_is_one_line(
    command: Command, tmp_path: Path, name: bytes, words: tuple[str, ...]
) -> None:
    first, *more = words
    ended = command(first, write(tmp_path, name, "no header\n"), *more)
    assert ended.exit_code in (2, 65, 78)
    assert_visible(ended.stderr)
    if ended.exit_code != 2:
        assert len(ended.stderr.splitlines()) == 1


@pytest.mark.parametrize("name", ODD)
def test_what_goes_to_standard_output_shows_them_too(command: Command, tmp_path: Path, name: bytes) -> None:
    ended = command("check", write(tmp_path, name))
    assert ended.exit_code == 1
    assert_visible(ended.stdout)


def test_a_terminal_gets_no_escape_sequence_of_a_name(tmp_path: Path) -> None:
    main, terminal = pty.openpty()
    pairs = write(tmp_path, ODD[0])
    with subprocess.Popen(
        arguments("associate", pairs),
        cwd=tmp_path,
        env=environment(tmp_path, None, {}),
        stdin=subprocess.DEVNULL,
        stderr=terminal,
    ) as process:
        os.close(terminal)
        told = b""
        try:
            while part := os.read(main, 4096):
                told += part
        except OSError:  # the other side is closed
            pass
        process.wait(PATIENCE)
    os.close(main)
    assert b"\x1b[2J" not in told


@pytest.mark.skipif(BASH is None, reason="there is no bash")
@given(st.binary(min_size=1).filter(lambda name: b"\0" not in name))
def test_whatever_the_word_the_shell_gets_it_back(name: bytes) -> None:
    word = copyable(os.fsdecode(name))
    assert word.isprintable()
    assert BASH is not None
    told = subprocess.run([BASH, "-c", f"printf %s {word}"], check=True, capture_output=True).stdout
    assert told == name


def test_a_word_without_anything_odd_is_left_to_read() -> None:
    assert copyable("pairs.csv") == "pairs.csv"
    assert copyable("my pairs.csv") == shlex.quote("my pairs.csv")
