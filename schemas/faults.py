"""Reads plain values (from YAML or JSON) into documents and collects *every* fault with its path.

`read(type, value, path, faults)` follows the annotations of a msgspec struct, so a document's class is the one
place that says what it holds; its JSON Schema comes from the same class.
"""

import difflib
import re
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from functools import cache
from typing import Any, NamedTuple

import msgspec
from msgspec import inspect

from schemas.numbers import NumberError, format_scaled, parse_scaled
from schemas.times import TimeError, from_datetime, parse_time, to_datetime

_WHOLE = re.compile(r"-?\d{1,18}\Z", re.ASCII)


class Fault(NamedTuple):
    """One thing that is wrong: where (`price_books.launch.charges.tokens.meter`) and what."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path or '(document)'}: {self.message}"


class Faults(list[Fault]):
    """All the faults of one document, in the order in which they stand in it."""

    def add(self, path: str, message: str) -> None:
        """Notes one fault."""
        self.append(Fault(path, message))


class Number:
    """A number of a document, kept as its text, so that no float ever stands between."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Number) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __str__(self) -> str:
        return self.text


_type_info = cache(inspect.type_info)  # it takes longer than the reading

MISSING: Any = object()
"""What `read` returns for a value that could not be read (its fault is noted)."""


def read(kind: Any, value: Any, path: str, faults: Faults) -> Any:
    """`value` as an instance of `kind` (a msgspec struct or a type that one may hold), or `MISSING`."""
    return _read(_type_info(kind), value, path, faults)


def join(path: str, key: str | int) -> str:
    """The path of a key or position below `path`."""
    if isinstance(key, int):
        return f"{path}[{key}]"
    return f"{path}.{key}" if path else key


