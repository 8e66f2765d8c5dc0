"""A million rows through the real command: speed all along, memory, time from the last outcome to the end.

    python tests/bench/million.py [--rows N] [--json FILE]

The service is a bare server that answers 204 to everything, so that the figures are the command's own.
"""

import tempfile
from argparse import Namespace
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

from answering import answering
from bench import CLIENT_CORE, FAST, Cost, Script, command, fpga_batch, memory_bound, run, table, write_pairs

OUTCOME = b'\n{"row":'
JOURNAL = "pairs.report.csv.journal"
PARTS = 10
MILLION = 1_000_000


class Progress:
    """How many outcomes a journal held so many seconds after the start."""

    def __init__(self, journal: Path) -> None:
        self.seen: list[tuple[float, int]] = []
        self._outcomes = outcomes_in(journal)

    def look(self, seconds: float) -> None:
        self.seen.append((seconds, next(self._outcomes)))

    def reached(self, outcomes: float) -> float:
        """Return when the journal held so many, as if it grew evenly between two looks."""
        earlier, fewer = 0.0, 0
        for now, held in self.seen:
            if held >= outcomes > fewer:
                return earlier + (now - earlier) * (outcomes - fewer) / (held - fewer)
            earlier, fewer = now, held
        return earlier

    def curve(self, rows: int) -> list[float]:
        """Return rows a second in each tenth of them."""
        times = [self.reached(max(rows * part / PARTS, 1)) for part in range(PARTS + 1)]
        return [rows / PARTS / max(end - start, 1e-9) for start, end in pairwise(times)]


def outcomes_in(journal: Path) -> Iterator[int]:
    """Yield, whenever asked, how many outcomes the journal holds; when it is gone, as many as it held."""
    while (file := opened(journal)) is None:
        yield 0
    outcomes, tail = 0, b""
    with file:
        while True:
            data = tail + file.read()
            outcomes += data.count(OUTCOME)
            tail = data[1 - len(OUTCOME) :]
            yield outcomes


def opened(path: Path) -> BinaryIO | None:
    try:
        return path.open("rb")
    except FileNotFoundError:
        return None


def tell(rows: int, progress: Progress, associate: Cost, clean: Cost, copied: Cost) -> None:
    lines = [
        ("associate, seconds", f"{associate.seconds:.1f}", ""),
        ("  of the processor", f"{associate.cpu:.1f}", ""),
        ("  from the start to the first outcome", f"{progress.reached(1):.1f}", ""),
        ("  from the last outcome to the end", f"{associate.seconds - progress.reached(rows):.1f}", ""),
        ("  peak memory, MiB", f"{associate.mebibytes:.0f}", f"{memory_bound(rows):.0f}"),
        ("resume with nothing to do, seconds", f"{clean.seconds:.1f}", "12" if rows == MILLION else ""),
        ("  peak memory, MiB", f"{clean.mebibytes:.0f}", f"{memory_bound(rows):.0f}"),
        ("resume into another report, seconds", f"{copied.seconds:.1f}", ""),
        ("  peak memory, MiB", f"{copied.mebibytes:.0f}", f"{memory_bound(rows):.0f}"),
    ]
    for part, rate in enumerate(progress.curve(rows), start=1):
        lines.append((f"rows a second in tenth {part}", f"{rate:,.0f}", ""))
    table((f"{rows:,} rows", "measured", "bound"), lines)


def measure(given: Namespace) -> dict[str, Any]:
    rows = given.rows
    with answering() as service, tempfile.TemporaryDirectory() as name:
        folder, settings = Path(name), fpga_batch(service)
        write_pairs(folder / "pairs.csv", rows)
        progress = Progress(folder / JOURNAL)
        ran = partial(run, folder=folder, settings=settings, core=CLIENT_CORE)
        associate = ran(command("associate", "pairs.csv", *FAST), look=progress.look)
        clean = ran(command("resume", "pairs.report.csv"))
        copied = ran(command("resume", "pairs.report.csv", "--report", "copy.csv"))
    tell(rows, progress, associate, clean, copied)
    return {
        "associate": associate.figures(),
        "resume": clean.figures(),
        "resume elsewhere": copied.figures(),
        "rows a second in each tenth": progress.curve(rows),
        "outcomes after so many seconds": progress.seen,
    }


if __name__ == "__main__":
    script = Script(__doc__)
    script.options.add_argument("--rows", type=int, default=MILLION)
    script.main(measure)
