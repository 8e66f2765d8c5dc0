"""A million rows through the real command: speed at both ends, memory, time from the last outcome to the end.

    python tests/bench/million.py [--rows N]

The service is a bare server that answers 204 to everything, so that the figures are the command's own.
"""

import argparse
import asyncio
import multiprocessing
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import BinaryIO, NamedTuple

ROOT = Path(__file__).parent.parent.parent
LOOK_EVERY = 0.05
OUTCOME = b'\n{"row":'
JOURNAL = "pairs.report.csv.journal"
UUID_PARTS = ((0, 8), (8, 12), (12, 16), (16, 20), (20, 32))
ANSWER = b"HTTP/1.1 204 No Content\r\n\r\n"
_length = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)


class Answering(asyncio.Protocol):
    """One connection: every request is answered once it is there with its body."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._received = bytearray()

    def data_received(self, data: bytes) -> None:
        self._received += data
        while end := self._end_of_first():
            del self._received[:end]
            self._transport.write(ANSWER)

    def _end_of_first(self) -> int:
        """Return where the first request ends, or 0 while some of it is to come."""
        head = self._received.find(b"\r\n\r\n")
        if head < 0:
            return 0
        length = _length.search(self._received, 0, head)
        end = head + 4 + (int(length[1]) if length else 0)
        return end if end <= len(self._received) else 0


def serve(ready: Connection) -> None:
    # Ctrl-C comes to every process of the terminal; this one is ended by the first.
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    async def serving() -> None:
        server = await asyncio.get_running_loop().create_server(Answering, "127.0.0.1", 0)
        ready.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(serving())


@contextmanager
def server() -> Iterator[str]:
    ready, theirs = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.Process(target=serve, args=(theirs,), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{ready.recv()}"
    finally:
        process.kill()
        process.join()


class Measured(NamedTuple):
    """What a command took.

    Attributes:
        seconds: from its start to its end.
        mebibytes: of memory, at most.
        progress: how many outcomes its journal held so many seconds after its start.

    """

    seconds: float
    mebibytes: float
    progress: list[tuple[float, int]]

    def reached(self, outcomes: float) -> float:
        """Return when the journal held so many, as if it grew evenly between two looks."""
        earlier, fewer = 0.0, 0
        for now, held in self.progress:
            if held >= outcomes > fewer:
                return earlier + (now - earlier) * (outcomes - fewer) / (held - fewer)
            earlier, fewer = now, held
        return earlier


def measure(folder: Path, service: str, *arguments: str) -> Measured:
    """Run a command to its end and look at its journal meanwhile."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("FPGA_BATCH_")}
    settings = {"OS_TOKEN": "t", "FPGA_BATCH_ENDPOINT": service, "FPGA_BATCH_PROJECT_ID": "0" * 32}
    progress: list[tuple[float, int]] = []
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "jobs", *arguments],
        cwd=folder,
        env={**clean, **settings, "PYTHONPATH": str(ROOT)},
        start_new_session=True,  # Ctrl-C would make it write a report that nobody wants
    )
    try:
        outcomes = outcomes_in(folder / JOURNAL)
        while not (ended := os.wait4(process.pid, os.WNOHANG))[0]:
            progress.append((time.monotonic() - began, next(outcomes)))
            time.sleep(LOOK_EVERY)
        seconds = time.monotonic() - began
        process.returncode = os.waitstatus_to_exitcode(ended[1])
    finally:
        process.kill()
        process.wait()
    if process.returncode:
        raise SystemExit(f"{arguments[0]} ended with exit code {process.returncode}")
    # The peak is at least what this process had when it began the other, so nothing large may be held here.
    return Measured(seconds, ended[2].ru_maxrss / 1024, progress)


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


def write_pairs(path: Path, rows: int) -> None:
    bits = random.Random(1).getrandbits
    with path.open("w") as file:
        file.write("fpga_image_id,image_id\n")
        for _ in range(rows):
            image = f"{bits(128):032x}"
            file.write(f"{bits(128):032x},{'-'.join(image[start:end] for start, end in UUID_PARTS)}\n")


def tell(rows: int, run: Measured, clean: Measured, copied: Measured) -> None:
    tenth = rows / 10
    first = tenth / (run.reached(tenth) - run.reached(1))
    last = tenth / (run.reached(rows) - run.reached(rows - tenth))
    lines = [
        ("associate, seconds", f"{run.seconds:.1f}"),
        ("  rows a second in the first tenth", f"{first:,.0f}"),
        ("  rows a second in the last tenth", f"{last:,.0f}"),
        ("  seconds from the start to the first outcome", f"{run.reached(1):.1f}"),
        ("  seconds from the last outcome to the end", f"{run.seconds - run.reached(rows):.1f}"),
        ("  peak memory, MiB", f"{run.mebibytes:.0f}"),
        ("resume with nothing to do, seconds", f"{clean.seconds:.1f}"),
        ("  peak memory, MiB", f"{clean.mebibytes:.0f}"),
        ("resume into another report, seconds", f"{copied.seconds:.1f}"),
        ("  peak memory, MiB", f"{copied.mebibytes:.0f}"),
    ]
    print(f"{rows:,} rows")
    for name, figure in lines:
        print(f"  {name:<60}{figure:>10}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    rows = parser.parse_args().rows
    with server() as service, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_pairs(folder / "pairs.csv", rows)
        fast = ("--rate", "100000", "--concurrency", "64")
        run = measure(folder, service, "associate", "pairs.csv", *fast)
        clean = measure(folder, service, "resume", "pairs.report.csv")
        copied = measure(folder, service, "resume", "pairs.report.csv", "--report", "copy.csv")
    tell(rows, run, clean, copied)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit(130) from None
