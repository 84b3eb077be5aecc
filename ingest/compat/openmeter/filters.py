"""Filters of a meter query, in every form that clients send: maps, deep objects, and a Python mapping's own text.

The Python SDK writes `filterGroupBy` as `str(dict)`: single quotes, no JSON. It is read as a literal, never evaluated.
"""

import ast
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from ingest.compat.openmeter.answers import bad, decode_json, show

Filters = dict[str, frozenset[str | None]]
"""Dimension -> the values of which one must be there."""

_DEEP: Final = re.compile(r"filterGroupBy\[([^\[\]]+)\](?:\[\d*\])?\Z")
_LITERAL_MAX: Final = 8192


def read_filters(pairs: Iterable[tuple[str, str]]) -> Filters:
    """The filters among a query's parameters. Raises: Refusal."""
    found: dict[str, list[str]] = {}
    advanced: Filters = {}
    for name, text in pairs:
        deep = _DEEP.match(name)
        if deep is not None:
            found.setdefault(deep[1], []).append(text)
        elif name == "filterGroupBy" and text:
            for dimension, values in _map(_literal(text), name).items():
                found.setdefault(dimension, []).extend(values)
        elif name == "advancedMeterGroupByFilters" and text:
            advanced = read_advanced(decode_json(text, name))
    return both({name: frozenset(values) for name, values in found.items()}, advanced)


def read_map(value: Any, name: str) -> Filters:
    """Filters as a JSON map of a text or of texts. Raises: Refusal."""
    return {} if value is None else {key: frozenset(texts) for key, texts in _map(value, name).items()}


def read_advanced(value: Any) -> Filters:
    """Filters with `$eq`, `$in`, `$and` and `$or` of those. Raises: Refusal."""
    name = "advancedMeterGroupByFilters"
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise bad(name, f"found {show(value)}, expected an object")
    return {dimension: _values(condition, f"{name}.{dimension}") for dimension, condition in value.items()}


def both(one: Filters, other: Filters) -> Filters:
    """What passes the filters of both."""
    return {
        name: one[name] & other[name] if name in one and name in other else one.get(name, other.get(name, frozenset()))
        for name in one.keys() | other.keys()
    }


def _values(condition: Any, name: str, depth: int = 0) -> frozenset[str | None]:
    """The texts that pass a condition. Raises: Refusal where it is not told by a list of texts."""
    if not isinstance(condition, dict) or not condition or depth > 8:
        raise bad(name, f"found {show(condition)}, expected $eq or $in")
    sets = [_passing(operator, value, name, depth) for operator, value in condition.items() if value is not None]
    if not sets:
        raise bad(name, f"found {show(condition)}, expected $eq or $in")
    return frozenset.intersection(*sets)


def _passing(operator: str, value: Any, name: str, depth: int) -> frozenset[str | None]:
    if operator == "$eq" and isinstance(value, str):
        return frozenset({value})
    if operator == "$in" and _is_texts(value):
        return frozenset(value)
    if operator in ("$and", "$or") and isinstance(value, list) and value:
        parts = [_values(part, name, depth + 1) for part in value]
        return frozenset.intersection(*parts) if operator == "$and" else frozenset.union(*parts)
    raise bad(
        name, f"found {operator[:20]} {show(value)}, expected $eq with a text, $in with texts, $and or $or of such"
    )


def _map(value: Any, name: str) -> dict[str, list[str]]:
    """Dimension -> its values. Raises: Refusal."""
    if not isinstance(value, Mapping):
        raise bad(name, f"found {_told(value)}, expected a map of dimensions to texts")
    found: dict[str, list[str]] = {}
    for dimension, one in value.items():
        texts = one if isinstance(one, list | tuple) else [one]
        if not isinstance(dimension, str) or not _is_texts(list(texts)):
            raise bad(name, f"{_told(dimension)}: found {_told(one)}, expected a text or a list of texts")
        found[dimension] = list(texts)
    return found


def _literal(text: str) -> Any:
    """A JSON text's value, or a Python literal's. Raises: Refusal."""
    if len(text) > _LITERAL_MAX:
        raise bad("filterGroupBy", f"found {len(text)} characters, expected at most {_LITERAL_MAX}")
    try:
        return decode_json(text, "filterGroupBy")
    except Exception as error:
        try:
            return ast.literal_eval(text)
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            raise error from None


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) and _is_unicode(one) for one in value)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
        return True
    except UnicodeEncodeError:
        return False


def _told(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= 80 else text[:77] + "..."
