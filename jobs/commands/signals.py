"""Signals that stop a command. `watch` takes them for a run that sends; anywhere else they raise an error."""

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

from batch.errors import InterruptedRunError
from jobs.commands.streams import say

_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_SOON = 0.05


class Interrupt(BaseException):
    """A signal came. It is no `Exception`: nobody who handles errors takes it for one of them.

    Attributes:
        error: what it means for the command.

    """

    def __init__(self, error: InterruptedRunError) -> None:
        super().__init__(error)
        self.error = error


def heed() -> None:
    """Raise `Interrupt` wherever the program is when a signal comes that stops it.

    SIGUSR1 is answered. SIGTTOU is ignored: a job in the background goes on when it writes to a terminal.
    """
    for number in _heeded():
        signal.signal(number, _interrupt)
    if signal.getsignal(signal.SIGUSR1) is not signal.SIG_IGN:
        signal.signal(signal.SIGUSR1, _answer)
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)


def leave_to_system() -> None:
    """Let a signal end the process without a word: the command is over, and its exit code is known."""
    for number in _heeded():
        signal.signal(number, signal.SIG_DFL)


def install(handle: Callable[[int], object]) -> None:
    """Call `handle` wherever the program is when a signal comes that stops it."""
    for number in _heeded():
        signal.signal(number, lambda number, _frame: handle(number))


def interruption(number: int) -> InterruptedRunError:
    """Return the error that a signal means."""
    return InterruptedRunError(f"stopped by {signal.Signals(number).name}", number)


def send_again(interrupt: Interrupt) -> None:
    """Let a signal come once more in a moment: it came where nothing can be raised, as in a finalizer."""
    timer = threading.Timer(_SOON, os.kill, (os.getpid(), interrupt.error.number))
    timer.daemon = True
    timer.start()


def _heeded() -> list[signal.Signals]:
    """Return the signals that stop the program. One that is ignored, as under nohup, stays ignored."""
    return [number for number in _STOPPING if signal.getsignal(number) is not signal.SIG_IGN]


def _interrupt(number: int, _frame: FrameType | None) -> NoReturn:
    raise Interrupt(interruption(number))


def _answer(_number: int, _frame: FrameType | None) -> None:
    say("fpga-batch: nothing is being sent just now")
