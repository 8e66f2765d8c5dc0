"""One command that sends: from its options to how the run ended."""

import asyncio
import dataclasses
import gc
import logging
import re
import shutil
import sys
import tempfile
from contextlib import ExitStack
from importlib.metadata import version
from itertools import combinations
from math import isfinite
from pathlib import Path

from batch.errors import BusyError, InputUnusableError, UsageError
from batch.halt import Limits, parse_failure_limit
from batch.journal import journal_path, run_state
from batch.preflight import Preflight
from batch.rate import Auto, parse_pace
from batch.report import REPORT_COLUMNS, open_report
from batch.resume import undoable
from batch.retry import RetryPolicy
from batch.run import Run, RunEnd, RunSettings
from batch.source import Input, open_source
from batch.summary import counted, duration
from batch.text import quoted
from batch.transport import TransportError
from jobs import log as logs
from jobs.access import Access
from jobs.association import JOBS, Associate, AssociationJob, Disassociate
from jobs.connection import PROGRAM, connection, place
from jobs.credentials import Found
from jobs.endpoints import Site
from jobs.inspection import described
from jobs.options import RunOptions
from jobs.watch import say, watching

log = logging.getLogger(__name__)

STANDARD_INPUT = "-"
_YOUNG_OBJECTS = 50_000
_REASON = re.compile("[a-z]+(_[a-z]+)*")


def execute(command: str, options: RunOptions, found: Found) -> RunEnd | None:
    """Do what a command and its options say; None where nothing was to be sent.

    Args:
        command: `resume`, `undo` or the name of a job.
        options: of the command line.
        found: the credentials.

    Raises:
        BatchError: it could not start, or could not be brought to an end.

    """
    logs.configure(options.verbose, options.log_format, quiet=options.quiet)
    where = place(options, found)
    with ExitStack() as stack:
        to_stdout = command == "verify" and options.pairs == STANDARD_INPUT and options.report is None
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory())) if to_stdout else None
        settings = _settings(command, options, where, folder)
        source, job = _opened(stack, command, options, where, settings)
        run = Run.prepare(source, job, settings)
        if options.dry_run:
            say(described(source, run.checked))
            say(f"would be sent to {where.address()} at {settings.rate}: {_estimate(run.checked, settings)}")
            return None
        if not run.checked.total:
            if not options.quiet:
                say(f"{source.name}: there is nothing to undo")
            return None
        if settings.only and not run.checked.sendable and not options.quiet:
            say(f"{source.name}: no row to send has the reason {' or '.join(sorted(settings.only))}")
        access = connection(options, found, where, options.concurrency).access
        if run.checked.sendable:
            asyncio.run(_authenticate(access, where.address()))
        # What is there by now stays; going through it again and again took a twentieth of a run's time.
        gc.freeze()
        gc.set_threshold(_YOUNG_OBJECTS)
        end = run.execute(
            lambda: access,
            lambda engine, rows: watching(
                engine, rows, quiet=options.quiet, show_progress=_shows_progress(options)
            ),
        )
        if to_stdout:
            with settings.report.open("rb") as report:
                shutil.copyfileobj(report, sys.stdout.buffer)
            return dataclasses.replace(end, report=None)
    return end


def _opened(
    stack: ExitStack, command: str, options: RunOptions, where: Site, settings: RunSettings
) -> tuple[Input, AssociationJob]:
    """Open the input of a command, and tell the job that is to be done with its rows."""
    columns = AssociationJob.columns
    if command in ("resume", "undo"):
        _refuse_unfinished(Path(options.pairs), in_place=settings.in_place)
    if command == "resume":
        report = stack.enter_context(open_report(options.pairs, columns))
        if report.job not in JOBS:
            raise InputUnusableError(
                f"{report.name}: its job is {quoted(report.job)}, not one of {', '.join(JOBS)}"
            )
        return report, JOBS[report.job](where)
    if command == "undo":
        report = stack.enter_context(open_report(options.pairs, columns, undoable))
        if report.job != Associate.name:
            raise InputUnusableError(
                f"{report.name}: its job is {quoted(report.job)}, which associates nothing to undo"
            )
        return report, Disassociate(where)
    source = open_source(options.pairs, format=options.format, columns=columns, reserved=REPORT_COLUMNS)
    return stack.enter_context(source), JOBS[command](where)


