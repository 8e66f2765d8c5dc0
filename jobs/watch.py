"""What goes on beside a run: signals turned into stops, and progress for whoever looks."""

import asyncio
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import FrameType

from batch import progress
from batch.engine import GRACE, Engine
from batch.errors import InterruptedRunError

_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _Signals:
    """What signals do to a run: the first one stops it in an orderly way, a second one at once."""

    def __init__(self, engine: Engine, *, quiet: bool) -> None:
        self._engine = engine
        self._quiet = quiet
        self._received = 0

    def stop(self, number: int) -> None:
        """Take a signal that comes while the engine runs."""
        self._received += 1
        error = InterruptedRunError(f"stopped by {signal.Signals(number).name}", number)
        if self._received == 1:
            self._tell(
                number, f"no new rows; {GRACE:.0f} s for those under way, a second signal aborts at once"
            )
            self._engine.stop(error)
            return
        self._engine.stop(error, grace=0)
        if isinstance(self._engine.stopped, InterruptedRunError):
            self._engine.stopped.at_once = True

    def finish(self, number: int, _frame: FrameType | None) -> None:
        """Take a signal that comes while the report is written: a run is not stopped in that short time."""
        self._received += 1
        if self._received == 1:
            self._tell(number, "the report is being written; a second signal aborts at once")
            return
        error = InterruptedRunError(f"stopped by {signal.Signals(number).name}", number)
        error.at_once = True
        raise error

    def _tell(self, number: int, text: str) -> None:
        if not self._quiet:
            say(f"{signal.Signals(number).name}: {text}")


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
    signals = _Signals(engine, quiet=quiet)

    def tell() -> None:
        say(f"fpga-batch: {progress.status(engine, rows, loop.time() - began)}")

    # A signal that is ignored, as under nohup, stays ignored.
    stopping = [number for number in _STOPPING if signal.getsignal(number) is not signal.SIG_IGN]
    before = signal.getsignal(signal.SIGUSR1)
    for number in stopping:
        loop.add_signal_handler(number, signals.stop, number)
    loop.add_signal_handler(signal.SIGUSR1, tell)
    try:
        with progress.shown(engine, rows) if show_progress else nullcontext():
            yield
    finally:
        for number in stopping:
            loop.remove_signal_handler(number)
            signal.signal(number, signals.finish)
        loop.remove_signal_handler(signal.SIGUSR1)
        signal.signal(signal.SIGUSR1, before)


def say(text: str) -> None:
    """Write a line to standard error."""
    sys.stderr.write(f"{text}\n")
