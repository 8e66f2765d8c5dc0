"""The service's clock, by which requests are signed; this machine's may be wrong."""

import logging
import time
from collections.abc import Callable

from batch.model import Response
from batch.results.summary import duration
from batch.text import printable
from jobs.dates import http_date

log = logging.getLogger(__name__)

_SAME = 60.0
"""Seconds by which two looks at the clock may differ without being told as two."""

_FARTHEST = 86400.0
"""Seconds by which the service may be ahead or behind: what is signed for a later year is good until then."""


class ServiceClock:
    """Seconds since the epoch as the service counts them.

    Args:
        now: seconds since the epoch, by this machine's clock.

    Attributes:
        offset: seconds by which the service's clock is taken to be ahead.

    """

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self.offset = 0.0
        self._now = now

    def now(self) -> float:
        """Return the time."""
        return self._now() + self.offset

    def seen(self, response: Response) -> float | None:
        """Return how many seconds the service is ahead, as its answer says; None if it does not."""
        date = date_of(response)
        return None if date is None else date - self._now()

    def follow(self, response: Response) -> bool:
        """Take the service's time from its answer; return whether that can be. The first time is told."""
        ahead = self.seen(response)
        if ahead is None:
            return False
        if abs(ahead) > _FARTHEST:
            log.warning(
                "the service says that it is %s, more than a day from this machine's clock, and is not "
                "believed: set this machine's clock",
                printable(response.headers["Date"], 80),
            )
            return False
        if abs(ahead - self.offset) > _SAME:
            log.warning(
                "this machine's clock is %s %s: requests are signed by the service's",
                duration(abs(ahead)),
                "slow" if ahead > 0 else "fast",
            )
        self.offset = ahead
        return True


def date_of(response: Response) -> float | None:
    """Return when a response was made, in seconds since the epoch; None if it does not say."""
    date = http_date(response.headers.get("Date", ""))
    return date.timestamp() if date else None
