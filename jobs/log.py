"""The log on standard error, for a person or for a machine."""

import logging
import sys
from collections import deque
from datetime import UTC, datetime
from typing import Any

import orjson

from batch.text import visible
from jobs.options import LogFormat

_LEVELS = (logging.WARNING, logging.INFO, logging.DEBUG)
_LIBRARIES = ("keystoneauth", "openstack")  # what they log may show what is secret; what counts is raised
_SILENT = logging.CRITICAL + 1
_MOST_KEPT = 100


def configure(verbosity: int, form: LogFormat, *, quiet: bool) -> None:
    """Send the program's own log to standard error: warnings, with `-v` retries and pauses.

    Where nobody looks on, warnings are kept until `release`: a run that goes well says nothing.
    """
    logging.raiseExceptions = False  # a log that fails must neither end a run nor print a traceback
    handler = _handler(form)
    earlier = [each for each in logging.getLogger("jobs").handlers if isinstance(each, _Keeper)]
    if not verbosity and (quiet or not sys.stderr.isatty()):
        handler = _Keeper(handler)
    own = _LEVELS[min(verbosity, len(_LEVELS) - 1)]
    for name, level in {"batch": own, "jobs": own, **dict.fromkeys(_LIBRARIES, _SILENT)}.items():
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.setLevel(level)
        logger.propagate = False
    for keeper in earlier:
        keeper.hand_over(handler)


def hold() -> None:
    """Keep what is logged until `configure` says where it goes, or `release` that it is wanted."""
    logging.getLogger("jobs").handlers[:] = [_Keeper(_handler(LogFormat.TEXT))]
    logging.getLogger("jobs").propagate = False


def _handler(form: LogFormat) -> logging.Handler:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter() if form is LogFormat.JSON else _TextFormatter())
    return handler


def release() -> None:
    """Say what was kept: something went wrong."""
    for handler in logging.getLogger("jobs").handlers:
        if isinstance(handler, _Keeper):
            handler.tell()


class _Keeper(logging.Handler):
    """Keeps what is logged until it is wanted, if ever."""

    def __init__(self, target: logging.Handler) -> None:
        super().__init__()
        self._target = target
        self._kept: deque[logging.LogRecord] = deque(maxlen=_MOST_KEPT)

    def emit(self, record: logging.LogRecord) -> None:
        self._kept.append(record)

    def tell(self) -> None:
        self.hand_over(self._target)

    def hand_over(self, target: logging.Handler) -> None:
        while self._kept:
            target.handle(self._kept.popleft())


class _Formatter(logging.Formatter):
    """Shows what is invisible: names of files are foreign text too, and need not be UTF-8."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        return visible(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802
        return "\n".join(map(visible, super().formatException(ei).splitlines()))


class _TextFormatter(_Formatter):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802, ARG002
        return _time(record)


class _JsonFormatter(_Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "message": visible(record.getMessage()),
        }
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return orjson.dumps(entry).decode()


def _time(record: logging.LogRecord) -> str:
    return (
        datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    )
