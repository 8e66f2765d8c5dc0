"""The sandbox itself: takes a call through gateway, faults and rules to its reply. Pure."""

import random
import time
from collections import Counter, deque
from collections.abc import Callable
from math import ceil
from typing import Any

from jobs.sandbox.catalogue import Catalogue
from jobs.sandbox.faults import NO_FAULTS, Fault, Faults, FixedWindow
from jobs.sandbox.gateway import Denied, Gateway, WrongProject
from jobs.sandbox.identity import Identity
from jobs.sandbox.messages import (
    Call,
    Refusal,
    Reply,
    Withheld,
    gateway_error,
    identified,
    json_reply,
    service_error,
)
from jobs.sandbox.rules import Rules
from jobs.sandbox.store import Associations
from jobs.sandbox.tokens import Tokens

_BAD_GATEWAY = (
    b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n"
    b"<body>\r\n<center><h1>502 Bad Gateway</h1></center>\r\n</body>\r\n</html>\r\n"
)


class Sandbox:
    """The service's whole state, and what it answers.

    Args:
        catalogue: images that it shall know, and who may come in.
        strict: whether only images in the catalogue exist.
        faults: what goes wrong.
        seed: of the faults.
        token_lifetime: seconds for which a token that it issues is good.
        token_uses: calls that such a token is good for, or None for any number.
        token_length: characters of such a token.
        clock: tells seconds that pass.
        now: tells the seconds since the epoch; every answer tells it in `Date`.

    Attributes:
        associations: all associations there are.
        access_keys: keys that may sign, by their ids; may be changed at any time.

    """

    def __init__(
        self,
        catalogue: Catalogue | None = None,
        *,
        strict: bool = False,
        faults: Faults = NO_FAULTS,
        seed: int = 0,
        token_lifetime: float = 86400,
        token_uses: int | None = None,
        token_length: int = 1000,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        catalogue = catalogue or Catalogue()
        accounts = catalogue.accounts
        self.associations = Associations()
        self._rules = Rules(catalogue, self.associations, strict=strict)
        self._tokens = Tokens(
            accounts, lifetime=token_lifetime, uses=token_uses, length=token_length, now=now
        )
        self._gateway = Gateway(accounts, self._tokens, now)
        self._identity = Identity(accounts, self._tokens, self._gateway)
        self.access_keys = self._gateway.access_keys
        self._now = now
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
            return reply.dated(self._now())
        return reply

    def identify(self, call: Call) -> Reply:
        """Take a call of IAM to its end; no fault and no limit befalls it, and no request is counted."""
        reply = self._identity.reply(call)
        self._traffic.denied += reply.status == 401
        return reply.dated(self._now())

    def stats(self) -> dict[str, Any]:
        """Return what has come in, what went out, and how many associations and tokens there are."""
        traffic = self._traffic
        return {
            "requests": traffic.requests,
            "statuses": {str(status): count for status, count in sorted(traffic.statuses.items())},
            "faults": dict(sorted(traffic.faults.items())),
            "worst_second": traffic.worst_second,
            "associations": len(self.associations),
            "tokens_issued": self._tokens.issued,
            "denied": traffic.denied,
        }

    def _throttled(self) -> Reply | None:
        wait = self._window.wait() if self._window else 0.0
        if not wait:
            return None
        message = (
            f"The throttling threshold has been reached: policy user over ratelimit,{self._faults.rate_limit}"
        )
        reply = gateway_error(429, "APIGW.0308", message)
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
                headers = {**identified(), "Content-Type": "text/html", "Server": "api-gateway"}
                return Reply(502, headers, _BAD_GATEWAY)
            case "flow_limit":
                return service_error(202, "Common.0024", "exceeds flow over limit")
        return service_error(500, "Common.0001", "System error, please try again later.")

    def _answer(self, call: Call) -> Reply:
        perform = self._route(call)
        if perform is None:
            message = "The API does not exist or has not been published in the environment."
            return gateway_error(404, "APIGW.0101", message)
        try:
            self._gateway.admit(call, project=call.path.split("/")[2])
            content = perform()
        except Refusal as refusal:
            self._traffic.denied += isinstance(refusal, Denied | WrongProject)
            return refusal.reply()
        return Reply(204, identified()) if content is None else json_reply(200, content)

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
                        return lambda: rules.list_associations(project, call.parameters)
                    case "GET", ["detail"]:
                        return lambda: rules.list_fpga_images(project, call.parameters)
                    case "DELETE", [fpga_image]:
                        return lambda: rules.delete(project, fpga_image)
        return None


class _Traffic:
    """Counts of what came in and what went out."""

    def __init__(self) -> None:
        self.requests = 0
        self.worst_second = 0
        self.denied = 0
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