def unknown(name: str, known: list[str]) -> str:
    """Says that `name` is not known, what is, and what was probably meant."""
    close = difflib.get_close_matches(name, known, 1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    return f"found {name!r}{hint}, expected one of {', '.join(sorted(known)) or 'nothing'}"


def describe(value: Any) -> str:
    """A value as a fault's message shows it."""
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    text = str(value) if isinstance(value, Number) else str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _read(kind: inspect.Type, value: Any, path: str, faults: Faults) -> Any:
    if isinstance(kind, inspect.StructType):
        return _read_struct(kind, value, path, faults)
    if isinstance(kind, inspect.UnionType):
        return _read_union(kind, value, path, faults)
    reader = _READERS.get(type(kind))
    if reader is None:
        raise TypeError(f"{kind} is not read by schemas.faults")
    return reader(kind, value, path, faults)


def _read_struct(kind: inspect.StructType, value: Any, path: str, faults: Faults) -> Any:
    if not isinstance(value, dict):
        return _wrong(path, value, "a mapping", faults)
    fields = {field.encode_name: field for field in kind.fields}
    before = len(faults)
    for key in value:
        if key not in fields:
            faults.add(join(path, str(key)), f"unknown key: {unknown(str(key), list(fields))}")
    found: dict[str, Any] = {}
    for name, field in fields.items():
        if name in value:
            found[field.name] = _read(field.type, value[name], join(path, name), faults)
        elif field.required:
            faults.add(join(path, name), "missing")
    if hasattr(kind.cls, "find_faults"):
        kind.cls.find_faults(value, path, faults)  # what its types cannot say
    return kind.cls(**found) if len(faults) == before else MISSING


def _read_union(kind: inspect.UnionType, value: Any, path: str, faults: Faults) -> Any:
    if value is None and any(isinstance(t, inspect.NoneType) for t in kind.types):
        return None
    choices = [t for t in kind.types if not isinstance(t, inspect.NoneType)]
    if len(choices) == 1:
        return _read(choices[0], value, path, faults)
    for choice in choices:
        fits = _SHAPES.get(type(choice))
        if fits is None or fits(value):
            return _read(choice, value, path, faults)
    return _wrong(path, value, " or ".join(_NAMES.get(type(c), "a value") for c in choices), faults)


def _read_text(kind: Any, value: Any, path: str, faults: Faults) -> Any:
    if not isinstance(value, str):
        return _wrong(path, value, "a text", faults)
    if kind.pattern and (not re.search(kind.pattern, value) or value.endswith("\n")):  # `$` lets a line's end through
        return _wrong(path, value, f"a text that matches {kind.pattern}", faults)
    if kind.min_length is not None and len(value) < kind.min_length:
        return _wrong(path, value, f"at least {kind.min_length} characters", faults)
    if kind.max_length is not None and len(value) > kind.max_length:
        return _wrong(path, value, f"at most {kind.max_length} characters", faults)
    return value


def _read_bool(_: Any, value: Any, path: str, faults: Faults) -> Any:
    return value if isinstance(value, bool) else _wrong(path, value, "true or false", faults)


def _read_int(kind: Any, value: Any, path: str, faults: Faults) -> Any:
    try:
        text = value.text if isinstance(value, Number) else value
        if not isinstance(text, str) or not _WHOLE.match(text):
            raise ValueError
        number = int(text)
    except ValueError:
        return _wrong(path, value, "a whole number", faults)
    if (kind.ge is not None and number < kind.ge) or (kind.le is not None and number > kind.le):
        return _wrong(path, value, f"a whole number from {kind.ge} to {kind.le}", faults)
    return number


def _read_decimal(_: Any, value: Any, path: str, faults: Faults) -> Any:
    text = value.text if isinstance(value, Number) else value
    if not isinstance(text, str):
        return _wrong(path, value, 'a decimal number such as "12.5"', faults)
    try:
        return Decimal(format_scaled(parse_scaled(text)))
    except NumberError as error:
        faults.add(path, str(error))
        return MISSING


def _read_time(_: Any, value: Any, path: str, faults: Faults) -> Any:
    if isinstance(value, datetime) and value.tzinfo is not None:
        return to_datetime(from_datetime(value))
    if not isinstance(value, str):
        return _wrong(path, value, "a time such as 2026-11-01T00:00:00Z", faults)
    try:
        return to_datetime(parse_time(value))
    except TimeError as error:
        faults.add(path, str(error))
        return MISSING


def _read_literal(kind: Any, value: Any, path: str, faults: Faults) -> Any:
    if isinstance(value, str) and value in kind.values:
        return value
    if not isinstance(value, str):
        return _wrong(path, value, "one of " + ", ".join(map(str, kind.values)), faults)
    faults.add(path, unknown(value, [str(v) for v in kind.values]))
    return MISSING


def _read_list(kind: Any, value: Any, path: str, faults: Faults) -> Any:
    if not isinstance(value, list):
        return _wrong(path, value, "a list", faults)
    if kind.min_length is not None and len(value) < kind.min_length:
        return _wrong(path, value, f"at least {kind.min_length} item(s)", faults)
    return [_read(kind.item_type, item, join(path, i), faults) for i, item in enumerate(value)]


def _read_dict(kind: Any, value: Any, path: str, faults: Faults) -> Any:
    if not isinstance(value, dict):
        return _wrong(path, value, "a mapping", faults)
    found: dict[str, Any] = {}
    for key, item in value.items():
        below = join(path, str(key))
        if _read(kind.key_type, key, below, faults) is not MISSING:
            found[key] = _read(kind.value_type, item, below, faults)
    return found


def _wrong(path: str, value: Any, expected: str, faults: Faults) -> Any:
    faults.add(path, f"found {describe(value)}, expected {expected}")
    return MISSING


_READERS: dict[type, Callable[[Any, Any, str, Faults], Any]] = {
    inspect.StrType: _read_text,
    inspect.BoolType: _read_bool,
    inspect.IntType: _read_int,
    inspect.DecimalType: _read_decimal,
    inspect.DateTimeType: _read_time,
    inspect.LiteralType: _read_literal,
    inspect.ListType: _read_list,
    inspect.DictType: _read_dict,
    inspect.AnyType: lambda _k, value, _p, _f: value,
}
_SHAPES: dict[type, Callable[[Any], bool]] = {
    inspect.StructType: lambda v: isinstance(v, dict),
    inspect.DictType: lambda v: isinstance(v, dict),
    inspect.ListType: lambda v: isinstance(v, list),
    inspect.BoolType: lambda v: isinstance(v, bool),
    inspect.IntType: lambda v: isinstance(v, Number),
    inspect.DecimalType: lambda v: isinstance(v, str | Number),
    inspect.StrType: lambda v: isinstance(v, str),
    inspect.DateTimeType: lambda v: isinstance(v, datetime | str),
}
_NAMES: dict[type, str] = {
    inspect.StructType: "a mapping",
    inspect.DictType: "a mapping",
    inspect.ListType: "a list",
    inspect.BoolType: "true or false",
    inspect.IntType: "a whole number",
    inspect.DecimalType: "a decimal number",
    inspect.StrType: "a text",
    inspect.DateTimeType: "a time",
}


def encode_document(document: Any) -> bytes:
    """A document as JSON, its keys in the order written: decimals as texts, numbers of free form as JSON numbers."""
    return _ENCODER.encode(document)


def _encode_number(value: Any) -> Any:
    if not isinstance(value, Number):
        raise TypeError(f"{type(value)} does not stand in a document")
    try:
        return msgspec.Raw(format_scaled(parse_scaled(value.text)).encode())
    except NumberError:
        return value.text


_ENCODER = msgspec.json.Encoder(enc_hook=_encode_number)
