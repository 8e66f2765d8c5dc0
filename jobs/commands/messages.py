"""What is said when a run has ended: how, where its report is, and the command to run next."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from batch.model import Status
from batch.settings import RunEnd
from batch.text import copyable
from jobs import log
from jobs.commands.streams import say

_CARRIED = (
    "endpoint",
    "region",
    "cloud_domain",
    "project_id",
    "os_cloud",
    "ca_file",
    "rate",
    "concurrency",
    "max_attempts",
    "timeout",
    "max_failures",
    "max_outage",
    "max_duration",
)


def tell(end: RunEnd, *, quiet: bool, command: Sequence[str]) -> None:
    """Say how a run ended and what to do next; nothing where all went well and nobody looks.

    Args:
        end: of the run.
        quiet: whether nobody wants to hear that all went well.
        command: the command line that would go on, or nothing.

    """
    if end.exit_code == 0 and (quiet or not sys.stderr.isatty()):
        return
    log.release()
    if end.stopped:
        say(f"fpga-batch: {end.stopped}")
    if end.problem:
        say(f"fpga-batch: {end.problem}")
    say(*end.summary.as_text().splitlines())
    if end.report:
        say(f"report: {end.report}")
    if end.failures:
        say(f"rows that did not get through: {end.failures}")
    if end.summary.not_through and command:
        invalid = end.summary.outcomes[Status.INVALID]
        first = "correct the invalid rows there, then " if invalid == end.summary.not_through else ""
        say(f"next: {first}{' '.join(map(copyable, command))}")


def next_command(end: RunEnd, repeated: Sequence[str], given: Mapping[str, Any]) -> list[str]:
    """Return the command line that carries a run on.

    Args:
        end: of the run.
        repeated: the command line that was given, or nothing if it cannot be given again.
        given: options that were on it, by their names.

    """
    if end.stopped and repeated:
        return [part for part in repeated if part != "--restart"]  # it would discard what was done
    if not end.report:
        return []
    options = [
        part
        for name in _CARRIED
        if name in given
        for part in (f"--{name.replace('_', '-')}", str(given[name]))
    ]
    failures = ["--failures", str(given["failures"])] if "failures" in given else []
    report = str(end.report)
    return ["fpga-batch", "resume", f"./{report}" if report.startswith("-") else report, *options, *failures]
