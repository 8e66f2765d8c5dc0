"""Whoever looks on is told how far a run is, whatever state its journal is in."""

import asyncio
import hashlib
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from support import journal_lines

from batch.errors import ConfigurationError, InputUnusableError
from batch.model import Outcome, Result, Status
from batch.results.journal import Identity, Journal, RunState, journal_path, lines, run_state

IDENTITY = Identity("resume", "associate", "ab" * 32, "https://ecs.example.com", input="pairs.csv")
DONE = Outcome(Result(Status.SUCCEEDED, "", 204), 1, 1_700_000_000.25, 1_700_000_000.5, 250)
FULL = Outcome(Result(Status.FAILED, "image_full", 400), 2, 1_700_000_001.0, 1_700_000_003.5, 2500)
HOLDER = {"pid": 7, "host": "a-host", "since": "2026-01-01T00:00:00+00:00", "rows": 10, "to_settle": 9}
HOSTILE = "\x1b[31m\u202e\n"


@pytest.fixture
def report(tmp_path: Path) -> Path:
    return tmp_path / "pairs.report.csv"


@contextmanager
def under_way(
    report: Path, *outcomes: Outcome, identity: Identity = IDENTITY, begun: Sequence[int] = ()
) -> Iterator[Journal]:
    """Be a run of ten rows that has brought the first of them to these outcomes."""

    async def settle(journal: Journal) -> None:
        for row, outcome in enumerate(outcomes, 1):
            journal.append(row, outcome)
        for row in begun:
            journal.begin(row)
        await journal.flush()

    with Journal(journal_path(report), identity, 10) as journal:
        asyncio.run(settle(journal))
        yield journal


def interrupt(report: Path, *outcomes: Outcome, identity: Identity = IDENTITY) -> bytes:
    """Leave what such a run leaves when it is killed."""
    with under_way(report, *outcomes, identity=identity):
        return journal_path(report).read_bytes()


def leave(report: Path, *entries: Any, header: Any = None) -> None:
    """Leave a journal of these lines."""
    head = lines.header(IDENTITY) if header is None else orjson.dumps(header)
    journal_path(report).write_bytes(journal_lines(head, *entries))


def state_of(report: Path) -> RunState:
    state = run_state(report)
    assert state is not None
    return state


def test_there_is_no_run_without_a_journal(report: Path) -> None:
    assert run_state(report) is None


@pytest.mark.parametrize("content", [b"", b'{"journal":2,"comm', journal_lines(lines.header(IDENTITY))])
def test_there_is_no_run_before_one_has_taken_its_journal_up(report: Path, content: bytes) -> None:
    journal_path(report).write_bytes(content)
    assert run_state(report) is None


def test_a_run_that_is_under_way_is_told_as_running_with_what_it_has_done(report: Path) -> None:
    with under_way(report, DONE, FULL, begun=[3]):
        state = state_of(report)
    assert (state.command, state.input, state.rows, state.is_running) == ("resume", "pairs.csv", 10, True)
    assert (state.summary.job, state.summary.rows, state.summary.attempts) == ("associate", 2, 3)
    assert state.summary.outcomes == {Status.SUCCEEDED: 1, Status.FAILED: 1}
    assert state.summary.reasons == {(Status.FAILED, "image_full"): 1}
    assert state.summary.finished_at == "2023-11-14T22:13:23.500Z"


def test_a_run_that_was_killed_is_told_as_interrupted(report: Path) -> None:
    interrupt(report, DONE)
    state = state_of(report)
    assert (state.is_running, state.summary.rows) == (False, 1)


def test_a_run_whose_report_is_in_its_place_is_over_once_it_lets_go_of_the_journal(report: Path) -> None:
    report.write_bytes(b"new")
    with under_way(report, DONE) as journal:
        journal.note_written(hashlib.sha256(b"new").hexdigest(), stopped=True)
        assert state_of(report).is_running
    assert run_state(report) is None
    with journal_path(report).open("ab") as file:
        file.write(journal_lines(lines.placed(), after=journal_path(report).read_bytes()))
    report.write_bytes(b"changed by hand: from here on it is the user's")
    assert run_state(report) is None


