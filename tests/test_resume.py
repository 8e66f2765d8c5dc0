"""Reports taken up again and taken back: what was through stays, what is told stays true over all runs."""

import asyncio
import csv
import json
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import PROJECT, SandboxTransport, fpga, image, run_virtually
from test_truth import FULL_IMAGE, PATIENT, POLICY, SITE, UNSOUND, faults, make_sandbox, rows

from batch.engine.pool import Engine
from batch.engine.rate import Rate
from batch.engine.retry import RetryPolicy
from batch.errors import InterruptedRunError
from batch.input import open_source
from batch.model import READ_BACK, UNREAD, Outcome, Record, Request, Response, Result, Status
from batch.results.journal import Journal
from batch.results.report import REPORT_COLUMNS, ReportFormat, open_report, read_summary, recorded
from batch.results.resume import continued, is_in_doubt, is_open, merged, undoable
from batch.run import Run, RunEnd, RunSettings
from jobs.association import JOBS, AssociationJob, Disassociate
from jobs.sandbox import NO_FAULTS, Faults, Sandbox
from jobs.sandbox.service import Reply

FORMS = list(ReportFormat)
GRACE = 5.0
ALL_LOST = Faults(drop_after=1.0)
NOTHING_DONE = Faults(flow_limit=1.0)

statuses = st.sampled_from(Status)
times = st.none() | st.sampled_from(
    ["2026-01-01T00:00:00.000Z", "2026-01-01T00:00:01.250Z", "2026-01-02T00:00:00.000Z"]
)
records = st.builds(
    Record,
    st.integers(1, 99),
    statuses,
    st.sampled_from(["", "timeout", "image_full"]),
    attempts=st.integers(0, 5),
    started_at=times,
    finished_at=times,
    duration_ms=st.none() | st.integers(0, 10**6),
)


