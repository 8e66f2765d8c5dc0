"""What goes on beside a run: signals turned into stops, and progress for whoever looks."""

import asyncio
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from batch import progress
from batch.engine import GRACE, Engine
from batch.errors import InterruptedRunError

_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def watching(engine: Engine, rows: int, *, quiet: bool, show_progress: bool) -> Iterator[None]:
    """Listen to signals and show progress while the engine runs. For use inside the event loop.

    Args:
        engine: what runs.
        rows: rows that it is to send.
        quiet: whether nobody wants to hear of the first signal.
        show_progress: whether to draw a bar.

    """
    loop = asyncio.get_running_loop()
    began = loop.time()

    def stop(number: int) -> None:
        if engine.stopped is None:
            name = signal.Signals(number).name
            if not quiet:
                say(f"{name}: no new rows; {GRACE:.0f} s for those under way, a second signal aborts at once")
            engine.stop(InterruptedRunError(f"stopped by {name}", number))
        else:
            if isinstance(engine.stopped, InterruptedRunError):
                engine.stopped.at_once = True
            engine.stop(engine.stopped, grace=0)

    def tell() -> None:
        say(f"fpga-batch: {progress.status(engine, rows, loop.time() - began)}")

    before = {
        number: handler
        for number in (*_STOPPING, signal.SIGUSR1)
        if (handler := signal.getsignal(number)) is not signal.SIG_IGN
    }
    for number in before:
        if number == signal.SIGUSR1:
            loop.add_signal_handler(number, tell)
        else:
            loop.add_signal_handler(number, stop, number)
    try:
        if show_progress:
            with progress.shown(engine, rows):
                yield
        else:
            yield
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)


def say(text: str) -> None:
    """Write a line to standard error."""
    sys.stderr.write(f"{text}\n")
