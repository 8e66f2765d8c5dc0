"""Outcomes on disk: what survives a kill, what is refused, and who may write."""

import asyncio
import errno
import fcntl
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import journal_lines, run_virtually

from batch.errors import BusyError, ConfigurationError, InputUnusableError, OutputError
from batch.folder import Folder
from batch.model import Outcome, Result, Status
from batch.results.journal import Identity, Journal, lines, lock, run_state
from batch.text import printable

IDENTITY = Identity("associate", "associate", "ab" * 32, "https://ecs.example.com/v1/p")
DONE = Outcome(Result(Status.SUCCEEDED, "", 204, request_id="r1"), 1, 1_700_000_000.25, 1_700_000_000.5, 250)
PATIENCE = 20

# Whatever a service says has been through `printable`, half surrogate pairs included.
foreign_texts = st.text(st.characters(exclude_categories=())).map(printable)
times = st.none() | st.floats(0, 1e10)
outcomes = st.builds(
    Outcome,
    st.builds(
        Result,
        st.sampled_from(Status),
        foreign_texts,
        st.none() | st.integers(100, 999),
        foreign_texts,
        foreign_texts,
        foreign_texts,
    ),
    st.integers(0, 10**9),
    times,
    times,
    st.none() | st.integers(0, 10**12),
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "pairs.report.csv.journal"


def numbered(row: int) -> Outcome:
    return DONE._replace(attempts=row)


def record(path: Path, entries: dict[int, Outcome], *, rows: int = 10) -> None:
    """Write so many outcomes as a run does."""

    async def writing() -> None:
        with Journal(path, IDENTITY, rows) as journal:
            for row, outcome in entries.items():
                journal.append(row, outcome)
            await journal.flush()

    asyncio.run(writing())


def recorded(path: Path, *, rows: int = 10, identity: Identity = IDENTITY) -> dict[int, Outcome]:
    with Journal(path, identity, rows) as journal:
        found = {row: outcome for row in range(1, rows + 1) if (outcome := journal.outcome(row))}
        assert journal.settled == len(found)
        assert list(found) == [row for row in range(1, rows + 1) if row in journal]
    return found


def outcome_lines(path: Path) -> list[dict[str, Any]]:
    return [entry for line in path.read_bytes().splitlines() if "row" in (entry := orjson.loads(line))]


@contextmanager
def another_process(script: str, *arguments: object) -> Iterator["subprocess.Popen[str]"]:
    """Run a script until it says `ready`; kill it at the end."""
    process = subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


HOLDER = """
import sys
from pathlib import Path
from batch.results.journal import Identity, Journal
with Journal(Path(sys.argv[1]), Identity(*sys.argv[2:6]), 10):
    print("ready", flush=True)
    sys.stdin.read()
"""
HELD_BY = ("associate", "associate", "ab" * 32, "https://ecs.example.com/v1/p")

WRITER = """
import asyncio, sys
from pathlib import Path
from batch.results.journal import Identity, Journal
from batch.model import Outcome, Result, Status

async def main():
    with Journal(Path(sys.argv[1]), Identity(*sys.argv[2:6]), 10) as journal:
        for row in range(1, 6):
            journal.append(row, Outcome(Result(Status.SUCCEEDED, "", 204), row))
        await journal.flush()
        for row in range(6, 11):
            journal.append(row, Outcome(Result(Status.SUCCEEDED, "", 204), row))
        print("ready", flush=True)
        sys.stdin.read()

asyncio.run(main())
"""


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.integers(1, 10), outcomes))
def test_what_was_appended_is_read_back_unchanged(entries: dict[int, Outcome]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "j")
        record(path, entries)
        assert recorded(path) == entries


@pytest.mark.parametrize(
    "text", ["\N{GRINNING FACE}" * 500, "x" * 1023, '"\\' * 700, "\N{LINE SEPARATOR}" * 2000]
)
def test_a_long_text_is_read_back_whole(path: Path, text: str) -> None:
    long = DONE._replace(result=Result(Status.FAILED, "rejected", 400, "C", text))
    record(path, {2: DONE, 1: long, 3: DONE})
    assert recorded(path) == {1: long, 2: DONE, 3: DONE}


async def test_an_outcome_is_known_at_once_and_readable_after_a_flush(path: Path) -> None:
    with Journal(path, IDENTITY, 3) as journal:
        assert (journal.settled, 2 in journal, journal.outcome(2)) == (0, False, None)
        journal.append(2, DONE)
        assert 2 in journal
        await journal.flush()
        assert journal.outcome(2) == DONE
        assert [row in journal for row in (1, 2, 3)] == [False, True, False]


def test_rows_are_kept_across_many_interrupted_runs(path: Path) -> None:
    for row in (7, 3, 10, 1):
        record(path, {row: numbered(row)})
    assert recorded(path) == {row: numbered(row) for row in (1, 3, 7, 10)}


def test_the_journal_is_json_lines_in_the_order_of_events(path: Path) -> None:
    record(path, {row: numbered(row) for row in (7, 3, 10)})
    assert [entry["row"] for entry in outcome_lines(path)] == [7, 3, 10]
    assert outcome_lines(path)[0]["outcome"] == "succeeded"


async def test_a_flush_without_anything_to_write_returns(path: Path) -> None:
    with Journal(path, IDENTITY, 3) as journal:
        await journal.flush()
        journal.append(1, DONE)
        await asyncio.gather(journal.flush(), journal.flush())
        await journal.flush()
    assert recorded(path, rows=3) == {1: DONE}


