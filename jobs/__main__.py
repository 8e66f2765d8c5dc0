"""`fpga-batch`, also as `python -m jobs`."""

import logging
import os
import signal
import sys
from types import FrameType
from typing import NoReturn

from batch.errors import BatchError, InterruptedRunError


def main() -> NoReturn:
    """Run the command line and leave with the exit code that the outcome has."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        from jobs.cli import app  # noqa: PLC0415 - inside, so that a signal during the import is handled too

        app()
    except BatchError as error:
        _say(f"fpga-batch: {error}")
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # Whoever read standard output went away; Python would complain again when it flushes at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        logging.getLogger("jobs").debug("unexpected", exc_info=True)
        _say(f"fpga-batch: unexpected {type(error).__name__}: {error}")
        _say("This is a bug: please report it, with the output of the same command with -vv.")
        sys.exit(70)
    sys.exit(0)


def _interrupt(number: int, _frame: FrameType | None) -> NoReturn:
    raise InterruptedRunError(f"stopped by {signal.Signals(number).name}", number)


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    main()
