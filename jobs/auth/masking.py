"""Secrets that the program holds, masked where others repeat them.

Text from outside is masked where it comes in, before anybody reads, shortens or escapes it.
"""

import base64
import html
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar
from urllib.parse import unquote

import orjson

from batch.errors import BatchError
from batch.http.transport import TransportError
from batch.model import Response

MASK = "[masked]"

T = TypeVar("T")

_ANYWHERE = 8
"""Characters from which a secret is masked anywhere; a shorter one only as a word of its own."""

_LEAST = 4
"""Characters below which a secret is not masked: all texts would be full of masks, and protect nothing."""

_PIECE = 8
"""Characters of a secret's beginning that suffice to mask it at the end of a text that was cut."""

_CUT = re.compile(r"(?:\.{3}|\u2026)?(?: \([0-9]+ characters\))?[\s'\")\]}>]*\Z")
"""What may stand behind the place where a text was cut."""

_LONGEST_CUT = 40

_DEEPEST = 3
"""How often a text may be escaped: JSON in JSON in HTML."""

_JSON_ESCAPE = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|x([0-9A-Fa-f]{2})|(.))")

_SERVICE_WORDS = (
    # A secret that is a word of the service's own language is not masked: its answers could not be read.
    " the error code message request_id error_code error_msg associations fpgaimages relation already exist"
    " or the related fpga image count of image reach the max limit is not private is not the owner of"
    " is protected doesn't does not exist signature expired flow over limit exceeded throttling threshold"
    " system exception occurred failed to query the image "
)


class Secrets:
    """The secrets that the program holds now, and every form of them that it masks."""

    def __init__(self) -> None:
        self._known: set[str] = set()
        self._forms: list[str] = []  # the longest first
        self._beginnings: tuple[str, ...] = ()  # of the forms, in lower case: most texts have none of them

    def learn(self, *secrets: str) -> None:
        """Mask these from now on, and what they look like in other texts."""
        new = {each for each in secrets if each not in self._known and _is_worth_masking(each)}
        if new:
            self._known |= new
            forms = set(self._forms).union(*map(forms_of, new))
            self._forms = sorted(forms, key=len, reverse=True)
            self._beginnings = tuple({_beginning(form).lower() for form in forms})

    def masked(self, text: str) -> str:
        """Return a text with every secret masked, a secret that is cut off at its end too.

        A text in which a secret shows only once its escapes are undone is returned without them.
        """
        masked = plain = self._masked(text)
        if "\\" in text or "&" in text or "%" in text:
            for sign, undo in _ESCAPES * _DEEPEST:
                if sign in plain:
                    plain = undo(plain)
                    if (found := self._masked(plain)) != plain:
                        masked = plain = found
        return masked

    def response(self, response: Response) -> Response:
        """Return a response with every secret masked in what is read and shown of it."""
        body = self._body(response.body) if response.body else b""
        headers = _MaskedHeaders(response.headers, self)
        return Response(response.status, headers, body, response.credential, response.unreadable)

    def error(self, error: BatchError | TransportError) -> None:
        """Mask the text of an error that quotes others."""
        error.args = tuple(self.masked(each) if isinstance(each, str) else each for each in error.args)

    def _body(self, body: bytes) -> bytes:
        try:
            document = orjson.loads(body)
            masked = self._values(document)
            return body if masked == document else orjson.dumps(masked)
        except (RecursionError, TypeError, ValueError):  # not JSON, or not as JSON is written
            text = body.decode("utf-8", "surrogateescape")
            masked_text = self.masked(text)
            return body if masked_text == text else masked_text.encode("utf-8", "surrogateescape")

    def _values(self, value: Any) -> Any:
        """Return JSON with its texts masked; what the members are called is never shown."""
        if isinstance(value, str):
            return self.masked(value)
        if isinstance(value, list):
            return [self._values(each) for each in value]
        if isinstance(value, dict):
            return {key: self._values(each) for key, each in value.items()}
        return value

    def _masked(self, text: str) -> str:
        lowered = text.lower()
        for beginning in self._beginnings:
            if beginning in lowered:
                break
        else:
            return text
        for form in self._forms:
            if form.lower() in lowered:
                text = _pattern(form).sub(MASK, text)
        return self._without_piece(text)

    def _without_piece(self, text: str) -> str:
        """Mask the beginning of a secret behind which a text was cut."""
        end = _CUT.search(text, max(0, len(text) - _LONGEST_CUT))
        place = end.start() if end else len(text)
        for form in self._forms:
            start = text.rfind(_beginning(form), max(0, place - len(form)), place)
            if start >= 0 and form.startswith(text[start:place]):
                return f"{text[:start]}{MASK}{text[place:]}"
        return text


class _MaskedHeaders(Mapping[str, str]):
    """Headers whose values are masked when they are looked up: most of them never are."""

    __slots__ = ("_headers", "_secrets")

    def __init__(self, headers: Mapping[str, str], secrets: Secrets) -> None:
        self._headers = headers
        self._secrets = secrets

    def __contains__(self, name: object) -> bool:
        return name in self._headers

    def __getitem__(self, name: str) -> str:
        return self._secrets.masked(self._headers[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._headers)

    def __len__(self) -> int:
        return len(self._headers)

    def get(self, name: str, default: T | None = None) -> str | T | None:  # type: ignore[override]
        value = self._headers.get(name)
        return default if value is None else self._secrets.masked(value)


def forms_of(secret: str) -> set[str]:
    """Return what a secret may look like in a text that has no escapes: as it is, and in Base64."""
    raw = secret.encode("utf-8", "surrogateescape")
    forms = {secret, secret.replace(" ", "+")}  # as a form in a URL has it
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        forms.add(encode(raw).decode())
        for before in range(3):  # in the midst of what is encoded, it begins at one of three places
            text = encode(b"\0" * before + raw).decode()
            forms.add(text[(before * 4 + 2) // 3 : (before + len(raw)) * 4 // 3])
    return {form for form in forms if len(form) >= _LEAST}


def _without_json_escapes(text: str) -> str:
    def undone(match: re.Match[str]) -> str:
        code = match[1] or match[2]
        return chr(int(code, 16)) if code else _SHORT_ESCAPES.get(match[3], match[3])

    plain = _JSON_ESCAPE.sub(undone, text)
    return plain.encode("utf-16", "surrogatepass").decode("utf-16", "replace")  # joins pairs of surrogates


_SHORT_ESCAPES = {"n": "\n", "r": "\r", "t": "\t"}
_ESCAPES: tuple[tuple[str, Callable[[str], str]], ...] = (
    ("\\", _without_json_escapes),
    ("&", html.unescape),
    ("%", unquote),
)
"""By which sign a text shows that it may have escapes, and how they are undone."""


def _beginning(form: str) -> str:
    return form[: max(_LEAST, min(_PIECE, len(form) // 2))]


def _is_worth_masking(secret: str) -> bool:
    return len(secret) >= _LEAST and f" {secret.lower()} " not in _SERVICE_WORDS


def _pattern(form: str) -> re.Pattern[str]:
    text = re.escape(form)
    if len(form) < _ANYWHERE:
        text = rf"(?<![A-Za-z0-9]){text}(?![A-Za-z0-9])"
    return re.compile(text, re.IGNORECASE)
