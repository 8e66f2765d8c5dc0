"""Rows from JSON objects, whatever their keys."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from batch.input.keys import key_named_twice
from batch.input.names import ABSENT, agreed, folded, meant_for, picker, places, spellings, unused
from batch.input.paths import inside, lifted
from batch.job import Column
from batch.model import Row
from batch.text import quoted

_MOST_PLANS = 1000
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
        values: takes the input's columns from an object; None where they are its values as they come.
        cells: takes the job's columns from what `values` gives.
        absent: what to add to what `cells` gives.
        others: where a value of one of the job's columns is found a second time: place of the column, and
            the keys from the outside in.
        problem: what is wrong with the keys.

    """

    nested: Sequence[tuple[Column, str]]
    values: Callable[[dict[str, Any]], list[Any]] | None
    cells: Callable[[Sequence[Any]], tuple[Any, ...]]
    absent: tuple[Any, ...]
    others: Sequence[tuple[int, tuple[str, ...]]]
    problem: str


class TooManyColumnsError(Exception):
    """The input has more columns than are read."""


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
        *,
        most_columns: int,
        is_report: bool = False,
    ) -> None:
        self._most_columns = most_columns
        self.columns: list[str] = []
        self.dropped: list[str] = []
        self._wanted = columns
        self._is_report = is_report
        self._reserved = {folded(name) for name in reserved}
        self._taken: set[str] = set()
        self._plans: dict[_Keys, _Plan] = {}
        self._flat_plans: dict[_Keys, _Plan] = {}
        self._places: dict[str | int, int] = {}

    def is_row(self, item: dict[str, Any]) -> bool:
        """Whether an object names one of the job's columns."""
        keys = tuple(item)
        named = any(place != ABSENT for place in places(keys, self._wanted)) or self._nested(keys)
        return not self._wanted or bool(named)

    def row(self, number: int, line: int, item: Any, text: bytes) -> Row:
        """Return the row for an element of the input, of which `text` is the text.

        Raises:
            TooManyColumnsError: it brings more columns than are read.

        """
        if item.__class__ is not dict:
            blank = ("",) * len(self._wanted)
            return Row(number, line, blank, [], f"is {_KINDS[type(item)]}, not an object")
        keys = tuple(item)
        # Each key has its colon, so that it takes a closer look only where there are others.
        if text.count(b":") != len(keys) and (twice := key_named_twice(text, item)):
            blank = ("",) * len(self._wanted)
            return Row(number, line, blank, [], f"names {quoted(twice)} twice: which is meant?")
        try:
            plan = self._plans[keys]
        except KeyError:
            plan = self._planned(self._plans, keys)
        if plan.values is None:
            values = [*item.values()]
        else:
            if plan.nested:
                for column, outer in plan.nested:
                    item = lifted(item, column, outer)
                keys = tuple(item)
                plan = self._flat_plans.get(keys) or self._planned(self._flat_plans, keys)
            values = plan.values(item) if plan.values else [*item.values()]
            if plan.others:
                return self._checked(self._agreed(number, line, item, plan, values))
        cells = plan.cells(values) + plan.absent
        row = _new_row(Row, (number, line, cells, values, plan.problem, None))
        for value in values:
            if value.__class__ is not str:
                return self._checked(row)
        return row

    def _agreed(self, number: int, line: int, item: dict[str, Any], plan: _Plan, values: list[Any]) -> Row:
        """Settle what an object says of a column in two places: both the same, or the row has a problem."""
        cells = [*plan.cells(values), *plan.absent]
        problems = [plan.problem] if plan.problem else []
        for place, path in plan.others:
            cell, other = cells[place], inside(item, path)
            if isinstance(other, str) and (cell is None or isinstance(cell, str)):
                column = self._wanted[place]
                cells[place], problem = agreed(column.name, cell or "", ".".join(path), other)
                problems += [problem] if problem else []
        return Row(number, line, tuple(cells), values, "; ".join(problems))

    def _checked(self, row: Row) -> Row:
        """Return the row with cells that are texts, and values that can be written as JSON again."""
        problems = [row.problem] if row.problem else []
        cells: list[Any] = list(row.cells)
        for place, (column, cell) in enumerate(zip(self._wanted, cells, strict=True)):
            if column.lenient and isinstance(cell, int | float):
                cells[place] = str(cell)
            elif cell.__class__ is not str:
                cells[place] = ""
                if cell is not None and not column.lenient:
                    problems.append(f"{column.name} is {_KINDS[type(cell)]}, not a string")
        values = list(row.values)
        for place, value in enumerate(values):
            if value is not None and value.__class__ is not str and (problem := _uncarried(value)):
                values[place] = None
                if not self._is_lenient(place):
                    problems.append(f"{quoted(self.columns[place])} {problem}")
        return row._replace(cells=tuple(cells), values=values, problem="; ".join(problems))

    def _is_lenient(self, place: int) -> bool:
        """Whether a column of the input is one of the job's that may hold any value."""
        return any(column.lenient and self._places.get(at) == place for at, column in enumerate(self._wanted))

    def _planned(self, plans: dict[_Keys, _Plan], keys: _Keys) -> _Plan:
        """Make the plan for some keys and keep it among `plans`."""
        if len(plans) >= _MOST_PLANS:
            plans.clear()
        nested = [] if plans is self._flat_plans else self._nested(keys)
        plan = _Plan(nested, list, tuple, (), (), "") if nested else self._flat_plan(keys)
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

    def _flat_plan(self, keys: _Keys) -> _Plan:
        wanted = places(keys, self._wanted)
        is_report = self._reserved and self._reserved <= set(map(folded, keys))
        matched = {folded(keys[place]) for place in wanted if place != ABSENT}
        free: list[str] = []
        problems: list[str] = []
        carried: dict[int, str] = {}
        for place, key in enumerate(keys):
            if place in wanted:
                carried[self._place(wanted.index(place), key)] = key
            elif folded(key) in matched:
                problems.append(f"names {quoted(key)} twice")
            elif is_report and folded(key) in self._reserved:
                if folded(key) not in map(folded, self.dropped):
                    self.dropped.append(key.strip())
            else:
                free.append(key)
                carried[self._place(key, key)] = key
                if len(self.columns) > self._most_columns:
                    raise TooManyColumnsError
        for column, place in zip(self._wanted, wanted, strict=True):
            if place == ABSENT and column.required and (meant := meant_for(column, free)):
                problems.append(f"{column.name} is missing; {quoted(meant)} was probably meant")
        own = tuple(map(carried.get, range(max(carried, default=-1) + 1)))
        cells, absent = picker(
            [ABSENT if at == ABSENT else self._places[number] for number, at in enumerate(wanted)]
        )
        others = [] if self._is_report else self._others(keys, wanted)
        values = None if own == keys and not others else _values_getter(own)
        return _Plan([], values, cells, absent, others, "; ".join(problems))

    def _others(self, keys: _Keys, wanted: Sequence[int]) -> list[tuple[int, tuple[str, ...]]]:
        """Return where the values of columns are found a second time; see `_Plan`."""
        found: list[tuple[int, tuple[str, ...]]] = []
        for number, (column, place) in enumerate(zip(self._wanted, wanted, strict=True)):
            if place == ABSENT:
                continue
            names = [folded(name) for name in spellings(column)]
            found += [
                (number, (key,))
                for at, key in enumerate(keys)
                if at not in wanted and folded(key) in names and folded(key) != folded(keys[place])
            ]
            outer = column.path[:1]
            found += [
                (number, (key, *column.path[1:]))
                for at, key in enumerate(keys)
                if len(column.path) > 1 and at not in wanted and folded(key) == folded(outer[0])
            ]
        return found

    def _place(self, identity: str | int, name: str) -> int:
        """Return the place of a column of the input; a number stands for one of the job's."""
        place = self._places.get(identity)
        if place is None:
            place = self._places[identity] = len(self.columns)
            # A job's column keeps its name, whatever a report calls its own.
            reserved = () if isinstance(identity, int) else self._reserved
            self.columns.append(unused(name, place + 1, self._taken, reserved))
            self._taken.add(self.columns[place])
        return place


def _values_getter(own: Sequence[str | None]) -> Callable[[dict[str, Any]], list[Any]]:
    """Return a function that takes the values of the keys `own` from an object."""
    return lambda item: [None if key is None else item[key] for key in own]


def _uncarried(value: Any) -> str:
    """Say why a value cannot be written as JSON and read again unchanged; empty if it can."""
    if isinstance(value, dict | list):
        try:
            orjson.dumps(value)
        except TypeError:
            return "is nested too deep to be carried"
    if _has_large_number(value):
        return "is a number too large to be carried (write it as a string)"
    return ""


def _has_large_number(value: Any) -> bool:
    """Whether a number is among the values whose last digits would be lost: parsers make a float of it."""
    if isinstance(value, dict | list):
        return any(map(_has_large_number, value.values() if isinstance(value, dict) else value))
    return isinstance(value, int | float) and abs(value) >= _TOO_LARGE