@pytest.fixture(autouse=True, scope="module")
def _virtual_time() -> Iterator[None]:
    """Let every run's time pass at once; whether its files survive a power cut is not asked here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncio, "run", run_virtually)
        patch.setattr(os, "fsync", lambda _file: None)
        yield


class Ending(Enum):
    WHOLE = "whole"
    STOPPED = "stopped"
    KILLED = "killed"


class Killed(SystemExit):
    """Ends everything where it stands, as a kill does."""


class EndingTransport(SandboxTransport):
    """Ends the run before it sends one request, or after."""

    def __init__(self, sandbox: Sandbox, ending: Ending, requests: int, *, sends_last: bool) -> None:
        super().__init__(sandbox)
        self._ending = ending
        self._left = requests
        self._sends_last = sends_last
        self.engine: Engine | None = None
        self.requests = 0

    async def send(self, request: Request) -> Response:
        self.requests += 1
        self._left -= 1
        if self._left or self._ending is Ending.WHOLE:
            return await super().send(request)
        if self._ending is Ending.STOPPED:
            assert self.engine is not None
            self.engine.stop(InterruptedRunError("stopped", signal.SIGTERM), grace=GRACE)
            if not self._sends_last:
                await asyncio.sleep(2 * GRACE)
            return await super().send(request)
        if self._sends_last:
            with suppress(Exception):
                await super().send(request)
        raise Killed


@dataclass
class Project:
    """A folder with a report, and the service it tells of."""

    folder: Path
    sandbox: Sandbox
    policy: RetryPolicy = POLICY
    requests: int = 0
    report: Path = field(init=False)
    was: frozenset[tuple[str, str, str]] = field(init=False)

    def __post_init__(self) -> None:
        self.report = self.folder / "report.csv"
        self.was = self.now

    @property
    def now(self) -> frozenset[tuple[str, str, str]]:
        return frozenset(self.sandbox.associations)

    def run(
        self,
        command: str,
        source: Path,
        report: Path,
        *,
        only: Collection[str] = (),
        ending: Ending = Ending.WHOLE,
        after: int = 1,
        sends_last: bool = True,
        concurrency: int = 4,
    ) -> RunEnd:
        """Do what the command of this name does; a run may be ended at its so many-th request."""
        transport = EndingTransport(self.sandbox, ending, after, sends_last=sends_last)

        @asynccontextmanager
        async def connect() -> AsyncIterator[EndingTransport]:
            yield transport

        @contextmanager
        def watch(engine: Engine, _rows: int) -> Iterator[None]:
            transport.engine = engine
            yield

        with opened(command, source) as (rows_of_it, job):
            run_settings = RunSettings(
                command=command,
                program="fpga-batch",
                report=report,
                failures=None,
                target=SITE.address(),
                rate=Rate(1e6),
                concurrency=concurrency,
                policy=self.policy,
                limits=PATIENT,
                in_place=command == "resume" and report == source,
                only=frozenset(only),
            )
            try:
                end = Run.prepare(rows_of_it, job, run_settings).execute(connect, watch)
            finally:
                self.requests += transport.requests
        self.report = report
        return end

    def start(self, given_rows: Sequence[Sequence[str]], *, job: str = "associate", **how: Any) -> RunEnd:
        """Make the first report."""
        pairs = self.folder / "pairs.csv"
        with pairs.open("w", newline="") as file:
            csv.writer(file).writerows([("fpga_image_id", "note", "image_id"), *map(noted, given_rows)])
        return self.run(job, pairs, self.report, **how)

    def resume(self, report: Path | None = None, **how: Any) -> RunEnd:
        """Take the report up, in its place or elsewhere."""
        return self.run("resume", self.report, report or self.report, **how)

    def told(self) -> list[dict[str, str]]:
        with self.report.open(newline="") as file:
            return list(csv.DictReader(file))

    def tell(self, told: Sequence[dict[str, str]]) -> None:
        """Change the report by hand."""
        with self.report.open("w", newline="") as file:
            writer = csv.DictWriter(file, told[0], lineterminator="\n")
            writer.writeheader()
            writer.writerows(told)

    def correct(self, row: int, pair: tuple[str, str]) -> None:
        """Put another pair into a row of the report."""
        told = self.told()
        told[row - 1].update(fpga_image_id=pair[0], image_id=pair[1])
        self.tell(told)

    def outcomes(self) -> list[tuple[str, str, str]]:
        return [(row["row"], row["outcome"], row["reason"]) for row in self.told()]

    def lines(self) -> list[bytes]:
        """Return the report's rows as they stand in it."""
        lines = self.report.read_bytes().split(b"\n")[:-1]
        return lines[1:] if self.report.suffix == ".csv" else [line.lstrip(b",") for line in lines]