@pytest.mark.parametrize("there", [None, b"old"])
def test_a_run_whose_report_has_not_come_to_its_place_is_told_as_interrupted(
    report: Path, there: bytes | None
) -> None:
    if there:
        report.write_bytes(there)
    with under_way(report, DONE) as journal:
        journal.note_written(hashlib.sha256(b"new").hexdigest(), stopped=False)
    state = state_of(report)
    assert not state.is_running
    assert state.as_text().endswith("the same command goes on")


def test_the_rows_that_are_told_are_those_that_the_run_is_to_settle(report: Path) -> None:
    with Journal(journal_path(report), IDENTITY, 10, to_settle=4):
        pass
    state = state_of(report)
    assert (state.rows, state.to_settle) == (10, 4)
    assert "0 of 4 rows" in state.as_text()


def test_a_run_that_was_taken_up_again_after_its_report_was_written_is_told_as_interrupted(
    report: Path,
) -> None:
    with under_way(report, DONE) as journal:
        journal.note_written("cd" * 32, stopped=True)
    interrupt(report)
    state = state_of(report)
    assert (state.is_running, state.summary.rows) == (False, 1)


def test_looking_on_neither_changes_nor_keeps_the_journal(report: Path) -> None:
    before = interrupt(report, DONE)
    descriptors = len(os.listdir("/dev/fd"))
    run_state(report)
    assert len(os.listdir("/dev/fd")) == descriptors
    assert journal_path(report).read_bytes() == before
    with under_way(report):
        before = journal_path(report).read_bytes()
        run_state(report)
        assert journal_path(report).read_bytes() == before


def test_a_line_that_is_still_being_written_does_not_count_yet(report: Path) -> None:
    whole = interrupt(report, DONE, FULL)
    for end in range(whole.rindex(b'{"row":2'), len(whole)):
        journal_path(report).write_bytes(whole[:end])
        assert state_of(report).summary.rows == 1, end


def test_zero_bytes_after_the_last_line_do_not_count(report: Path) -> None:
    whole = interrupt(report, DONE)
    journal_path(report).write_bytes(whole + bytes(4096))
    assert state_of(report).summary.rows == 1


