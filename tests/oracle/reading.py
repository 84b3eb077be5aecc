"""What the oracle reads: catalogue text, event text, numbers, paths and conditions. Shares no code with the engine.

A number stays the text that was written (`Num`) until it is needed, and then becomes a `Fraction`: nothing here
can lose a digit.
"""

import json
import re
from fractions import Fraction
from typing import Any

import yaml

TINY = Fraction(1, 10**12)
"""The twelfth digit after the point."""


class Num(str):
    """The text of a number that was written as a number (and not as a text) in JSON or YAML."""


class Loader(yaml.SafeLoader):
    """YAML whose numbers and times stay the text that was written."""


Loader.add_constructor("tag:yaml.org,2002:int", lambda loader, node: Num(loader.construct_scalar(node)))
Loader.add_constructor("tag:yaml.org,2002:float", lambda loader, node: Num(loader.construct_scalar(node)))
Loader.add_constructor("tag:yaml.org,2002:timestamp", lambda loader, node: loader.construct_scalar(node))


def read_book(catalogue: str | dict[str, Any]) -> dict[str, Any]:
    """The catalogue as plain mappings, from its YAML (or JSON) text or from mappings (which hold no floats)."""
    text = json.dumps(catalogue) if isinstance(catalogue, dict) else catalogue
    return yaml.load(text, Loader=Loader) or {}


def read_event(event: Any) -> dict[str, Any]:
    """One CloudEvent, from its JSON text (numbers keep their text) or from a dict that is written as JSON first."""
    if isinstance(event, dict):
        event = json.dumps(event)
    return json.loads(event, parse_float=Num, parse_int=Num)


_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")


def number(text: Any) -> Fraction | None:
    """The exact number that a text (or a Num) says; None where it says none."""
    if not isinstance(text, str) or not _NUMBER.fullmatch(text):
        return None
    return Fraction(text)


def amount(text: Any) -> Fraction:
    """A number of the catalogue, which must be one."""
    found = number(text)
    if found is None:
        raise ValueError(f"found {text!r} in the catalogue, expected a number")
    return found


def fits(value: Fraction) -> bool:
    """Whether a number has at most 12 digits after the point and 26 before."""
    return (value / TINY).denominator == 1 and abs(value) < 10**26


def show(value: Fraction) -> str:
    """The plain decimal text without noughts at the end; the value must have at most 12 digits after the point."""
    units = value / TINY
    if units.denominator != 1:
        raise ValueError(f"{value} has more than 12 digits after the point")
    digits = f"{abs(units.numerator):013d}"
    text = f"{digits[:-12]}.{digits[-12:]}".rstrip("0").rstrip(".")
    return "-" + text if units < 0 else text


def half_up(value: Fraction, unit: Fraction) -> Fraction:
    """`value` to a whole multiple of `unit`; a half goes away from nought."""
    count = abs(value) / unit + Fraction(1, 2)
    whole = (count.numerator // count.denominator) * unit
    return -whole if value < 0 else whole


def towards(value: Fraction, unit: Fraction) -> Fraction:
    """`value` to a whole multiple of `unit`, towards nought."""
    whole = abs(value) // unit * unit
    return -whole if value < 0 else whole


def away(value: Fraction, unit: Fraction) -> Fraction:
    """`value` to a whole multiple of `unit`, away from nought."""
    whole = -(-abs(value) // unit) * unit
    return -whole if value < 0 else whole


def half_even(value: Fraction, unit: Fraction) -> Fraction:
    """`value` to a whole multiple of `unit`; a half goes to the even neighbour."""
    return round(value / unit) * unit


def name_of(value: Any) -> str | None:
    """The text by which a value of an event is grouped and compared; None for null and absent.

    A number counts by what it says, not by how it is written: 1, 1.0 and 1e0 are the same."""
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Num):
        found = Fraction(value)
        return show(found) if fits(found) else str(value)
    if isinstance(value, str):
        return value
    return json.dumps(value)


_STEP = re.compile(r"\.([A-Za-z_][\w-]*)|\[(\d+)\]|\['([^']*)'\]|\[\"([^\"]*)\"\]")


def look(data: Any, path: str) -> Any:
    """What stands at a JSONPath of names and positions; None where nothing does."""
    for name, position, single, double in _STEP.findall(path[1:]):
        if position:
            found = isinstance(data, list) and int(position) < len(data)
            data = data[int(position)] if found else None
        else:
            key = name or single or double
            data = data.get(key) if isinstance(data, dict) else None
    return data


def passes(where: dict[str, Any], data: Any) -> bool:
    """Whether an event's data meets every condition of a meter's `where`."""
    return all(_meets(look(data, path), condition) for path, condition in where.items())


def _meets(value: Any, condition: Any) -> bool:
    if isinstance(condition, dict):
        return all(_meets_one(value, word, bound) for word, bound in condition.items())
    if isinstance(condition, list):
        return any(_meets(value, one) for one in condition)
    return name_of(value) == name_of(condition)


def _meets_one(value: Any, word: str, bound: Any) -> bool:
    if word == "exists":
        return (value is not None) == bound
    if word == "not":
        return not _meets(value, bound)
    found, limit = number(value), amount(bound)
    if found is None:
        return False
    return {"gt": found > limit, "gte": found >= limit, "lt": found < limit, "lte": found <= limit}[word]
