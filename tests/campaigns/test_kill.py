"""A process killed at any moment, however often: the same command goes on, and in the end all is true."""

import csv
import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from enum import IntEnum
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import PATIENCE, WatchedSandbox
from support import PROJECT, fpga, image

from batch.model import Status
from jobs.sandbox import Call, Faults, Reply, Withheld

pytestmark = pytest.mark.slow

Process = subprocess.Popen[str]
Start = Callable[..., Process]
Pair = tuple[str, str]

KILLS = 40
"""At least; and each phase has to be among them."""
LATENCY = 0.003
LOOK_EVERY = 0.0005
LINE_SIZE = 280
"""Bytes of the journal that a row takes, about."""

WEIGHTS = {
    Status.SUCCEEDED: 70,
    Status.UNCHANGED: 18,
    Status.FAILED: 4,
    Status.INVALID: 4,
    Status.DUPLICATE: 4,
}
SENT = (Status.SUCCEEDED, Status.UNCHANGED, Status.FAILED)


class Line(NamedTuple):
    """A row of the input, and what is to become of it."""

    pair: Pair
    outcome: Status


class Phase(IntEnum):
    """How far a process has come, told by what it has changed in its folder."""

    START = 0
    JOURNAL_TAKEN = 1
    SENDING = 2
    REPORT_BEGUN = 3
    REPORT_WHOLE = 4
    REPORT_MOVED = 5
    JOURNAL_GONE = 6


class Moment(NamedTuple):
    """When a process is killed.

    Attributes:
        phase: that it has reached,
        delay: so many seconds ago,
        rows: when the journal had grown by about so many rows.

    """

    phase: Phase
    delay: float = 0.0
    rows: int = 0


class Kill(NamedTuple):
    """What was there when a process had been killed.

    Attributes:
        phase: how far it had come.
        kept: rows whose outcome stood in the journal.
        in_doubt: rows that stood there as sent, without an outcome.
        posts: associations that the service had been asked for in all.

    """

    phase: Phase
    kept: frozenset[int] = frozenset()
    in_doubt: frozenset[int] = frozenset()
    posts: int = 0


class Sight(NamedTuple):
    """What there is of a run's files.

    Attributes:
        report: inode and time of change, or None.
        temporary: names of the files that are, or were, to become the report.
        journal: its size, or None.

    """

    report: tuple[int, int] | None
    temporary: frozenset[str]
    journal: int | None


class Trial:
    """One run, killed and taken up again by the same command until it has ended."""

    def __init__(self, start: Callable[[], Process], command: str, report: Path, posts: list[Pair]) -> None:
        self.kills: list[Kill] = []
        self.report = report
        self._start = start
        self._command = command
        self._posts = posts
        self._journal = report.with_name(f"{report.name}.journal")
        self._at_first = self._sight()

    @property
    def is_over(self) -> bool:
        """Whether the report is in its place and the journal gone: the command would begin a new run."""
        now = self._sight()
        return now.journal is None and now.report != self._at_first.report

    @property
    def doubted(self) -> set[int]:
        """Rows whose answer may have been lost with a process."""
        return {row for kill in self.kills for row in kill.in_doubt}

    def go_through(self, moments: Iterable[Moment]) -> None:
        """Kill a process at each moment, as long as the run is not over, and let the last one end."""
        for moment in moments:
            if self.is_over:
                break
            self._kill_at(moment)
        if not self.is_over:
            process = self._start()
            end(process)
            assert process.returncode == 1, "some rows cannot get through"
        assert self.is_over
        assert {path.name for path in self.report.parent.iterdir()} == {"pairs.csv", self.report.name}

    def _kill_at(self, moment: Moment) -> None:
        before, process = self._sight(), self._start()
        deadline, due = time.monotonic() + PATIENCE, math.inf
        while process.poll() is None and (now := time.monotonic()) < due:
            assert now < deadline, f"{moment} did not come"
            phase = self._phase(before)
            if phase < Phase.REPORT_BEGUN:
                time.sleep(LOOK_EVERY)
            else:
                # A phase lasts less than a millisecond now: the process is held while it is looked at.
                process.send_signal(signal.SIGSTOP)
                phase = self._phase(before)
            if phase > moment.phase or (phase == moment.phase and self._has_grown(before, moment.rows)):
                due = min(due, now + moment.delay)
            if now < due:
                process.send_signal(signal.SIGCONT)
        process.kill()
        end(process)
        if process.returncode == -signal.SIGKILL:
            self.kills.append(Kill(self._phase(before), *self._journalled(), len(self._posts)))

    def _sight(self) -> Sight:
        report, journal = _stat(self.report), _stat(self._journal)
        names = os.listdir(self.report.parent)
        return Sight(
            report and (report.st_ino, report.st_mtime_ns),
            frozenset(each for each in names if each.endswith(".tmp")),
            None if journal is None else journal.st_size,
        )

    def _phase(self, before: Sight) -> Phase:
        last = _last_line(self._journal)
        now = self._sight()
        if now.journal is None and (before.journal is not None or now.report != before.report):
            return Phase.JOURNAL_GONE
        if now.report != before.report:
            return Phase.REPORT_MOVED
        if now.temporary - before.temporary:
            return Phase.REPORT_WHOLE if last.startswith(b'{"written"') else Phase.REPORT_BEGUN
        if now.journal == before.journal:
            return Phase.START
        return Phase.SENDING if last.startswith((b'{"sent"', b'{"row"')) else Phase.JOURNAL_TAKEN

    def _has_grown(self, before: Sight, rows: int) -> bool:
        return not rows or (self._sight().journal or 0) >= (before.journal or 0) + rows * LINE_SIZE

    def _journalled(self) -> tuple[frozenset[int], frozenset[int]]:
        """Return the rows that have an outcome in the journal, and those that are marked only."""
        if not self._journal.exists():
            return frozenset(), frozenset()
        lines = self._journal.read_bytes().splitlines(keepends=True)
        entries = [json.loads(line) for line in lines if line.endswith(b"\n")]
        if not entries or entries[0]["command"] != self._command:
            return frozenset(), frozenset()
        kept = frozenset(entry["row"] for entry in entries if "outcome" in entry)
        return kept, frozenset(entry["sent"] for entry in entries if "sent" in entry) - kept


