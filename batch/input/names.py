"""Which of the names found in an input are those a job asks for."""

import difflib
from collections.abc import Callable, Collection, Iterable, Sequence
from operator import itemgetter
from typing import Any

from batch.job import Column
from batch.text import bare, quoted

ABSENT = -1
_CLOSE = 0.75


def folded(name: str) -> str:
    """Return a name in the form in which names are compared, without what other programs put around it."""
    return bare(name).lower()


def places(names: Iterable[str], columns: Sequence[Column]) -> list[int]:
    """Return for each of `columns` its place among `names`, or `ABSENT`. Its own name beats an alias."""
    found: dict[str, int] = {}
    for place, name in enumerate(names):
        found.setdefault(folded(name), place)
    return [
        next((found[key] for key in map(folded, spellings(column)) if key in found), ABSENT)
        for column in columns
    ]


def completed(names: Sequence[str], columns: Sequence[Column]) -> list[str]:
    """Return the names of an input's columns, and of the required ones of `columns` that it lacks."""
    found = places(names, columns)
    missing = zip(columns, found, strict=True)
    return [*names, *(column.name for column, place in missing if place == ABSENT and column.required)]


def spellings(column: Column) -> tuple[str, ...]:
    """Return all names a column goes by."""
    return (column.name, *column.aliases)


def meant_for(column: Column, candidates: Iterable[str]) -> str:
    """Return the one of `candidates` that is most like a misspelling of the column's name, or nothing."""
    by_key = {folded(name).replace(" ", "_").replace("-", "_"): name for name in candidates}
    close = [
        (difflib.SequenceMatcher(None, spelling, key).ratio(), key)
        for spelling in map(folded, spellings(column))
        for key in difflib.get_close_matches(spelling, by_key, n=1, cutoff=_CLOSE)
    ]
    return by_key[max(close)[1]] if close else ""


def unused(name: str, number: int, taken: Collection[str], reserved: Collection[str] = ()) -> str:
    """Return the name to carry a column under: its own or `column_<number>`, with `_` if that is taken.

    Args:
        name: its own.
        number: its place, from 1.
        taken: names of other columns.
        reserved: names that no column is carried under in any letter case, folded.

    """
    name = name.strip() or f"column_{number}"
    if name in taken or folded(name) in reserved:
        name += "_"
    if name in taken:
        name += str(number)  # else names would grow with every one that is the same
    while name in taken:
        name += "_"
    return name


def agreed(name: str, cell: str, other_name: str, other: str) -> tuple[str, str]:
    """Return what two cells say that mean the same column, and the problem if they say different things."""
    if not other.strip():
        return cell, ""
    if not cell.strip():
        return other, ""
    if _letters_and_digits(cell) == _letters_and_digits(other):
        return cell, ""
    return cell, f"{name} is {quoted(cell)}, {other_name} is {quoted(other)}: which is meant?"


def _letters_and_digits(cell: str) -> str:
    """Return what is left of an id in braces, with or without dashes, when only the id itself counts."""
    return "".join(filter(str.isalnum, bare(cell).lower().removeprefix("urn:uuid:")))


def listed(names: Iterable[str], limit: int = 20) -> str:
    """Return names for a message, each in quotation marks."""
    shown = [quoted(name) for name in names]
    return ", ".join(shown[:limit]) + (f" and {len(shown) - limit} more" if len(shown) > limit else "")


def picker(wanted: Sequence[int]) -> tuple[Callable[[Sequence[Any]], tuple[Any, ...]], tuple[Any, ...]]:
    """Return a function that takes the fields at some places, and what is to be added to its result.

    A field that is absent counts as empty.
    """
    present = [place for place in wanted if place != ABSENT]
    if len(present) > 1 and ABSENT not in wanted[: len(present)]:
        return itemgetter(*present), ("",) * (len(wanted) - len(present))
    if len(wanted) > 1:
        pick = itemgetter(*wanted)  # an absent column's place, -1, is that of what is added
        return lambda fields: pick([*fields, ""]), ()
    return lambda fields: tuple([fields[place] if place != ABSENT else "" for place in wanted]), ()