def test_a_last_line_torn_at_any_place_loses_that_line_and_nothing_else(path: Path) -> None:
    entries = {row: numbered(row) for row in (4, 2, 9)}
    entries[9] = DONE._replace(
        result=Result(Status.FAILED, "rejected", 400, error_message='\u00e9\U0001f600\\"')
    )
    record(path, entries)
    whole = path.read_bytes()
    last = len(whole.splitlines(keepends=True)[-1])
    before = {row: outcome for row, outcome in entries.items() if row != 9}
    for kept in range(last):
        path.write_bytes(whole[: len(whole) - last + kept])
        assert recorded(path) == before, kept
        record(path, {9: DONE})
        assert recorded(path) == {**before, 9: DONE}, kept


def test_a_start_torn_at_any_place_is_begun_anew(path: Path) -> None:
    record(path, {})
    whole = path.read_bytes()
    for kept in range(len(whole)):
        path.write_bytes(whole[:kept])
        record(path, {5: DONE})
        assert recorded(path) == {5: DONE}, kept


def test_zero_bytes_after_the_last_line_are_a_torn_line(path: Path) -> None:
    record(path, {4: DONE})
    with path.open("ab") as file:
        file.write(bytes(4096))
    assert recorded(path) == {4: DONE}


@pytest.mark.parametrize(
    "damage", [b"", b"{", b"\x00" * 20, b"\xff\xfe", b'{"row": 2,', b"null", b"not json"]
)
def test_damage_before_the_last_line_is_refused_with_its_number(path: Path, damage: bytes) -> None:
    record(path, {row: numbered(row) for row in (4, 2, 9)})
    lines = path.read_bytes().splitlines(keepends=True)
    for place in range(len(lines) - 1):
        damaged = b"".join([*lines[:place], damage + b"\n", *lines[place + 1 :]])
        path.write_bytes(damaged)
        with pytest.raises(OutputError, match=rf"journal, line {place + 1}: .*--restart"):
            Journal(path, IDENTITY, 10)
        assert path.read_bytes() == damaged


def test_a_journal_that_is_refused_is_not_locked_and_not_changed(path: Path) -> None:
    record(path, {4: DONE})
    before = path.read_bytes()
    with pytest.raises(InputUnusableError):
        Journal(path, replace(IDENTITY, job="verify"), 10)
    assert path.read_bytes() == before
    assert recorded(path) == {4: DONE}


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (replace(IDENTITY, job="disassociate"), "'associate'.*'disassociate'"),
        (replace(IDENTITY, target="https://elsewhere.example.com"), "elsewhere"),
        (replace(IDENTITY, command="resume"), "command was 'associate' and is 'resume' now"),
        (
            replace(IDENTITY, only=("throttled", "timeout")),
            "it was run with no --only and is run with --only throttled,timeout now",
        ),
    ],
    ids=["job", "target", "command", "only"],
)
def test_another_runs_journal_is_refused_and_the_message_names_the_way_out(
    path: Path, other: Identity, said: str
) -> None:
    record(path, {4: DONE})
    with pytest.raises(InputUnusableError, match=f"{said}.*--restart") as caught:
        Journal(path, other, 10)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("whole", range(2, 7))
def test_a_line_that_is_left_out_repeated_or_moved_is_refused_with_its_number(path: Path, whole: int) -> None:
    """Of a journal with so many lines; the last ones may be missing, as if they had never been written."""
    record(path, {row: numbered(row) for row in range(1, 10)})
    sound = path.read_bytes().splitlines(keepends=True)
    for place in range(whole - 1):
        left_out = sound[:place] + sound[place + 1 : whole]
        repeated = sound[: place + 1] + sound[place:whole]
        moved = [*sound[:place], sound[place + 1], sound[place], *sound[place + 2 : whole]]
        for damaged, number in (left_out, place + 1), (repeated, place + 2), (moved, place + 1):
            path.write_bytes(b"".join(damaged))
            with pytest.raises(OutputError, match=rf"journal, line {number}: .*--restart"):
                Journal(path, IDENTITY, 10)
            assert path.read_bytes() == b"".join(damaged)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'"row":2', b'"row":3'),
        (b'"attempts":2', b'"attempts":7'),
        (b'"outcome":"succeeded"', b'"outcome":"unchanged"'),
        (b'"row":2', b'"row": 2'),
        (b'"since":"2', b'"since":"1'),
        (b'"command":"associate"', b'"command":"verify"'),
        (b"\n", b"\r\n"),
        (b'"crc":', b'"crc":1'),
        (b'"crc":', b'"CRC":'),
    ],
)
def test_a_line_that_was_changed_is_refused_with_its_number(path: Path, before: bytes, after: bytes) -> None:
    record(path, {row: numbered(row) for row in (4, 2, 9)})
    sound = path.read_bytes().splitlines(keepends=True)
    for place, line in enumerate(sound):
        if before in line:
            damaged = b"".join([*sound[:place], line.replace(before, after), *sound[place + 1 :]])
            path.write_bytes(damaged)
            with pytest.raises(OutputError, match=rf"journal, line {place + 1}: .*--restart"):
                Journal(path, IDENTITY, 10)
            with pytest.raises(OutputError, match=rf"journal, line {place + 1}: .*--restart"):
                Journal(path, NEXT, 10, supersedes=True)
            with pytest.raises(InputUnusableError, match=rf"journal, line {place + 1}: .*--restart"):
                run_state(path.with_suffix(""))
            assert path.read_bytes() == damaged


