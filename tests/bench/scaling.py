"""What each part of a run costs as the file grows, and what it costs to start.

    python tests/bench/scaling.py [--rows N ...] [--json FILE]

The run is against nginx on another core. `before` is from the start of the process to the first attempt,
`finish` from the last answer to the end of the process, both as the report has them.
"""

import subprocess
import sys
import tempfile
from argparse import Namespace
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from bench import (
    CLIENT_CORE,
    FAST,
    Cost,
    Script,
    command,
    environment,
    fpga_batch,
    memory_bound,
    run,
    say,
    spread,
    summary,
    table,
    write_pairs,
)
from web import nginx

ROWS = (1_000, 10_000, 100_000, 1_000_000)
STARTS = 10
MILLION = 1_000_000
HEAVY = "aiohttp"


class Length(NamedTuple):
    """A file of so many rows.

    Attributes:
        rows: of the file.
        check: preflight alone.
        associate: the whole run.
        before: seconds of it to the first attempt.
        sending: seconds of it from there to the last answer.
        finish: seconds of it from there to its end.
        resume: of its report, with nothing to do.

    """

    rows: int
    check: Cost
    associate: Cost
    before: float
    sending: float
    finish: float
    resume: Cost


def ran(service: str, folder: Path, *arguments: str) -> Cost:
    return run(command(*arguments), folder=folder, settings=fpga_batch(service), core=CLIENT_CORE)


def grown(service: str, folder: Path, rows: int) -> Length:
    say(f"{rows:,} rows")
    write_pairs(folder / "pairs.csv", rows)
    check = ran(service, folder, "check", "pairs.csv")
    associate = ran(service, folder, "associate", "pairs.csv", *FAST)
    told = summary(folder / "pairs.report.csv")
    first, last = (datetime.fromisoformat(told[name]).timestamp() for name in ("started_at", "finished_at"))
    resume = ran(service, folder, "resume", "pairs.report.csv")
    return Length(
        rows, check, associate, first - associate.began, last - first, associate.ended - last, resume
    )


def tell(lengths: Sequence[Length]) -> None:
    lines: list[tuple[str, ...]] = []
    for each in lengths:
        is_million = each.rows == MILLION
        lines += [
            line("check", each.rows, each.check, "4" if is_million else ""),
            line("associate", each.rows, each.associate),
            part("  before", each.rows, each.before),
            part("  sending", each.rows, each.sending),
            part("  finish", each.rows, each.finish),
            line("resume", each.rows, each.resume, "12" if is_million else ""),
        ]
    table(("part", "rows", "seconds", "bound", "CPU s", "MiB", "bound"), lines)


def line(name: str, rows: int, cost: Cost, bound: str = "") -> tuple[str, ...]:
    memory = (f"{cost.mebibytes:.0f}", f"{memory_bound(rows):.0f}")
    return (name, f"{rows:,}", f"{cost.seconds:.2f}", bound, f"{cost.cpu:.2f}", *memory)


def part(name: str, rows: int, seconds: float) -> tuple[str, ...]:
    return (name, f"{rows:,}", f"{seconds:.2f}", "", "", "", "")


def start(folder: Path) -> dict[str, list[float]]:
    """Return what it takes to begin, in milliseconds, of several runs each."""
    write_pairs(folder / "ten.csv", 10)
    lines = {"--help": ("--help",), "check of 10 rows": ("check", "ten.csv")}
    return {
        name: [ran("", folder, *arguments).seconds * 1000 for _ in range(STARTS)]
        for name, arguments in lines.items()
    }


def imported_for_help() -> list[str]:
    """Return the modules that are imported for `--help`."""
    told = subprocess.run(
        [sys.executable, "-X", "importtime", *command("--help")[1:]],
        env=environment(fpga_batch()),
        capture_output=True,
        text=True,
        check=True,
    )
    return [line.rpartition("|")[2].strip() for line in told.stderr.splitlines() if "|" in line]


def measure(given: Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name, nginx(Path(name)) as service:
        folder = Path(name)
        starts = start(folder)
        modules = imported_for_help()
        lengths = [grown(service, folder, rows) for rows in given.rows]
    begun = [
        (name, *(f"{figure:.0f}" for figure in spread(times)), "200" if name == "--help" else "")
        for name, times in starts.items()
    ]
    table(("start", "ms", "least", "most", "bound"), begun)
    is_imported = any(each.split(".")[0] == HEAVY for each in modules)
    print(f"{HEAVY} is {'' if is_imported else 'not '}imported for --help ({len(modules)} modules are)\n")
    tell(lengths)
    return {
        "start, milliseconds": starts,
        "modules imported for --help": modules,
        "lengths": [
            {
                key: value.figures() if isinstance(value, Cost) else value
                for key, value in each._asdict().items()
            }
            for each in lengths
        ],
    }


if __name__ == "__main__":
    script = Script(__doc__)
    script.options.add_argument("--rows", type=int, nargs="+", default=ROWS)
    script.main(measure)
