"""`where`: which events a meter counts. One condition for each path; all must hold.

A condition is a value (texts compare with texts, numbers with numbers, exactly, flags with flags), a list of values
of which one must be it, or a mapping of `not` (a value or a list), `gt`, `gte`, `lt`, `lte` (numbers) and `exists`.
JSON null is the same as absent; what is absent satisfies only `not` and `exists: false`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rating.columns import FOUND, PathColumn, Value
from schemas.faults import Faults, Number, describe, join, unknown
from schemas.numbers import NumberError, parse_scaled

_COMPARE: dict[str, Callable[[int, int], bool]] = {
    "gt": lambda found, bound: found > bound,
    "gte": lambda found, bound: found >= bound,
    "lt": lambda found, bound: found < bound,
    "lte": lambda found, bound: found <= bound,
}
_KEYS = ["not", "exists", *_COMPARE]


@dataclass(frozen=True, slots=True)
class Condition:
    """One path's condition, compiled: what a present value must pass, and whether an absent one does."""

    path: str
    any_of: frozenset[Value] | None
    none_of: frozenset[Value]
    bounds: tuple[tuple[str, int], ...]
    exists: bool | None

    def absent(self) -> bool:
        """Whether a row without the value passes."""
        return self.any_of is None and not self.bounds and self.exists is not True

    def holds(self, value: Value) -> bool:
        """Whether a present value passes."""
        if self.exists is False or value in self.none_of or (self.any_of is not None and value not in self.any_of):
            return False
        if not self.bounds:
            return True
        return value.kind == "number" and all(_COMPARE[name](value.value, bound) for name, bound in self.bounds)

    def mask(self, column: PathColumn) -> NDArray[np.bool_]:
        """Which rows pass."""
        codes, values = column.coded()
        passes = np.array([self.holds(value) for value in values] + [self.absent()], dtype=np.bool_)
        return passes[codes]  # code -1 (absent) reads the last one


def read_condition(path: str, value: Any, where: str, faults: Faults) -> Condition | None:
    """The compiled condition, or None with its faults noted."""
    before = len(faults)
    if isinstance(value, dict):
        any_of = None
        for key in value:
            if key not in _KEYS:
                faults.add(join(where, str(key)), f"unknown key: {unknown(str(key), _KEYS)}")
        none_of = _values(value["not"], join(where, "not"), faults) if "not" in value else frozenset()
        bounds = tuple((k, _number(value[k], join(where, k), faults)) for k in _COMPARE if k in value)
        exists = value.get("exists")
        if exists is not None and not isinstance(exists, bool):
            faults.add(join(where, "exists"), f"found {describe(exists)}, expected true or false")
        if not value:
            faults.add(where, "found an empty condition, expected a value, a list or a mapping such as {not: failed}")
    else:
        any_of, none_of, bounds, exists = _values(value, where, faults), frozenset(), (), None
    return Condition(path, any_of, none_of, bounds, exists) if len(faults) == before else None


def _values(value: Any, where: str, faults: Faults) -> frozenset[Value]:
    found: set[Value] = set()
    items = value if isinstance(value, list) else [value]
    if not items:
        faults.add(where, "found an empty list, expected at least one value")
    for item in items:
        if isinstance(item, bool):
            found.add(Value("flag", item))
        elif isinstance(item, Number):
            found.add(Value("number", _number(item, where, faults)))
        elif isinstance(item, str):
            found.add(Value("text", item))
        else:
            faults.add(where, f"found {describe(item)}, expected a text, a number, true or false (null: exists: false)")
    return frozenset(found)


def _number(value: Any, where: str, faults: Faults) -> int:
    text = value.text if isinstance(value, Number) else value
    if isinstance(text, str):
        try:
            return parse_scaled(text)
        except NumberError as error:
            faults.add(where, str(error))
    else:
        faults.add(where, f"found {describe(value)}, expected a number")
    return FOUND
