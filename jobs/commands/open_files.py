"""The limit on open files: raised to what a run needs, or told before anything is sent."""

import os
import resource
import sys
from contextlib import suppress

from batch.errors import ConfigurationError

_RESERVE = 32
"""Files that a run opens beside its connections: input, journal, reports, names looked up, certificates."""


def provide(connections: int) -> None:
    """See to it that a run with so many connections can open them all.

    Raises:
        ConfigurationError: it may not, whatever the soft limit.

    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = soft_limit(_known(soft), _known(hard), _in_use(), connections)
    if wanted != _known(soft):
        with suppress(OSError, ValueError):  # some systems know a lower limit yet: the run may do without
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def soft_limit(soft: int, hard: int, in_use: int, connections: int) -> int:
    """Return the soft limit that a run needs, which is the present one if that suffices.

    Args:
        soft: the limit that holds now.
        hard: the highest that it may be raised to.
        in_use: files that are open.
        connections: the most that the run opens.

    Raises:
        ConfigurationError: the hard limit is too low.

    """
    others = in_use + _RESERVE
    if hard < others + connections:
        possible = hard - others
        lower = f"use --concurrency {possible} or " if possible > 0 else ""
        raise ConfigurationError(
            f"{connections:,} connections at once (--concurrency) need {others + connections:,} open files, "
            f"and the limit is {hard:,}; nothing was sent: {lower}raise the limit (ulimit -Hn)"
        )
    # While it connects to a host with several addresses, a connection may take two.
    return max(soft, min(hard, others + 2 * connections))


def _known(limit: int) -> int:
    return sys.maxsize if limit == resource.RLIM_INFINITY else limit


def _in_use() -> int:
    try:
        return len(os.listdir("/dev/fd"))
    except OSError:
        return 0
