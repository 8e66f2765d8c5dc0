"""Runs the command without importing it each time, which takes longer than what most tests do with it.

A server process imports everything once and forks for each command. The child gets the streams, the folder,
the umask and the environment of a new process, runs the same entry point, and ends as an interpreter ends.
"""

import importlib
import json
import os
import pkgutil
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

_LIMIT = 1 << 20  # bytes of a request: arguments and environment
_LAZILY_IMPORTED = ("aiohttp", "rich", "ssl", "typer", "yarl")
_UMASK = re.compile(r"^Umask:\s*([0-7]+)$", re.MULTILINE)


class ForkServer:
    """A process that starts commands, and the way to it. Several threads may use it at once."""

    def __init__(self) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )

    def close(self) -> None:
        """End the process. Commands under way go on."""
        self._control.close()
        self._process.kill()
        self._process.wait()

    def run(
        self, args: Sequence[str], *, cwd: Path, env: Mapping[str, str], stdin: bytes, timeout: float
    ) -> "subprocess.CompletedProcess[bytes]":
        """Run the command with these arguments to its end; like `subprocess.run` with captured streams.

        Raises:
            subprocess.TimeoutExpired: it took longer than `timeout` seconds, and was killed.

        """
        umask = _UMASK.findall(Path("/proc/self/status").read_text())[0]
        request = json.dumps([*map(os.fspath, args)]), os.fspath(cwd), json.dumps(dict(env)), umask
        streams = [os.memfd_create("stdout"), os.memfd_create("stderr")]
        reading, writing = os.pipe()
        told, telling = os.pipe()
        try:
            message = "\0".join(request).encode("utf-8", "surrogateescape")
            socket.send_fds(self._control, [message], [reading, *streams, telling])
            for each in (reading, telling):
                os.close(each)
            feeder = threading.Thread(target=_feed, args=(writing, stdin))
            feeder.start()
            code = _await_end(told, args, timeout)
            feeder.join()
            stdout, stderr = (os.pread(each, os.fstat(each).st_size, 0) for each in streams)
        finally:
            for each in (*streams, told):
                os.close(each)
        return subprocess.CompletedProcess(args, code, stdout, stderr)


def _feed(stream: int, data: bytes) -> None:
    """Write what the command reads from its standard input, as far as it reads."""
    with os.fdopen(stream, "wb", buffering=0) as file:
        while data:
            try:
                data = data[os.write(file.fileno(), data) :]
            except BrokenPipeError:
                return


def _await_end(told: int, args: Sequence[str], timeout: float) -> int:
    """Return the exit code that the server tells, negative for a signal as `subprocess` has it."""
    pid = int(os.read(told, 20))
    watchdog = threading.Timer(timeout, os.kill, (pid, signal.SIGKILL))
    watchdog.start()
    began = time.monotonic()
    try:
        status = os.read(told, 20)
    finally:
        watchdog.cancel()
    if time.monotonic() - began >= timeout:
        raise subprocess.TimeoutExpired(list(args), timeout)
    return os.waitstatus_to_exitcode(int(status))


def _serve(control: socket.socket) -> None:
    """Fork for each request. This returns in a child that is to run the command."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that wait for the commands
    while True:
        message, descriptors, *_ = socket.recv_fds(control, _LIMIT, 4)
        if not message:
            os.kill(os.getpid(), signal.SIGKILL)
        if os.fork() == 0:
            break
        for each in descriptors:
            os.close(each)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    *streams, telling = descriptors
    if command := os.fork():
        os.write(telling, b"%-20d" % command)
        for each in streams:
            os.close(each)
        os.write(telling, b"%-20d" % os.waitpid(command, 0)[1])
        os.kill(os.getpid(), signal.SIGKILL)  # without the ends of an interpreter
    control.close()
    os.close(telling)
    for number, each in enumerate(streams):
        os.dup2(each, number)
        os.close(each)
    args, cwd, environment, umask = message.decode("utf-8", "surrogateescape").split("\0")
    os.chdir(cwd)
    os.umask(int(umask, base=8))
    os.environ.clear()
    os.environ.update(json.loads(environment))
    time.tzset()
    sys.argv = ["fpga-batch", *json.loads(args)]


def _import_all() -> None:
    for package in ("batch", "jobs"):
        for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
            importlib.import_module(module.name)
    for name in _LAZILY_IMPORTED:
        importlib.import_module(name)


if __name__ == "__main__":
    sys.path[0] = os.getcwd()  # the tests' folder is none of the command's
    with socket.socket(fileno=int(sys.argv[1])) as ours:
        _import_all()
        _serve(ours)
    from jobs.main import main

    main()
