"""The service's language: what each of its answers means. Pure.

Sources: the ECS API reference (error codes, common return values), the API gateway's error codes, and the
clients that are made for the service. Codes and messages are documented not to be one-to-one and statuses
"may not be accurate", so a known code outranks the status, and messages are matched loosely.
"""

import re
from dataclasses import replace
from urllib.parse import urlsplit

from batch.model import Kind, Response, Verdict, Window
from batch.text import printable
from jobs.dates import http_date
from jobs.error_body import ServiceError, parse_error

_ID_HEADERS = ("X-Request-Id", "X-IAM-Trace-Id", "X-Openstack-Request-Id")
_WINDOW = re.compile(
    r"limit:\s*([0-9]{1,9}),\s*time:\s*([0-9]{1,9})\s*(second|minute|hour|day)", re.IGNORECASE
)
_WINDOW_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
_WINDOW_HEADERS = tuple(f"X-Apig-RateLimit-{each}" for each in ("Api", "User", "App", "Ip", "Api-Allenv"))
_SECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")


def request_id(response: Response) -> str:
    """Return the id under which the service's support finds this request, or an empty text."""
    for header in _ID_HEADERS:
        if found := response.headers.get(header):
            return printable(found, 80)
    error = parse_error(response.body) if response.body else None
    return error.request_id if error else ""


RELATION_OR_LIMIT = "relation_or_limit"
"""A verdict's reason for the one answer with two causes: the pair is associated, or the image is full."""

ACCEPTED = "accepted"
"""A verdict's reason for a 202: it may still be done, or never."""

_DONE = Verdict(Kind.DONE)

# The two gateways number alike; their codes stand here without the prefix APIG or APIGW.
_THROTTLED = frozenset({"Common.0024", "Common.1503", ".0308"})
_THROTTLED_TEXTS = ("flow over limit", "flow limit exceeded", "throttling threshold")
_NO_SERVICE = frozenset({".0101", ".0103"})
# token or keys; a token that must be updated, or is another region's
_UNAUTHENTICATED = frozenset({"Common.0013", ".0301", ".0303", ".0307"})
_DENIED = frozenset(
    # the project in the path is not the credentials' own; policy, account or balance forbid it
    {"Ecs.0023", "Common.0018", "Pdp.0001", "Ecs.0110", "Ecs.0003"}
    | {f"Ecs.{number:04}" for number in range(66, 72)}
    # black lists, subscription, quota used up or frozen
    | {".0302", ".0306", ".0310", ".0402", ".0501", ".0502", ".0801", ".0802"}
)
_REFUSED = frozenset({"Ecs.0005", "Ecs.0031", "Ecs.0032", "Common.0002", ".0106", ".0602", ".0607"})
_SYSTEM = frozenset(
    # "A system exception occurred. Try again later", behind a 400
    {"Ecs.0002", "Ecs.0004", "Ecs.0304", "Ecs.1000", "Ecs.1001", "Ecs.1002", "Ecs.1100", "Common.0001"}
    # the gateway cannot reach what is behind it
    | {
        ".0202",
        ".0203",
        ".0601",
        ".0605",
        ".0606",
        ".0608",
        ".0609",
        ".0610",
        ".0611",
        ".0612",
        ".0613",
        ".0705",
    }
)
_SYSTEM_TEXTS = ("system exception occurred", "failed to query the image")
_is_code = re.compile(r"[A-Za-z]+\.[0-9]{3,5}").fullmatch
_RETRY_ONCE = "Ecs.0000"  # "Request error. Try again later", though the remedy is to check the body
_UNSURE_STATUSES = frozenset({408, 500, 502, 503, 504})

_REASONS_BY_CODE = {"Ecs.0031": "not_found", "Ecs.0032": "not_active"}
_REASONS_BY_TEXT = (
    ("relation already exist", RELATION_OR_LIMIT),
    ("max limit", RELATION_OR_LIMIT),
    ("is not private", "not_private"),
    ("is not the owner", "not_owner"),
    ("is protected", "protected"),
    ("doesn't exist", "not_found"),
    ("does not exist", "not_found"),
)


def classify(response: Response) -> Verdict:
    """Say what a response means, and whether what was asked for may have been done, or may be later.

    Whatever a success or a 5xx says, only the documented codes of throttling tell that nothing was done.
    """
    status = response.status
    if status == 204:
        return _DONE
    verdict = _meaning(response)
    is_open = 200 <= status < 300 or status >= 500
    if not is_open or _without_gateway(verdict.code) in _THROTTLED:
        return verdict
    return replace(verdict, maybe_applied=True, maybe_later=status == 202)


def unreadable(response: Response, problem: str) -> Verdict:
    """Return what an answer means of which the body cannot be read: whatever it says, it may be done."""
    error = parse_error(response.body)
    message = (error and error.message) or problem
    is_page = not response.unreadable and (error is None or not error.is_json)
    return Verdict(Kind.TRANSIENT, "unreadable_answer", maybe_applied=True, message=message, foreign=is_page)


