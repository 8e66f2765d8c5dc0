"""What the benchmarks share: the machine they ran on, commands and what they cost, figures told and kept."""

import argparse
import json
import os
import platform
import random
import signal
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, Any, NamedTuple

from clients import TOKEN, WORKERS

ROOT = Path(__file__).parent.parent.parent
HERE = Path(__file__).parent
PROJECT = "0" * 32
FAST = ("--rate", "1000000", "--concurrency", str(WORKERS))
UUID_PARTS = ((0, 8), (8, 12), (12, 16), (16, 20), (20, 32))
LOOK_EVERY = 0.05
LAST_LINES = 10

_OTHERS_SETTINGS = ("FPGA_BATCH_", "HUAWEICLOUD_", "HW_", "OS_", "PYTHON")
_cores = sorted(os.sched_getaffinity(0))
CLIENT_CORE, SERVER_CORE = _cores[0], _cores[-1]
"""The first and the last core that this process may use: 0 and 1 where there are two."""


class Cost(NamedTuple):
    """What a command took, its own children included.

    Attributes:
        seconds: from its start to its end.
        cpu: seconds of the processor, user and system.
        mebibytes: of memory, at most.
        began: when it was started, seconds since the epoch.
        ended: when it had ended, likewise.
        output: what it printed.

    """

    seconds: float
    cpu: float
    mebibytes: float
    began: float
    ended: float
    output: str

    def figures(self) -> dict[str, float]:
        """Return what is worth keeping."""
        return {"seconds": self.seconds, "cpu": self.cpu, "mebibytes": self.mebibytes}


@contextmanager
def on_core(core: int | None) -> Iterator[None]:
    """Start children on one core: they inherit where this process may run."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, before if core is None else {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def started(
    command: Sequence[str | Path],
    *,
    folder: Path | None = None,
    settings: Mapping[str, str] | None = None,
    core: int | None = None,
    stdout: int | IO[str] = subprocess.DEVNULL,
    stderr: int | IO[str] | None = None,
) -> Iterator[subprocess.Popen[str]]:
    """Run a command beside; when the block is left it is gone, with all that it started.

    It has a session of its own: Ctrl-C ends the benchmark, and the benchmark ends the command.
    """
    with on_core(core):
        process = subprocess.Popen(
            list(map(str, command)),
            cwd=folder,
            env=environment(settings or {}),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            text=True,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if process.stdout:
            process.stdout.close()


def run(
    command: Sequence[str | Path],
    *,
    folder: Path | None = None,
    settings: Mapping[str, str] | None = None,
    core: int | None = None,
    look: Callable[[float], object] | None = None,
) -> Cost:
    """Run a command to its end; if it fails, so does the benchmark.

    Args:
        command: with its arguments.
        folder: in which it runs.
        settings: variables of its environment.
        core: on which alone it may run.
        look: called now and then meanwhile, with the seconds since the start.

    """
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        began, clock = time.time(), time.monotonic()
        with started(
            command, folder=folder, settings=settings, core=core, stdout=output, stderr=errors
        ) as process:
            while not (ended := os.wait4(process.pid, os.WNOHANG if look else 0))[0]:
                assert look
                look(time.monotonic() - clock)
                time.sleep(LOOK_EVERY)
            seconds, end = time.monotonic() - clock, time.time()
            process.returncode = os.waitstatus_to_exitcode(ended[1])
        output.seek(0)
        errors.seek(0)
        if process.returncode:
            told = "".join((errors.read() or output.read()).splitlines(keepends=True)[-LAST_LINES:])
            raise SystemExit(f"{' '.join(map(str, command))}\nended with {process.returncode}: {told}")
        usage = ended[2]
        # The peak is at least what this process had at the start of the other: nothing large may be held.
        cpu = usage.ru_utime + usage.ru_stime
        return Cost(seconds, cpu, usage.ru_maxrss / 1024, began, end, output.read())


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Return this process's variables without those that would change what is measured."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(_OTHERS_SETTINGS) and not name.lower().endswith("_proxy")
    }
    return {**kept, **settings}


def command(*arguments: str | Path) -> list[str | Path]:
    """Return the project's own command, as it stands in this tree."""
    return [sys.executable, Path(sys.executable).with_name("fpga-batch"), *arguments]


def fpga_batch(service: str = "", **settings: str) -> dict[str, str]:
    """Return what the project's own command is set to for a service, with a token unless others are given."""
    place = {"FPGA_BATCH_ENDPOINT": service, "FPGA_BATCH_PROJECT_ID": PROJECT} if service else {}
    return {"PYTHONPATH": str(ROOT), **place, **(settings or {"FPGA_BATCH_TOKEN": TOKEN})}


def summary(report: Path) -> dict[str, Any]:
    """Return what the project's own command says of a report."""
    told: dict[str, Any] = json.loads(run(command("report", "--json", report), settings=fpga_batch()).output)
    return told


def write_pairs(path: Path, rows: int) -> None:
    """Write so many pairs, each another."""
    bits = random.Random(1).getrandbits
    with path.open("w") as file:
        file.write("fpga_image_id,image_id\n")
        for _ in range(rows):
            image = f"{bits(128):032x}"
            file.write(f"{bits(128):032x},{'-'.join(image[start:end] for start, end in UUID_PARTS)}\n")


def memory_bound(rows: int) -> float:
    """Return the MiB that a run of so many rows is meant to stay below."""
    return 60 + 110 * rows / 2**20


class Spread(NamedTuple):
    """Several measurements of one thing."""

    median: float
    least: float
    most: float


def spread(values: Sequence[float]) -> Spread:
    return Spread(statistics.median(values), min(values), max(values))


def machine() -> dict[str, str]:
    """Return what the figures hold for."""
    return {
        "processor": _processor(),
        "cores": f"{len(_cores)}; client on {CLIENT_CORE}, server on {SERVER_CORE}",
        "load": f"{os.getloadavg()[0]:.1f} at the start",
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "aiohttp": _installed("aiohttp"),
        "openssl": ssl.OPENSSL_VERSION,
        "commit": _commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _commit() -> str:
    told = subprocess.run(
        ["git", "-C", ROOT, "describe", "--always", "--dirty", "--abbrev=12"],
        capture_output=True,
        text=True,
        check=False,
    )
    return told.stdout.strip() or "none"


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows under their heads: the first column to the left, the others to the right."""
    cells = [tuple(head), *(tuple(map(str, row)) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for first, *others in cells:
        right = (cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))
        print("  ".join((first.ljust(widths[0]), *right)).rstrip())


def say(text: str) -> None:
    """Tell whoever waits how far it is."""
    print(text, file=sys.stderr, flush=True)


class Script:
    """A benchmark from its command line to what it leaves behind.

    Args:
        about: the script's docstring.

    Attributes:
        options: its command line; add what it takes before `main`.

    """

    def __init__(self, about: str | None) -> None:
        self.options = argparse.ArgumentParser(
            description=about, formatter_class=argparse.RawTextHelpFormatter
        )
        self.options.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")

    def main(self, measure: Callable[[argparse.Namespace], object]) -> None:
        """Measure, say on what, and keep what the measuring returns."""
        signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
        given = self.options.parse_args()
        ran_on = machine()
        for name, value in ran_on.items():
            print(f"{name + ':':<12}{value}")
        print(flush=True)
        try:
            figures = measure(given)
        except KeyboardInterrupt:
            raise SystemExit(128 + signal.SIGINT) from None
        if given.json:
            kept = {"machine": ran_on, "arguments": sys.argv[1:], "figures": figures}
            given.json.write_text(json.dumps(kept, indent=2) + "\n")
