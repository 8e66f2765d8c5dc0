"""A bare server that answers 204 to everything, after `--delay` seconds; prints its address and stays.

    python tests/bench/answering.py [--delay S]

It answers on time: its loop waits with `select`, whose timers are finer than the millisecond of `epoll`.
"""

import argparse
import asyncio
import re
import selectors
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from bench import HERE, SERVER_CORE, started

ANSWER = b"HTTP/1.1 204 No Content\r\n\r\n"
_length = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)


class Answering(asyncio.Protocol):
    """One connection: every request is answered once it is there with its body."""

    def __init__(self, delay: float) -> None:
        self._delay = delay

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._received = bytearray()

    def data_received(self, data: bytes) -> None:
        self._received += data
        while end := self._end_of_first():
            del self._received[:end]
            if self._delay:
                asyncio.get_running_loop().call_later(self._delay, self._transport.write, ANSWER)
            else:
                self._transport.write(ANSWER)

    def _end_of_first(self) -> int:
        """Return where the first request ends, or 0 while some of it is to come."""
        head = self._received.find(b"\r\n\r\n")
        if head < 0:
            return 0
        length = _length.search(self._received, 0, head)
        end = head + 4 + (int(length[1]) if length else 0)
        return end if end <= len(self._received) else 0


@contextmanager
def answering(delay: float = 0.0) -> Iterator[str]:
    """Keep a server on a core of its own; yield its address."""
    command: list[str | Path] = [sys.executable, HERE / "answering.py", "--delay", str(delay)]
    with started(command, core=SERVER_CORE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        yield process.stdout.readline().strip()


async def serve(delay: float) -> None:
    server = await asyncio.get_running_loop().create_server(partial(Answering, delay), "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


def on_time() -> asyncio.AbstractEventLoop:
    return asyncio.SelectorEventLoop(selectors.SelectSelector())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--delay", type=float, default=0.0)
    with asyncio.Runner(loop_factory=on_time) as runner:
        runner.run(serve(parser.parse_args().delay))
