"""A whole run: check the input, send what is to be sent, write the report."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from batch.engine import Engine
from batch.errors import BatchError, BusyError, InputUnusableError, InterruptedRunError, OutputError
from batch.halt import NO_LIMITS, Limits
from batch.job import Job, Transport
from batch.journal import Identity, Journal, journal_path
from batch.model import Outcome, Record, Row, Status
from batch.preflight import DUPLICATE, INVALID, SEND, Preflight, preflight, problem_of
from batch.rate import Auto, Rate
from batch.report import ReportWriter, check_writable, read_summary, recorded, remove_report
from batch.resume import is_in_doubt, is_open, merged
from batch.retry import RetryPolicy
from batch.source import Input
from batch.summary import Summary, counted

Connect = Callable[[], AbstractAsyncContextManager[Transport]]
"""Gives the way to the service for the time of a run."""

Watch = Callable[[Engine, int], AbstractContextManager[None]]
"""Entered around the sending, inside the event loop, with the engine and the number of rows it is to send."""


@dataclass(frozen=True, slots=True)
class RunSettings:
    """What a run is told beyond its job and its input.

    Attributes:
        command: the command that runs; part of the run's identity, as is `target`.
        program: name and version of the program, for the journal.
        report: place of the outcome file.
        failures: place of the file of rows that did not get through, or None.
        target: where requests go when a row does not say otherwise.
        rate: requests that a scope may send.
        concurrency: requests in flight at most.
        policy: when to try again.
        limits: when to stop before the end.
        in_place: whether the report takes the input's place.
        only: reasons of the earlier outcomes that are taken up; all if there are none.
        strict: whether one invalid row refuses the whole input.
        restart: whether to discard an interrupted run's journal instead of continuing it.

    """

    command: str
    program: str
    report: Path
    failures: Path | None
    target: str
    rate: Rate | Auto
    concurrency: int
    policy: RetryPolicy
    limits: Limits = NO_LIMITS
    in_place: bool = False
    only: frozenset[str] = frozenset()
    strict: bool = False
    restart: bool = False


@dataclass(frozen=True, slots=True)
class RunEnd:
    """How a run ended.

    Attributes:
        summary: its counts.
        stopped: why it stopped before its end, or None.
        report: the outcome file, or None where it went elsewhere.
        failures: the file of rows that did not get through, or None where there is none.

    """

    summary: Summary
    stopped: BatchError | None
    report: Path | None
    failures: Path | None

    @property
    def exit_code(self) -> int:
        """The command's exit code."""
        if self.stopped:
            return self.stopped.exit_code
        return 1 if self.summary.not_through else 0


