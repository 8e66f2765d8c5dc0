"""One command that sends: from its options to how the run ended."""

import asyncio
import dataclasses
import gc
import logging
import os
import sys
from contextlib import ExitStack
from functools import partial
from importlib.metadata import version
from itertools import combinations
from pathlib import Path

from batch.engine.halt import Limits, parse_failure_limit
from batch.engine.rate import Auto, parse_pace
from batch.engine.retry import RetryPolicy
from batch.errors import BatchError, BusyError, InputUnusableError, UsageError
from batch.folder import Folder
from batch.http.transport import TransportError
from batch.input import Input, open_source
from batch.preflight import Preflight
from batch.results.journal import journal_path, run_state
from batch.results.report import REPORT_COLUMNS, followed, open_report, previous
from batch.results.resume import undoable
from batch.results.summary import counted, duration
from batch.run import Run
from batch.settings import RunEnd, RunSettings
from batch.text import quoted
from jobs import log as logs
from jobs.association import JOBS, Associate, AssociationJob, Disassociate
from jobs.auth.access import Access
from jobs.auth.credentials import Found, Grant
from jobs.commands import open_files, signals
from jobs.commands.check import described, hint_of_resume
from jobs.commands.connection import PROGRAM, connection, place
from jobs.commands.forwarding import Forwarded
from jobs.commands.stopping import interruptible
from jobs.commands.streams import say
from jobs.commands.watch import watching
from jobs.endpoints import Site
from jobs.options import RunOptions
from jobs.reasons import REASONS, likely_reason

log = logging.getLogger(__name__)

STANDARD_INPUT = "-"
_YOUNG_OBJECTS = 50_000
_PACKED = (".gz", ".bz2", ".xz")
_WORDS = {"verify": "verify", "disassociate": "disassociate", "undo": "undo"}


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
        forwarded = stack.enter_context(Forwarded()) if to_stdout else None
        settings = _settings(command, options, where, forwarded.place if forwarded else None)
        source, job = _opened(stack, command, options, where, settings)
        settings = dataclasses.replace(settings, taken_back_by=job.taken_back_by)
        run = Run.prepare(source, job, settings)
        if options.dry_run:
            say(*described(source, run.checked))
            say(f"would be sent to {where.address()} at {settings.rate}: {_estimate(run.checked, settings)}")
            return None
        if source.dropped and not options.quiet and sys.stderr.isatty():
            say(hint_of_resume(options.pairs))
        if command == "undo" and not run.checked.total:
            if not options.quiet:
                say(_nothing_to_undo(Path(options.pairs), source.name))
            return None
        if settings.only and not run.checked.sendable and not options.quiet:
            say(f"{source.name}: no row to send has the reason {' or '.join(sorted(settings.only))}")
        access = connection(options, found, where, options.concurrency).access
        if run.checked.sendable:
            open_files.provide(min(options.concurrency, run.checked.sendable))
            grant = asyncio.run(interruptible(_authenticate(access, where.address())))
            if grant and job.take_as_own(grant.project_id):
                run = run.checked_anew()
        # What is there by now stays; going through it again and again took a twentieth of a run's time.
        gc.freeze()
        gc.set_threshold(_YOUNG_OBJECTS)
        try:
            end = run.execute(
                lambda: access,
                lambda engine, rows: watching(
                    engine, rows, quiet=options.quiet, show_progress=_shows_progress(options)
                ),
                (lambda _text: None) if options.quiet else _notify,
            )
        finally:
            signals.heed()
        if forwarded:
            forwarded.pass_on()
            return dataclasses.replace(end, report=None)
    return end


def _opened(
    stack: ExitStack, command: str, options: RunOptions, where: Site, settings: RunSettings
) -> tuple[Input, AssociationJob]:
    """Open the input of a command, and tell the job that is to be done with its rows."""
    columns, spool = AssociationJob.columns, settings.report.parent
    if command in ("resume", "undo"):
        _refuse_unfinished(Path(options.pairs), in_place=settings.in_place)
    if command == "resume":
        report = stack.enter_context(
            open_report(options.pairs, columns, jobs=JOBS, is_sound=Associate(where).is_sound, spool=spool)
        )
        job = report.job or Associate.name  # a report without rows does not say
        if job not in JOBS:
            raise InputUnusableError(f"{report.name}: its job is {quoted(job)}, not one of {', '.join(JOBS)}")
        return report, JOBS[job](where)
    if command == "undo":
        takes = partial(undoable, read_back=options.read_back)
        report = stack.enter_context(open_report(options.pairs, columns, takes, jobs=JOBS, spool=spool))
        if report.job not in ("", Associate.name):
            raise InputUnusableError(
                f"{report.name}: its job is {quoted(report.job)}, which associates nothing to undo"
            )
        return report, Disassociate(where)
    source = open_source(
        options.pairs, format=options.format, columns=columns, reserved=REPORT_COLUMNS, spool=spool
    )
    return stack.enter_context(source), JOBS[command](where)


