"""One command that sends: from its options through signals and progress to the exit code."""

import asyncio
import dataclasses
import shlex
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from itertools import combinations
from pathlib import Path

from batch import progress
from batch.engine import GRACE, Engine
from batch.errors import InterruptedRunError, UsageError
from batch.pace import parse_rate
from batch.preflight import Preflight
from batch.report import REPORT_COLUMNS
from batch.retry import RetryPolicy
from batch.run import Connect, Run, RunEnd, RunSettings, journal_path
from batch.source import Format, open_source
from batch.summary import counted, duration
from batch.transport import Authorize, HttpTransport
from jobs import log
from jobs.association import AssociationJob
from jobs.endpoints import Site, site
from jobs.inspection import described
from jobs.options import LogFormat

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
STANDARD_INPUT = "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command line says of a run; the names are the options'."""

    pairs: str
    report: Path | None = None
    failures: Path | None = None
    format: Format | None = None
    endpoint: str | None = None
    region: str | None = None
    cloud_domain: str | None = None
    project_id: str | None = None
    rate: str = "10/s"
    concurrency: int = 32
    max_attempts: int = 6
    timeout: float = 30.0
    strict: bool = False
    restart: bool = False
    dry_run: bool = False
    quiet: bool = False
    verbose: int = 0
    log_format: LogFormat = LogFormat.TEXT
    progress: bool | None = None


def execute(kind: type[AssociationJob], options: Options, authorize: Authorize) -> RunEnd | None:
    """Run a job as the options say; None where nothing was to be sent.

    Raises:
        BatchError: it could not start, or could not be brought to an end.

    """
    log.configure(options.verbose, options.log_format)
    where = site(
        endpoint=options.endpoint,
        region=options.region,
        cloud_domain=options.cloud_domain,
        project_id=options.project_id,
    )
    job = kind(where)
    with ExitStack() as stack:
        to_stdout = kind.name == "verify" and options.pairs == STANDARD_INPUT and options.report is None
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory())) if to_stdout else None
        settings = _settings(options, where, folder)
        source = stack.enter_context(
            open_source(options.pairs, format=options.format, columns=job.columns, reserved=REPORT_COLUMNS)
        )
        run = Run.prepare(source, job, settings)
        if options.dry_run:
            _say(described(source, run.checked))
            _say(f"would be sent to {where.address()} at {settings.rate}: {_estimate(run.checked, settings)}")
            return None
        end = run.execute(_connection(options, authorize), lambda engine, rows: _watch(engine, rows, options))
        if to_stdout:
            with settings.report.open("rb") as report:
                shutil.copyfileobj(report, sys.stdout.buffer)
            return dataclasses.replace(end, report=None)
    return end


def tell(end: RunEnd, *, quiet: bool, command: Sequence[str]) -> None:
    """Say how a run ended and what to do next; nothing where all went well and nobody looks.

    Args:
        end: of the run.
        quiet: whether nobody wants to hear that all went well.
        command: the command line that would go on, or nothing.

    """
    if end.exit_code == 0 and (quiet or not sys.stderr.isatty()):
        return
    if end.stopped:
        _say(f"fpga-batch: {end.stopped}")
    _say(end.summary.as_text())
    if end.report:
        _say(f"report: {end.report}")
    if end.failures:
        _say(f"rows that did not get through: {end.failures}")
    if end.summary.not_through and command:
        _say(f"next: {shlex.join(command)}")


def default_report(pairs: str) -> Path:
    """Return the outcome file's place for an input: beside it, `.report.csv` in place of the suffix."""
    if pairs == STANDARD_INPUT:
        return Path("fpga-batch.report.csv")
    path = Path(pairs)
    if path.suffix.lower() == ".gz":
        path = path.with_suffix("")
    return path.with_name(f"{path.stem}.report.csv")


def _settings(options: Options, where: Site, folder: Path | None) -> RunSettings:
    report = options.report or (folder / "report.csv" if folder else default_report(options.pairs))
    files = [Path(options.pairs), report, journal_path(report)]
    files += [options.failures] if options.failures else []
    if any(_is_same(one, other) for one, other in combinations(files, 2)):
        raise UsageError("input, report, its journal and the failures file must be different files")
    return RunSettings(
        report=report,
        failures=options.failures,
        target=where.address(),
        rate=parse_rate(options.rate),
        concurrency=options.concurrency,
        policy=RetryPolicy(options.max_attempts),
        strict=options.strict,
        restart=options.restart,
    )


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:  # one is not there yet
        return one.resolve() == other.resolve()


def _connection(options: Options, authorize: Authorize) -> Connect:
    return lambda: HttpTransport(
        authorize,
        connections=options.concurrency,
        timeout=options.timeout,
        user_agent=f"fpga-batch/{version('fpga-batch')}",
    )


@contextmanager
def _watch(engine: Engine, rows: int, options: Options) -> Iterator[None]:
    """Turn signals into stops, and show progress, while the engine runs."""
    loop = asyncio.get_running_loop()
    # A signal that is ignored, as under nohup, stays ignored.
    before = {
        number: handler for number in _SIGNALS if (handler := signal.getsignal(number)) is not signal.SIG_IGN
    }

    def stop(number: int) -> None:
        if engine.stopped is None:
            name = signal.Signals(number).name
            if not options.quiet:
                _say(
                    f"{name}: no new rows; {GRACE:.0f} s for those under way, a second signal aborts at once"
                )
            engine.stop(InterruptedRunError(f"stopped by {name}", number))
        else:
            if isinstance(engine.stopped, InterruptedRunError):
                engine.stopped.at_once = True
            engine.stop(engine.stopped, grace=0)

    for number in before:
        loop.add_signal_handler(number, stop, number)
    try:
        wanted = options.progress
        if wanted is None:
            wanted = sys.stderr.isatty() and not options.quiet and not options.verbose
        if wanted:
            with progress.shown(engine, rows):
                yield
        else:
            yield
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)


def _estimate(checked: Preflight, settings: RunSettings) -> str:
    seconds = checked.sendable / settings.rate.per_second
    return f"{counted(checked.sendable, 'request')} at least, in {duration(seconds)} or more"


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
