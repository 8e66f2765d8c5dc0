"""Permits on the real clock, and what waiting for them costs.

    python tests/bench/pacing.py [--seconds S] [--rates RATE ...] [--json FILE]

First the limiter alone, with 64 workers that want every permit and no network. Then the real command at 10/s,
with the progress line on a terminal and without.
"""

import asyncio
import os
import pty
import select
import tempfile
import time
from argparse import Namespace
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from answering import answering
from bench import CLIENT_CORE, Script, command, fpga_batch, on_core, say, started, table, write_pairs

from batch.engine.pace import Pace
from batch.engine.rate import parse_rate
from batch.engine.retry import RetryPolicy

RATES = ("60/min", "1/s", "50/s", "500/s", "2000/s", "5000/s")
WORKERS = 64
SLOW = 10
SETTLING = 2.0
_ticks = os.sysconf("SC_CLK_TCK")


class Permits(NamedTuple):
    """What a rate gave.

    Attributes:
        rate: as it is written on the command line.
        permits: granted.
        used: share of the rate, from the first to the last permit.
        most: permits in the worst window of one second.
        bound: what that window may hold at most.
        cpu: share of a core that the process took.

    """

    rate: str
    permits: int
    used: float
    most: int
    bound: float
    cpu: float


def pace_of(rate: str) -> Pace:
    return Pace(parse_rate(rate), RetryPolicy())


async def granted(pace: Pace, seconds: float) -> list[float]:
    """Let the workers compete for so long; return when each permit was granted."""
    times: list[float] = []

    async def work() -> None:
        while True:
            await pace.permit()
            times.append(time.monotonic())

    workers = [asyncio.create_task(work()) for _ in range(WORKERS)]
    await asyncio.sleep(seconds)
    for worker in workers:
        worker.cancel()
    await asyncio.gather(*workers, return_exceptions=True)
    return times


def compete(rate: str, seconds: float) -> Permits:
    wanted = parse_rate(rate).per_second
    clock, cpu = time.monotonic(), time.process_time()
    times = asyncio.run(granted(pace_of(rate), seconds))
    share = (time.process_time() - cpu) / (time.monotonic() - clock)
    span = times[-1] - times[0]
    used = (len(times) - 1) / span / wanted if span else 0.0
    most = max(bisect_right(times, start + 1.0) - place for place, start in enumerate(times))
    return Permits(rate, len(times), used, most, wanted + 1, share)


@contextmanager
def terminal() -> Iterator[tuple[int, int]]:
    ours, theirs = pty.openpty()
    try:
        yield ours, theirs
    finally:
        os.close(ours)
        os.close(theirs)


def watch(screen: int, seconds: float) -> None:
    """Read what a command draws for so long, so that it never waits for its reader."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        if select.select([screen], [], [], left)[0]:
            os.read(screen, 65536)


def cpu_of(pid: int) -> float:
    """Return the seconds of the processor that a process has taken so far."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / _ticks


def cost_of_waiting(service: str, folder: Path, seconds: float, *options: str) -> float:
    """Return the share of a core that the command takes while it sends 10 requests a second."""
    write_pairs(folder / "pairs.csv", int((seconds + 10 * SETTLING) * SLOW))
    line = command("associate", "pairs.csv", "--restart", "--rate", str(SLOW), *options)
    settings = {**fpga_batch(service), "TERM": "xterm-256color"}
    with (
        terminal() as (screen, theirs),
        started(line, folder=folder, settings=settings, core=CLIENT_CORE, stderr=theirs) as process,
    ):
        watch(screen, SETTLING)
        before, clock = cpu_of(process.pid), time.monotonic()
        watch(screen, seconds)
        return (cpu_of(process.pid) - before) / (time.monotonic() - clock)


def measure(given: Namespace) -> dict[str, Any]:
    rates = []
    with on_core(CLIENT_CORE):
        for rate in given.rates:
            say(f"{rate}, {given.seconds:g} s")
            rates.append(compete(rate, given.seconds))
    lines = [
        (
            each.rate,
            f"{each.permits:,}",
            f"{each.used:.4f}",
            f"{each.most:,}",
            f"{each.bound:,.0f}",
            percent(each.cpu),
        )
        for each in rates
    ]
    table(("permits", "granted", "used (0.99)", "most in 1 s", "bound", "CPU"), lines)
    waiting = {}
    with answering() as service, tempfile.TemporaryDirectory() as name:
        for option in ("--no-progress", "--progress"):
            say(f"associate --rate {SLOW} {option}, {given.seconds:g} s")
            waiting[option] = cost_of_waiting(service, Path(name), given.seconds, option)
    print()
    table((f"associate --rate {SLOW}", "CPU"), [(option, percent(cpu)) for option, cpu in waiting.items()])
    return {"permits": [each._asdict() for each in rates], "waiting": waiting}


def percent(share: float) -> str:
    return f"{share:.1%}"


if __name__ == "__main__":
    script = Script(__doc__)
    script.options.add_argument("--seconds", type=float, default=20.0, help="for each figure")
    script.options.add_argument("--rates", nargs="+", default=RATES, metavar="RATE")
    script.main(measure)
