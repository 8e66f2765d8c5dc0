"""Rows from JSON objects, whatever their keys."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from batch.errors import InputUnusableError
from batch.job import Column
from batch.model import Row
from batch.source.names import ABSENT, folded, meant_for, picker, places, unused
from batch.text import quoted

_MOST_PLANS = 1000
_MOST_COLUMNS = 10_000
_TOO_LARGE = 2**63
_KINDS = {
    bool: "true or false",
    dict: "an object",
    float: "a number",
    int: "a number",
    list: "a list",
    str: "a string",
    type(None): "null",
}

# A named tuple's own constructor is a function in Python, and takes twice the time.
_new_row = tuple.__new__

_Keys = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Plan:
    """How an object with certain keys is read.

    Attributes:
        nested: columns of the job to be looked for inside of other objects, each with the outer key.
        values: takes the input's columns from an object.
        cells: takes the job's columns from what `values` gives.
        absent: what to add to what `cells` gives.
        problem: what is wrong with the keys.

    """

    nested: Sequence[tuple[Column, str]]
    values: Callable[[dict[str, Any]], list[Any]]
    cells: Callable[[Sequence[Any]], tuple[Any, ...]]
    absent: tuple[Any, ...]
    problem: str


class ObjectReader:
    """Makes a row of each object and learns the input's columns on the way.

    Objects of the same keys in the same order are read by the same plan, so that names are looked at once.
    A column the job asks for is one column of the input, under the spelling that came first.

    Attributes:
        columns: names of the columns carried, in order of their first appearance.
        dropped: names of the columns not carried, likewise.

    """

    def __init__(
        self,
        columns: Sequence[Column],
        reserved: Collection[str],
        unusable: Callable[[str, int], InputUnusableError],
    ) -> None:
        self.columns: list[str] = []
        self.dropped: list[str] = []
        self._wanted = columns
        self._reserved = {folded(name) for name in reserved}
        self._unusable = unusable
        self._plans: dict[_Keys, _Plan] = {}
        self._flat_plans: dict[_Keys, _Plan] = {}
        self._places: dict[str | int, int] = {}

    def row(self, number: int, line: int, item: Any) -> Row:
        """Return the row for an element of the input."""
        if item.__class__ is not dict:
            blank = ("",) * len(self._wanted)
            return Row(number, line, blank, [], f"is {_KINDS[type(item)]}, not an object")
        keys = tuple(item)
        plan = self._plans.get(keys) or self._planned(self._plans, keys, line)
        if plan.nested:
            for column, outer in plan.nested:
                item = _lifted(item, column, outer)
            keys = tuple(item)
            plan = self._flat_plans.get(keys) or self._planned(self._flat_plans, keys, line)
        values = plan.values(item)
        cells = plan.cells(values) + plan.absent
        row = _new_row(Row, (number, line, cells, values, plan.problem, None))
        for value in values:
            if value.__class__ is not str:
                return self._checked(row)
        return row

    def _checked(self, row: Row) -> Row:
        """Return the row with cells that are texts, and values that can be written as JSON again."""
        problems = [row.problem] if row.problem else []
        cells: list[Any] = list(row.cells)
        for place, (column, cell) in enumerate(zip(self._wanted, cells, strict=True)):
            if column.numeric and cell.__class__ is int:
                cells[place] = str(cell)
            elif cell.__class__ is not str:
                cells[place] = ""
                if cell is not None:
                    problems.append(f"{column.name} is {_KINDS[type(cell)]}, not a string")
        values = list(row.values)
        for place, value in enumerate(values):
            if problem := _uncarried(value):
                values[place] = None
                problems.append(f"{quoted(self.columns[place])} {problem}")
        return row._replace(cells=tuple(cells), values=values, problem="; ".join(problems))

    def _planned(self, plans: dict[_Keys, _Plan], keys: _Keys, line: int) -> _Plan:
        """Make the plan for some keys and keep it among `plans`."""
        if len(plans) >= _MOST_PLANS:
            plans.clear()
        nested = [] if plans is self._flat_plans else self._nested(keys)
        plan = _Plan(nested, list, tuple, (), "") if nested else self._flat_plan(keys, line)
        plans[keys] = plan
        return plan

    def _nested(self, keys: _Keys) -> list[tuple[Column, str]]:
        """Return the job's columns that are not among the keys but may be inside of one of them."""
        outers = {folded(key): key for key in reversed(keys)}
        return [
            (column, outers[folded(column.path[0])])
            for column, place in zip(self._wanted, places(keys, self._wanted), strict=True)
            if place == ABSENT and column.path and folded(column.path[0]) in outers
        ]

    def _flat_plan(self, keys: _Keys, line: int) -> _Plan:
        wanted = places(keys, self._wanted)
        matched = {folded(keys[place]) for place in wanted if place != ABSENT}
        free: list[str] = []
        problems: list[str] = []
        carried: dict[int, str] = {}
        for place, key in enumerate(keys):
            if place in wanted:
                carried[self._place(wanted.index(place), key)] = key
            elif folded(key) in matched:
                problems.append(f"names {quoted(key)} twice")
            elif folded(key) in self._reserved:
                if folded(key) not in map(folded, self.dropped):
                    self.dropped.append(key.strip())
            else:
                free.append(key)
                carried[self._place(key, key)] = key
        if len(self.columns) > _MOST_COLUMNS:
            raise self._unusable(
                f"objects of more than {_MOST_COLUMNS} different keys are no list of rows", line
            )
        for column, place in zip(self._wanted, wanted, strict=True):
            if place == ABSENT and column.required and (meant := meant_for(column, free)):
                problems.append(f"{column.name} is missing; {quoted(meant)} was probably meant")
        own = tuple(map(carried.get, range(len(self.columns))))
        cells, absent = picker(
            [ABSENT if at == ABSENT else self._places[number] for number, at in enumerate(wanted)]
        )
        return _Plan([], _values_getter(own, keys), cells, absent, "; ".join(problems))

    def _place(self, identity: str | int, name: str) -> int:
        """Return the place of a column of the input; a number stands for one of the job's."""
        place = self._places.get(identity)
        if place is None:
            place = self._places[identity] = len(self.columns)
            self.columns.append(unused(name, place + 1, self.columns))
        return place


def _lifted(item: dict[str, Any], column: Column, outer: str) -> dict[str, Any]:
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
    lifted: dict[str, Any] = {}
    for key, other in item.items():
        if key == outer:
            lifted[column.name] = value
            if alone:
                continue
        lifted[key] = other
    return lifted


def _values_getter(own: Sequence[str | None], keys: _Keys) -> Callable[[dict[str, Any]], list[Any]]:
    """Return a function that takes the values of the keys `own` from an object of the keys `keys`."""
    if own == keys:
        return lambda item: [*item.values()]
    return lambda item: [None if key is None else item[key] for key in own]


def _uncarried(value: Any) -> str:
    """Say why a value cannot be written as JSON and read again unchanged; empty if it can."""
    if isinstance(value, dict | list):
        try:
            orjson.dumps(value)
        except TypeError:
            return "is nested too deep to be carried"
        return max(map(_uncarried, value.values() if isinstance(value, dict) else value), default="")
    # Parsers make a float of it, or fail: its last digits would be lost.
    if isinstance(value, int | float) and abs(value) >= _TOO_LARGE:
        return "is a number too large to be carried (write it as a string)"
    return ""
