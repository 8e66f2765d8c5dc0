"""A whole run: check the input, send what is to be sent, write the report."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from batch.engine import Engine, Transport
from batch.errors import BatchError, InputUnusableError, InterruptedRunError, OutputError
from batch.job import Job
from batch.journal import Identity, Journal
from batch.model import Outcome, Result, Row, Status
from batch.pace import Rate
from batch.preflight import DUPLICATE, INVALID, SEND, Preflight, preflight, problem_of
from batch.report import ReportWriter, check_writable, timestamp
from batch.retry import RetryPolicy
from batch.source import Source
from batch.summary import Summary, counted

Connect = Callable[[], AbstractAsyncContextManager[Transport]]
"""Gives the way to the service for the time of a run."""

Watch = Callable[[Engine, int], AbstractContextManager[None]]
"""Entered around the sending, inside the event loop, with the engine and the number of rows it is to send."""


@dataclass(frozen=True, slots=True)
class RunSettings:
    """What a run is told beyond its job and its input.

    Attributes:
        report: place of the outcome file.
        failures: place of the file of rows that did not get through, or None.
        target: where requests go when a row does not say otherwise; part of the run's identity.
        rate: requests that a scope may send.
        concurrency: requests in flight at most.
        policy: when to try again.
        strict: whether one invalid row refuses the whole input.
        restart: whether to discard an interrupted run's journal instead of continuing it.

    """

    report: Path
    failures: Path | None
    target: str
    rate: Rate
    concurrency: int
    policy: RetryPolicy
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

    source: Source
    job: Job[Any]
    settings: RunSettings
    checked: Preflight

    @classmethod
    def prepare(cls, source: Source, job: Job[Any], settings: RunSettings) -> Self:
        """Look at input and outputs before anything is sent.

        Raises:
            InputUnusableError: the input is no list of rows, or strictness refuses it.
            OutputError: report or failures file could not be written.

        """
        check_writable(settings.report)
        if settings.failures:
            check_writable(settings.failures)
        checked = preflight(source, job)
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

        A run that stops before its end keeps its journal: the next run of the same input continues there.

        Raises:
            BusyError: another run is at work on this report.
            InputUnusableError: an interrupted run of another input or job left its journal.
            InterruptedRunError: a second signal; the journal keeps what was done.
            OutputError: journal or report cannot be written; the journal keeps what was done.

        """
        report, failures = self.settings.report, self.settings.failures
        identity = Identity(self.job.name, self.source.sha256, self.settings.target)
        with Journal(
            journal_path(report), identity, self.checked.total, restart=self.settings.restart
        ) as journal:
            stopped, unsettled = asyncio.run(self._send(journal, connect, watch))
            if isinstance(stopped, OutputError):
                raise stopped
            if isinstance(stopped, InterruptedRunError) and stopped.at_once:
                raise stopped
            summary = self._write_reports(journal, unsettled)
            if not stopped:
                journal.remove()
        return RunEnd(summary, stopped, report, failures if summary.not_through else None)

    async def _send(
        self, journal: Journal, connect: Connect, watch: Watch
    ) -> tuple[BatchError | None, dict[int, Outcome]]:
        settings = self.settings
        async with connect() as transport:
            engine = Engine(
                self.job,
                transport,
                rate=settings.rate,
                concurrency=min(settings.concurrency, max(self.checked.sendable, 1)),
                policy=settings.policy,
                record=journal.append,
            )
            journal.on_failure = lambda error: engine.stop(_not_kept(journal, error), grace=0)
            with watch(engine, self.checked.sendable - journal.continued):
                await engine.run(self._to_send(journal))
                await journal.flush()
        # Whatever else stopped the run, without its outcomes on disk no report can be written.
        stopped = _not_kept(journal, journal.failure) if journal.failure else engine.stopped
        return stopped, engine.unsettled

    def _to_send(self, journal: Journal) -> Iterator[Row]:
        marks = self.checked.marks
        for row in self.source.rows():
            if marks[row.number - 1] == SEND and row.number not in journal:
                yield row

    def _write_reports(self, journal: Journal, unsettled: dict[int, Outcome]) -> Summary:
        columns, name = self.source.columns, self.job.name
        summary = Summary(name)
        with ExitStack() as files:
            report = files.enter_context(ReportWriter(self.settings.report, name, columns))
            failures = None
            if self.settings.failures:
                failures = files.enter_context(ReportWriter(self.settings.failures, name, columns))
            for row in self.source.rows():
                outcome = journal.outcome(row.number) or unsettled.get(row.number) or self._unsent(row)
                result = outcome.result
                # The cells of a row of the wrong width may stand under the wrong names: a later run that
                # reads them from here must not take them for a sound row.
                values = () if row.problem else row.values
                report.write(row.number, values, outcome)
                if failures and not result.status.is_through:
                    failures.write(row.number, values, outcome)
                times = timestamp(outcome.started_at) or "", timestamp(outcome.finished_at) or ""
                summary.add(result.status, result.reason, outcome.attempts, *times)
            report.commit()
            if failures and failures.rows:
                failures.commit()
            elif self.settings.failures:
                self.settings.failures.unlink(missing_ok=True)
        return summary

    def _unsent(self, row: Row) -> Outcome:
        """Say why a row without a recorded outcome was not sent."""
        mark = self.checked.marks[row.number - 1]
        if mark == INVALID:
            message = problem_of(row, self.job)
            return Outcome(Result(Status.INVALID, "invalid_row", error_message=message))
        if mark == DUPLICATE:
            message = f"the same as row {self.checked.first_of(row.number)}"
            return Outcome(Result(Status.DUPLICATE, "duplicate_row", error_message=message))
        return Outcome(Result(Status.PENDING, "not_sent"))


def journal_path(report: Path) -> Path:
    """Return the place of a report's journal."""
    return report.with_name(f"{report.name}.journal")


def _not_kept(journal: Journal, error: OSError) -> OutputError:
    return OutputError(
        f"{journal.path}: cannot be written: {error.strerror}; sending has stopped. Make room and run the "
        "same command again: it continues where the journal ends"
    )