def _nothing_to_undo(report: Path, name: str) -> str:
    """Say that a report has nothing to undo, and which one before it has."""
    told = f"{name}: there is nothing to undo"
    earlier = previous(report)
    # What somebody else has put there was not this run's.
    if Folder(earlier.parent, to_look_on=True).own(earlier.name) and can_be_undone(earlier):
        return f"{told}; {earlier}, which it has replaced, has something"
    return told


def _notify(text: str) -> None:
    say(f"fpga-batch: {text}")


def _refuse_unfinished(report: Path, *, in_place: bool) -> None:
    """Refuse a report that does not hold all that a run has done.

    A `resume` in place that was interrupted goes on with the report as it stands.
    """
    if (not in_place or not os.path.exists(report)) and (run := run_state(report)):
        error = BusyError if run.is_running else InputUnusableError
        raise error(f"{report} is not complete: {run.as_text()}")


def default_report(command: str, pairs: str) -> Path:
    """Return the outcome file's place for an input.

    It is the input itself for `resume`, and stands beside it else: `pairs.csv` has `pairs.report.csv`, or the
    command's own word in place of `report`; `undo` of a report adds its word to that report's name. Of an
    input's suffixes only `.csv` is taken off, so that no two inputs have one report.

    Raises:
        UsageError: standard input cannot be rewritten.

    """
    if command == "resume":
        if pairs == STANDARD_INPUT:
            raise UsageError("a report from standard input cannot be rewritten in place: use --report")
        if pairs.lower().endswith(_PACKED):
            raise UsageError(f"{pairs}: a compressed report cannot be rewritten in place: use --report")
        return Path(pairs)
    word = _WORDS.get(command, "report")
    path = Path("fpga-batch.csv" if pairs == STANDARD_INPUT else pairs)
    if path.suffix.lower() in _PACKED:
        path = path.with_suffix("")
    if path.suffix.lower() == ".csv":
        path = path.with_suffix("")
    elif command == "undo" and path.suffix.lower() in (".json", ".jsonl"):
        return path.parent / f"{path.stem}.{word}{path.suffix}"
    return path.parent / f"{path.name}.{word}.csv"


def can_be_undone(report: Path) -> bool:
    """Whether an outcome file says of any row that there is something to undo."""
    try:
        with open_report(str(report), is_found=True) as opened:
            return opened.job == Associate.name and any(
                row.earlier and undoable(row.earlier, read_back=True) for row in opened.rows()
            )
    except BatchError:
        return False


def _settings(command: str, options: RunOptions, where: Site, forwarded: Path | None) -> RunSettings:
    place = options.report or forwarded or default_report(command, options.pairs)
    report = followed(place)
    failures = followed(options.failures) if options.failures else None
    files = [report, journal_path(report), previous(report)]
    files += [failures] if failures else []
    in_place = command == "resume" and _is_same(Path(options.pairs), report)
    if not in_place:
        files.append(Path(options.pairs))
    if any(_is_same(one, other) for one, other in combinations(files, 2)):
        raise UsageError("input, report, its journal and the failures file must be different files")
    limits = Limits(
        parse_failure_limit(options.max_failures) if options.max_failures else None,
        options.max_outage,
        options.max_duration,
    )
    return RunSettings(
        command=f"{command} --read-back" if options.read_back else command,
        program=f"{PROGRAM} {version(PROGRAM)}",
        report=report,
        failures=failures,
        target=where.address(),
        rate=parse_pace(options.rate, options.max_rate),
        concurrency=options.concurrency,
        policy=RetryPolicy(
            options.max_attempts, longest_hint=options.max_outage, patience=options.max_outage
        ),
        limits=limits,
        in_place=in_place,
        only=_reasons(options.only),
        strict=options.strict,
        restart=options.restart,
        overwrite=options.overwrite,
        can_be_undone=can_be_undone,
        beside=_folders(place, *([] if options.pairs == STANDARD_INPUT else [Path(options.pairs)])),
    )


def _folders(*paths: Path) -> tuple[Path, ...]:
    """Return the folders in which files stand, and in which those do that they are links to."""
    return tuple(folder for path in paths for folder in (path.parent, Path(os.path.realpath(path)).parent))


def _reasons(text: str | None) -> frozenset[str]:
    if text is None:
        return frozenset()
    words = [word.strip().lower() for word in text.split(",")]
    for word in words:
        if word not in REASONS:
            likely = likely_reason(word)
            hint = f"did you mean {likely}?" if likely else f"reasons are {', '.join(sorted(REASONS))}"
            raise UsageError(f"--only {quoted(word)}: there is no such reason; {hint}")
    return frozenset(words)


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:  # one is not there yet
        return os.path.realpath(one) == os.path.realpath(other)


async def _authenticate(access: Access, scope: str) -> Grant | None:
    """Find out early whether the credentials are any good; that nobody can be asked just now is no answer."""
    async with access:
        try:
            return await access.grant(scope)
        except TransportError as error:
            log.info("no credentials yet: %s", error)
            return None


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
