"""Requests a second of the real command and of other clients, against nginx on another core.

    python tests/bench/peers.py [--pairs N] [--rows N] [--only NAME ...] [--peer-python PATH] [--json FILE]

The yardstick is a bare aiohttp loop, as one writes it: 64 workers on one iterator, the same requests, nothing
validated, limited, retried or written. The same loop tuned as far as it goes is among the contenders. Every
contender runs in turn with its yardstick, and the ratio is told.
"""

import shutil
import subprocess
import sys
import tempfile
from argparse import Namespace
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from answering import answering
from bench import Script, say, spread, table
from clients import WORKERS
from course import Course, Run, Sample
from web import certify, nginx

DELAY = 0.020
KEYS = {"FPGA_BATCH_AK": "ak", "FPGA_BATCH_SK": "sk"}
HEAD = (
    "against the bare loop",
    "rows",
    "requests/s",
    "ratio",
    "least",
    "most",
    "bound",
    "span s",
    "wall s",
    "CPU s",
)


@dataclass(frozen=True)
class Contender:
    """What is held against a yardstick.

    Attributes:
        name: in the table, and for `--only`.
        run: runs it once.
        yardstick: runs what it is held against.
        missing: why it cannot run, or empty.
        bound: the ratio that it is meant to reach, or empty.

    """

    name: str
    run: Run
    yardstick: Run
    missing: str = ""
    bound: str = ""


def contenders(stack: ExitStack, folder: Path, rows: int, peers: Path) -> Iterator[Contender]:
    """Yield all of them; what they need lasts as long as the stack."""
    own = Path(sys.executable)
    plain = Course(folder / "plain", stack.enter_context(nginx(folder)), rows)
    bare = plain.client("bare", own, rows)
    yield Contender("associate, token", plain.own(), bare, bound="0.90")
    yield Contender("associate, AK/SK", plain.own(**KEYS), bare, bound="0.78")
    if missing := certify(folder):
        yield Contender("associate, token, TLS", bare, bare, missing)
    else:
        service = stack.enter_context(nginx(folder, tls=True))
        tls = Course(folder / "tls", service, rows, folder / "ca.pem")
        yield Contender("associate, token, TLS", tls.own(), tls.client("bare", own, rows), bound="0.90")
    slow = Course(folder / "slow", stack.enter_context(answering(DELAY)), rows)
    most = f"{WORKERS} / {DELAY * 1000:.0f} ms"
    yield Contender(f"associate, of {most}", slow.own(), ideal, bound="0.90")
    yield Contender(f"bare loop, of {most}", slow.client("bare", own, rows), ideal)
    yield Contender("bare loop, tuned", plain.client("tuned", own, rows), bare)
    for name, share in (("aiohttp_retry", 1), ("urllib3", 2), ("requests", 5), ("httpx", 10)):
        missing = "" if imports(peers, name) else "not installed"
        yield Contender(name, plain.client(name, peers, max(rows // share, 1)), bare, missing)
    missing = "" if shutil.which("curl") else "not installed"
    yield Contender("curl --parallel", plain.curl(), bare, missing)
    missing = missing if shutil.which("xargs") else "not installed"
    yield Contender("xargs -P curl", plain.xargs(max(rows // 40, 1)), bare, missing)


def ideal() -> Sample:
    """What a service that takes so long allows: all workers wait all the time."""
    return Sample(WORKERS, DELAY, 0, 0)


def imports(python: Path, name: str) -> bool:
    return not subprocess.run([python, "-c", f"import {name}"], capture_output=True, check=False).returncode


def compete(contender: Contender, pairs: int) -> list[tuple[Sample, Sample]]:
    """Run yardstick and contender in turn."""
    runs = []
    for number in range(1, pairs + 1):
        one, other = contender.yardstick(), contender.run()
        runs.append((one, other))
        say(f"{contender.name}, {number} of {pairs}: {other.rate:,.0f}/s, yardstick {one.rate:,.0f}/s")
    return runs


def line(contender: Contender, runs: list[tuple[Sample, Sample]]) -> tuple[str, ...]:
    if not runs:
        return (contender.name, "", contender.missing, *[""] * (len(HEAD) - 3))
    rates = spread([other.rate for _, other in runs])
    ratios = spread([other.rate / one.rate for one, other in runs])
    times = [spread([other[place] for _, other in runs]).median for place in (1, 2, 3)]
    return (
        contender.name,
        f"{runs[0][1].requests:,}",
        f"{rates.median:,.0f}",
        *(f"{ratio:.3f}" for ratio in ratios),
        contender.bound,
        *(f"{seconds:.2f}" for seconds in times),
    )


def measure(given: Namespace) -> list[dict[str, Any]]:
    lines, kept = [], []
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        for contender in contenders(stack, Path(name), given.rows, given.peer_python):
            if given.only and not any(word in contender.name for word in given.only):
                continue
            runs = [] if contender.missing else compete(contender, given.pairs)
            lines.append(line(contender, runs))
            together = [{"yardstick": one._asdict(), "contender": other._asdict()} for one, other in runs]
            kept.append({"name": contender.name, "missing": contender.missing, "runs": together})
    table(HEAD, lines)
    return kept


if __name__ == "__main__":
    script = Script(__doc__)
    script.options.add_argument("--pairs", type=int, default=5, help="runs of each with its yardstick")
    script.options.add_argument("--rows", type=int, default=20_000, help="the slower clients take fewer")
    script.options.add_argument(
        "--only", nargs="+", metavar="NAME", help="those with one of these in their names"
    )
    script.options.add_argument("--peer-python", type=Path, default=Path(sys.executable), metavar="PATH")
    script.main(measure)
