"""The sandbox itself: takes a call through gateway, faults and rules to its reply. Pure."""

import random
import secrets
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from enum import Enum
from math import ceil
from typing import Any, NamedTuple

import orjson

from jobs.sandbox.catalogue import Catalogue
from jobs.sandbox.faults import NO_FAULTS, Fault, Faults, FixedWindow
from jobs.sandbox.rules import Refusal, Rules
from jobs.sandbox.store import Associations

_JSON = "application/json;charset=UTF-8"
_BAD_GATEWAY = (
    b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n"
    b"<body>\r\n<center><h1>502 Bad Gateway</h1></center>\r\n</body>\r\n</html>\r\n"
)


class Call(NamedTuple):
    """A request as it came in.

    Attributes:
        method: HTTP method.
        path: path as sent, percent-encoding included.
        query: decoded query parameters.
        headers: request headers, looked up without regard to letter case.
        body: the whole body.

    """

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes


class Reply(NamedTuple):
    """A response to be sent."""

    status: int
    headers: dict[str, str]
    body: bytes = b""


class Withheld(Enum):
    """What is done instead of sending a response."""

    DROP = "drop"
    SILENCE = "silence"


class Sandbox:
    """The service's whole state, and what it answers.

    Attributes:
        associations: all associations there are.

    """

    def __init__(
        self,
        catalogue: Catalogue | None = None,
        *,
        strict: bool = False,
        faults: Faults = NO_FAULTS,
        seed: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.associations = Associations()
        self._rules = Rules(catalogue or Catalogue(), self.associations, strict=strict)
        self._random = random.Random(seed)  # noqa: S311 - faults that can be repeated; nothing secret
        self._clock = clock
        self._traffic = _Traffic()
        self.faults = faults

    @property
    def faults(self) -> Faults:
        """What goes wrong; a new value takes effect at once and opens a new rate limit window."""
        return self._faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        self._faults = faults
        self._window = faults.rate_limit and FixedWindow(faults.rate_limit, self._clock)

    def reply(self, call: Call) -> Reply | Withheld:
        """Take a call to its end. The nth call always meets the nth draw of the faults."""
        self._traffic.arrived(self._clock())
        fault = self._faults.draw(self._random.random())
        reply: Reply | Withheld | None = self._throttled()
        if reply is None:
            reply = self._spoiled(call, fault) if fault else self._answer(call)
        if isinstance(reply, Reply):
            self._traffic.statuses[reply.status] += 1
        return reply

    def stats(self) -> dict[str, Any]:
        """Return what has come in, what went out, and the number of associations."""
        traffic = self._traffic
        return {
            "requests": traffic.requests,
            "statuses": {str(status): count for status, count in sorted(traffic.statuses.items())},
            "faults": dict(sorted(traffic.faults.items())),
            "worst_second": traffic.worst_second,
            "associations": len(self.associations),
        }

    def _throttled(self) -> Reply | None:
        wait = self._window.wait() if self._window else 0.0
        if not wait:
            return None
        message = (
            f"The throttling threshold has been reached: policy user over ratelimit,{self._faults.rate_limit}"
        )
        reply = _gateway_error(429, "APIGW.0308", message)
        if self._faults.retry_after:
            reply.headers["Retry-After"] = str(ceil(wait))
        return reply

    def _spoiled(self, call: Call, fault: Fault) -> Reply | Withheld:
        self._traffic.faults[fault.name] += 1
        if fault.applied:
            self._answer(call)
        match fault.name:
            case "drop_before" | "drop_after":
                return Withheld.DROP
            case "silence":
                return Withheld.SILENCE
            case "bad_gateway":
                headers = {**_identified(), "Content-Type": "text/html", "Server": "api-gateway"}
                return Reply(502, headers, _BAD_GATEWAY)
            case "flow_limit":
                return _service_error(202, "Common.0024", "exceeds flow over limit")
        return _service_error(500, "Common.0001", "System error, please try again later.")

    def _answer(self, call: Call) -> Reply:
        perform = self._route(call)
        if perform is None:
            message = "The API does not exist or has not been published in the environment."
            return _gateway_error(404, "APIGW.0101", message)
        denied = _denied(call)
        if denied is not None:
            return denied
        try:
            content = perform()
        except Refusal as refusal:
            return _service_error(refusal.status, refusal.code, refusal.message)
        return Reply(204, _identified()) if content is None else _json(200, content)

    def _route(self, call: Call) -> Callable[[], dict[str, Any] | None] | None:
        rules = self._rules
        match call.path.split("/"):
            case ["", "v1", project, "cloudservers", "fpga_image", *rest]:
                match call.method, rest:
                    case "POST", [fpga_image, "association"]:
                        return lambda: rules.associate(project, fpga_image, call.body)
                    case "DELETE", [fpga_image, "association"]:
                        return lambda: rules.disassociate(project, fpga_image, call.body)
                    case "GET", ["associations"]:
                        return lambda: rules.list_associations(project, call.query)
                    case "GET", ["detail"]:
                        return lambda: rules.list_fpga_images(project, call.query)
                    case "DELETE", [fpga_image]:
                        return lambda: rules.delete(project, fpga_image)
        return None


class _Traffic:
    """Counts of what came in and what went out."""

    def __init__(self) -> None:
        self.requests = 0
        self.worst_second = 0
        self.statuses: Counter[int] = Counter()
        self.faults: Counter[str] = Counter()
        self._last_second: deque[float] = deque()

    def arrived(self, now: float) -> None:
        self.requests += 1
        recent = self._last_second
        recent.append(now)
        while recent[0] <= now - 1:
            recent.popleft()
        self.worst_second = max(self.worst_second, len(recent))


def _denied(call: Call) -> Reply | None:
    """Judge a call's credentials. This is the place for it; so far they only have to be there."""
    if "X-Auth-Token" in call.headers or "Authorization" in call.headers:
        return None
    message = "Incorrect IAM authentication information: x-auth-token not found"
    return _gateway_error(401, "APIGW.0301", message)


def _identified() -> dict[str, str]:
    return {"X-Request-Id": secrets.token_hex(16)}


def _json(status: int, content: Any) -> Reply:
    return Reply(status, {**_identified(), "Content-Type": _JSON}, orjson.dumps(content))


def _service_error(status: int, code: str, message: str) -> Reply:
    return _json(status, {"error": {"code": code, "message": message}})


def _gateway_error(status: int, code: str, message: str) -> Reply:
    headers = {**_identified(), "Content-Type": _JSON, "Server": "api-gateway"}
    content = {"error_msg": message, "error_code": code, "request_id": headers["X-Request-Id"]}
    return Reply(status, headers, orjson.dumps(content))
