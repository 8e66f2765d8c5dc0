"""A way from requests to a server for each kind of client, and what one run over it came to."""

import json
import shlex
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from bench import CLIENT_CORE, FAST, HERE, PROJECT, Cost, command, fpga_batch, run, summary, write_pairs
from clients import HEADERS, WORKERS, read

from jobs.association import Associate
from jobs.endpoints import Site


class Sample(NamedTuple):
    """One run.

    Attributes:
        requests: answered.
        seconds: from the first request to the last answer; of the whole process where it does not tell.
        wall: seconds of the whole process.
        cpu: seconds of the processor.

    """

    requests: int
    seconds: float
    wall: float
    cpu: float

    @property
    def rate(self) -> float:
        """Requests a second."""
        return self.requests / self.seconds


Run = Callable[[], Sample]


class Course:
    """Requests for one service, and how each kind of client is sent over them.

    Args:
        folder: for what the clients read and write; each course has its own.
        service: the server's address.
        rows: pairs of the file.
        authority: the file of the server's authority, or None.

    """

    def __init__(self, folder: Path, service: str, rows: int, authority: Path | None = None) -> None:
        folder.mkdir()
        self.rows = rows
        self._folder = folder
        self._service = service
        self._authority = authority
        self._requests = folder / "requests"
        write_pairs(folder / "pairs.csv", rows)
        write_requests(self._requests, folder / "pairs.csv", service)

    def own(self, **settings: str) -> Run:
        """The project's own command."""
        trust = ("--ca-file", self._authority) if self._authority else ()
        report = self._folder / "report.csv"

        def work() -> Sample:
            cost = self._run(
                command("associate", "pairs.csv", "--report", report, *FAST, *trust),
                fpga_batch(self._service, **settings),
            )
            told = summary(report)
            if told["outcomes"]["succeeded"] != self.rows or told["attempts"] != self.rows:
                raise SystemExit(f"not every row took one request: {told}")
            return Sample(self.rows, told["seconds"], cost.seconds, cost.cpu)

        return work

    def client(self, name: str, python: Path, rows: int) -> Run:
        """One of `clients.py`, by the interpreter that has it."""
        trust = ("--ca-file", self._authority) if self._authority else ()
        line = [python, HERE / "clients.py", name, self._requests, "--rows", str(rows), *trust]

        def work() -> Sample:
            cost = self._run(line)
            told = json.loads(cost.output)
            return Sample(told["requests"], told["seconds"], cost.seconds, cost.cpu)

        return work

    def curl(self) -> Run:
        """One curl with many transfers at once."""
        configuration = self._folder / "curl"
        common = "".join(f'header = "{name}: {value}"\n' for name, value in HEADERS.items())
        transfers = (
            f"url = {url}\ndata = {json.dumps(body.decode())}\n{common}fail\nsilent\n"
            for url, body in read(self._requests)
        )
        configuration.write_text("next\n".join(transfers))
        many = ("--parallel", "--parallel-immediate", "--parallel-max", str(WORKERS))
        return self._whole(["curl", "-sS", *many, "-K", configuration], self.rows)

    def xargs(self, rows: int) -> Run:
        """One curl for each request, many at once."""
        lines = self._folder / "lines"
        with lines.open("w") as file:
            for url, body in islice(read(self._requests), rows):
                file.write(f"--data {shlex.quote(body.decode())} {url}\n")
        headers = [part for name, value in HEADERS.items() for part in ("-H", f"{name}: {value}")]
        each: list[str | Path] = [
            "xargs",
            "-a",
            lines,
            "-L",
            "1",
            "-P",
            str(WORKERS),
            "curl",
            "-sS",
            "--fail",
            *headers,
        ]
        return self._whole(each, rows)

    def _whole(self, line: list[str | Path], rows: int) -> Run:
        def work() -> Sample:
            cost = self._run(line)
            return Sample(rows, cost.seconds, cost.seconds, cost.cpu)

        return work

    def _run(self, line: list[str | Path], settings: dict[str, str] | None = None) -> Cost:
        return run(line, folder=self._folder, settings=settings, core=CLIENT_CORE)


def write_requests(path: Path, pairs: Path, service: str) -> None:
    """Write what the project's own job sends for the pairs."""
    job = Associate(Site(PROJECT, service))
    with path.open("w") as file, pairs.open() as lines:
        for line in islice(lines, 1, None):
            request = next(job.conversation(job.parse([*line.rstrip("\n").split(","), "", ""])))
            assert request.body
            file.write(f"{request.url}\t{request.body.decode()}\n")
