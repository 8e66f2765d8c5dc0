"""What a run is given beyond its job and its input, and what it comes to."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from batch.engine.halt import NO_LIMITS, Limits
from batch.engine.rate import Auto, Rate
from batch.engine.retry import RetryPolicy
from batch.errors import BatchError, OutputError
from batch.results.summary import Summary


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
        restart: whether to begin anew although an interrupted run could be continued.
        overwrite: whether report and failures file may replace a file that is no outcome file of the job.
        can_be_undone: whether an outcome file says of any row that there is something to undo.
        taken_back_by: names of the jobs that take back what this run's job does.
        beside: folders where their reports may be, besides that of `report`.

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
    overwrite: bool = False
    can_be_undone: Callable[[Path], bool] = lambda _path: True
    taken_back_by: frozenset[str] = frozenset()
    beside: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class RunEnd:
    """How a run ended.

    Attributes:
        summary: its counts.
        stopped: why it stopped before its end, or None.
        report: the outcome file, or None where it went elsewhere.
        failures: the file of rows that did not get through, or None where there is none.
        problem: why that file is not where it was to be, or empty.

    """

    summary: Summary
    stopped: BatchError | None
    report: Path | None
    failures: Path | None
    problem: str = ""

    @property
    def exit_code(self) -> int:
        """The command's exit code."""
        if self.stopped:
            return self.stopped.exit_code
        if self.problem:
            return OutputError.exit_code
        return 1 if self.summary.not_through else 0
