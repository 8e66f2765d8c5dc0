"""A whole run: check the input, send what is to be sent, write the report."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Self

from batch.engine.pool import Engine
from batch.errors import (
    BatchError,
    BusyError,
    InputUnusableError,
    InterruptedRunError,
    OutputError,
    ReportChangedError,
)
from batch.input import Input
from batch.job import Job, RowError, Transport
from batch.model import Outcome, Record, Row, Status
from batch.preflight import DUPLICATE, INVALID, KEPT, SEND, VOID, Preflight, preflight, problem_of
from batch.results.history import Changes, changes, seconds
from batch.results.journal import Identity, Journal, journal_path
from batch.results.outputs import Outputs
from batch.results.report import Place, look_at, read_summary, recorded
from batch.results.resume import is_in_doubt, is_open, merged
from batch.results.summary import Summary, counted
from batch.settings import RunEnd, RunSettings

_HOLDING = (Status.SUCCEEDED, Status.UNCHANGED)

Connect = Callable[[], AbstractAsyncContextManager[Transport]]
"""Gives the way to the service for the time of a run."""

Watch = Callable[[Engine, int], AbstractContextManager[None]]
"""Entered around the sending, inside the event loop, with the engine and the number of rows it is to send."""


@dataclass(frozen=True, slots=True)
class Run:
    """A run that is ready to start: everything that could keep it from starting has been looked at.

    Attributes:
        source: the input.
        job: what to do with a row.
        settings: what the run was told.
        checked: what the pass over the input found.
        places: of the report, and of the failures file if there is to be one.

    """

    source: Input
    job: Job[Any]
    settings: RunSettings
    checked: Preflight
    places: tuple[Place, ...]

    @classmethod
    def prepare(cls, source: Input, job: Job[Any], settings: RunSettings) -> Self:
        """Look at input and outputs before anything is sent.

        Raises:
            InputUnusableError: the input is no list of rows, or strictness refuses it.
            OutputError: report or failures file could not be written.
            UsageError: one of them would replace a file that is no outcome file of the job.

        """
        places = tuple(
            look_at(path, job.name, overwrite=settings.overwrite)
            for path in (settings.report, settings.failures)
            if path
        )
        return cls(source, job, settings, _checked(source, job, settings), places)

    def checked_anew(self) -> Self:
        """Look at the input again, as the job has learnt something; the folders stay those that were opened.

        Raises:
            InputUnusableError: the input was changed, or strictness refuses it.

        """
        return replace(self, checked=_checked(self.source, self.job, self.settings))

    def execute(
        self, connect: Connect, watch: Watch, notify: Callable[[str], None] = lambda _text: None
    ) -> RunEnd:
        """Take every row to its outcome and write them all, in input order, to the report.

        A run that stops before its end keeps its journal, so that the next run of the same input continues
        there; but not if its report takes the input's place, for then the report is what goes on.

        Args:
            connect: gives the way to the service.
            watch: is entered around the sending.
            notify: is told, in a sentence, what becomes of the work of an interrupted run of another input.

        Raises:
            BusyError: another run is at work on this report.
            InputUnusableError: another command left its journal, and what it did is in no report.
            InterruptedRunError: a second signal; the journal keeps what was done.
            OutputError: journal or report cannot be written; the journal keeps what was done.

        """
        settings = self.settings
        report, in_place = settings.report, settings.in_place
        with Journal(
            journal_path(report),
            self._identity(),
            self.checked.total,
            folder=self.places[0].folder,
            to_settle=self.checked.sendable,
            restart=settings.restart,
            supersedes=in_place,
            notify=notify,
        ) as journal:
            if in_place and not self.source.is_at(report):
                raise BusyError(f"{report} was replaced by another run just now: run the command again")
            stopped: BatchError | None = None
            written = None
            if journal.ended:
                summary = read_summary(str(report))
            elif in_place and not settings.failures and self.checked.kept.rows == self.checked.total:
                summary = self.checked.kept  # nothing to send, and nothing to write that is not there
            else:
                self._reopen(journal)
                stopped = asyncio.run(self._send(journal, connect, watch))
                if isinstance(stopped, OutputError):
                    raise stopped
                if isinstance(stopped, InterruptedRunError) and stopped.at_once:
                    raise stopped
                if stopped and not self._left(journal):
                    stopped = None  # nothing was left to be stopped
                written = self._report(journal, stopped=stopped is not None)
                summary = written.summary
            if not stopped or in_place:
                journal.remove()
        if written:
            return RunEnd(summary, stopped, report, written.failures, written.problem)
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
            tuple(column.name for column in self.job.columns),
        )

    def _reopen(self, journal: Journal) -> None:
        """Forget the outcomes of an interrupted run that runs of other jobs have overtaken since."""
        for row_number in [each for each in journal.in_doubt if each in journal]:
            journal.forget(row_number)  # it was sent again, and that run was killed
        if not journal.settled or not self.settings.taken_back_by:
            return
        overtaken = _changes(self.settings, self.job, journal.began)
        for row in self.source.rows() if overtaken else ():
            if outcome := journal.outcome(row.number):
                key = self.job.key(self.job.parse(row.cells))
                if overtaken.is_void(key, outcome.finished_at):
                    journal.forget(row.number)

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
            with watch(engine, self._left(journal)):
                await engine.run(self._to_send(journal, in_doubt))
                await journal.flush()
        journal.leave(engine.unsettled)
        # Whatever else stopped the run, without its outcomes on disk no report can be written.
        return _not_kept(journal, journal.failure) if journal.failure else engine.stopped

    def _to_send(self, journal: Journal, in_doubt: set[int]) -> Iterator[Row]:
        left = self._left(journal)
        rows = self.source.rows()
        while left and (row := next(rows, None)):
            if self._is_sendable(row.number) and row.number not in journal:
                if row.earlier and is_in_doubt(row.earlier):
                    in_doubt.add(row.number)
                left -= 1
                journal.take_up(row.number, row.cells)
                yield row
        if left:
            raise self._changed()

    def _changed(self) -> InputUnusableError:
        """Return the error that the input has not the rows that were found in it before."""
        return InputUnusableError(f"{self.source.name} was changed while in use")

    def _is_sendable(self, row_number: int) -> bool:
        mark = self.checked.marks[row_number - 1]
        return mark == SEND or (mark == VOID and not self.settings.only)

    def _left(self, journal: Journal) -> int:
        """Return how many rows are still to be sent.

        The journal may have rows that were to be sent when it was begun and are not any more.
        """
        if not journal.settled:
            return self.checked.sendable
        rows = range(1, self.checked.total + 1)
        return sum(self._is_sendable(row) and row not in journal for row in rows)

    def _report(self, journal: Journal, *, stopped: bool) -> "_Written":
        """Write the outcome files; where that cannot be done, say where the outcomes are."""
        try:
            return self._write_reports(journal, stopped=stopped)
        except ReportChangedError:
            journal.remove()
            raise
        except InputUnusableError as error:
            if self.settings.in_place:
                kept = journal.keep()
                journal.remove()
                raise OutputError(f"{error}, so it is not replaced; {kept}") from error
            raise InputUnusableError(
                f"{error}; what was done is kept in {journal.path}: put the input back as it was and run the "
                "same command again"
            ) from error
        except OutputError as error:
            raise OutputError(
                f"{error}; what was done is kept in {journal.path}: when there is room and nothing in the "
                "way, run the same command again, and it goes on from there"
            ) from error

    def _write_reports(self, journal: Journal, *, stopped: bool) -> "_Written":
        summary = Summary(self.job.name)
        in_place, can_be_undone = self.settings.in_place, self.settings.can_be_undone
        report, *others = self.places
        failures = others[0] if others else None
        written = 0
        with Outputs(self.job, self.source, report, failures, can_be_undone) as outputs:
            for row in self.source.rows():
                outcome = journal.outcome(row.number) or journal.unsettled.get(row.number)
                record = self._record(row, outcome, journal)
                # The cells of a row of the wrong width may stand under the wrong names: a later run that
                # reads them from here must not take them for a sound row.
                outputs.write(() if row.problem else row.values, record)
                summary.add(record)
                written += 1
            if written != self.checked.total:
                raise self._changed()
            sha256, earlier_sha256 = outputs.finish(), journal.written
            journal.note_written(sha256, stopped=stopped)
            outputs.commit(keeps_previous=not in_place, own_sha256=earlier_sha256)
            if stopped and not in_place:
                journal.note_placed()
        return _Written(summary, outputs.failures, outputs.problem)

    def _record(self, row: Row, outcome: Outcome | None, journal: Journal) -> Record:
        """Return what the report says of a row: what this run has seen, else what is known from before."""
        label, earlier = row.label, row.earlier
        if outcome:
            return merged(earlier, recorded(label, outcome))
        mark = self.checked.marks[row.number - 1]
        if mark == INVALID and not (earlier and earlier.status is Status.INVALID and earlier.error_message):
            message = problem_of(row, self.job)
            return merged(earlier, Record(label, Status.INVALID, "invalid_row", error_message=message))
        if mark == DUPLICATE:
            message = f"the same as row {self.checked.first_of(row.number)}"
            return merged(earlier, Record(label, Status.DUPLICATE, "duplicate_row", error_message=message))
        if row.number in journal.in_doubt:
            return merged(earlier, Record(label, Status.UNCONFIRMED, "interrupted"))
        if mark == VOID:
            return merged(earlier, Record(label, Status.PENDING, "not_sent"))
        return earlier or Record(label, Status.PENDING, "not_sent")


class _Written(NamedTuple):
    """What has been written at the end of a run: its counts, and what became of the failures file."""

    summary: Summary
    failures: Path | None
    problem: str


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


def _checked(source: Input, job: Job[Any], settings: RunSettings) -> Preflight:
    """Go over the input."""
    checked = preflight(source, job, lambda earlier: is_open(earlier, settings.only))
    if settings.strict and checked.invalid:
        first = checked.first_invalid
        assert first is not None
        raise InputUnusableError(
            f"{source.name}: {counted(checked.invalid, 'row')} of {checked.total:,} invalid, so nothing "
            f"was sent (--strict); the first: row {first.row}, {first.message}"
        )
    if settings.taken_back_by and checked.kept.rows:
        return _without_void(source, job, settings, checked)
    return checked


def _without_void(source: Input, job: Job[Any], settings: RunSettings, checked: Preflight) -> Preflight:
    """Mark the rows of an earlier report whose outcome runs of other jobs have overtaken since."""
    overtaken = _changes(settings, job, seconds(checked.kept.started_at) or 0.0)
    void = 0
    for row in source.rows() if overtaken else ():
        earlier = row.earlier
        if checked.marks[row.number - 1] == KEPT and earlier and earlier.status in _HOLDING:
            with suppress(RowError):
                if overtaken.is_void(job.key(job.parse(row.cells)), seconds(earlier.finished_at)):
                    checked.marks[row.number - 1] = VOID
                    checked.kept.outcomes[earlier.status] -= 1
                    void += 1
    return checked if settings.only else replace(checked, sendable=checked.sendable + void)


def _changes(settings: RunSettings, job: Job[Any], since: float) -> Changes:
    report = settings.report
    folders = (report.parent, *settings.beside)
    return changes(folders, job, settings.taken_back_by, since=since, but=report)
