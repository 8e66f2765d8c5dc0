"""The service's error language: the shapes of its error bodies and what each answer means. Pure.

Sources: the ECS API reference (error codes, common return values), the API gateway's error codes, and the
clients that are made for the service. Codes and messages are documented not to be one-to-one and statuses
"may not be accurate", so a known code outranks the status, and messages are matched loosely.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from batch.model import Kind, Response, Verdict
from batch.text import printable

_DEEPEST = 8
_ID_HEADERS = ("X-Request-Id", "X-IAM-Trace-Id", "X-Openstack-Request-Id")
_CODE = re.compile(r"[A-Za-z]+\.\d{3,5}")
_WINDOW = re.compile(r"limit:\s*(\d+),\s*time:\s*(\d+)\s*(second|minute|hour|day)", re.IGNORECASE)
_WINDOW_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
_MARKUP = re.compile(r"<(script|style)\b.*?</\1>|<[^>]*>", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class ServiceError:
    """What an error body says.

    Attributes:
        code: the service's code; for Keystone the number as text.
        message: text for a person, printable.
        request_id: where the body names one.
        is_json: whether the body was JSON at all, not a proxy's page.

    """

    code: str = ""
    message: str = ""
    request_id: str = ""
    is_json: bool = True


# The names under which the services put code, message and request id.
_CODE_KEYS = ("error_code", "errorCode", "code")
_MESSAGE_KEYS = ("error_msg", "errorMsg", "error_message", "message")


def parse_error(body: bytes) -> ServiceError | None:
    """Read an error body of any known shape; None where a JSON body tells of no error.

    The shapes: ECS `{"error": {"code", "message"}}`, the gateway's `{"error_code", "error_msg",
    "request_id"}`, Keystone's with an integer code, `{"errorCode", "errorMsg"}` and `{"code", "message"}`,
    any of them inside other objects, `{"internalError": [{"error_code", "error_message"}]}` of batch calls,
    and the text or HTML page of a proxy.
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        text = " ".join(_MARKUP.sub(" ", body.decode("utf-8", "replace")).split())
        return ServiceError(message=printable(text), is_json=False)
    found = _find(document, _DEEPEST)
    if found is None:
        return None
    code, message = _first(found, _CODE_KEYS), _first(found, _MESSAGE_KEYS)
    # One documented example has the two the wrong way round.
    if _CODE.fullmatch(message) and not _CODE.fullmatch(code):
        code, message = message, code
    request_id = _first(found, ("request_id",)) or _first(document, ("request_id",))
    return ServiceError(printable(code, 80), printable(message), printable(request_id, 80))


def _find(value: Any, depth: int) -> Mapping[str, Any] | None:
    """Return the outermost object that has a code or a message, else None."""
    if not isinstance(value, dict):
        return None
    if isinstance(entries := value.get("internalError"), list) and entries:
        return _find(entries[0], depth)
    if any(isinstance(value.get(key), str | int) for key in (*_CODE_KEYS, *_MESSAGE_KEYS)):
        return value
    if depth:
        for inner in value.values():
            if (found := _find(inner, depth - 1)) is not None:
                return found
    return None


def _first(value: Any, keys: tuple[str, ...]) -> str:
    for key in keys:
        if isinstance(value, dict) and isinstance(found := value.get(key), str | int):
            return str(found)
    return ""


def request_id(response: Response) -> str:
    """Return the id under which the service's support finds this request, or an empty text."""
    for header in _ID_HEADERS:
        if found := response.headers.get(header):
            return printable(found, 80)
    error = parse_error(response.body) if response.body else None
    return error.request_id if error else ""


_DONE = Verdict(Kind.DONE)

_THROTTLED = frozenset({"Common.0024", "Common.1503", ".0308"})
_NO_SERVICE = frozenset({".0101", ".0103"})
_DENIED = frozenset(
    # the project in the path is not the credentials' own; policy, account or balance forbid it
    {"Ecs.0023", "Common.0018", "Common.0013", "Pdp.0001", "Ecs.0110", "Ecs.0003"}
    | {f"Ecs.{number:04}" for number in range(66, 72)}
    # token or keys; wrong region; black lists, subscription, quota used up or frozen
    | {".0301", ".0302", ".0303", ".0306", ".0307", ".0310", ".0402", ".0501", ".0502", ".0801", ".0802"}
)
_REFUSED = frozenset({"Ecs.0005", "Ecs.0031", "Ecs.0032", "Common.0002", ".0106", ".0602", ".0607"})
# "A system exception occurred. Try again later", behind a 400.
_SYSTEM = frozenset({"Ecs.0002", "Ecs.0004", "Ecs.0304", "Ecs.1000", "Ecs.1001", "Ecs.1002", "Ecs.1100"})
_RETRY_ONCE = "Ecs.0000"  # "Request error. Try again later", though the remedy is to check the body
_UNSURE_STATUSES = frozenset({408, 500, 502, 503, 504})

_REASONS_BY_CODE = {"Ecs.0031": "not_found", "Ecs.0032": "not_active"}
_REASONS_BY_TEXT = (
    ("relation already exist", "relation_or_limit"),
    ("max limit", "relation_or_limit"),
    ("is not private", "not_private"),
    ("is not the owner", "not_owner"),
    ("is protected", "protected"),
    ("doesn't exist", "not_found"),
    ("does not exist", "not_found"),
)

RELATION_OR_LIMIT = "relation_or_limit"
"""A verdict's reason for the one answer with two causes: the pair is associated, or the image is full."""


def classify(response: Response) -> Verdict:  # noqa: C901 - one table, read from top to bottom
    """Say what a response means. From top to bottom; the first rule that fits decides."""
    status = response.status
    if status == 204:
        return _DONE
    error = parse_error(response.body) if response.body else None
    success = 200 <= status < 300
    if success and (error is None or not error.code):
        # Only 204 is known for a write; whether another success means the same is read back.
        return Verdict(Kind.DONE, maybe_applied=True)
    error = error or ServiceError(is_json=False)
    code = _known(error.code)
    if code in _THROTTLED or status == 429:
        return _verdict(
            Kind.THROTTLED, "throttled", error, maybe_applied=success, pause=_pause(response, error)
        )
    if code in _NO_SERVICE or (status == 404 and not error.is_json):
        return _verdict(Kind.NO_SERVICE, "no_such_api", error)
    if code in _DENIED or status in (401, 403):
        return _verdict(Kind.DENIED, "denied", error)
    reason = _reason(error)
    if code in _SYSTEM:
        return _verdict(Kind.TRANSIENT, "server_error", error, maybe_applied=True)
    if code == _RETRY_ONCE:
        return _verdict(Kind.TRANSIENT, "server_error", error, maybe_applied=True, max_attempts=2)
    if reason or code in _REFUSED:
        return _verdict(Kind.REFUSED, reason or "rejected", error)
    if status in _UNSURE_STATUSES or (status > 500 and status != 501):
        pause = _retry_after(response)
        return _verdict(Kind.TRANSIENT, "server_error", error, maybe_applied=True, pause=pause)
    if status == 404:
        return _verdict(Kind.REFUSED, "not_found", error)
    return _verdict(Kind.REFUSED, "rejected", error, maybe_applied=success)


def _verdict(
    kind: Kind,
    reason: str,
    error: ServiceError,
    *,
    maybe_applied: bool = False,
    pause: float | None = None,
    max_attempts: int | None = None,
) -> Verdict:
    return Verdict(kind, reason, maybe_applied, error.code, error.message, pause, max_attempts)


def _known(code: str) -> str:
    """Return a code as the tables have it: the two gateways number alike, so their prefix goes."""
    prefix, dot, number = code.partition(".")
    return dot + number if prefix in ("APIG", "APIGW") else code


def _reason(error: ServiceError) -> str:
    if error.code in _REASONS_BY_CODE:
        return _REASONS_BY_CODE[error.code]
    message = error.message.lower()
    return next((reason for text, reason in _REASONS_BY_TEXT if text in message), "")


def _pause(response: Response, error: ServiceError) -> float | None:
    """Return seconds to wait after being throttled: the header's, else the window named in the message."""
    if (asked := _retry_after(response)) is not None:
        return asked
    if window := _WINDOW.search(error.message):
        return float(window[2]) * _WINDOW_SECONDS[window[3].lower()]
    return None


def _retry_after(response: Response) -> float | None:
    value = response.headers.get("Retry-After", "")
    if value.isascii() and value.isdigit():
        return float(value[:9])
    return None
