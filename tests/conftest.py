"""The command as its users run it: a process of its own, over real sockets, against a sandbox in a thread."""

import asyncio
import os
import queue
import signal
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import hypothesis
import pytest
from fork_server import ForkServer
from support import ACCOUNTS, PROJECT, TOKEN

from jobs.sandbox import Call, Catalogue, Reply, Sandbox, Withheld, issue_certificate, serve

# How long an example takes says more of the machine than of the program.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

# A command hangs up only if it was not started like one that is to outlive its terminal, as by nohup.
signal.signal(signal.SIGHUP, signal.SIG_DFL)

PATIENCE = 30
"""Seconds after which a command, or something a test waits for, counts as hung."""

NOBODY = "http://127.0.0.1:9"
"""An address where nobody listens, for the metadata service: no test looks for it elsewhere."""

_SETTINGS = ("FPGA_BATCH_", "HUAWEICLOUD_", "HW_", "OS_")
_READ_AT_START = ("PYTHON", "LANG", "LC_", "SSL")
"""What is read by Python or an import before the command runs: with such a variable it is a new process."""


class Ended(NamedTuple):
    """How a command ended."""

    exit_code: int
    stdout: str
    stderr: str


class WatchedSandbox(Sandbox):
    """A sandbox that tells of each call when it comes in; `url` is where it listens."""

    url: str

    def __init__(self, **settings: Any) -> None:
        super().__init__(Catalogue(accounts=ACCOUNTS), **settings)
        self._arrivals = threading.Semaphore(0)

    @property
    def requests(self) -> int:
        return int(self.stats()["requests"])

    def reply(self, call: Call) -> Reply | Withheld:
        self._arrivals.release()
        return super().reply(call)

    def forget_requests(self) -> None:
        """Wait for none of the requests that have come so far."""
        while self._arrivals.acquire(blocking=False):
            pass

    def await_request(self) -> None:
        assert self._arrivals.acquire(timeout=PATIENCE), "no request came"


class Stub:
    """A server that gives one answer to everything and counts what it was asked."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.requests = 0


COMMAND = Path(sys.executable).with_name("fpga-batch")
"""The command as it is installed."""


def arguments(*args: str) -> list[str]:
    return [sys.executable, str(COMMAND), *args]


def environment(home: Path, service: str | None, variables: dict[str, str]) -> dict[str, str]:
    """Return this process's environment without settings; with `service` all that a run needs to send."""
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(_SETTINGS) and not name.lower().endswith("_proxy")
    }
    if service:
        clean |= {
            "FPGA_BATCH_ENDPOINT": service,
            "FPGA_BATCH_PROJECT_ID": PROJECT,
            "FPGA_BATCH_RATE": "1000",
            "OS_TOKEN": TOKEN,
        }
    return {**clean, "HOME": str(home), "FPGA_BATCH_METADATA_ENDPOINT": NOBODY, **variables}


@pytest.fixture(scope="session")
def fork_server() -> Iterator[ForkServer]:
    server = ForkServer()
    yield server
    server.close()


@pytest.fixture
def command(tmp_path: Path, fork_server: ForkServer) -> Callable[..., Ended]:
    """Run the command in the test's folder: `command(*args, service=URL, stdin=TEXT, **variables)`."""

    def run(*args: str, service: str | None = None, stdin: str = "", **variables: str) -> Ended:
        settings = environment(tmp_path, service, variables)
        if any(name.startswith(_READ_AT_START) for name in variables):
            ended = subprocess.run(
                arguments(*args),
                cwd=tmp_path,
                env=settings,
                input=stdin.encode(),
                capture_output=True,
                timeout=PATIENCE,
                check=False,
            )
        else:
            ended = fork_server.run(args, cwd=tmp_path, env=settings, stdin=stdin.encode(), timeout=PATIENCE)
        stdout, stderr = ended.stdout.decode(), ended.stderr.decode()
        assert "Traceback" not in stderr, stderr
        return Ended(ended.returncode, stdout, stderr)

    return run


def at_once(commands: Iterable[Callable[[], Ended]]) -> list[Ended]:
    """Run several commands side by side."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return [running.result() for running in [pool.submit(each) for each in commands]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Start the command in the test folder: `start(*args, service=URL, **variables)`; kill it at the end."""
    started: list[subprocess.Popen[str]] = []

    def begin(*args: str, service: str | None = None, stderr: int = subprocess.PIPE, **variables: str) -> Any:
        process = subprocess.Popen(
            arguments(*args),
            cwd=tmp_path,
            env=environment(tmp_path, service, variables),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            encoding="utf-8",
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


@contextmanager
def listening(sandbox: Sandbox, context: ssl.SSLContext | None = None) -> Iterator[str]:
    """Let a sandbox listen, in a thread with an event loop of its own; give its URL."""
    ready: queue.Queue[tuple[str, asyncio.AbstractEventLoop, asyncio.Event]] = queue.Queue()

    async def serving() -> None:
        stopped = asyncio.Event()
        async with serve(sandbox, ssl_context=context) as url:
            ready.put((url, asyncio.get_running_loop(), stopped))
            await stopped.wait()

    thread = threading.Thread(target=asyncio.run, args=(serving(),))
    thread.start()
    url, loop, stopped = ready.get(timeout=PATIENCE)
    try:
        yield url
    finally:
        loop.call_soon_threadsafe(stopped.set)
        thread.join()


@pytest.fixture
def sandbox() -> Iterator[WatchedSandbox]:
    """Return a sandbox that listens."""
    watched = WatchedSandbox()
    with listening(watched) as watched.url:
        yield watched


@pytest.fixture
def secured(tmp_path: Path) -> Iterator[WatchedSandbox]:
    """Return a sandbox that listens with TLS; a client has to trust what is in `ca.pem`."""
    context, authority = issue_certificate("127.0.0.1")
    (tmp_path / "ca.pem").write_bytes(authority)
    watched = WatchedSandbox()
    with listening(watched, context) as watched.url:
        yield watched


@contextmanager
def answering(status: int, body: bytes = b"", **headers: str) -> Iterator[Stub]:
    """Run a server that answers every request alike."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            stub.requests += 1
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_DELETE = answer  # noqa: N815

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    stub = Stub(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield stub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
