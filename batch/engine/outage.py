"""The gate that closes when the service of one scope is down, and lets one probe through at a time."""

import asyncio
from collections.abc import Callable

from batch.engine.halt import Streak, after_failure, probe_pause

_SHORTEST_SUSPICION = 2.0
"""Seconds for which a failure makes one look at other rows first; longer where failures take long."""


class Outage:
    """Whether the service is down, and whose turn it is to ask it.

    Attributes:
        since: when it was found to be down, by the loop's clock, or None while it is up.
        cause: what its last failure was.
        on_judged: called when failures turn out to be an outage, with True, or to be none, with False.

    """

    def __init__(self) -> None:
        self.since: float | None = None
        self.cause = ""
        self.on_judged: Callable[[bool], None] = lambda _down: None
        self._streak: Streak | None = None
        self._judgement: asyncio.TimerHandle | None = None
        self._found_at = 0.0
        self._suspected_until = 0.0
        self._probe_at = 0.0
        self._probing = False
        self._changed = asyncio.Event()

    @property
    def is_suspected(self) -> bool:
        """Whether the last answers were failures, too few or too recent to tell that the service is down."""
        if self._streak is None or self.since is not None:
            return False
        return asyncio.get_running_loop().time() <= self._suspected_until

    @property
    def is_undecided(self) -> bool:
        """Whether time alone may make an outage of the last failures; then `on_judged` will tell."""
        return self._judgement is not None

    async def turn(self) -> float | None:
        """Return None when the service is up again, or `since` when it is the caller's turn to send a probe.

        A caller whose turn it is sends a request, or calls `pass_on`.
        """
        while self.since is not None:
            if self._probing:
                await self._changed.wait()
                continue
            self._probing = True
            try:
                # An answer to a request sent earlier may end the outage meanwhile.
                async with asyncio.timeout_at(self._probe_at):
                    await self._changed.wait()
            except TimeoutError:
                return self.since
            except asyncio.CancelledError:
                self.pass_on()
                raise
        return None

    def pass_on(self) -> None:
        """Let another one send the probe."""
        self._probing = False
        self._changed.set()
        self._changed.clear()

    def failed(self, sent_at: float, row: int, cause: str = "", *, reached: bool) -> bool:
        """Note a failure; return whether it counts against the row: not while the service is down.

        Args:
            sent_at: when the request was sent, by the loop's clock.
            row: for which it was sent.
            cause: what the failure was.
            reached: whether the service may have received it.

        """
        now = asyncio.get_running_loop().time()
        probe = self.since is not None and sent_at >= self._found_at
        self._streak = after_failure(self._streak, now, row, reached=reached, probe=probe)
        self.cause = cause
        self._suspected_until = now + max(_SHORTEST_SUSPICION, 2 * (now - sent_at))
        if self.since is None:
            self._judge(now)
        elif probe:
            self._probe_at = now + probe_pause(self._streak.probes)
            self.pass_on()
        return self.since is None

    def answered(self) -> bool:
        """Note any answer that is no failure; return whether that ends an outage."""
        if self._streak is None:
            return False
        self._streak = None
        if self.since is None:
            self._judged(down=False)
            return False
        self.since = None
        self.pass_on()
        return True

    def _judge(self, now: float) -> None:
        """Tell failures that are an outage from those that are none, or may still become one."""
        assert self._streak is not None
        if self._streak.is_outage(now):
            # Its first failure may be long ago, and no sign of one then.
            self.since = self._found_at = now
            self._probe_at = now + probe_pause(0)
            self._judged(down=True)
        elif (due := self._streak.next_judgement(now)) is None:
            self._judged(down=False)
        elif self._judgement is None:
            self._judgement = asyncio.get_running_loop().call_at(due, self._judge_when_due, due)

    def _judge_when_due(self, due: float) -> None:
        self._judgement = None
        self._judge(due)

    def _judged(self, *, down: bool) -> None:
        if self._judgement:
            self._judgement.cancel()
            self._judgement = None
        self.on_judged(down)
