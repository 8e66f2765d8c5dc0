"""A run of a million rows: memory, speed at its start and at its end, and what comes after the last answer.

    python tests/bench/million.py [--rows N] [--concurrency N]

The service is a bare server in a process of its own that answers 204 to everything, so that the figures are the
program's. Nothing here is asserted: the table is for reading.
"""

import argparse
import asyncio
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent.parent
POLL = 0.05
ANSWER = b"HTTP/1.1 204 No Content\r\nX-Request-Id: 49064713051117bd9b55b489f9109f05\r\n\r\n"


class Measured(NamedTuple):
    """What a command took."""

    seconds: float
    megabytes: float
    times: list[float]
    """For each tenth of the rows: seconds after the start at which the journal held them."""


class Bare(asyncio.Protocol):
    """Answers each request as soon as it is whole."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._received = b""

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            head = self._received[:end].lower()
            _, _, after = head.partition(b"content-length:")
            end += 4 + int(after.split(b"\r\n", 1)[0] or 0)
            if len(self._received) < end:
                return
            self._received = self._received[end:]
            self._transport.write(ANSWER)


async def serve() -> None:
    server = await asyncio.get_running_loop().create_server(Bare, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextmanager
def serving() -> Iterator[str]:
    with subprocess.Popen([sys.executable, __file__, "--serve"], stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            yield f"http://127.0.0.1:{server.stdout.readline().strip()}"
        finally:
            server.terminate()


def write_pairs(path: Path, rows: int) -> None:
    numbers = random.Random(1)
    with path.open("w") as file:
        file.write("fpga_image_id,image_id,note\n")
        for row in range(rows):
            image = uuid.UUID(int=numbers.getrandbits(128))
            file.write(f"{numbers.getrandbits(128):032x},{image},customer {row}\n")


def measure(folder: Path, service: str, rows: int, *args: str) -> Measured:
    """Run the command and watch its journal grow."""
    variables = {"OS_TOKEN": "t", "FPGA_BATCH_ENDPOINT": service, "FPGA_BATCH_PROJECT_ID": "0" * 32}
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "jobs", *args],
        cwd=folder,
        env=os.environ | variables | {"PYTHONPATH": str(ROOT)},
    )
    journal = folder / "pairs.report.csv.journal"
    seen, position, times = 0, 0, []
    try:
        while process.poll() is None:
            time.sleep(POLL)
            try:
                with journal.open("rb") as file:
                    file.seek(position)
                    new = file.read()
            except FileNotFoundError:
                continue
            position += len(new)
            seen += new.count(b'"outcome"')
            while len(times) < 10 and seen >= rows * (len(times) + 1) // 10:
                times.append(time.monotonic() - began)
    finally:
        process.kill()
        process.wait()
    if process.returncode:
        raise SystemExit(f"{args[0]} ended with {process.returncode}")
    kilobytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return Measured(time.monotonic() - began, kilobytes / 1024, times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve())
        return
    rows = options.rows
    speed = ("--rate", "1000000", "--concurrency", str(options.concurrency))
    with tempfile.TemporaryDirectory() as name, serving() as service:
        folder = Path(name)
        write_pairs(folder / "pairs.csv", rows)
        run = measure(folder, service, rows, "associate", "pairs.csv", *speed)
        clean = measure(folder, service, rows, "resume", "pairs.report.csv")
        copied = measure(folder, service, rows, "resume", "pairs.report.csv", "--report", "copy.csv")
    # The first tenth begins after the pass over the input, so that the second stands for the start.
    first, last = run.times[1] - run.times[0], run.times[9] - run.times[8]
    print(f"{rows:,} rows")
    print(f"  rows per second, second tenth         {rows / 10 / first:>10,.0f}")
    print(f"  rows per second, last tenth           {rows / 10 / last:>10,.0f}")
    print(f"  seconds from last outcome to the end  {run.seconds - run.times[9]:>10.1f}")
    print(f"  peak memory, MiB                      {run.megabytes:>10.1f}")
    print(f"  seconds to resume, nothing to do      {clean.seconds:>10.1f}")
    print(f"  seconds to read back and rewrite      {copied.seconds:>10.1f}")


if __name__ == "__main__":
    main()