def test_a_journal_of_an_older_form_is_refused_with_the_way_out(path: Path) -> None:
    path.write_bytes(b'{"journal":1,"command":"associate","program":"fpga-batch 0.0.9"}\n{"pid":1}\n')
    said = "form 1, begun by fpga-batch 0.0.9, .*end that run with the version that began it, or .*--restart"
    before = path.read_bytes()
    for supersedes in False, True:
        with pytest.raises(InputUnusableError, match=said):
            Journal(path, IDENTITY, 10, supersedes=supersedes)
    with pytest.raises(InputUnusableError, match=said):
        run_state(path.with_suffix(""))
    assert path.read_bytes() == before


def test_a_journal_of_another_number_of_rows_is_refused(path: Path) -> None:
    record(path, {4: DONE})
    with pytest.raises(InputUnusableError, match=r"a run of 10 rows, and the input has 9 now.*--restart"):
        Journal(path, IDENTITY, 9)


@pytest.mark.parametrize(
    "header", [b"{}", b'{"job": "associate"}', b'{"row": 1}', b'{"pid": 1, "host": "h"}']
)
def test_a_journal_whose_header_names_no_run_is_refused(path: Path, header: bytes) -> None:
    path.write_bytes(header + b"\n")
    with pytest.raises(OutputError, match=r"line 1.*--restart"):
        Journal(path, IDENTITY, 10)


@pytest.mark.parametrize(
    "entry",
    [
        b"7",
        b"[]",
        b"{}",
        b'{"row": 0}',
        b'{"row": 11}',
        b'{"row": -1}',
        b'{"row": "a"}',
        b'{"row": 1.5}',
        b'{"row": true}',
        b'{"row": 1}',
        b"garbage",
    ],
)
def test_a_line_that_no_run_wrote_is_refused_with_its_number(path: Path, entry: bytes) -> None:
    record(path, {4: DONE})
    before = path.read_bytes()
    path.write_bytes(before + journal_lines(entry, lines.sent(3), after=before))
    with pytest.raises(OutputError, match=r"line 4.*--restart"):
        Journal(path, IDENTITY, 10)


def test_a_foreign_file_of_one_line_is_not_taken_for_a_torn_journal(path: Path) -> None:
    path.write_bytes(b"my notes")
    with pytest.raises(OutputError, match="line 1"):
        Journal(path, IDENTITY, 10)
    assert path.read_bytes() == b"my notes"


@pytest.mark.parametrize("before", [b"", b"garbage\nand more\n", b"[1]\n{}\n", b"\x00" * 100])
def test_a_restart_discards_whatever_was_there(path: Path, before: bytes) -> None:
    path.write_bytes(before)
    with Journal(path, IDENTITY, 10, restart=True) as journal:
        assert (journal.settled, journal.outcome(1)) == (0, None)
    record(path, {3: DONE})
    assert recorded(path) == {3: DONE}


def test_a_restart_discards_the_outcomes_of_the_same_run(path: Path) -> None:
    record(path, {4: DONE})
    with Journal(path, replace(IDENTITY, job="verify"), 10, restart=True) as journal:
        assert 4 not in journal
    assert outcome_lines(path) == []


def test_an_empty_file_is_begun(path: Path) -> None:
    path.touch()
    record(path, {4: DONE})
    assert recorded(path) == {4: DONE}


def test_a_journal_of_no_rows_is_a_journal(path: Path) -> None:
    with Journal(path, IDENTITY, 0) as journal:
        assert journal.settled == 0


def test_a_directory_in_its_place_is_an_output_error(path: Path) -> None:
    path.mkdir()
    with pytest.raises(OutputError, match="directory"):
        Journal(path, IDENTITY, 10)


def test_a_missing_folder_is_an_output_error(path: Path) -> None:
    with pytest.raises(OutputError, match="No such file"):
        Journal(path / "x.journal", IDENTITY, 10)


def test_a_disk_that_is_full_at_the_start_is_an_output_error(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "write", no_space)
    with pytest.raises(OutputError, match="No space left on device; nothing was sent"):
        Journal(path, IDENTITY, 10)
    monkeypatch.undo()
    assert recorded(path) == {}


def test_a_second_run_is_told_who_holds_the_journal(path: Path) -> None:
    with Journal(path, IDENTITY, 10) as journal:
        with pytest.raises(BusyError) as caught:
            Journal(path, IDENTITY, 10)
        assert journal.settled == 0
    message = str(caught.value)
    assert str(path) in message
    assert f"process {os.getpid()} on {socket.gethostname()}" in message
    assert "since 20" in message


@pytest.mark.parametrize("restart", [False, True])
def test_another_process_is_told_who_holds_the_journal_and_harms_nothing(
    path: Path, *, restart: bool
) -> None:
    record(path, {4: DONE})
    with another_process(HOLDER, path, *HELD_BY) as holder:
        before = path.read_bytes()
        with pytest.raises(BusyError, match=f"process {holder.pid} on {socket.gethostname()}, since 20"):
            Journal(path, replace(IDENTITY, job="verify"), 10, restart=restart)
        assert path.read_bytes() == before


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM])
def test_the_lock_dies_with_its_holder(path: Path, ending: signal.Signals) -> None:
    record(path, {4: DONE})
    with another_process(HOLDER, path, *HELD_BY) as holder:
        holder.send_signal(ending)
        holder.wait(PATIENCE)
    assert recorded(path) == {4: DONE}