def _refuse_unfinished(report: Path, *, in_place: bool) -> None:
    """Refuse a report that does not hold all that a run has done.

    A `resume` in place that was interrupted goes on with the report as it stands.
    """
    if (not in_place or not report.exists()) and (run := run_state(report)):
        error = BusyError if run.is_running else InputUnusableError
        raise error(f"{report} is not complete: {run.as_text()}")


def default_report(command: str, pairs: str) -> Path:
    """Return the outcome file's place for an input.

    It is the input itself for `resume`, and stands beside it else: `.report.csv` in place of its suffix, for
    `undo` `.undo` before its suffix.

    Raises:
        UsageError: standard input cannot be rewritten.

    """
    if command == "resume":
        if pairs == STANDARD_INPUT:
            raise UsageError("a report from standard input cannot be rewritten in place: use --report")
        if pairs.lower().endswith(".gz"):
            raise UsageError(f"{pairs}: a compressed report cannot be rewritten in place: use --report")
        return Path(pairs)
    if pairs == STANDARD_INPUT:
        return Path(f"fpga-batch.{'undo' if command == 'undo' else 'report'}.csv")
    path = Path(pairs)
    if path.suffix.lower() == ".gz":
        path = path.with_suffix("")
    if command == "undo":
        return path.with_name(f"{path.stem}.undo{path.suffix}")
    return path.with_name(f"{path.stem}.report.csv")


def _settings(command: str, options: RunOptions, where: Site, folder: Path | None) -> RunSettings:
    report = options.report or (folder / "report.csv" if folder else default_report(command, options.pairs))
    if report.is_symlink():
        report = report.resolve()  # the file is replaced, not the link
    files = [report, journal_path(report)]
    files += [options.failures] if options.failures else []
    in_place = command == "resume" and _is_same(Path(options.pairs), report)
    if not in_place:
        files.append(Path(options.pairs))
    if any(_is_same(one, other) for one, other in combinations(files, 2)):
        raise UsageError("input, report, its journal and the failures file must be different files")
    for name in ("timeout", "max_outage", "max_duration"):
        if not isfinite(getattr(options, name) or 0):
            raise UsageError(f"--{name.replace('_', '-')} must be a number of seconds")
    limits = Limits(
        parse_failure_limit(options.max_failures) if options.max_failures else None,
        options.max_outage,
        options.max_duration,
    )
    return RunSettings(
        command=command,
        program=f"{PROGRAM} {version(PROGRAM)}",
        report=report,
        failures=options.failures,
        target=where.address(),
        rate=parse_pace(options.rate, options.max_rate),
        concurrency=options.concurrency,
        policy=RetryPolicy(options.max_attempts, patience=options.max_outage),
        limits=limits,
        in_place=in_place,
        only=_reasons(options.only),
        strict=options.strict,
        restart=options.restart,
    )


def _reasons(text: str | None) -> frozenset[str]:
    if text is None:
        return frozenset()
    words = [word.strip() for word in text.split(",")]
    for word in words:
        if not _REASON.fullmatch(word):
            raise UsageError(f"--only {word!r}: write reasons as the report has them, as throttled,timeout")
    return frozenset(words)


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:  # one is not there yet
        return one.resolve() == other.resolve()


async def _authenticate(access: Access, scope: str) -> None:
    """Find out early whether the credentials are any good; that nobody can be asked just now is no answer."""
    async with access:
        try:
            await access.grant(scope)
        except TransportError as error:
            log.info("no credentials yet: %s", error)


def _shows_progress(options: RunOptions) -> bool:
    if options.progress is None:
        return sys.stderr.isatty() and not options.quiet and not options.verbose
    return options.progress


def _estimate(checked: Preflight, settings: RunSettings) -> str:
    requests = f"{counted(checked.sendable, 'request')} at least"
    fastest = settings.rate.most if isinstance(settings.rate, Auto) else settings.rate
    if fastest is None:
        return requests
    return f"{requests}, in {duration(checked.sendable / fastest.per_second)} or more"
