"""Keys that a JSON object names twice: parsers keep the last and say nothing."""

import json
import re
from typing import Any

# A key is followed by a colon, and within a string a quotation mark stands behind a backslash.
_ends_of_keys = re.compile(rb'"[ \t\r\n]*+:').findall


class _RepeatedKeyError(Exception):
    pass


def key_named_twice(text: bytes, item: dict[str, Any]) -> str | None:
    """Return a key that an object, or one inside of it, has twice, or None.

    Args:
        text: the object's text.
        item: what a parser has made of it.

    """
    if len(_ends_of_keys(text)) == _keys_in(item):
        return None
    try:
        json.loads(text, object_pairs_hook=_unrepeated)
    except _RepeatedKeyError as error:
        return str(error)
    except RecursionError:  # too deep to be carried, and refused for that
        return None
    return None


def _keys_in(item: dict[str, Any]) -> int:
    """Return the number of keys in an object and in all inside of it."""
    count = 0
    inside: list[Any] = [item]
    while inside:
        value = inside.pop()
        if value.__class__ is dict:
            count += len(value)
            value = value.values()
        inside += [each for each in value if each.__class__ is dict or each.__class__ is list]
    return count


def _unrepeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = dict(pairs)
    if len(keys) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise _RepeatedKeyError(key)
            seen.add(key)
    return keys
