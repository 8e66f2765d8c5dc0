"""What several test files use: time that only tests move, canned answers, pairs."""

import asyncio
import selectors
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

from batch.model import Request, Response
from batch.transport import TransportError
from jobs.sandbox import Call, Sandbox, Withheld

T = TypeVar("T")

PROJECT = "0123456789abcdef0123456789abcdef"


def fpga(number: int) -> str:
    return f"{number:032x}"


def image(number: int) -> str:
    return f"ec500000-0000-4000-8000-{number:012x}"


class _JumpingSelector(selectors.SelectSelector):
    """Never waits: the time that would be waited passes at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        # A turn of the loop takes a moment too: timers set for this very instant must not fire for ever.
        self.now += 1e-9 + (timeout or 0)
        return super().select(None if timeout is None else 0)


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next timer when there is nothing else to do."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now


def run_virtually(coroutine: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(coroutine)


class Script:
    """A transport that plays canned ends of attempts, one after the other, and notes what it was asked."""

    def __init__(
        self, *ends: Response | Exception | Callable[[Request], Response], takes: float = 0.0
    ) -> None:
        self._ends: Iterator[Response | Exception | Callable[[Request], Response]] = iter(ends)
        self._takes = takes
        self.requests: list[Request] = []
        self.times: list[float] = []
        self.in_flight = 0
        self.most_in_flight = 0

    async def send(self, request: Request) -> Response:
        self.requests.append(request)
        self.times.append(asyncio.get_running_loop().time())
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            if self._takes:
                await asyncio.sleep(self._takes)
            end = next(self._ends)
        finally:
            self.in_flight -= 1
        if isinstance(end, Exception):
            raise end
        return end(request) if callable(end) else end


class SandboxTransport:
    """A transport straight into a sandbox, without a socket between."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox

    async def send(self, request: Request) -> Response:
        await asyncio.sleep(0)
        path, _, query = request.url.removeprefix("http://sandbox").partition("?")
        parameters = dict(pair.split("=") for pair in query.split("&")) if query else {}
        headers = {"X-Auth-Token": "t"}
        reply = self.sandbox.reply(Call(request.method, path, parameters, headers, request.body or b""))
        if isinstance(reply, Withheld):
            reason = "timeout" if reply is Withheld.SILENCE else "connection"
            raise TransportError(reason, "no answer", sent=True)
        return Response(reply.status, reply.headers, reply.body)
