"""The log on standard error, for a person or for a machine."""

import logging
import sys
from collections import deque
from datetime import UTC, datetime

import orjson

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


class _TextFormatter(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802, ARG002
        return _time(record)


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry = {"time": _time(record), "level": record.levelname.lower(), "message": record.getMessage()}
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return orjson.dumps({key: _encodable(text) for key, text in entry.items()}).decode()


def _encodable(text: str) -> str:
    """Return text that is valid UTF-8: the name of a file need not be."""
    return text.encode(errors="backslashreplace").decode()


def _time(record: logging.LogRecord) -> str:
    return (
        datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    )
