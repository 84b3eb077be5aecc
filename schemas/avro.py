"""Line items, invoices and alerts in Avro: schemas made from the very types of `schemas.output`, and values by them.

A decimal is `bytes` with the logical type decimal(38, 12), a time a `long` with timestamp-micros, a field that may be
null a union with null first. Words of a list (`kind`, `status`) are strings: an Avro enum could not grow. Both ways are
exact: what was made into Avro comes back letter by letter.
"""

import inspect
from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import NODEFAULT
from msgspec import inspect as types

from schemas import topics
from schemas.numbers import DIGITS, SCALE, format_scaled, parse_scaled
from schemas.output import Alert, Invoice, LineItem, ReconciliationAlert
from schemas.times import format_time, parse_time

NAMESPACE: Final = "taximeter"
SCHEMA_TYPES: Final[dict[str, tuple[type, ...]]] = {
    topics.LINE_ITEMS: (LineItem,),
    topics.INVOICES: (Invoice,),
    topics.ALERTS: (Alert, ReconciliationAlert),
}
"""Topic -> what stands there. Several: a union, told apart by their names."""

_DECIMAL: Final = {"type": "bytes", "logicalType": "decimal", "precision": DIGITS, "scale": SCALE}
_TIME: Final = {"type": "long", "logicalType": "timestamp-micros"}
_DECIMALS: Final = {
    *("quantity", "amount", "unit_amount", "flat_amount", "from", "up_to", "package_size", "packages"),
    *("subtotal", "minimum", "discounts", "discount", "credits", "credit", "taxes", "tax", "total", "rate", "base"),
    *("spend", "threshold", "level"),
}
_NESTED: Final = frozenset({"type", "fields", "items", "values"})
_TIMES: Final = {"start", "end", "first_event", "last_event", "tick"}


class Form(NamedTuple):
    """How one type stands in Avro: its schema, and the ways there (from a value of `schemas.output`) and back (to what
    its JSON holds). In between decimals are bytes and times whole numbers, as on the wire."""

    schema: Any
    there: Callable[[Any], Any]
    back: Callable[[Any], Any]


def _to_bytes(text: str) -> bytes:
    value = parse_scaled(text)
    return value.to_bytes((value + (value < 0)).bit_length() // 8 + 1, "big", signed=True)


def _from_bytes(value: bytes) -> str:
    return format_scaled(int.from_bytes(value, "big", signed=True))


def _same(value: Any) -> Any:
    return value


# The ends of periods are few and come with every line.
DECIMAL: Final = Form(_DECIMAL, _to_bytes, _from_bytes)
TIME: Final = Form(_TIME, lru_cache(maxsize=4096)(parse_time), lru_cache(maxsize=4096)(format_time))


def _form(kind: types.Type, name: str, seen: set[str]) -> Form:
    """`name` is the field's in JSON; a record that was `seen` is named and not told again."""
    if isinstance(kind, types.UnionType):
        inner = _form(next(one for one in kind.types if not isinstance(one, types.NoneType)), name, seen)
        return Form(
            ["null", inner.schema],
            lambda value: None if value is None else inner.there(value),
            lambda value: None if value is None else inner.back(value),
        )
    if isinstance(kind, types.StructType):
        return _record(kind, seen)
    if isinstance(kind, types.ListType):
        item = _form(kind.item_type, name, seen)
        return Form(
            {"type": "array", "items": item.schema},
            lambda values: [item.there(value) for value in values],
            lambda values: [item.back(value) for value in values],
        )
    if isinstance(kind, types.DictType):
        return Form({"type": "map", "values": _form(kind.value_type, "", seen).schema}, _same, _same)
    if isinstance(kind, types.StrType) and name in _DECIMALS:
        return DECIMAL
    if isinstance(kind, types.StrType) and name in _TIMES:
        return TIME
    plain = {types.StrType: "string", types.LiteralType: "string", types.IntType: "long", types.BoolType: "boolean"}
    return Form(plain[type(kind)], _same, _same)


def _record(kind: types.StructType, seen: set[str]) -> Form:
    name = f"{NAMESPACE}.{kind.cls.__name__}"
    known = name in seen
    seen.add(name)
    forms = [(field, _form(field.type, field.encode_name, seen)) for field in kind.fields]
    fields = [{"name": field.encode_name, "type": form.schema, **_default(field, form.schema)} for field, form in forms]
    doc = inspect.cleandoc(kind.cls.__doc__ or "")
    ways = [(field.name, field.encode_name, form) for field, form in forms]
    return Form(
        name if known else {"type": "record", "name": name, "doc": doc, "fields": fields},
        lambda value: {there: form.there(getattr(value, here)) for here, there, form in ways},
        lambda datum: {there: form.back(datum[there]) for _, there, form in ways},
    )


def _default(field: types.Field, schema: Any) -> dict[str, Any]:
    """What a reader takes where a writer did not know the field."""
    if isinstance(schema, list):
        return {"default": None}
    if field.default_factory is not NODEFAULT:
        return {"default": []}
    if field.default is not NODEFAULT:
        return {"default": "\0" if schema is _DECIMAL else field.default}
    return {}


@cache
def _forms(topic: str) -> tuple[list[type], list[Form]]:
    seen: set[str] = set()
    kinds = list(SCHEMA_TYPES[topic])
    return kinds, [_form(types.type_info(kind), "", seen) for kind in kinds]


def schema_of(topic: str) -> Any:
    """The Avro schema of a topic's values, as plain JSON. Raises: KeyError where the topic is never in Avro."""
    _, forms = _forms(topic)
    return forms[0].schema if len(forms) == 1 else [form.schema for form in forms]


def bare(schema: Any) -> Any:
    """A schema without its logical types: what is read and written by it is what stands on the wire.

    Raises: ValueError where it has a decimal of another scale than ours, or another unit of time."""
    if isinstance(schema, list):
        return [bare(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if "logicalType" in schema:
        if schema not in (_DECIMAL, _TIME):
            raise ValueError(f"found the logical type {schema}, expected {_DECIMAL} or {_TIME}")
        return schema["type"]
    return {key: bare(value) if key in _NESTED else value for key, value in schema.items()}


def to_datum(topic: str, value: bytes) -> Any:
    """A value as JSON -> what an Avro writer takes, with the name of its record where there is a choice.

    Raises: msgspec.MsgspecError, schemas.numbers.NumberError, schemas.times.TimeError."""
    kinds, forms = _forms(topic)
    number = 0
    if len(kinds) > 1:
        number = int(msgspec.json.decode(value, type=_Kinded).kind == "reconciliation")
    datum = forms[number].there(msgspec.json.decode(value, type=kinds[number]))
    return datum if len(kinds) == 1 else (forms[number].schema["name"], datum)


def from_datum(topic: str, datum: Any) -> bytes:
    """What an Avro reader gives -> the value as JSON. Raises: msgspec.ValidationError, KeyError."""
    kinds, forms = _forms(topic)
    number = int(len(kinds) > 1 and datum["kind"] == "reconciliation")
    return msgspec.json.encode(msgspec.convert(forms[number].back(datum), kinds[number]))


class _Kinded(msgspec.Struct):
    kind: str
