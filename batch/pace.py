"""Permits: how fast requests of one scope may leave, and the pause they all take when throttled."""

import asyncio
import re
from dataclasses import dataclass

from aiolimiter import AsyncLimiter

from batch.errors import UsageError
from batch.outage import Outage
from batch.retry import RetryPolicy, back_off, hint

_UNITS = {"s": 1.0, "sec": 1.0, "second": 1.0, "min": 60.0, "minute": 60.0, "h": 3600.0, "hour": 3600.0}
_RATE = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(?:\s*/\s*([a-z]+))?")

# Timers wake up to a millisecond late; a bucket that holds 5 ms of permits makes up for it. What the bucket
# adds to a second, and half a per mille more, is taken off the rate, so that no window of one second sees
# more than rate + 1 permits.
_SLACK = 0.005
_HEADROOM = 0.0005


@dataclass(frozen=True, slots=True)
class Rate:
    """So many requests in so many seconds."""

    permits: float
    seconds: float = 1.0

    @property
    def per_second(self) -> float:
        """Requests a second."""
        return self.permits / self.seconds

    def __str__(self) -> str:
        unit = {1.0: "s", 60.0: "min", 3600.0: "h"}[self.seconds]
        return f"{self.permits:.12g}/{unit}"


def parse_rate(text: str) -> Rate:
    """Read `20`, `20/s`, `600/min` or `5000/h`.

    Raises:
        UsageError: it is none of these, or zero.

    """
    match = _RATE.fullmatch(text.strip().lower())
    seconds = _UNITS.get(match[2] or "s") if match else None
    if match is None or seconds is None or float(match[1]) <= 0:
        raise UsageError(f"--rate {text!r}: write a number above zero and a unit, as 20/s, 600/min or 5000/h")
    return Rate(float(match[1]), seconds)


class Pace:
    """The permits of one scope, shared by all workers.

    Attributes:
        outage: whether the scope's service is down.

    """

    def __init__(self, rate: Rate, policy: RetryPolicy) -> None:
        per_second = rate.per_second
        bucket = 1 + per_second * _SLACK
        self.outage = Outage()
        self._limiter = AsyncLimiter(bucket, bucket / (per_second * (1 - _SLACK - _HEADROOM)))
        self._policy = policy
        self._resume_at = 0.0
        self._throttled = 0

    async def permit(self) -> None:
        """Wait until one more request may leave. While the service is down only a probe may."""
        loop = asyncio.get_running_loop()
        probed = None  # the outage that this one is the probe of
        try:
            while True:
                if self.outage.since not in (None, probed):
                    probed = await self.outage.turn()
                while (wait := self.cool_down) > 0:  # noqa: ASYNC110 - it may be prolonged
                    await asyncio.sleep(wait)
                await self._limiter.acquire()
                if self._resume_at <= loop.time() and self.outage.since in (None, probed):
                    return
                # A cool-down or an outage began while this one waited: its permit lapses, so that there is
                # no rush afterwards.
        except asyncio.CancelledError:
            if probed is not None and probed == self.outage.since:
                self.outage.pass_on()
            raise

    @property
    def cool_down(self) -> float:
        """Seconds left of a cool-down; not above 0 where there is none."""
        return self._resume_at - asyncio.get_running_loop().time()

    def throttled(self, sent_at: float, pause: float | None, draw: float) -> float:
        """Begin a cool-down for all workers; return its length in seconds, 0 if one had begun already.

        Args:
            sent_at: when the throttled request was sent, by the loop's clock. Requests that were under way
                together are throttled together and count once.
            pause: seconds the service asks for, or None.
            draw: a random number in [0, 1), for the back-off where the service asks for nothing.

        """
        now = asyncio.get_running_loop().time()
        asked = hint(self._policy, pause)
        if sent_at < self._resume_at:
            self._resume_at = max(self._resume_at, now + asked) if asked else self._resume_at
            return 0.0
        self._throttled += 1
        # Half the ceiling at least: with full jitter a cool-down could be no pause at all.
        wait = asked or back_off(self._policy, self._throttled, 0.5 + draw / 2)
        self._resume_at = now + wait
        return wait

    def answered(self, sent_at: float) -> None:
        """Note that a request sent after the last cool-down passed: the next back-off starts small again."""
        if sent_at >= self._resume_at:
            self._throttled = 0
