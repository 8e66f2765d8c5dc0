"""`fpga-batch`, also as `python -m jobs`."""

import errno
import io
import logging
import os
import signal
import sys
from types import FrameType
from typing import NoReturn

from batch.errors import BatchError, InterruptedRunError, OutputError

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def main() -> NoReturn:
    """Run the command line and leave with the exit code that the outcome has."""
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - for as long as the process lives
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, _tell if number == signal.SIGUSR1 else _interrupt)
    try:
        from jobs.cli import app  # noqa: PLC0415 - inside, so that a signal during the import is handled too

        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")  # a locale may not know a file's letters
        app()
    except BatchError as error:
        _end(error)
    except BrokenPipeError:
        # Whoever read standard output went away; Python would complain again when it flushes at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            _say(f"fpga-batch: standard output cannot be written: {error.strerror}")
            sys.exit(OutputError.exit_code)
        logging.getLogger("jobs").debug("unexpected", exc_info=True)
        _say(f"fpga-batch: unexpected {type(error).__name__}: {error}")
        _say("This is a bug: please report it, with the output of the same command with -vv.")
        sys.exit(70)
    sys.exit(0)


def _end(error: BatchError) -> NoReturn:
    from jobs import log  # noqa: PLC0415 - what it needs is there by now, or the command has not begun

    log.release()
    _say(f"fpga-batch: {error}")
    sys.exit(error.exit_code)


def _interrupt(number: int, _frame: FrameType | None) -> NoReturn:
    raise InterruptedRunError(f"stopped by {signal.Signals(number).name}", number)


def _tell(_number: int, _frame: FrameType | None) -> None:
    _say("fpga-batch: nothing is being sent just now")


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    main()
