"""Calls and replies, and the shapes in which the services tell of errors. Pure."""

import secrets
from collections.abc import Mapping
from email.utils import formatdate
from enum import Enum
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import orjson

_JSON = "application/json;charset=UTF-8"


class Call(NamedTuple):
    """A request as it came in.

    Attributes:
        method: HTTP method.
        path: path as sent, percent-encoding included.
        query: query as sent, without the question mark.
        headers: request headers, looked up without regard to letter case.
        body: the whole body.

    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def parameters(self) -> dict[str, str]:
        """The query decoded."""
        return dict(parse_qsl(self.query, keep_blank_values=True))

    @property
    def is_signed(self) -> bool:
        """Whether a signature is its credentials; a token outranks one."""
        return "Authorization" in self.headers and "X-Auth-Token" not in self.headers


class Reply(NamedTuple):
    """A response to be sent."""

    status: int
    headers: dict[str, str]
    body: bytes = b""

    def dated(self, now: float) -> "Reply":
        """Return the response after telling in it what time it is here."""
        self.headers["Date"] = _date(int(now))
        return self


class Withheld(Enum):
    """What is done instead of sending a response."""

    DROP = "drop"
    SILENCE = "silence"


class Refusal(Exception):  # noqa: N818 - an answer of the service, no fault of the program
    """The service refuses a call.

    Attributes:
        status: HTTP status.
        code: the service's error code.
        message: its message.

    """

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message

    def reply(self) -> Reply:
        """Return the answer that tells it."""
        return service_error(self.status, self.code, self.message)


def identified() -> dict[str, str]:
    """Return headers with an id of their own."""
    return {"X-Request-Id": secrets.token_hex(16)}


def json_reply(status: int, content: Any) -> Reply:
    """Return a response with a JSON body."""
    return Reply(status, {**identified(), "Content-Type": _JSON}, orjson.dumps(content))


def service_error(status: int, code: str, message: str) -> Reply:
    """Return an error as the ECS service tells it."""
    return json_reply(status, {"error": {"code": code, "message": message}})


def gateway_error(status: int, code: str, message: str) -> Reply:
    """Return an error as the gateway before all services tells it."""
    headers = {**identified(), "Content-Type": _JSON, "Server": "api-gateway"}
    content = {"error_msg": message, "error_code": code, "request_id": headers["X-Request-Id"]}
    return Reply(status, headers, orjson.dumps(content))


@lru_cache(maxsize=1)
def _date(second: int) -> str:
    return formatdate(second, usegmt=True)
