"""Checks of a catalogue's content: each error names the key. Pure."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

HEX_DIGITS = "32 lower-case hex digits"


def known_keys(place: str, value: Any, known: Iterable[str]) -> dict[str, Any]:
    """Return an object none of whose keys is unknown."""
    if not isinstance(value, dict):
        raise ValueError(f"{place}: must be an object")  # noqa: TRY004 - a wrong file, not a wrong call
    for key in value:
        if key not in known:
            raise ValueError(f"{place}: unknown key '{key}'; known are {', '.join(known)}")
    return value


def entries(section: str, listed: Any, known: Iterable[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Go through a list of objects and their places."""
    if not isinstance(listed, list):
        raise ValueError(f"{section}: must be a list")  # noqa: TRY004 - a wrong file, not a wrong call
    for position, entry in enumerate(listed):
        place = f"{section}[{position}]"
        yield place, known_keys(place, entry, known)


def identifier(
    place: str,
    entry: Mapping[str, Any],
    is_well_formed: Callable[[str], object],
    form: str,
    seen: Iterable[str],
    key: str = "id",
    *,
    is_secret: bool = False,
) -> str:
    """Return what tells an entry from the others, which must not have the same. No error shows a secret."""
    value = entry.get(key)
    shown = "what is there" if is_secret else repr(value)
    if not isinstance(value, str) or not is_well_formed(value):
        raise ValueError(f"{place}.{key}: {shown} is not {form}")
    if value in seen:
        raise ValueError(f"{place}.{key}: {shown} stands there twice")
    return value


def one_of(place: str, value: Any, allowed: tuple[str, ...]) -> str:
    """Return a word that is one of those allowed."""
    if value not in allowed:
        raise ValueError(f"{place}: {value!r} is none of {', '.join(allowed)}")
    return str(value)