def test_what_was_flushed_before_a_kill_is_kept(path: Path) -> None:
    with another_process(WRITER, path, *HELD_BY) as writer:
        writer.kill()
        writer.wait(PATIENCE)
    kept = recorded(path)
    assert set(kept) >= {1, 2, 3, 4, 5}
    assert all(outcome.attempts == row for row, outcome in kept.items())


def test_the_last_holder_is_the_one_who_is_named(path: Path) -> None:
    with another_process(HOLDER, path, *HELD_BY):
        pass
    with Journal(path, IDENTITY, 10), pytest.raises(BusyError, match=f"process {os.getpid()} "):
        Journal(path, IDENTITY, 10)


def test_a_journal_is_free_again_after_its_context(path: Path) -> None:
    for _ in range(3):
        with Journal(path, IDENTITY, 10):
            pass
    assert recorded(path) == {}


def test_a_removed_journal_is_gone_and_the_next_run_begins_anew(path: Path) -> None:
    record(path, {4: DONE})
    with Journal(path, IDENTITY, 10) as journal:
        journal.remove()
        assert not path.exists()
        journal.remove()
    assert recorded(path) == {}


def test_a_journal_that_others_may_read_is_its_owners_alone_once_it_is_taken_up(path: Path) -> None:
    record(path, {4: DONE})
    path.chmod(0o644)
    with Journal(path, IDENTITY, 10) as journal:
        assert journal.settled == 1
        assert path.stat().st_mode & 0o777 == 0o600


def test_a_file_system_on_which_nothing_is_ones_own_takes_a_new_journal(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "distrust", lambda _found: "others may write to it")
    with Journal(path, IDENTITY, 1):
        pass
    with pytest.raises(ConfigurationError, match=r"others may write to it, .*chmod 600; else remove it"):
        Journal(path, IDENTITY, 1)