@contextmanager
def opened(command: str, path: Path) -> Iterator[tuple[Any, AssociationJob]]:
    """Open a command's input as the command line does, with the job to do."""
    columns = AssociationJob.columns
    match command:
        case "resume":
            with open_report(str(path), columns) as report:
                yield report, JOBS[report.job](SITE)
        case "undo":
            with open_report(str(path), columns, undoable) as report:
                yield report, Disassociate(SITE)
        case name:
            with open_source(str(path), format=None, columns=columns, reserved=REPORT_COLUMNS) as source:
                yield source, JOBS[name](SITE)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Return a project of a service that does what it is asked."""
    return Project(tmp_path, make_sandbox([], {}, 0))


@contextmanager
def troubled(before: Collection[tuple[int, int]], chances: dict[str, float], seed: int) -> Iterator[Project]:
    """Give a project of a service with faults; for one example of a property."""
    with tempfile.TemporaryDirectory() as folder:
        yield Project(
            Path(folder),
            make_sandbox(before, chances, seed),
            RetryPolicy(2, 0.0002, 0.001, longest_hint=0.02, patience=0.02),
        )


def noted(pair: Sequence[str]) -> tuple[str, str, str]:
    return pair[0], "kept, as it is", pair[1]


def pair_of(row: dict[str, str]) -> tuple[str, str, str]:
    return PROJECT, row["fpga_image_id"], row["image_id"]


def attempts_of(told: Sequence[dict[str, str]]) -> int:
    return sum(int(row["attempts"]) for row in told)


def is_through(row: dict[str, str]) -> bool:
    return Status(row["outcome"]).is_through


def check_truth(project: Project) -> None:
    """Hold every row of a report of associations against the service before all runs and now."""
    for row in project.told():
        before, now = (pair_of(row) in associations for associations in (project.was, project.now))
        match Status(row["outcome"]):
            case Status.SUCCEEDED:
                assert now
                assert not (before and row["http_status"] == "204")
            case Status.UNCHANGED:
                assert before
                assert now
            case Status.FAILED:
                assert row["reason"]
                assert now is before
            case Status.PENDING:
                assert now is before
            case Status.DUPLICATE | Status.INVALID:
                assert row["attempts"] == "0"


def sound(*numbers: int) -> list[tuple[str, str]]:
    return [(fpga(number), image(0)) for number in numbers]


@given(records, st.sets(st.sampled_from(["", "timeout", "image_full"])))
def test_open_are_the_rows_that_are_not_through_and_have_a_reason_asked_for(
    record: Record, only: set[str]
) -> None:
    is_asked_for = not only or record.reason in only
    through = record.status in (Status.SUCCEEDED, Status.UNCHANGED, Status.DUPLICATE)
    assert is_open(record, only) is (is_asked_for and not through)


@pytest.mark.parametrize("status", Status)
def test_only_an_unconfirmed_row_is_in_doubt(status: Status) -> None:
    assert is_in_doubt(Record(1, status)) is (status is Status.UNCONFIRMED)
    assert is_in_doubt(Result(status, "timeout")) is (status is Status.UNCONFIRMED)
    assert not is_in_doubt(Record(1, status, UNREAD))


@given(records)
def test_only_what_succeeded_is_taken_back_and_begins_anew_under_its_label(record: Record) -> None:
    expected = Record(record.row, Status.PENDING, "not_sent")
    assert undoable(record) == (expected if record.status is Status.SUCCEEDED else None)


@given(st.none() | records, records)
def test_two_runs_of_a_row_merge_into_what_the_later_says_and_what_both_took(
    earlier: Record | None, new: Record
) -> None:
    record = merged(earlier, new)
    assert record[:7] == new[:7]
    assert record.attempts == new.attempts + (earlier.attempts if earlier else 0)
    if earlier and earlier.attempts:
        assert record.started_at == (earlier.started_at or new.started_at)
        assert record.finished_at == (new.finished_at or earlier.finished_at)
        assert (record.duration_ms or 0) >= (earlier.duration_ms or 0) + (new.duration_ms or 0)
    else:
        assert record == new


whole_seconds = st.integers(1_700_000_000, 1_700_000_999)
outcomes = st.builds(
    Outcome,
    st.builds(Result, statuses),
    st.integers(1, 5),
    whole_seconds,
    whole_seconds,
    st.integers(0, 10**6),
)


@given(outcomes, outcomes)
def test_a_row_that_a_run_takes_up_twice_ends_as_one_that_two_runs_take_up(
    earlier: Outcome, new: Outcome
) -> None:
    assert recorded(1, continued(earlier, new)) == merged(recorded(1, earlier), recorded(1, new))
    assert continued(None, new) == new


@pytest.mark.parametrize(
    ("finished_at", "took", "duration_ms"),
    [
        ("2026-01-01T00:00:07.250Z", 40, 7250),
        ("2026-01-01T00:00:00.010Z", 40, 1040),
        ("2025-12-31T23:00:00.000Z", 40, 1040),
    ],
    ids=["by the clock", "by what was measured", "though the clock was put back"],
)
def test_the_duration_runs_from_the_first_attempt_of_all_runs_to_the_last_result(
    finished_at: str, took: int, duration_ms: int
) -> None:
    start = "2026-01-01T00:00:00.000Z"
    earlier = Record(1, Status.FAILED, attempts=1, started_at=start, finished_at=start, duration_ms=1000)
    new = Record(1, Status.SUCCEEDED, attempts=1, started_at=start, finished_at=finished_at, duration_ms=took)
    assert merged(earlier, new).duration_ms == duration_ms


@dataclass(frozen=True)
class Step:
    """One resume, and what a hand did to the report before."""

    only: frozenset[str]
    cut: frozenset[int]
    elsewhere: bool
    chances: dict[str, float]
    ending: Ending
    after: int
    sends_last: bool


endings = st.sampled_from([Ending.WHOLE, Ending.WHOLE, Ending.STOPPED, Ending.KILLED])
steps = st.builds(
    Step,
    only=st.just(frozenset())
    | st.frozensets(st.sampled_from(["not_sent", "server_error", "timeout", "connection", "image_full"])),
    cut=st.frozensets(st.integers(0, 20), max_size=3),
    elsewhere=st.booleans(),
    chances=faults,
    ending=endings,
    after=st.integers(1, 12),
    sends_last=st.booleans(),
)
few_rows = rows.map(lambda given_rows: given_rows[:20])
befores = st.sets(st.tuples(st.integers(0, 13), st.sampled_from([0, 1])), max_size=8)
nine = st.integers(0, 8)  # no more than one ECS image takes
seeds = st.integers(0, 2**16)


def take(project: Project, number: int, step: Step) -> None:
    """Take one step of a story, and hold what comes of it against what was there before."""
    if told := [row for place, row in enumerate(project.told()) if place not in step.cut]:
        project.tell(told)
    before, lines, requests = project.told(), project.lines(), project.requests
    project.sandbox.faults = Faults(**step.chances)
    report = project.folder / f"report{number}.csv" if step.elsewhere else project.report
    how = {"only": step.only, "after": step.after, "sends_last": step.sends_last}
    try:
        project.resume(report, ending=step.ending, **how)
    except Killed:
        assert project.lines() == lines
        project.resume(report, only=step.only)
    after = project.told()
    assert [(row["row"], noted(pair_of(row)[1:])) for row in after] == [
        (row["row"], (row["fpga_image_id"], row["note"], row["image_id"])) for row in before
    ]
    for row, was, line, line_was in zip(after, before, project.lines(), lines, strict=True):
        assert int(row["attempts"]) >= int(was["attempts"])
        if is_through(was) or (step.only and was["reason"] not in step.only):
            assert line == line_was
    more, sent = attempts_of(after) - attempts_of(before), project.requests - requests
    assert more <= sent
    assert more == sent or step.ending is not Ending.WHOLE
    check_truth(project)


@settings(max_examples=80)
@given(
    given_rows=few_rows,
    before=befores,
    chances=faults,
    seed=seeds,
    ending=st.sampled_from([Ending.WHOLE, Ending.STOPPED]),
    after=st.integers(1, 12),
    story=st.lists(steps, min_size=1, max_size=4),
)
def test_whatever_goes_wrong_and_however_it_is_resumed_a_report_stays_whole_and_true(
    given_rows: list[tuple[str, str]],
    before: set[tuple[int, int]],
    chances: dict[str, float],
    seed: int,
    ending: Ending,
    after: int,
    story: list[Step],
) -> None:
    with troubled(before, chances, seed) as project:
        project.start(given_rows, ending=ending, after=after)
        check_truth(project)
        for number, step in enumerate(story):
            take(project, number, step)
        project.sandbox.faults = NO_FAULTS
        project.resume()
        check_truth(project)
        left = {row["outcome"] for row in project.told() if not is_through(row)}
        assert left <= {"failed", "invalid"}


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=25)
@given(
    numbers=st.lists(nine, min_size=1, max_size=10),
    unsound=st.lists(st.sampled_from(UNSOUND), max_size=2),
    before=st.sets(st.tuples(nine, st.sampled_from([0, 1])), max_size=8),
    chances=faults,
    seed=seeds,
)
def test_resuming_when_nothing_is_left_to_send_changes_not_a_byte_and_sends_nothing(
    form: ReportFormat,
    numbers: list[int],
    unsound: list[tuple[str, str]],
    before: set[tuple[int, int]],
    chances: dict[str, float],
    seed: int,
) -> None:
    with troubled(before, chances, seed) as project:
        project.report = project.folder / f"report.{form}"
        project.start([*unsound, *sound(*numbers)])
        project.sandbox.faults = NO_FAULTS
        project.resume()
        whole, requests = project.report.read_bytes(), project.requests
        end = project.resume()
        assert (project.report.read_bytes(), project.requests) == (whole, requests)
        assert (end.stopped, end.exit_code) == (None, 1 if unsound else 0)
        elsewhere = project.folder / f"elsewhere.{form}"
        project.resume(elsewhere)
        assert elsewhere.read_bytes() == whole
        assert sorted(path.name for path in project.folder.iterdir()) == sorted(
            [elsewhere.name, "pairs.csv", f"report.{form}"]
        )


@pytest.mark.parametrize("form", FORMS)
def test_a_row_that_was_through_stands_in_the_next_report_as_it_stood(
    project: Project, form: ReportFormat
) -> None:
    project.report = project.folder / f"report.{form}"
    project.start(sound(0, 1, 2, 3), ending=Ending.STOPPED, after=3, concurrency=1)
    before = [line for line in project.lines() if b"succeeded" in line]
    project.resume()
    assert len(before) == 3
    assert [line for line in project.lines() if b"succeeded" in line][:3] == before
    assert read_summary(str(project.report)).outcomes == {Status.SUCCEEDED: 4}


def test_a_reason_that_no_row_has_changes_not_a_byte(project: Project) -> None:
    project.sandbox.faults = NOTHING_DONE
    project.start(sound(0, 1))
    whole, requests = project.report.read_bytes(), project.requests
    assert project.resume(only=["image_full"]).exit_code == 1
    assert (project.report.read_bytes(), project.requests) == (whole, requests)


def test_rows_of_other_reasons_than_those_asked_for_stay_as_they_were(project: Project) -> None:
    project.sandbox.faults = NOTHING_DONE
    project.start([*sound(0, 1), UNSOUND[1]])
    told = project.told()
    told[1]["reason"] = "denied"
    project.tell(told)
    project.sandbox.faults = NO_FAULTS
    project.resume(only=["denied"])
    assert [row["outcome"] for row in project.told()] == ["failed", "succeeded", "invalid"]
    assert [project.told()[place] for place in (0, 2)] == [told[place] for place in (0, 2)]


def test_a_report_of_no_row_to_send_in_json_keeps_every_value(project: Project) -> None:
    project.report = project.folder / "report.json"
    pairs = project.folder / "pairs.json"
    own = {"note": {"nested": [1, 2.5, None, True, "x"]}, "empty": "", "nothing": None}
    pairs.write_text(json.dumps([{"fpga_image_id": fpga(0), "image": {"id": image(0)}, **own}]))
    project.run("associate", pairs, project.report)
    (before,) = json.loads(project.report.read_text())
    project.resume()
    (after,) = json.loads(project.report.read_text())
    assert after == before
    assert {name: after[name] for name in own} == own


@pytest.mark.parametrize("job", ["associate", "disassociate"])
def test_an_unconfirmed_row_that_is_found_as_it_should_be_ends_succeeded(project: Project, job: str) -> None:
    if job == "disassociate":
        project.sandbox.associations.add(PROJECT, fpga(0), image(0))
    project.sandbox.faults = ALL_LOST
    project.start(sound(0), job=job)
    (first,) = project.told()
    assert first["outcome"] == "unconfirmed"
    assert (pair_of(first) in project.now) is (job == "associate")
    project.sandbox.faults = NO_FAULTS
    project.resume()
    (second,) = project.told()
    assert (second["row"], second["outcome"]) == ("1", "succeeded")
    assert int(second["attempts"]) == int(first["attempts"]) + 2
    assert second["started_at"] == first["started_at"]


@pytest.mark.parametrize("status", [500, 403])
@pytest.mark.parametrize("again", ["resume", "associate"])
def test_a_pair_that_was_there_and_could_not_be_read_is_unchanged_in_the_end_and_survives_undo(
    project: Project, monkeypatch: pytest.MonkeyPatch, status: int, again: str
) -> None:
    project.sandbox.associations.add(PROJECT, fpga(0), image(0))
    with monkeypatch.context() as patched:
        reply = project.sandbox.reply
        refusal = Reply(status, {})
        patched.setattr(
            project.sandbox, "reply", lambda call: refusal if call.method == "GET" else reply(call)
        )
        project.start(sound(0))
    assert project.outcomes() == [("1", "unconfirmed", "unread")]
    if again == "resume":
        project.resume()
    else:
        project.start(sound(0))
    assert project.outcomes() == [("1", "unchanged", "")]
    project.run("undo", project.report, project.folder / "undone.csv")
    assert (PROJECT, fpga(0), image(0)) in project.now


def test_a_row_that_was_in_flight_when_the_run_was_killed_ends_succeeded_not_unchanged(
    project: Project,
) -> None:
    project.sandbox.faults = NOTHING_DONE
    project.start(sound(0, 1, 2))
    project.sandbox.faults = NO_FAULTS
    with pytest.raises(Killed):
        project.resume(ending=Ending.KILLED, after=2, concurrency=1)
    assert pair_of(project.told()[1]) in project.now
    project.resume()
    assert [row["outcome"] for row in project.told()] == ["succeeded"] * 3


def test_an_invalid_row_that_is_corrected_in_the_report_is_sent(project: Project) -> None:
    project.start([*sound(0), UNSOUND[1], *sound(1)])
    project.correct(2, sound(5)[0])
    others = project.told()
    project.resume()
    assert project.outcomes() == [("1", "succeeded", ""), ("2", "succeeded", ""), ("3", "succeeded", "")]
    first, corrected, last = project.told()
    assert [first, last] == [others[0], others[2]]
    assert corrected["error_message"] == ""
    assert pair_of(corrected) in project.now


def test_an_invalid_row_that_stays_invalid_keeps_its_message_wherever_it_stands(project: Project) -> None:
    project.start([*sound(0, 1), UNSOUND[1]])
    told = project.told()
    assert told[2]["error_message"].startswith("line 4: fpga_image_id: 'xyz' is not")
    project.tell([told[2], told[0]])
    project.resume()
    assert project.told() == [told[2], told[0]]


def test_an_invalid_row_that_is_corrected_wrongly_stays_invalid(project: Project) -> None:
    project.start([*sound(0), UNSOUND[1]])
    project.correct(2, (fpga(1), "no uuid"))
    requests = project.requests
    project.resume()
    assert project.outcomes()[1] == ("2", "invalid", "invalid_row")
    assert project.requests == requests


def test_a_sound_row_that_is_spoiled_in_the_report_becomes_invalid_and_says_why(project: Project) -> None:
    project.sandbox.faults = NOTHING_DONE
    project.start(sound(0, 1))
    project.sandbox.faults = NO_FAULTS
    project.correct(2, ("xyz", image(0)))
    project.resume()
    assert project.outcomes() == [("1", "succeeded", ""), ("2", "invalid", "invalid_row")]
    assert project.told()[1]["error_message"].startswith("line 3: fpga_image_id: 'xyz' is not")


def test_a_corrected_row_that_repeats_an_earlier_one_is_called_a_duplicate_of_its_label(
    project: Project,
) -> None:
    project.start([*sound(0, 1, 2), UNSOUND[1]])
    project.correct(4, sound(2)[0])
    project.tell(project.told()[1:])
    requests = project.requests
    project.resume()
    assert project.outcomes()[-1] == ("4", "duplicate", "duplicate_row")
    assert project.told()[-1]["error_message"] == "the same as row 3"
    assert project.requests == requests


@pytest.mark.parametrize("lost", [False, True], ids=["through", "unconfirmed"])
def test_a_corrected_row_that_repeats_a_later_one_of_ours_is_not_called_unchanged(
    project: Project, *, lost: bool
) -> None:
    project.sandbox.faults = ALL_LOST if lost else NO_FAULTS
    project.start([UNSOUND[1], *sound(2)])
    project.correct(1, sound(2)[0])
    project.sandbox.faults = NO_FAULTS
    project.resume()
    check_truth(project)
    assert sorted(row["outcome"] for row in project.told()) == ["duplicate", "succeeded"]


def test_a_failed_row_is_sent_although_its_duplicates_were_sorted_before_it(project: Project) -> None:
    project.sandbox.faults = NOTHING_DONE
    project.start(sound(0, 0, 1, 0))
    project.sandbox.faults = NO_FAULTS
    project.tell(sorted(project.told(), key=lambda row: row["outcome"]))
    duplicates = [row for row in project.told() if row["outcome"] == "duplicate"]
    assert project.told()[:2] == duplicates
    project.resume()
    assert project.told()[:2] == duplicates
    assert project.outcomes()[2:] == [("1", "succeeded", ""), ("3", "succeeded", "")]


@settings(max_examples=40)
@given(numbers=st.lists(st.integers(0, 12), min_size=1, max_size=10), order=st.randoms(use_true_random=False))
def test_the_order_of_a_reports_rows_does_not_decide_what_becomes_of_them(
    numbers: list[int], order: Any
) -> None:
    with troubled([], {"flow_limit": 1.0}, 0) as project:
        project.start([*sound(*numbers), *UNSOUND])
        told = project.told()
        order.shuffle(told)
        project.tell(told)
        project.sandbox.faults = NO_FAULTS
        project.resume()
        through = {"failed": "succeeded", "duplicate": "duplicate", "invalid": "invalid"}
        assert [(row["row"], row["outcome"]) for row in project.told()] == [
            (row["row"], through[row["outcome"]]) for row in told
        ]
        assert len(project.now) - len(project.was) == len(set(numbers))


@settings(max_examples=40)
@given(given_rows=few_rows, before=befores, chances=faults, seed=seeds, story=st.lists(steps, max_size=1))
def test_undo_takes_back_exactly_the_rows_that_say_succeeded(
    given_rows: list[tuple[str, str]],
    before: set[tuple[int, int]],
    chances: dict[str, float],
    seed: int,
    story: list[Step],
) -> None:
    with troubled(before, chances, seed) as project:
        project.start(given_rows)
        for number, step in enumerate(story):
            take(project, number, step)
        associated = project.now
        succeeded = [
            row for row in project.told() if row["outcome"] == "succeeded" and row["reason"] != READ_BACK
        ]
        if not succeeded:
            return
        report = project.report
        whole = report.read_bytes()
        project.run("undo", report, project.folder / "report.undo.csv")
        while any(not is_through(row) for row in project.told()):
            project.sandbox.faults = NO_FAULTS
            project.resume()
        assert [(row["row"], pair_of(row), row["job"]) for row in project.told()] == [
            (row["row"], pair_of(row), "disassociate") for row in succeeded
        ]
        assert {row["outcome"] for row in project.told()} == {"succeeded"}
        assert project.now == associated - {pair_of(row) for row in succeeded}
        assert report.read_bytes() == whole


@settings(max_examples=25)
@given(given_rows=few_rows, before=befores)
def test_undo_leaves_what_was_there_before(
    given_rows: list[tuple[str, str]], before: set[tuple[int, int]]
) -> None:
    with troubled(before, {}, 0) as project:
        project.start(given_rows)
        if project.now != project.was:
            project.run("undo", project.report, project.folder / "report.undo.csv")
            assert {row["outcome"] for row in project.told()} == {"succeeded"}
        assert project.now == project.was


def test_undo_of_what_was_undone_changes_nothing(project: Project) -> None:
    project.start(sound(0, 1))
    report, undone = project.report, project.folder / "report.undo.csv"
    project.run("undo", report, undone)
    project.run("undo", report, undone)
    assert project.outcomes() == [("1", "unchanged", ""), ("2", "unchanged", "")]


def test_an_undo_that_was_stopped_goes_on_with_the_same_command(project: Project) -> None:
    project.start([*sound(0), (fpga(1), image(FULL_IMAGE)), *sound(2, 3)])
    report, undone = project.report, project.folder / "report.undo.csv"
    how: dict[str, Any] = {"ending": Ending.STOPPED, "after": 1, "concurrency": 1}
    end = project.run("undo", report, undone, **how)
    assert end.exit_code == 128 + signal.SIGTERM
    assert [row["outcome"] for row in project.told()] == ["succeeded", *["pending"] * 3]
    project.run("undo", report, undone)
    assert [(row["row"], row["outcome"]) for row in project.told()] == [
        (str(row), "succeeded") for row in (1, 2, 3, 4)
    ]
    assert project.now == project.was


def test_a_resume_in_place_that_was_stopped_leaves_no_journal_and_is_itself_resumed(
    project: Project,
) -> None:
    project.start(sound(0, 1, 2, 3), ending=Ending.STOPPED, after=1, concurrency=1)
    journal = project.folder / "report.csv.journal"
    assert journal.exists()
    assert project.resume(ending=Ending.STOPPED, after=2, concurrency=1).exit_code == 128 + signal.SIGTERM
    assert not journal.exists()
    assert [row["outcome"] for row in project.told()] == ["succeeded"] * 3 + ["pending"]
    assert project.resume().exit_code == 0


@pytest.mark.parametrize("elsewhere", [False, True])
def test_the_attempts_of_rows_that_a_stop_cut_short_count_when_the_same_command_goes_on(
    project: Project, *, elsewhere: bool
) -> None:
    def run(**how: Any) -> RunEnd:
        if elsewhere:
            project.report = project.folder / "report.csv"
            return project.resume(project.folder / "elsewhere.csv", **how)
        return project.start(sound(0, 1, 2, 3), **how)

    if elsewhere:
        project.start(sound(0, 1, 2, 3), ending=Ending.STOPPED, after=1)
    project.sandbox.faults = ALL_LOST
    for requests in 1, 2, 3:  # it stops before all four have been taken up again
        run(ending=Ending.STOPPED, after=requests, concurrency=2)
        assert attempts_of(project.told()) == project.requests
    project.sandbox.faults = NO_FAULTS
    assert run().exit_code == 0
    assert attempts_of(project.told()) == project.requests
    assert [row["outcome"] for row in project.told()] == ["succeeded"] * 4


def test_a_resume_elsewhere_that_was_stopped_can_be_taken_up_from_its_own_report(project: Project) -> None:
    project.start(sound(0, 1, 2, 3), ending=Ending.STOPPED, after=1, concurrency=1)
    elsewhere = project.folder / "elsewhere.csv"
    project.resume(elsewhere, ending=Ending.STOPPED, after=1, concurrency=1)
    assert [row["outcome"] for row in project.told()] == ["succeeded"] * 2 + ["pending"] * 2
    assert project.resume().exit_code == 0
    assert [row["outcome"] for row in project.told()] == ["succeeded"] * 4


def kill_before_the_journal_goes(project: Project, **how: Any) -> None:
    """Resume in place; be killed when the report is there and only the journal is left."""

    def killed(_journal: Journal) -> None:
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Journal, "remove", killed)
        with pytest.raises(Killed):
            project.resume(**how)
    assert (project.folder / "report.csv.journal").exists()


def test_a_resume_that_was_killed_when_only_its_journal_was_left_is_over(project: Project) -> None:
    project.sandbox.faults = NOTHING_DONE
    project.start(sound(0, 1))
    kill_before_the_journal_goes(project)
    whole, requests = project.report.read_bytes(), project.requests
    assert project.resume().exit_code == 1
    assert (project.report.read_bytes(), project.requests) == (whole, requests)
    project.sandbox.faults = NO_FAULTS
    assert project.resume().exit_code == 0


def test_a_stopped_resume_that_was_killed_when_only_its_journal_was_left_goes_on(project: Project) -> None:
    project.start(sound(0, 1, 2, 3), ending=Ending.STOPPED, after=1, concurrency=1)
    (project.folder / "report.csv.journal").unlink()
    kill_before_the_journal_goes(project, ending=Ending.STOPPED, after=1, concurrency=1)
    assert [row["outcome"] for row in project.told()] == ["succeeded"] * 2 + ["pending"] * 2
    project.resume()
    assert [row["outcome"] for row in project.told()] == ["succeeded"] * 4


def test_a_resume_of_other_reasons_is_not_over_where_one_was_killed_when_only_its_journal_was_left(
    project: Project,
) -> None:
    project.sandbox.faults = NOTHING_DONE
    project.start(sound(0, 1))
    project.sandbox.faults = NO_FAULTS
    project.tell([{**row, "reason": reason} for row, reason in zip(project.told(), "ab", strict=True)])
    kill_before_the_journal_goes(project, only=["a"])
    project.resume()
    assert [row["outcome"] for row in project.told()] == ["succeeded"] * 2