def _meaning(response: Response) -> Verdict:  # noqa: C901, PLR0912 - one table, read top down
    """Say what a response means. From top to bottom; the first rule that fits decides."""
    status = response.status
    error = parse_error(response.body) if response.body else ServiceError(is_json=False)
    success = 200 <= status < 300
    is_page = error is not None and not error.is_json
    told = error.message if error else ""
    if error is None or (success and not error.is_json):
        error = ServiceError()
    code, text = _without_gateway(error.code), error.message.lower()
    if code in _THROTTLED or status == 429 or _has(text, _THROTTLED_TEXTS):
        limit = _window(error.message)
        return _verdict(Kind.THROTTLED, "throttled", error, pause=_pause(response, limit), limit=limit)
    unsure = status in _UNSURE_STATUSES or (status > 500 and status != 501)
    if response.unreadable and not unsure and status not in (401, 403):
        return unreadable(response, response.unreadable)
    if success and status != 202 and not error.code:
        # Only 204 is known for a write; whether another success means the same is read back.
        is_foreign = is_page and bool(response.body)
        return Verdict(Kind.DONE, message=told if is_foreign else "", foreign=is_foreign)
    if code in _NO_SERVICE and not unsure:
        return _verdict(Kind.NO_SERVICE, "no_such_api", error)
    if status == 404 and is_page:
        return _foreign(response, error)
    if code in _UNAUTHENTICATED or status == 401:
        return _verdict(Kind.UNAUTHENTICATED, "denied", error)
    if code in _DENIED or status == 403:
        is_own = code in _DENIED or _is_code(error.code)
        return replace(_verdict(Kind.DENIED, "denied", error), foreign=not is_own)
    if not unsure and error.is_whole and (reason := _reason(error.code, text)):
        return _verdict(Kind.REFUSED, reason, error)
    if unsure or code in _SYSTEM or _has(text, _SYSTEM_TEXTS):
        pause = _retry_after(response)
        return _verdict(Kind.TRANSIENT, "server_error", error, maybe_applied=True, pause=pause)
    if code == _RETRY_ONCE:
        return _verdict(Kind.TRANSIENT, "server_error", error, maybe_applied=True, max_attempts=2)
    if status == 202 and code not in _REFUSED:
        return _verdict(Kind.TRANSIENT, ACCEPTED, error)
    if status < 500 and (is_page or 300 <= status < 400):
        return _foreign(response, error)
    if not error.is_whole:
        return unreadable(response, "the answer was cut off")
    return replace(_verdict(Kind.REFUSED, "rejected", error), foreign=not error.code)


def _foreign(response: Response, error: ServiceError) -> Verdict:
    """Return what a redirect or a page of somebody's means: most likely it comes from another place."""
    status = response.status
    is_elsewhere = status == 404 or 300 <= status < 400
    verdict = _verdict(
        Kind.NO_SERVICE,
        "no_such_api" if is_elsewhere else "rejected",
        error,
        max_attempts=None if is_elsewhere else 2,
    )
    host = urlsplit(response.headers.get("Location", "")).netloc
    shown = f"a redirect to {printable(host, 80)}" if host else error.message or "a page without a text"
    return replace(verdict, message=shown, foreign=True)


def _verdict(
    kind: Kind,
    reason: str,
    error: ServiceError,
    *,
    maybe_applied: bool = False,
    pause: float | None = None,
    max_attempts: int | None = None,
    limit: Window | None = None,
) -> Verdict:
    return Verdict(kind, reason, maybe_applied, error.code, error.message, pause, max_attempts, limit=limit)


def _without_gateway(code: str) -> str:
    prefix, dot, number = code.partition(".")
    return dot + number if prefix in ("APIG", "APIGW") else code


def _has(text: str, phrases: tuple[str, ...]) -> bool:
    return any(phrase in text for phrase in phrases)


def _reason(code: str, text: str) -> str:
    by_text = next((reason for phrase, reason in _REASONS_BY_TEXT if phrase in text), "")
    return by_text or _REASONS_BY_CODE.get(code, "")


def _pause(response: Response, limit: Window | None) -> float | None:
    """Return seconds to wait after being throttled: the header's, else the window named in the message."""
    if (asked := _retry_after(response)) is not None and asked > 0:
        return asked
    return limit.seconds if limit else None


def _window(text: str) -> Window | None:
    """Read a limit in the gateway's words: `limit:5,time:1 minute`."""
    match = _WINDOW.search(text)
    if match is None or not int(match[1]) or not int(match[2]):
        return None
    return Window(int(match[1]), float(match[2]) * _WINDOW_SECONDS[match[3].lower()])


def shown_limit(response: Response) -> Window | None:
    """Return the narrowest limit that the gateway's headers show: `remain:9,limit:10,time:1 second`."""
    headers = response.headers
    # Hardly any answer has them, and looking costs least where it asks for nothing but that.
    shown = [_window(headers[name]) for name in _WINDOW_HEADERS if name in headers]
    if not shown:
        return None
    return min((each for each in shown if each), key=lambda each: each.per_second, default=None)


def _retry_after(response: Response) -> float | None:
    """Return the header's seconds; a date counts from the answer's own, as the clocks may differ."""
    value = response.headers.get("Retry-After", "").strip()
    if _SECONDS.fullmatch(value):
        return float(value)
    until, now = http_date(value), http_date(response.headers.get("Date", ""))
    return (until - now).total_seconds() if until and now else None