def end(process: Process) -> None:
    """Wait for a process that ends, or has been killed."""
    _, said = process.communicate(timeout=PATIENCE)
    assert "Traceback" not in said, said


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _last_line(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(max(path.stat().st_size - 4 * LINE_SIZE, 0))
            return b"".join(file.read().splitlines()[-1:])
    except FileNotFoundError:
        return b""


@pytest.fixture
def posts(sandbox: WatchedSandbox, monkeypatch: pytest.MonkeyPatch) -> list[Pair]:
    """Return the pairs that the service is asked to associate, as it is asked."""
    asked: list[Pair] = []
    reply = sandbox.reply

    def noting(call: Call) -> Reply | Withheld:
        if call.method == "POST":
            asked.append((call.path.split("/")[-2], json.loads(call.body)["image"]["id"]))
        return reply(call)

    monkeypatch.setattr(sandbox, "reply", noting)
    return asked


def make_input(
    folder: Path, draw: random.Random, rows: int, first: int, sandbox: WatchedSandbox
) -> list[Line]:
    """Write rows of all kinds, numbered from `first`, and associate what is to be there beforehand."""
    full_image = image(first - 1)
    for other in range(10):
        sandbox.associations.add(PROJECT, fpga(first + rows + other), full_image)
    kinds = draw.choices(list(WEIGHTS), list(WEIGHTS.values()), k=rows - 1)
    lines: list[Line] = []
    for number, outcome in enumerate([Status.SUCCEEDED, *kinds], start=first):
        pair = fpga(number), image(number // 8)
        if outcome is Status.UNCHANGED:
            sandbox.associations.add(PROJECT, *pair)
        elif outcome is Status.FAILED:
            pair = fpga(number), full_image
        elif outcome is Status.INVALID:
            pair = fpga(number)[1:], image(number)
        elif outcome is Status.DUPLICATE:
            pair = draw.choice([line.pair for line in lines if line.outcome in SENT])
        lines.append(Line(pair, outcome))
    folder.mkdir()
    with (folder / "pairs.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("fpga_image_id", "image_id"), *(line.pair for line in lines)])
    return lines


def make_moments(draw: random.Random, rows: int, last: Phase) -> list[Moment]:
    """Return when to kill the processes of a run of so many rows."""
    return [
        Moment(Phase.START, draw.uniform(0, 0.5)),
        Moment(Phase.JOURNAL_TAKEN),
        *(Moment(Phase.SENDING, draw.uniform(0, 0.004), draw.randrange(rows // 2)) for _ in range(3)),
        Moment(Phase.REPORT_BEGUN, draw.uniform(0, 0.004)),
        Moment(Phase.REPORT_WHOLE),
        Moment(Phase.REPORT_MOVED),
        Moment(last, draw.uniform(0, 1) if last is Phase.START else 0),
    ]


def associated(sandbox: WatchedSandbox) -> set[Pair]:
    return {(fpga_image, own_image) for _, fpga_image, own_image in sandbox.associations}


def read_report(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def check_outcomes(report: Sequence[dict[str, str]], lines: Sequence[Line], doubted: Collection[int]) -> None:
    """Check that there is one outcome a row, in order, and each the true one.

    Where an answer may have been lost, it cannot be told that the pair was there beforehand.
    """
    assert [int(row["row"]) for row in report] == list(range(1, len(lines) + 1))
    assert [(row["fpga_image_id"], row["image_id"]) for row in report] == [line.pair for line in lines]
    for number, (line, row) in enumerate(zip(lines, report, strict=True), start=1):
        untold = line.outcome is Status.UNCHANGED and number in doubted
        assert row["outcome"] in ({line.outcome, Status.SUCCEEDED} if untold else {line.outcome}), row


def check_associations(sandbox: WatchedSandbox, before: Collection[Pair], lines: Iterable[Line]) -> None:
    """Check that the service holds what was there and what was to be done, and nothing else."""
    done = {line.pair for line in lines if line.outcome is Status.SUCCEEDED}
    assert associated(sandbox) == done.union(before)


def check_posts(
    posts: Sequence[Pair], kills: Sequence[Kill], lines: Sequence[Line], concurrency: int
) -> Counter[int]:
    """Check that only rows in doubt were sent again; return how often each row was sent."""
    numbers = {line.pair: number for number, line in enumerate(lines, start=1) if line.outcome in SENT}
    for kill in kills:
        assert not kill.kept & {numbers[pair] for pair in posts[kill.posts :]}
    for earlier, kill in pairwise([Kill(Phase.START), *kills]):
        assert len(kill.in_doubt - earlier.in_doubt) <= concurrency
    sent = Counter(numbers[pair] for pair in posts)
    for number, times in sent.items():
        assert times <= 1 + sum(number in kill.in_doubt for kill in kills)
    return sent


def tell(rows: int, kills: Sequence[Kill], sent: Counter[int]) -> None:
    phases = Counter(kill.phase for kill in kills)
    told = ", ".join(f"{phase.name.lower()} {phases[phase]}" for phase in Phase)
    again = sum(sent.values()) - len(sent)
    sys.stdout.write(f"{rows} rows, {len(kills)} kills ({told}), {again} associations sent again\n")


def test_a_run_killed_at_any_moment_ends_with_one_true_outcome_a_row(
    start: Start, sandbox: WatchedSandbox, posts: list[Pair], tmp_path: Path
) -> None:
    draw = random.Random(1)
    sandbox.faults = Faults(latency=LATENCY)
    kills: list[Kill] = []
    first = 0
    while len(kills) < KILLS or {kill.phase for kill in kills} != set(Phase):
        first += 10_000
        rows, rate, concurrency = draw.randint(300, 600), draw.randint(1000, 3000), draw.choice([4, 16, 32])
        folder = tmp_path / f"from-{first}"
        lines = make_input(folder, draw, rows, first, sandbox)
        before = associated(sandbox)
        posts.clear()
        flags = ("--rate", str(rate), "--concurrency", str(concurrency))
        command = partial(start, "associate", str(folder / "pairs.csv"), *flags, service=sandbox.url)
        trial = Trial(command, "associate", folder / "pairs.report.csv", posts)
        last = draw.choice([Phase.START, Phase.JOURNAL_GONE])
        trial.go_through(make_moments(draw, rows, last))
        kills += trial.kills

        check_outcomes(read_report(trial.report), lines, trial.doubted)
        check_associations(sandbox, before, lines)
        tell(rows, trial.kills, check_posts(posts, trial.kills, lines, concurrency))


@pytest.mark.parametrize(
    "last", [Phase.START, Phase.JOURNAL_TAKEN, Phase.JOURNAL_GONE], ids=lambda phase: phase.name
)
def test_a_report_taken_up_in_place_stands_every_kill(
    start: Start, sandbox: WatchedSandbox, posts: list[Pair], tmp_path: Path, last: Phase
) -> None:
    draw = random.Random(last)
    rows, concurrency = 500, 16
    folder = tmp_path / "run"
    report = folder / "pairs.report.csv"
    lines = make_input(folder, draw, rows, 10_000, sandbox)
    before = associated(sandbox)
    flags = ("--rate", "1500", "--concurrency", str(concurrency))
    limits = ("--max-attempts", "1", "--max-failures", "60")
    sandbox.faults = Faults(latency=LATENCY, error_before=0.2, error_after=0.2)
    stopped = start("associate", str(folder / "pairs.csv"), *flags, *limits, service=sandbox.url)
    end(stopped)
    assert stopped.returncode == 3
    earlier = read_report(report)
    outcomes = dict(enumerate((Status(row["outcome"]) for row in earlier), start=1))
    assert {Status.SUCCEEDED, Status.FAILED, Status.UNCONFIRMED, Status.PENDING} <= set(outcomes.values())

    sandbox.faults = Faults(latency=LATENCY)
    posts.clear()
    command = partial(start, "resume", str(report), *flags, service=sandbox.url)
    trial = Trial(command, "resume", report, posts)
    trial.go_through(make_moments(draw, rows // 2, last))

    later = read_report(report)
    kept = {number for number, outcome in outcomes.items() if outcome.is_through}
    assert all(later[number - 1] == earlier[number - 1] for number in kept)
    lost = {number for number in outcomes if outcomes[number] in (Status.SUCCEEDED, Status.UNCONFIRMED)}
    check_outcomes(later, lines, trial.doubted | lost)
    check_associations(sandbox, before, lines)
    sent = check_posts(posts, trial.kills, lines, concurrency)
    assert not kept & sent.keys()
    tell(rows - len(kept), trial.kills, sent)