@dataclass(frozen=True, slots=True)
class Run:
    """A run that is ready to start: everything that could keep it from starting has been looked at.

    Attributes:
        source: the input.
        job: what to do with a row.
        settings: what the run was told.
        checked: what the pass over the input found.

    """

    source: Input
    job: Job[Any]
    settings: RunSettings
    checked: Preflight

    @classmethod
    def prepare(cls, source: Input, job: Job[Any], settings: RunSettings) -> Self:
        """Look at input and outputs before anything is sent.

        Raises:
            InputUnusableError: the input is no list of rows, or strictness refuses it.
            OutputError: report or failures file could not be written.

        """
        check_writable(settings.report)
        if settings.failures:
            check_writable(settings.failures)
        checked = preflight(source, job, lambda earlier: is_open(earlier, settings.only))
        if settings.strict and checked.invalid:
            first = checked.first_invalid
            assert first is not None
            raise InputUnusableError(
                f"{source.name}: {counted(checked.invalid, 'row')} of {checked.total:,} invalid, so nothing "
                f"was sent (--strict); the first: row {first.row}, {first.message}"
            )
        return cls(source, job, settings, checked)

    def execute(self, connect: Connect, watch: Watch) -> RunEnd:
        """Take every row to its outcome and write them all, in input order, to the report.

        A run that stops before its end keeps its journal, so that the next run of the same input continues
        there; but not if its report takes the input's place, for then the report is what goes on.

        Raises:
            BusyError: another run is at work on this report.
            InputUnusableError: an interrupted run of another input or job left its journal.
            InterruptedRunError: a second signal; the journal keeps what was done.
            OutputError: journal or report cannot be written; the journal keeps what was done.

        """
        settings = self.settings
        report, in_place = settings.report, settings.in_place
        with Journal(
            journal_path(report),
            self._identity(),
            self.checked.total,
            to_settle=self.checked.sendable,
            restart=settings.restart,
            supersedes=in_place,
        ) as journal:
            if in_place and not self.source.is_at(report):
                raise BusyError(f"{report} was replaced by another run just now: run the command again")
            stopped: BatchError | None = None
            if journal.ended:
                summary = read_summary(str(report))
            elif in_place and not settings.failures and self.checked.kept.rows == self.checked.total:
                summary = self.checked.kept  # nothing to send, and nothing to write that is not there
            else:
                stopped = asyncio.run(self._send(journal, connect, watch))
                if isinstance(stopped, OutputError):
                    raise stopped
                if isinstance(stopped, InterruptedRunError) and stopped.at_once:
                    raise stopped
                if journal.settled == self.checked.sendable:
                    stopped = None  # nothing was left to be stopped
                try:
                    summary = self._write_reports(journal, stopped=stopped is not None)
                except InputUnusableError as error:
                    raise InputUnusableError(
                        f"{error}; what was done is kept in {journal.path}: put the input back as it was and "
                        "run the same command again"
                    ) from error
                except OutputError as error:
                    raise OutputError(
                        f"{error}; what was done is kept in {journal.path}: when there is room and nothing "
                        "in the way, run the same command again, and it goes on from there"
                    ) from error
            if not stopped or in_place:
                journal.remove()
        return RunEnd(summary, stopped, report, settings.failures if summary.not_through else None)

    def _identity(self) -> Identity:
        settings = self.settings
        return Identity(
            settings.command,
            self.job.name,
            self.source.sha256,
            settings.target,
            tuple(sorted(settings.only)),
            self.source.name,
            settings.program,
        )

    async def _send(self, journal: Journal, connect: Connect, watch: Watch) -> BatchError | None:
        settings = self.settings
        in_doubt = journal.in_doubt.copy()
        async with connect() as transport:
            engine = Engine(
                self.job,
                transport,
                rate=settings.rate,
                concurrency=min(settings.concurrency, max(self.checked.sendable, 1)),
                policy=settings.policy,
                limits=settings.limits,
                begin=journal.begin,
                record=journal.append,
                in_doubt=in_doubt,
            )
            journal.on_failure = lambda error: engine.stop(_not_kept(journal, error), grace=0)
            with watch(engine, self.checked.sendable - journal.settled):
                await engine.run(self._to_send(journal, in_doubt))
                await journal.flush()
        journal.leave(engine.unsettled)
        # Whatever else stopped the run, without its outcomes on disk no report can be written.
        return _not_kept(journal, journal.failure) if journal.failure else engine.stopped

    def _to_send(self, journal: Journal, in_doubt: set[int]) -> Iterator[Row]:
        marks = self.checked.marks
        left = self.checked.sendable - journal.settled
        rows = self.source.rows()
        while left and (row := next(rows, None)):
            if marks[row.number - 1] == SEND and row.number not in journal:
                if row.earlier and is_in_doubt(row.earlier):
                    in_doubt.add(row.number)
                left -= 1
                yield row

    def _write_reports(self, journal: Journal, *, stopped: bool) -> Summary:
        columns, name = self.source.columns, self.job.name
        summary = Summary(name)
        with ExitStack() as files:
            place = self.settings.report
            report = files.enter_context(ReportWriter(place, name, columns))
            failures = None
            if self.settings.failures:
                # Runs of other reports may have a file of failures of the same name.
                writer = ReportWriter(self.settings.failures, name, columns, mark=place.name)
                failures = files.enter_context(writer)
            for row in self.source.rows():
                outcome = journal.outcome(row.number) or journal.unsettled.get(row.number)
                record = self._record(row, outcome, journal)
                # The cells of a row of the wrong width may stand under the wrong names: a later run that
                # reads them from here must not take them for a sound row.
                values = () if row.problem else row.values
                report.write(values, record)
                if failures and not record.status.is_through:
                    failures.write(values, record)
                summary.add(record)
            sha256 = report.finish()
            if failures and failures.rows:
                failures.finish()
                failures.commit()
            elif self.settings.failures:
                remove_report(self.settings.failures)
            journal.note_written(sha256, stopped=stopped)
            report.commit()
            if stopped and not self.settings.in_place:
                journal.note_placed()
        return summary

    def _record(self, row: Row, outcome: Outcome | None, journal: Journal) -> Record:
        """Return what the report says of a row: what this run has seen, else what is known from before."""
        label, earlier = row.label, row.earlier
        if outcome:
            return merged(earlier, recorded(label, outcome))
        mark = self.checked.marks[row.number - 1]
        if mark == INVALID and not (earlier and earlier.status is Status.INVALID):
            message = problem_of(row, self.job)
            return merged(earlier, Record(label, Status.INVALID, "invalid_row", error_message=message))
        if mark == DUPLICATE:
            message = f"the same as row {self.checked.first_of(row.number)}"
            return merged(earlier, Record(label, Status.DUPLICATE, "duplicate_row", error_message=message))
        if row.number in journal.in_doubt:
            return merged(earlier, Record(label, Status.UNCONFIRMED, "interrupted"))
        return earlier or Record(label, Status.PENDING, "not_sent")


def _not_kept(journal: Journal, error: OSError) -> OutputError:
    if isinstance(error, FileNotFoundError):
        return OutputError(
            f"{journal.path} has been moved or removed while the run was under way; sending has stopped. If "
            "it was moved, put it back and run the same command; if it is gone, so are the outcomes it held, "
            "and the same command sends every row again"
        )
    return OutputError(
        f"{journal.path}: cannot be written: {error.strerror}; sending has stopped. Make room and run the "
        "same command again: it continues where the journal ends"
    )
