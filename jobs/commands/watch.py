"""What goes on beside a run: signals turned into stops, and progress for whoever looks."""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from batch import progress
from batch.engine.pool import GRACE, Engine
from batch.errors import InterruptedRunError
from jobs.commands import signals
from jobs.commands.stopping import leave_threads_behind
from jobs.commands.streams import say


class _Signals:
    """What signals do to a run: the first one stops it in an orderly way, a second one at once."""

    def __init__(self, engine: Engine, *, quiet: bool) -> None:
        self._engine = engine
        self._quiet = quiet
        self._received = 0
        self._loop = asyncio.get_running_loop()

    def receive(self, number: int) -> None:
        """Take a signal, wherever the program is."""
        self._received += 1
        error = signals.interruption(number)
        if self._loop.is_running():
            self._loop.call_soon_threadsafe(self._abort if self._received > 1 else self._stop, error, number)
        elif self._received > 1:
            error.at_once = True
            raise signals.Interrupt(error)
        else:  # writing takes a short time: it is not stopped
            self._tell(number, "the report is being written; a second signal aborts at once")

    def _stop(self, error: InterruptedRunError, number: int) -> None:
        self._engine.stop(error)  # first of all: what is said may be lost, or take its time
        self._tell(number, f"no new rows; {GRACE:.0f} s for those under way, a second signal aborts at once")

    def _abort(self, error: InterruptedRunError, _number: int) -> None:
        self._engine.stop(error, grace=0)
        if isinstance(self._engine.stopped, InterruptedRunError):
            self._engine.stopped.at_once = True

    def _tell(self, number: int, text: str) -> None:
        if not self._quiet:
            say(f"{signal.Signals(number).name}: {text}")


@contextmanager
def watching(engine: Engine, rows: int, *, quiet: bool, show_progress: bool) -> Iterator[None]:
    """Take signals and show progress while the engine runs. For use inside the event loop.

    Afterwards signals are still taken for this run, whose report is written then, until others are installed.

    Args:
        engine: what runs.
        rows: rows that it is to send.
        quiet: whether nobody wants to hear of the first signal.
        show_progress: whether to draw a bar.

    """
    leave_threads_behind()
    loop = asyncio.get_running_loop()
    began = loop.time()

    def tell() -> None:
        say(f"fpga-batch: {progress.status(engine, rows, loop.time() - began)}")

    signals.install(_Signals(engine, quiet=quiet).receive)
    before = signal.getsignal(signal.SIGUSR1)
    loop.add_signal_handler(signal.SIGUSR1, tell)
    try:
        with progress.shown(engine, rows) if show_progress else nullcontext():
            yield
    finally:
        loop.remove_signal_handler(signal.SIGUSR1)
        signal.signal(signal.SIGUSR1, before)
