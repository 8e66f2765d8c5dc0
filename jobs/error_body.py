"""The shapes of error bodies, and what each of them says. Pure.

Bodies are read leniently: one that is no JSON to a strict reader, for its encoding or because it was cut, may
still name the code that decides whether a run goes on.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from batch.text import printable

_DEEPEST = 8
_PAGE_SHOWN = 4096  # bytes of a page that are looked at; patterns over foreign text stay cheap
_CODE = re.compile(r"[A-Za-z]+\.[0-9]{3,5}")
_TITLE = re.compile(r"<title>([^<]*)", re.IGNORECASE)
_TAG = re.compile(r"<[^<>]*>")


@dataclass(frozen=True, slots=True)
class ServiceError:
    """What an error body says.

    Attributes:
        code: the service's code; for Keystone the number as text.
        message: text for a person, printable.
        request_id: where the body names one.
        is_json: whether the body was JSON at all, not a proxy's page.
        is_whole: whether nothing is missing that could change what it means; one that was cut off may have
            said more.

    """

    code: str = ""
    message: str = ""
    request_id: str = ""
    is_json: bool = True
    is_whole: bool = True


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
    body = body.removeprefix(b"\xef\xbb\xbf")
    is_whole = True
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        if not body.lstrip().startswith(b"{"):
            return ServiceError(message=_page_text(body), is_json=False)
        text = body.decode("utf-8", "replace")
        document = _read_leniently(text)
        if document is None:
            document, is_whole = _members(text)
    if isinstance(document, str):
        return ServiceError(message=printable(document))
    found = _find(document, _CODE_KEYS, _DEEPEST) or _find(document, _MESSAGE_KEYS, _DEEPEST)
    if found is None:
        return None
    code = _first(found, _CODE_KEYS)
    message = _first(found, _MESSAGE_KEYS) or _first(_find(document, _MESSAGE_KEYS, _DEEPEST), _MESSAGE_KEYS)
    # One documented example has the two the wrong way round.
    if _CODE.fullmatch(message) and not _CODE.fullmatch(code):
        code, message = message, code
    request_id = _first(found, ("request_id",)) or _first(document, ("request_id",))
    return ServiceError(printable(code, 80), printable(message), printable(request_id, 80), is_whole=is_whole)


# Every repetition is bounded, so that a hostile body costs no more than so many steps a character.
# A code without its end might be another one.
_CODE_MEMBER = re.compile(rf'"(?:{"|".join(_CODE_KEYS)})"\s{{0,9}}:\s{{0,9}}"?([\w.]{{1,40}})(?=["\s,}}\]])')
_MESSAGE_MEMBER = re.compile(
    rf'"(?:{"|".join(_MESSAGE_KEYS)})"\s{{0,9}}:\s{{0,9}}"((?:[^"\\]|\\.){{1,600}})("?)', re.DOTALL
)


def _read_leniently(text: str) -> dict[str, Any] | None:
    """Return the object in a text that is not quite JSON; None where it has no end, or is none."""
    try:
        document = json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _members(text: str) -> tuple[dict[str, Any], bool]:
    """Return what is found of the code and the message of an object that was cut off; else its text.

    Return also whether both are there to their ends. Of a long message only the beginning counts.
    """
    code, message = _CODE_MEMBER.search(text), _MESSAGE_MEMBER.search(text)
    if not (code or message):
        return {"message": _page_text(text.encode()) or "{"}, False
    found = {"code": code and code[1], "message": message and message[1]}
    return found, bool(code and message and (message[2] or len(text) > message.end() + 1))


def _page_text(body: bytes) -> str:
    """Return what a page says: its title, else its text."""
    page = body[:_PAGE_SHOWN].decode("utf-8", "replace")
    title = _TITLE.search(page)
    text = (title and title[1].strip()) or _TAG.sub(" ", page)
    return printable(" ".join(text.split()))


def _find(value: Any, keys: tuple[str, ...], depth: int) -> Mapping[str, Any] | None:
    """Return the outermost object that has one of the keys, else None."""
    if not isinstance(value, dict):
        return None
    if _first(value, keys):
        return value
    inner = list(value.values())
    if isinstance(entries := value.get("internalError"), list):
        inner += entries
    if depth:
        for each in inner:
            if (found := _find(each, keys, depth - 1)) is not None:
                return found
    return None


def _first(value: Any, keys: tuple[str, ...]) -> str:
    """Return the first of the keys' values that is a text or a number and not empty."""
    for key in keys:
        found = value.get(key) if isinstance(value, dict) else None
        if isinstance(found, str | int) and not isinstance(found, bool) and found != "":
            return str(found)
    return ""
