"""What several test files use: time that only tests move, canned answers, a run of the engine, pairs."""

import asyncio
import selectors
from collections.abc import Callable, Container, Coroutine, Sequence
from typing import Any, TypeVar

import orjson

from batch.engine.halt import NO_LIMITS, Limits
from batch.engine.pace import Pace
from batch.engine.pool import Engine
from batch.engine.rate import Auto, Rate
from batch.engine.retry import RetryPolicy
from batch.errors import BatchError, InterruptedRunError
from batch.http.transport import TransportError
from batch.job import Conversation
from batch.model import Kind, Outcome, Request, Response, Result, Row, Status, Verdict, Window
from batch.results.journal.lines import sealed
from jobs.sandbox import Accounts, Call, Sandbox, Withheld

T = TypeVar("T")

Entry = bytes | dict[str, Any]

PROJECT = "0123456789abcdef0123456789abcdef"
TOKEN = "a-token"
OWN_TOKEN = "own-token"
ACCOUNTS = Accounts(tokens={TOKEN: None, OWN_TOKEN: PROJECT})


def fpga(number: int) -> str:
    return f"{number:032x}"


def image(number: int) -> str:
    return f"ec500000-0000-4000-8000-{number:012x}"


def journal_lines(*entries: Entry, after: bytes = b"") -> bytes:
    """Return the lines of a journal that hold these entries; what is a line already stays as it is.

    Args:
        entries: what they hold.
        after: the journal before them.

    """
    text = b""
    crc = int(after.rpartition(b'"crc":')[2].rstrip(b"}\n") or 0)
    for entry in entries:
        line = entry if isinstance(entry, bytes) else orjson.dumps(entry)
        if not line.endswith(b"\n"):
            line, crc = sealed(line, crc)
        text += line
    return text


class Clock:
    """Seconds since the epoch as a test sets them.

    Attributes:
        now: the time.

    """

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


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

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:  # noqa: ARG002, ASYNC109
        await super().shutdown_default_executor()  # threads do not jump: no virtual time-out for them