DAMAGE: dict[str, Any] = {
    "a blank line": b"\n",
    "no JSON": b"garbage\n",
    "no object": b"[1]\n",
    "no text": b"\x00\xff\n",
    "nothing": {},
    "no row begun": {"sent": 0},
    "no digest": {"written": 1, "stopped": True, "in_doubt": [], "unsettled": []},
    "nothing of what is not settled": {"written": "", "stopped": True, "in_doubt": []},
    "no outcome that is not settled": {"written": "", "stopped": True, "in_doubt": [], "unsettled": [{}]},
    "half an outcome": {"row": 2, "outcome": "succeeded"},
    "a row below the first": lines.outcome(0, DONE),
    "a row beyond the last": lines.outcome(11, DONE),
    "an unknown outcome": lines.outcome(2, DONE).replace(b"succeeded", b"perfect"),
    "no attempts": lines.outcome(2, DONE).replace(b'"attempts":1', b'"attempts":null'),
    "attempts below none": lines.outcome(2, DONE).replace(b'"attempts":1', b'"attempts":-1'),
    "attempts that are a truth": lines.outcome(2, DONE).replace(b'"attempts":1', b'"attempts":true'),
    "a status that is a truth": lines.outcome(2, DONE).replace(b"204", b"true"),
    "a duration below none": lines.outcome(2, DONE).replace(b'"duration_ms":250', b'"duration_ms":-250'),
    "a time that is a truth": lines.outcome(2, DONE).replace(b"1700000000.25", b"true"),
    "a time beyond all calendars": lines.outcome(2, DONE).replace(b"1700000000.25", b"1e300"),
    "a number of rows that is none": {**HOLDER, "rows": "many"},
    "no number of rows": {**HOLDER, "rows": None},
    "rows below none": {**HOLDER, "rows": -1},
    "no number of rows to settle": {**HOLDER, "to_settle": None},
    "a report in its place that was not written": lines.placed(),
    "a process on no host": {"pid": 7, "rows": 10},
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damage_is_told_with_its_line(report: Path, damage: bytes | dict[str, Any]) -> None:
    leave(report, HOLDER, lines.outcome(1, DONE), damage, lines.sent(3))
    with pytest.raises(InputUnusableError, match=r"pairs\.report\.csv\.journal, line 4: not a line"):
        run_state(report)


def test_an_outcome_before_anybody_took_the_journal_up_is_damage(report: Path) -> None:
    leave(report, lines.outcome(1, DONE), HOLDER)
    with pytest.raises(InputUnusableError, match="journal, line 2: not a line"):
        run_state(report)


@pytest.mark.parametrize(
    "header", [{}, {"row": 1}, HOLDER, []], ids=["nothing", "an outcome", "a holder", "no object"]
)
def test_a_first_line_that_names_no_run_is_damage(report: Path, header: Any) -> None:
    leave(report, HOLDER, lines.outcome(1, DONE), header=header)
    with pytest.raises(InputUnusableError, match="journal, line 1: not a line"):
        run_state(report)


def test_a_foreign_file_of_one_line_is_damage_like_any_other(report: Path) -> None:
    journal_path(report).write_bytes(b"\x7fELF\x02\x01")
    with pytest.raises(InputUnusableError, match="journal, line 1: not a line of this run's journal"):
        run_state(report)


def test_what_is_no_file_is_no_journal(report: Path) -> None:
    journal_path(report).mkdir()
    with pytest.raises(ConfigurationError, match=r"pairs\.report\.csv\.journal: it is no regular file"):
        run_state(report)


def test_a_person_is_told_the_rows_done_the_state_and_the_process(report: Path) -> None:
    with under_way(report, DONE, FULL):
        text = state_of(report).as_text()
    process = f"process {os.getpid()} on {socket.gethostname()}, since 20"
    assert text.startswith(
        f"resume of pairs.csv: 2 of 10 rows; under way: {process}",
    )


def test_a_person_is_told_how_an_interrupted_run_goes_on(report: Path) -> None:
    leave(
        report,
        {**HOLDER, "rows": 2_000_000, "to_settle": 1_000_000},
        *[lines.outcome(row, DONE) for row in range(1, 1201)],
    )
    assert state_of(report).as_text() == (
        "resume of pairs.csv: 1,200 of 1,000,000 rows; interrupted: process 7 on a-host, "
        "since 2026-01-01T00:00:00+00:00; the same command goes on"
    )


def test_a_program_is_told_the_same_as_plain_values(report: Path) -> None:
    leave(report, HOLDER)
    expected = {
        "state": "interrupted",
        "command": "resume",
        "input": "pairs.csv",
        "rows": 10,
        "to_settle": 9,
        "pid": 7,
        "host": "a-host",
        "since": "2026-01-01T00:00:00+00:00",
    }
    assert state_of(report).as_json() == expected
    with under_way(report):
        told = state_of(report).as_json()
    assert told == {
        **expected,
        "to_settle": 10,
        "state": "running",
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": told["since"],
    }


def test_the_process_that_is_told_is_the_last_one(report: Path) -> None:
    leave(report, HOLDER, lines.sent(1), {**HOLDER, "pid": 8})
    assert state_of(report).holder["pid"] == 8


@pytest.mark.parametrize("name", ["command", "job", "input"])
def test_a_hostile_text_in_the_header_is_escaped(report: Path, name: str) -> None:
    interrupt(report, DONE, identity=replace(IDENTITY, **{name: HOSTILE}))
    state = state_of(report)
    assert state.as_text().isprintable()
    assert all(str(value).isprintable() for value in state.as_json().values())
    assert state.summary.as_text().partition("\n")[0].isprintable()


@pytest.mark.parametrize("name", ["host", "since"])
def test_a_hostile_text_of_a_holder_is_escaped(report: Path, name: str) -> None:
    leave(report, {**HOLDER, name: HOSTILE})
    assert state_of(report).as_text().isprintable()