def test_a_journal_removed_while_its_lock_was_awaited_is_made_anew(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(path, {4: DONE})
    lock = fcntl.flock
    removals = iter([path])

    def removed_first(file: int, operation: int) -> None:
        for other in removals:
            other.unlink()
            break
        lock(file, operation)

    monkeypatch.setattr(fcntl, "flock", removed_first)
    with Journal(path, IDENTITY, 10) as journal:
        assert journal.settled == 0
        assert path.exists()
        with pytest.raises(BusyError):
            Journal(path, IDENTITY, 10)


async def test_many_outcomes_are_written_with_one_fsync(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Journal(path, IDENTITY, 5000) as journal:
        fsync, calls = os.fsync, []
        monkeypatch.setattr(os, "fsync", lambda file: calls.append(fsync(file)))
        for row in range(1, 5001):
            journal.append(row, numbered(row))
        await journal.flush()
        assert len(calls) == 1
    assert len(outcome_lines(path)) == 5000


def on_a_disk_that_takes(
    seconds: float, monkeypatch: pytest.MonkeyPatch, path: Path, synced: Callable[[list[int]], None]
) -> None:
    """Make the thread that syncs take so long, by the loop's clock; `synced` is told the rows on disk."""

    async def slowly(sync: Callable[[], None]) -> None:
        rows = [entry["row"] for entry in outcome_lines(path)]
        await asyncio.sleep(seconds)
        sync()
        synced(rows)

    monkeypatch.setattr(asyncio, "to_thread", slowly)


@pytest.mark.parametrize("disk", [0.0, 0.01, 0.05])
def test_an_outcome_is_on_disk_at_most_250_ms_after_it_was_appended(
    path: Path, monkeypatch: pytest.MonkeyPatch, disk: float
) -> None:
    delays: dict[int, float] = {}
    appended: dict[int, float] = {}
    fsyncs = 0

    def synced(rows: list[int]) -> None:
        nonlocal fsyncs
        fsyncs += 1
        now = asyncio.get_running_loop().time()
        for row in rows:
            delays.setdefault(row, now - appended[row])

    on_a_disk_that_takes(disk, monkeypatch, path, synced)

    async def running() -> None:
        with Journal(path, IDENTITY, 2000) as journal:
            for row in range(1, 2001):
                appended[row] = asyncio.get_running_loop().time()
                journal.append(row, DONE)
                await asyncio.sleep(0.003)
            await asyncio.sleep(1.0)
            assert len(outcome_lines(path)) == 2000

    run_virtually(running())
    assert len(delays) == 2000
    assert max(delays.values()) <= 0.25
    assert fsyncs <= 61  # six seconds


def test_a_single_outcome_is_on_disk_without_a_flush(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_a_disk_that_takes(0.0, monkeypatch, path, lambda _: None)

    async def running() -> int:
        with Journal(path, IDENTITY, 10) as journal:
            journal.append(4, DONE)
            await asyncio.sleep(0.25)
            return len(outcome_lines(path))

    assert run_virtually(running()) == 1


def test_a_write_that_takes_only_a_part_is_continued(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, data: write(file, bytes(data[:7])))
    entries = {row: numbered(row) for row in range(1, 11)}
    record(path, entries)
    assert recorded(path) == entries


def no_space(_file: int, _data: object) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")


class FillingDisk:
    """Takes so many bytes more, and then none."""

    def __init__(self, room: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self._room = room
        self._write = os.write
        monkeypatch.setattr(os, "write", self.write)

    def write(self, file: int, data: Sequence[int]) -> int:
        if not self._room:
            return no_space(file, data)
        taken = self._write(file, bytes(data[: self._room]))
        self._room -= taken
        return taken


@pytest.mark.parametrize("room", [0, 1, 150, 400])
def test_a_full_disk_is_told_once_and_nothing_follows_the_torn_line(
    path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    failures: list[OSError] = []

    async def running() -> None:
        with Journal(path, IDENTITY, 100) as journal:
            journal.on_failure = failures.append
            FillingDisk(room, monkeypatch)
            for first in (1, 11, 21):
                for row in range(first, first + 10):
                    journal.append(row, numbered(row))
                await journal.flush()
                assert [failure.errno for failure in failures] == [errno.ENOSPC]
            monkeypatch.undo()  # there is room again: still nothing may follow
            journal.append(31, DONE)
            await journal.flush()

    record(path, {}, rows=100)
    start = path.stat().st_size
    asyncio.run(running())
    second_holder = len(path.read_bytes()[start:].split(b"\n")[0]) + 1
    assert len(failures) == 1
    assert path.stat().st_size == start + second_holder + room
    kept = recorded(path, rows=100)
    assert list(kept) == list(range(1, len(kept) + 1))
    assert all(outcome == numbered(row) for row, outcome in kept.items())


async def test_a_failing_fsync_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failures: list[OSError] = []

    def fails(_file: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with Journal(path, IDENTITY, 10) as journal:
        journal.on_failure = failures.append
        monkeypatch.setattr(os, "fsync", fails)
        journal.append(1, DONE)
        await journal.flush()
        journal.append(2, DONE)
        await journal.flush()
    assert [failure.errno for failure in failures] == [errno.EIO]


LIMITED = """
import asyncio, resource, sys
from pathlib import Path
from batch.results.journal import Identity, Journal
from batch.model import Outcome, Result, Status

async def main():
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, hard))
    failures = []
    with Journal(Path(sys.argv[1]), Identity(*sys.argv[2:6]), 500) as journal:
        journal.on_failure = failures.append
        for row in range(1, 501):
            journal.append(row, Outcome(Result(Status.SUCCEEDED, "", 204), row))
            if row % 7 == 0:
                await journal.flush()
        await journal.flush()
    print(len(failures), Path(sys.argv[1]).stat().st_size)
    # What measures coverage writes a larger file when this ends.
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

asyncio.run(main())
"""


def test_a_file_that_may_not_grow_keeps_every_line_that_fitted(path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, path, *HELD_BY],
        check=True,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.stdout.split() == ["1", "3000"]
    kept = recorded(path, rows=500)
    assert list(kept) == list(range(1, len(kept) + 1))
    assert len(kept) > 7
    assert all(outcome.attempts == row for row, outcome in kept.items())


UNSEEN = Outcome(Result(Status.UNCONFIRMED, "interrupted"))
CUT = Outcome(Result(Status.FAILED, "server_error", 500), 3, 1_700_000_000.0, 1_700_000_002.0, 2000)

REPORT = "cd" * 32
NEXT = replace(IDENTITY, command="resume", sha256=REPORT)
"""The run that takes up the report which the run of `IDENTITY` has written."""


async def settle(journal: Journal, *rows: int) -> None:
    """Bring rows to their outcome."""
    for row in rows:
        journal.begin(row)
        journal.append(row, numbered(row))
    await journal.flush()


def doubts(path: Path) -> set[int]:
    """Return what a run that goes on with this journal has to doubt."""
    with Journal(path, IDENTITY, 10) as journal:
        return journal.in_doubt


def write_whole(path: Path, *, identity: Identity = IDENTITY, in_doubt: Sequence[int] = ()) -> None:
    """Write the journal of a run that got as far as having written its report."""

    async def running() -> None:
        with Journal(path, identity, 10) as journal:
            await settle(journal, 4)
            journal.in_doubt |= set(in_doubt)
            journal.note_written(REPORT, stopped=False)

    run_virtually(running())


def content(path: Path) -> bytes:
    return path.read_bytes()


def extend(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


async def test_a_row_that_is_begun_stands_in_the_file_before_anything_can_be_sent(path: Path) -> None:
    with Journal(path, IDENTITY, 10) as journal:
        before = content(path)
        journal.begin(3)
        assert content(path) == before + journal_lines({"sent": 3}, after=before)


async def test_a_row_that_is_begun_takes_what_was_gathered_before_it_along(path: Path) -> None:
    with Journal(path, IDENTITY, 10) as journal:
        journal.append(1, DONE)
        assert outcome_lines(path) == []
        journal.begin(2)
        *_, outcome, sent = content(path).splitlines()
        assert (orjson.loads(outcome)["row"], orjson.loads(sent)["sent"]) == (1, 2)
        assert journal.outcome(1) == DONE


@pytest.mark.parametrize("room", [0, 1, 10])
async def test_no_row_is_begun_on_a_full_disk_and_nothing_follows(
    path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    failures: list[OSError] = []
    with Journal(path, IDENTITY, 10) as journal:
        journal.on_failure = failures.append
        size = len(content(path))
        FillingDisk(room, monkeypatch)
        with pytest.raises(OutputError, match="journal: cannot be written: No space left"):
            journal.begin(3)
        monkeypatch.undo()  # there is room again: still nothing may follow
        with pytest.raises(OutputError, match="No space left"):
            journal.begin(4)
        journal.append(5, DONE)
        await journal.flush()
        assert [failure.errno for failure in failures] == [errno.ENOSPC]
        assert len(content(path)) == size + room
    assert doubts(path) == set()
    assert recorded(path) == {}


async def test_rows_that_were_begun_are_in_doubt_until_they_have_an_outcome(path: Path) -> None:
    with Journal(path, IDENTITY, 10) as journal:
        for row in (1, 2, 3):
            journal.begin(row)
        await settle(journal, 2)
    assert doubts(path) == {1, 3}
    with Journal(path, IDENTITY, 10) as journal:
        await settle(journal, 1, 7)
        journal.begin(9)
    assert doubts(path) == {3, 9}


async def test_the_doubts_of_a_written_report_replace_those_before(path: Path) -> None:
    with Journal(path, IDENTITY, 10) as journal:
        for row in (1, 2, 3):
            journal.begin(row)
        await settle(journal, 4)
        journal.leave({2: UNSEEN, 8: UNSEEN, 3: CUT})
        journal.note_written(REPORT, stopped=True)
    assert doubts(path) == {2, 8}
    with Journal(path, IDENTITY, 10) as journal:
        journal.begin(5)
        await settle(journal, 2)
        journal.leave({8: CUT})
        journal.note_written(REPORT, stopped=True)
        assert journal.outcome(2) == numbered(2)
    with Journal(path, IDENTITY, 10) as journal:
        journal.begin(6)
    assert doubts(path) == {6}
    assert recorded(path) == {2: numbered(2), 4: numbered(4)}


async def test_what_a_stop_has_cut_short_is_continued_with_its_attempts_and_its_first_start(
    path: Path,
) -> None:
    with Journal(path, IDENTITY, 10) as journal:
        journal.leave({2: CUT, 5: CUT})
        journal.note_written(REPORT, stopped=True)
    with Journal(path, IDENTITY, 10) as journal:
        assert (journal.unsettled, journal.settled) == ({2: CUT, 5: CUT}, 0)
        journal.begin(2)
        later = DONE._replace(started_at=1_700_000_060.0, finished_at=1_700_000_061.0, duration_ms=1000)
        journal.append(2, later)
        await journal.flush()
        whole = later._replace(attempts=4, started_at=CUT.started_at, duration_ms=61_000)
        assert journal.outcome(2) == whole
        journal.leave({5: UNSEEN._replace(attempts=1)})
        journal.note_written(REPORT, stopped=True)
    with Journal(path, IDENTITY, 10) as journal:
        assert journal.outcome(2) == whole
        assert journal.unsettled == {5: CUT._replace(result=UNSEEN.result, attempts=4)}
        assert journal.in_doubt == {5}


def test_a_row_cut_short_that_was_sent_again_before_a_kill_is_in_doubt_and_keeps_its_attempts(
    path: Path,
) -> None:
    async def killed() -> None:
        with Journal(path, IDENTITY, 10) as journal:
            journal.begin(2)

    with Journal(path, IDENTITY, 10) as journal:
        journal.leave({2: CUT})
        journal.note_written(REPORT, stopped=True)
    run_virtually(killed())
    with Journal(path, IDENTITY, 10) as journal:
        assert journal.unsettled == {2: CUT._replace(result=UNSEEN.result)}
        assert journal.in_doubt == {2}


def test_another_runs_journal_is_discarded_once_its_report_holds_everything(path: Path) -> None:
    write_whole(path, in_doubt=[2])
    with Journal(path, NEXT, 3, supersedes=True) as journal:
        assert (journal.settled, journal.in_doubt) == (0, set())
    header, holder = map(orjson.loads, path.read_bytes().splitlines())
    assert (header["command"], header["sha256"], holder["rows"]) == ("resume", REPORT, 3)


def test_another_runs_journal_is_kept_where_nothing_holds_what_it_says(path: Path) -> None:
    write_whole(path)
    before = path.read_bytes()
    with pytest.raises(InputUnusableError, match="interrupted associate"):
        Journal(path, replace(NEXT, sha256=IDENTITY.sha256), 10)
    assert path.read_bytes() == before
    told: list[str] = []
    with Journal(path, NEXT, 10, notify=told.append) as journal:
        assert (journal.settled, journal.in_doubt) == (0, set())
    assert "the journal of an interrupted associate is kept as" in told[0], "it does not name the pairs"
    assert list(path.parent.glob("*.interrupted-*"))


@pytest.mark.parametrize(
    "after",
    [
        [lines.holder(1, "h", "2026-01-01T00:00:00+00:00", 10, 10), lines.outcome(7, DONE)],
        [lines.holder(1, "h", "2026-01-01T00:00:00+00:00", 10, 10), lines.sent(7)],
        [lines.holder(1, "h", "2026-01-01T00:00:00+00:00", 10, 10)],
    ],
    ids=["an outcome", "a row begun", "a holder"],
)
@pytest.mark.parametrize("torn", [False, True])
def test_another_runs_journal_with_anything_after_its_report_is_refused(
    path: Path, after: list[bytes], *, torn: bool
) -> None:
    write_whole(path)
    extend(path, journal_lines(*after, after=content(path))[: -1 if torn else None])
    before = path.read_bytes()
    with pytest.raises(InputUnusableError, match=r"interrupted associate.*--restart"):
        Journal(path, NEXT, 10, supersedes=True)
    assert path.read_bytes() == before


def test_another_runs_journal_without_a_report_is_refused(path: Path) -> None:
    record(path, {4: DONE})
    with pytest.raises(InputUnusableError, match=r"interrupted associate.*--restart"):
        Journal(path, NEXT, 10, supersedes=True)
    assert recorded(path) == {4: DONE}


@pytest.mark.parametrize("first", [b"", b"my notes\n", b"{}\n"], ids=["nothing", "a text", "no header"])
def test_what_is_no_runs_journal_is_refused_whatever_its_last_line_says(path: Path, first: bytes) -> None:
    path.write_bytes(first + journal_lines(lines.written(REPORT, [], {}, stopped=True)))
    before = path.read_bytes()
    with pytest.raises(OutputError, match=r"line 1.*--restart"):
        Journal(path, NEXT, 10, supersedes=True)
    assert path.read_bytes() == before


def test_a_run_of_the_same_identity_goes_on_although_it_would_supersede(path: Path) -> None:
    write_whole(path, in_doubt=[2])
    with Journal(path, IDENTITY, 10, supersedes=True) as journal:
        assert (journal.ended, journal.settled, journal.in_doubt) == (False, 1, {2})


@pytest.mark.parametrize(
    ("identity", "ended"),
    [
        (replace(IDENTITY, sha256=REPORT), True),
        (replace(IDENTITY, sha256=REPORT, only=("timeout",)), False),
        (NEXT, False),
    ],
    ids=["the same command", "with other options", "another command"],
)
def test_a_run_has_ended_when_its_command_finds_the_very_report_that_it_wrote(
    path: Path, identity: Identity, *, ended: bool
) -> None:
    write_whole(path)
    with Journal(path, identity, 10, supersedes=True) as journal:
        assert journal.ended is ended
        assert journal.settled == 0
    assert ended or recorded(path, identity=identity) == {}


def test_a_line_torn_after_a_written_report_is_cut_off_for_the_same_run(path: Path) -> None:
    write_whole(path, in_doubt=[2, 3])
    whole = path.read_bytes()
    extend(path, lines.holder(1, "h", "2026-01-01T00:00:00+00:00", 10, 10))
    with Journal(path, IDENTITY, 10, supersedes=True) as journal:
        assert (journal.ended, journal.in_doubt, journal.outcome(4)) == (False, {2, 3}, numbered(4))
    kept, holder = path.read_bytes()[: len(whole)], path.read_bytes()[len(whole) :]
    assert kept == whole
    assert orjson.loads(holder)["pid"] == os.getpid()


def test_a_report_that_is_noted_only_in_part_is_not_noted(path: Path) -> None:
    write_whole(path, in_doubt=[1, 2, 10])
    whole = path.read_bytes()
    start = whole.rindex(b'{"written"')
    for end in range(start, len(whole)):
        path.write_bytes(whole[:end])
        assert doubts(path) == set(), end


@pytest.mark.parametrize(
    "remove",
    [
        lambda path: path.unlink(),
        lambda path: path.rename(path.with_name("elsewhere")),
        lambda path: (path.unlink(), path.write_bytes(b"another")),
    ],
    ids=["removed", "renamed", "replaced"],
)
async def test_a_journal_that_is_gone_while_the_run_is_under_way_is_told_with_the_next_sync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, remove: Callable[[Path], object]
) -> None:
    path = tmp_path / "folder" / "j"
    path.parent.mkdir()
    failures: list[OSError] = []
    fsync, synced = os.fsync, deque[object]()
    with Journal(path, IDENTITY, 10) as journal:
        journal.on_failure = failures.append
        await settle(journal, 1)
        assert not failures
        remove(path)
        monkeypatch.setattr(os, "fsync", lambda file: synced.append(fsync(file)))
        journal.append(2, DONE)
        await journal.flush()
        assert len(synced) == 1
        assert [type(failure) for failure in failures] == [FileNotFoundError]
        assert journal.failure is failures[0]
        with pytest.raises(OutputError, match="removed"):
            journal.begin(3)


async def test_a_journal_goes_on_in_its_folder_wherever_that_is_moved(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "j"
    path.parent.mkdir()
    with Journal(path, IDENTITY, 10) as journal:
        await settle(journal, 1)
        path.parent.rename(tmp_path / "elsewhere")
        path.parent.mkdir()
        await settle(journal, 2)
    assert list(recorded(tmp_path / "elsewhere" / "j")) == [1, 2]
    assert not path.exists()


class Onlooker:
    """Holds the journal shared; time passes only where somebody sleeps, and then it may let go."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch, *, stays: float) -> None:
        self._file = path.open("rb")
        self._stays = stays
        self.now = 100.0
        fcntl.flock(self._file, fcntl.LOCK_SH)
        monkeypatch.setattr(lock, "time", SimpleNamespace(monotonic=lambda: self.now, sleep=self._sleep))

    def _sleep(self, seconds: float) -> None:
        self.now += seconds
        if self.now - 100.0 >= self._stays:
            self._file.close()

    def close(self) -> None:
        self._file.close()


def test_the_lock_is_awaited_while_somebody_looks_on(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record(path, {4: DONE})
    Onlooker(path, monkeypatch, stays=0.1)
    assert recorded(path) == {4: DONE}


def test_the_lock_is_not_awaited_for_long(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record(path, {4: DONE})
    onlooker = Onlooker(path, monkeypatch, stays=3600)
    with pytest.raises(BusyError, match="another run is at work here"):
        Journal(path, IDENTITY, 10)
    assert 0.1 < onlooker.now - 100 < 1
    onlooker.close()


def test_a_free_lock_is_taken_without_waiting(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record(path, {})
    onlooker = Onlooker(path, monkeypatch, stays=0)
    onlooker.close()
    assert recorded(path) == {}
    assert onlooker.now == 100


def failing_folders(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Make every fsync of a folder fail, and none of a file."""
    fsync = os.fsync

    def sync(file: int) -> None:
        if os.path.isdir(f"/dev/fd/{file}"):
            raise OSError(number, os.strerror(number))
        fsync(file)

    monkeypatch.setattr(os, "fsync", sync)


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP], ids=errno.errorcode.get)
def test_a_file_system_that_cannot_sync_folders_keeps_journals_all_the_same(
    path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    failing_folders(monkeypatch, number)
    Folder(path.parent).sync()
    record(path, {4: DONE})
    with Journal(path, IDENTITY, 10) as journal:
        assert journal.outcome(4) == DONE
        journal.remove()
    assert not path.exists()


def test_a_folder_that_a_broken_disk_does_not_sync_is_no_synced_folder(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing_folders(monkeypatch, errno.EIO)
    with pytest.raises(OSError, match="Input/output error"):
        Folder(path.parent).sync()


def test_a_folder_that_a_broken_disk_does_not_sync_is_an_output_error_at_the_start(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing_folders(monkeypatch, errno.EIO)
    with pytest.raises(OutputError, match="cannot be written: Input/output error"):
        Journal(path, IDENTITY, 10)


def test_a_folder_that_a_broken_disk_does_not_sync_is_an_output_error_at_the_end(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Journal(path, IDENTITY, 10) as journal:
        failing_folders(monkeypatch, errno.EIO)
        with pytest.raises(OutputError, match=r"cannot be removed: Input/output error; .*the same command"):
            journal.remove()


ROWS = 12
some_rows = st.integers(1, ROWS)
row_sets = st.frozensets(some_rows, max_size=4)
steps = st.one_of(
    st.tuples(st.just("begin"), some_rows),
    st.tuples(st.just("append"), some_rows),
    st.tuples(st.just("flush"), st.none()),
    st.tuples(st.just("written"), row_sets),
    st.tuples(st.just("reopen"), st.none()),
)
courses = st.lists(steps, max_size=25)


@dataclass
class Told:
    """What whole lines say, read by the rules of the format alone."""

    outcomes: dict[int, int] = field(default_factory=dict)
    in_doubt: set[int] = field(default_factory=set)

    @classmethod
    def by(cls, journal: bytes) -> "Told":
        told = cls()
        for line in journal.split(b"\n")[:-1]:
            match orjson.loads(line):
                case {"row": row, "attempts": attempts}:
                    told.outcomes[row] = attempts
                    told.in_doubt.discard(row)
                case {"sent": row}:
                    told.in_doubt.add(row)
                case {"in_doubt": rows}:
                    told.in_doubt = set(rows)
        return told

    @classmethod
    def to_next(cls, path: Path) -> "Told":
        with Journal(path, IDENTITY, ROWS) as journal:
            found = {row: outcome for row in range(1, ROWS + 1) if (outcome := journal.outcome(row))}
            assert [row for row in range(1, ROWS + 1) if row in journal] == list(found)
            assert journal.settled == len(found)
            assert found == {row: numbered(outcome.attempts) for row, outcome in found.items()}
            return cls({row: outcome.attempts for row, outcome in found.items()}, journal.in_doubt)


def take(path: Path, course: Sequence[tuple[str, Any]]) -> None:
    """Write a journal by so many steps; where it is opened anew, what was not yet handed over is lost."""
    waiting, numbers = deque(course), iter(range(1, 1000))

    async def until_killed() -> None:
        with Journal(path, IDENTITY, ROWS) as journal:
            while waiting and (step := waiting.popleft())[0] != "reopen":
                match step:
                    case "begin", row:
                        journal.begin(row)
                    case "append", row:
                        journal.append(row, numbered(next(numbers)))
                    case "flush", _:
                        await journal.flush()
                    case "written", rows:
                        await journal.flush()
                        journal.leave(dict.fromkeys(rows, UNSEEN))
                        journal.note_written(REPORT, stopped=True)
                        return

    run_virtually(until_killed())
    while waiting:
        run_virtually(until_killed())


@settings(max_examples=60)
@given(course=courses, cut=st.floats(0, 1), again=courses)
def test_a_journal_cut_anywhere_says_what_its_whole_lines_say_and_can_be_continued(
    course: list[tuple[str, Any]], cut: float, again: list[tuple[str, Any]]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "j")
        take(path, course)
        whole = path.read_bytes()
        kept = whole[: round(cut * len(whole))]
        path.write_bytes(kept)
        assert Told.to_next(path) == Told.by(kept)
        take(path, again)
        grown = path.read_bytes()
        assert grown.startswith(kept[: kept.rfind(b"\n") + 1])
        assert Told.to_next(path) == Told.by(grown)