def run_virtually(coroutine: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(coroutine)


async def permitted(pace: Pace) -> None:
    """Wait until one more request may leave, as the rows of one scope do together."""
    while await pace.permit() is None:  # noqa: ASYNC110 - nothing tells it
        await asyncio.sleep(max(pace.cool_down, 0.01))


OK = Response(204)
NO = Response(400)
BUSY = Response(429)
ERROR = Response(500)
DENIED = Response(401)
NOWHERE = Response(404)
NO_API = Response(404, body=b"APIGW.0101")
TAKEN = Response(202)
FOUND = Response(200, body=b"there")
ABSENT = Response(200)
LOST = TransportError("connection", "reset", sent=True)
UNSENT = TransportError("connection", "refused", sent=False)

End = Response | Exception | Callable[[Request], Response]
"""How an attempt ends."""

FAST = Rate(1_000_000)


class Ready:
    """The part of a transport that sees to credentials: they are always there, and never renewed."""

    def is_ready(self, _request: Request) -> bool:
        return True

    def is_own(self, _request: Request) -> bool:
        return True

    async def prepare(self, request: Request) -> None:
        raise NotImplementedError

    async def renew(self, _request: Request, _response: Response) -> bool:
        return False


class Wire(Ready):
    """A transport that notes what it was asked; how an attempt ends is a subclass's say."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.times: list[float] = []
        self.in_flight = 0
        self.most_in_flight = 0

    async def send(self, request: Request) -> Response:
        raise NotImplementedError

    async def carry(self, request: Request, takes: float, end: Callable[[], End]) -> Response:
        """Note a request, let so many seconds pass, and end the attempt as it is said then."""
        self.requests.append(request)
        self.times.append(asyncio.get_running_loop().time())
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            if takes:
                await asyncio.sleep(takes)
            ended = end()
        finally:
            self.in_flight -= 1
        if isinstance(ended, Exception):
            raise ended
        return ended(request) if callable(ended) else ended


class Script(Wire):
    """A transport that plays canned ends of attempts, one after the other."""

    def __init__(self, *ends: End, takes: float = 0.0) -> None:
        super().__init__()
        self._ends = iter(ends)
        self._takes = takes

    async def send(self, request: Request) -> Response:
        return await self.carry(request, self._takes, lambda: next(self._ends))


class Service(Wire):
    """A service that goes down and comes up again at given times, in seconds from the first request.

    Nothing is done while it is down, whatever a request's end lets one think.

    Args:
        changes: it is up before the first of these times, down until the second, and so on.
        failing: how a request ends that comes in while it is down.
        takes: seconds from a request to its answer.
        fails_after: seconds from a request to its failure.
        poisoned: addresses of which every request is answered with an error.
        spared: scopes that are never down.

    """

    def __init__(
        self,
        *changes: float,
        failing: Response | TransportError = UNSENT,
        takes: float = 0.01,
        fails_after: float = 0.01,
        poisoned: Container[str] = (),
        spared: Container[str] = (),
    ) -> None:
        super().__init__()
        self._changes = changes
        self._failing = failing
        self._takes = takes
        self._fails_after = fails_after
        self._poisoned = poisoned
        self._spared = spared
        self._done: set[str] = set()

    def seconds(self) -> float:
        """Return the seconds since the first request."""
        now = asyncio.get_running_loop().time()
        return now - (self.times[0] if self.times else now)

    def end(self, request: Request) -> tuple[float, Response | TransportError]:
        """Say how long a request that comes in now takes, and how it ends."""
        if request.url in self._poisoned:
            return self._takes, ERROR
        down = sum(self.seconds() >= each for each in self._changes) % 2
        if down and request.scope not in self._spared:
            return self._fails_after, self._failing
        if request.writes:
            self._done.add(request.url)
            return self._takes, OK
        return self._takes, FOUND if request.url in self._done else ABSENT

    async def send(self, request: Request) -> Response:
        takes, end = self.end(request)
        return await self.carry(request, takes, lambda: end)


class Switch:
    """A job that switches a thing on: one write, and a read where it is in doubt.

    A thing may stand in a scope of its own: `b/7`.
    """

    name = "switch"
    columns = ()

    def parse(self, cells: Sequence[str]) -> str:
        return cells[0]

    def key(self, item: str) -> bytes:
        return item.encode()

    def conversation(self, item: str) -> Conversation:
        scope = item.rpartition("/")[0] or "scope"
        answer = yield Request("POST", f"/{item}", b"on", scope)
        if answer.verdict.kind is Kind.DONE:
            return Result(Status.SUCCEEDED)
        if not answer.in_doubt:
            return Result(Status.FAILED, answer.verdict.reason)
        reading = yield Request("GET", f"/{item}", None, scope)
        if reading.verdict.kind is not Kind.DONE:
            return Result(Status.UNCONFIRMED, reading.verdict.reason)
        assert reading.response is not None
        if reading.response.body == b"there":
            return Result(Status.SUCCEEDED)
        return Result(Status.FAILED, answer.verdict.reason)

    def shown_limit(self, response: Response) -> Window | None:
        del response
        return None

    def classify(self, _request: Request, response: Response) -> Verdict:
        asked = response.headers.get("Retry-After")
        pause = float(asked) if asked else None
        return {
            204: Verdict(Kind.DONE),
            200: Verdict(Kind.DONE),
            400: Verdict(Kind.REFUSED, "rejected"),
            401: Verdict(Kind.UNAUTHENTICATED, "denied"),
            403: Verdict(Kind.DENIED, "denied"),
            202: Verdict(Kind.TRANSIENT, "accepted", maybe_applied=True, maybe_later=True),
            404: Verdict(
                Kind.NO_SERVICE, "no_such_api", code=response.body.decode(), foreign=not response.body
            ),
            429: Verdict(Kind.THROTTLED, "throttled", pause=pause),
            503: Verdict(Kind.TRANSIENT, "server_error", maybe_applied=True, pause=pause),
            500: Verdict(Kind.TRANSIENT, "server_error", maybe_applied=True),
        }[response.status]


class Run:
    """One run of the engine over so many rows, and what was recorded.

    Args:
        ends: how the attempts end, one after the other.
        service: takes the requests instead.
        job: other than the usual one.
        rows: their number.
        thing: gives a row's cell by its number.
        begin: is told of each row before its first write, beside the run itself.
        takes: seconds that each attempt takes, unless a service says so.
        draw: the random number that is always drawn.

    The other arguments are the engine's.
    """

    def __init__(
        self,
        *ends: End,
        service: Wire | None = None,
        job: Switch | None = None,
        rows: int = 1,
        thing: Callable[[int], str] = str,
        concurrency: int = 1,
        rate: Rate | Auto = FAST,
        policy: RetryPolicy | None = None,
        limits: Limits = NO_LIMITS,
        in_doubt: Container[int] = (),
        begin: Callable[[int], None] = lambda _row: None,
        clock: Callable[[], float] = lambda: 1_700_000_000.0,
        takes: float = 0.0,
        draw: float = 0.5,
    ) -> None:
        self.script: Wire = service or Script(*ends, takes=takes)
        self.recorded: list[tuple[int, Outcome]] = []
        self.recorded_at: list[float] = []
        self.begun: list[tuple[int, int]] = []
        self.things = {n: thing(n) for n in range(1, rows + 1)}
        self.rows = (Row(n, n, (cell,), ()) for n, cell in self.things.items())
        self._begin = begin
        self.engine = Engine(
            job or Switch(),
            self.script,
            rate=rate,
            concurrency=concurrency,
            policy=policy or RetryPolicy(),
            limits=limits,
            in_doubt=in_doubt,
            begin=self._begun,
            record=self._record,
            draw=lambda: draw,
            clock=clock,
        )
        self.took = 0.0
        self.tasks_left = 0
        self.sent_afterwards = 0
        self.broken: list[dict[str, Any]] = []

    def _begun(self, row: int) -> None:
        self.begun.append((row, len(self.script.requests)))
        self._begin(row)

    def _record(self, row: int, outcome: Outcome) -> None:
        self.recorded.append((row, outcome))
        self.recorded_at.append(asyncio.get_running_loop().time())

    def go(
        self,
        *,
        stop_after: float | None = None,
        error: BatchError | None = None,
        grace: float = 10,
        cancel_after: float | None = None,
    ) -> "Run":
        """Run to the end; note what is left behind, and wait for whatever might come of it."""

        async def going() -> None:
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(lambda _loop, context: self.broken.append(context))
            began = loop.time()
            if stop_after is not None:
                stop = error or stop_request()
                loop.call_later(stop_after, lambda: self.engine.stop(stop, grace=grace))
            running = asyncio.create_task(self.engine.run(self.rows))
            if cancel_after is not None:
                loop.call_later(cancel_after, running.cancel)
            await asyncio.wait([running])
            self.took = round(loop.time() - began, 3)
            self.tasks_left = len(asyncio.all_tasks()) - 1
            assert running.cancelled() == (cancel_after is not None)
            if not running.cancelled():
                running.result()
            sent = len(self.script.requests)
            await asyncio.sleep(1000)
            self.sent_afterwards = len(self.script.requests) - sent

        run_virtually(going())
        return self

    @property
    def results(self) -> dict[int, Result]:
        ended = [*self.recorded, *self.engine.unsettled.items()]
        results = {row: outcome.result for row, outcome in ended}
        assert len(results) == len(ended), "a row has two outcomes"
        return results

    @property
    def settled(self) -> list[int]:
        return [row for row, _ in self.recorded]

    @property
    def methods(self) -> str:
        return " ".join(request.method for request in self.script.requests)


def stop_request() -> BatchError:
    return InterruptedRunError("stopped by SIGTERM", 15)


class SandboxTransport(Ready):
    """A transport straight into a sandbox, without a socket between."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox

    async def send(self, request: Request) -> Response:
        await asyncio.sleep(0)
        path, _, query = request.url.removeprefix("http://sandbox").partition("?")
        headers = {"X-Auth-Token": TOKEN}
        reply = self.sandbox.reply(Call(request.method, path, query, headers, request.body or b""))
        if isinstance(reply, Withheld):
            reason = "timeout" if reply is Withheld.SILENCE else "connection"
            raise TransportError(reason, "no answer", sent=True)
        return Response(reply.status, reply.headers, reply.body)
