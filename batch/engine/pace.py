"""Permits: how fast requests of one scope may leave, and the pause they all take when throttled."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from math import inf
from typing import NamedTuple

from aiolimiter import AsyncLimiter

from batch.engine.adaptive import AdaptiveRate
from batch.engine.outage import Outage
from batch.engine.rate import Auto, Rate
from batch.engine.retry import RetryPolicy, back_off, hint
from batch.model import Window

# Timers wake up to a millisecond late; a bucket that holds 5 ms of permits makes up for it. What the bucket
# adds to a second, and half a per mille more, is taken off the rate, so that no window of one second sees
# more than rate + 1 permits.
_SLACK = 0.005
_HEADROOM = 0.0005
_CAUTIOUS = 5.0  # requests a second to begin with where nothing is known of the limit


class Permit(NamedTuple):
    """Leave to send one request.

    Attributes:
        probe_of: the outage whose probe the request is, by its beginning, or None.

    """

    probe_of: float | None = None


PLAIN = Permit()


class Pace:
    """The permits of one scope, shared by all workers.

    Attributes:
        rate: what finds the rate.
        outage: whether the scope's service is down.
        on_open: called when it is open again after a cool-down.

    """

    def __init__(self, rate: Rate | Auto, policy: RetryPolicy) -> None:
        self.rate = _adaptive(rate, policy)
        self.outage = Outage()
        self.on_open: Callable[[], None] = lambda: None
        self._limited_to = self.rate.per_second
        self._limiter = _limiter(self._limited_to)
        self._granted_at = 0.0
        self._turn = asyncio.Lock()
        self._is_attended = False  # whether somebody waits for it to open
        self._policy = policy
        self._resume_at = 0.0
        self._throttled = 0

    async def permit(self, held: Permit = PLAIN) -> Permit | None:
        """Wait until one more request may leave; while the service is down only a probe may.

        Return None at once if it is closed and somebody waits already for it to open.

        Args:
            held: a permit of this scope that was not used: who is to send the probe still is.

        """
        if not self._turn.locked() and self._is_free() and self._limiter.has_capacity():
            await self._limiter.acquire()  # at once
            self._granted_at = asyncio.get_running_loop().time()
            return PLAIN
        has_waited = False
        try:
            while True:
                if self._is_closed(held):
                    if self._is_attended:
                        self.pass_on(held)
                        return None
                    held, has_waited = await self._opening(held), True
                    continue
                async with self._turn:
                    if not self._is_closed(held) and await self._granted(held):
                        break
        except asyncio.CancelledError:
            self.pass_on(held)
            raise
        if has_waited and not self._is_closed():
            self.on_open()
        return held

    def pass_on(self, held: Permit | None) -> None:
        """Leave the probe to another one, if this is its permit."""
        if held and held.probe_of is not None and held.probe_of == self.outage.since:
            self.outage.pass_on()

    def _is_free(self) -> bool:
        """Whether nothing but the limiter can keep a request from leaving."""
        return not self._is_closed() and self.rate.per_second == self._limited_to

    def _is_closed(self, held: Permit = PLAIN) -> bool:
        """Whether there is a cool-down, or an outage that one is not the probe of."""
        return self.outage.since not in (None, held.probe_of) or self.cool_down > 0

    @property
    def is_shut(self) -> bool:
        """Whether it is closed, and somebody waits for it to open: nobody else has anything to do here."""
        return self._is_attended and self._is_closed()

    @property
    def is_busy(self) -> bool:
        """Whether somebody waits for a permit, or for it to open."""
        return self._turn.locked() or self.is_shut

    @property
    def cool_down(self) -> float:
        """Seconds left of a cool-down; not above 0 where there is none."""
        return self._resume_at - asyncio.get_running_loop().time()

    async def _opening(self, held: Permit) -> Permit:
        """Wait for the end of a cool-down or outage; return the permit if one is to be its probe."""
        self._is_attended = True
        try:
            if self.outage.since not in (None, held.probe_of):
                return Permit(await self.outage.turn())
            await asyncio.sleep(self.cool_down)
            return held
        finally:
            self._is_attended = False

    async def _granted(self, held: Permit) -> bool:
        """Wait for the limiter; return whether it is open still.

        A permit lapses if a cool-down or an outage began while it was waited for, so that there is no rush
        afterwards.
        """
        if self.rate.per_second != self._limited_to:
            await self._follow()
        await self._limiter.acquire()
        self._granted_at = asyncio.get_running_loop().time()
        return not self._is_closed(held)

    async def _follow(self) -> None:
        """Go over to the present rate. What of it has come up since the last permit is there to be used."""
        self._limited_to = self.rate.per_second
        self._limiter = _limiter(self._limited_to)
        came_up = (asyncio.get_running_loop().time() - self._granted_at) * self._limited_to
        await self._limiter.acquire(max(self._limiter.max_rate - came_up, 0.0))

    def throttled(
        self, sent_at: float, pause: float | None, draw: float, limit: Window | None = None
    ) -> float:
        """Begin a cool-down for all workers; return its length in seconds, 0 if one had begun already.

        Args:
            sent_at: when the throttled request was sent, by the loop's clock. Requests that were under way
                together are throttled together and count once.
            pause: seconds the service asks for, or None.
            draw: a random number in [0, 1), for the back-off where the service asks for nothing.
            limit: what the service tells of its limit.

        """
        now = asyncio.get_running_loop().time()
        asked = hint(self._policy, pause)
        policy = replace(self._policy, first_wait=self.rate.first_wait)
        self.rate.refused(now, resumed=sent_at >= self._resume_at, limit=limit)
        if sent_at < self._resume_at:
            self._resume_at = max(self._resume_at, now + asked) if asked else self._resume_at
            return 0.0
        self._throttled += 1
        # Half the ceiling at least: with full jitter a cool-down could be no pause at all.
        wait = asked or back_off(policy, self._throttled, 0.5 + draw / 2)
        self._resume_at = now + wait
        return wait

    def answered(self, sent_at: float, now: float, limit: Window | None = None) -> None:
        """Note an answer. If it was asked for after the last cool-down, the next back-off starts small.

        Args:
            sent_at: when its request was sent, by the loop's clock.
            now: the time, by the same clock.
            limit: what the answer tells of the service's limit.

        """
        self.rate.accepted(now, resumed=sent_at >= self._resume_at, limit=limit)
        if sent_at >= self._resume_at:
            self._throttled = 0


def _adaptive(rate: Rate | Auto, policy: RetryPolicy) -> AdaptiveRate:
    if isinstance(rate, Rate):
        return AdaptiveRate(rate.per_second, rate.per_second, policy.first_wait)
    return AdaptiveRate(_CAUTIOUS, rate.most.per_second if rate.most else inf)


def _limiter(per_second: float) -> AsyncLimiter:
    bucket = 1 + per_second * _SLACK
    return AsyncLimiter(bucket, bucket / (per_second * (1 - _SLACK - _HEADROOM)))
