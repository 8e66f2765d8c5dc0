"""Values inside of nested JSON objects."""

from collections.abc import Sequence
from typing import Any

from batch.input.names import folded
from batch.job import Column


def lifted(item: dict[str, Any], column: Column, outer: str) -> dict[str, Any]:
    """Return the object with the value at the column's path under the column's name.

    It takes the outer object's place if that holds nothing else, or else stands before it.
    """
    value: Any = item.get(outer)
    alone = True
    for step in column.path[1:]:
        if not isinstance(value, dict):
            return item
        key = step if step in value else next((key for key in value if folded(key) == folded(step)), None)
        if key is None:
            return item
        alone = alone and len(value) == 1
        value = value[key]
    result: dict[str, Any] = {}
    for key, other in item.items():
        if key == outer:
            result[column.name] = value
            if alone:
                continue
        result[key] = other
    return result


def inside(item: Any, keys: Sequence[str]) -> Any:
    """Return the value at the end of a path of keys, or None if there is none."""
    for key in keys:
        if not isinstance(item, dict):
            return None
        item = item.get(key)
    return item
