"""`fpga-batch`, the installed command: `python -m` would import what lies in the current folder."""

import errno
import logging
import os
import resource
import sys
import threading
import warnings
from typing import NoReturn

from batch.errors import BatchError, ConfigurationError
from jobs.commands import signals, streams
from jobs.commands.streams import say

_NO_DESCRIPTORS = (errno.EMFILE, errno.ENFILE)


def main() -> NoReturn:
    """Run the command line and leave with the exit code that the outcome has."""
    streams.guard()
    # What is in memory is secret.
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    sys.unraisablehook = _note
    try:
        try:
            signals.heed()
            code = _run()
        finally:
            signals.leave_to_system()
    except signals.Interrupt as late:  # it came after the command had ended
        code = late.error.exit_code
    if threading.active_count() > 1:
        os._exit(code)  # Python would wait for a thread that looks up a name; nothing is left to be flushed
    sys.exit(code)


def _run() -> int:
    """Run the command line; return its exit code."""
    try:
        from jobs.cli import app  # noqa: PLC0415 - inside, so that a signal during the import is handled too

        app()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    except BatchError as error:
        return _told(error)
    except signals.Interrupt as interrupt:
        return _told(interrupt.error)
    except Exception as error:
        if isinstance(error, OSError) and (setting := _setting_behind(error)):
            return _told(ConfigurationError(setting))
        logging.getLogger("jobs").debug("unexpected", exc_info=True)
        say(f"fpga-batch: unexpected {type(error).__name__}: {error}")
        say("This is a bug: please report it, with the output of the same command with -vv.")
        return 70
    return 0


def _told(error: BatchError) -> int:
    from jobs import log  # noqa: PLC0415 - what it needs is there by now, or the command has not begun

    log.release()
    say(f"fpga-batch: {error}", *getattr(error, "__notes__", ()))
    return error.exit_code


def _setting_behind(error: OSError) -> str:
    """Return which setting an error of the operating system comes from, or nothing."""
    if error.errno in _NO_DESCRIPTORS:
        return f"{error.strerror}: raise the limit on open files (ulimit -n)"
    key_log = os.environ.get("SSLKEYLOGFILE")
    if key_log and error.filename == key_log:  # read by Python itself whenever it prepares for TLS
        return f"SSLKEYLOGFILE={key_log}: cannot be opened: {error.strerror}"
    try:
        os.getcwd()
    except OSError:
        return "the working directory does not exist any more"
    return ""


def _note(lost: "sys.UnraisableHookArgs") -> None:
    """Keep a traceback of what cannot be raised, as while the program ends, out of sight; lose no signal."""
    if isinstance(lost.exc_value, signals.Interrupt):
        signals.send_again(lost.exc_value)
    logging.getLogger("jobs").debug("unexpected", exc_info=lost.exc_value)
