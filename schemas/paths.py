"""Paths into an event's `data`, and the columns that hold what they find.

A path is a JSONPath of names and positions: `$.tokens`, `$.usage.output`, `$['odd name'][0]`.
`extract` reads many events at once. The type of the column says what it holds:

- `decimal128(38, 12)`: every value is a JSON number (or absent) and fits exactly;
- `dictionary<int32, string>`: every value is a JSON string (or absent), decoded;
- `string`: anything else, each value as its JSON text.

JSON `null` is the same as absent: Arrow null in all three.
"""

import re
from collections.abc import Sequence
from typing import Any, Final

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from schemas.numbers import DIGITS, SCALE, NumberError, format_scaled, parse_scaled

DECIMAL: Final = pa.decimal128(DIGITS, SCALE)
TEXTS: Final = pa.dictionary(pa.int32(), pa.string())

_STEP = re.compile(r"\.([A-Za-z_][\w-]*)|\[(\d{1,6})\]|\['((?:[^'\\]|\\.)*)'\]|\[\"((?:[^\"\\]|\\.)*)\"\]", re.ASCII)


class PathError(ValueError):
    """A text that is no path; the message says where it goes wrong."""


def parse_path(text: str) -> tuple[str | int, ...]:
    """The steps of a path: `$.a[0]` -> ("a", 0). Raises: PathError."""
    if not text.startswith("$"):
        raise PathError(f"found {text[:60]!r}, expected a path that starts with $, such as $.tokens")
    steps: list[str | int] = []
    at = 1
    while at < len(text):
        match = _STEP.match(text, at)
        if match is None:
            raise PathError(
                f"found {text[at : at + 20]!r} at character {at + 1} of {text[:60]!r}, expected .name or [0]"
            )
        if match[2] is not None:
            steps.append(int(match[2]))
        else:
            name = match[1] if match[1] is not None else match[3] if match[3] is not None else match[4]
            steps.append(re.sub(r"\\(.)", r"\1", name))
        at = match.end()
    if not steps:
        raise PathError("found '$', expected a path to a value, such as $.tokens")
    return tuple(steps)


def scan_path(text: str, at: int) -> int:
    """Where the path ends that begins with the `$` at `at` (behind that `$`, where nothing follows that is a step)."""
    at += 1
    while (match := _STEP.match(text, at)) is not None:
        at = match.end()
    return at


class Extractor:
    """Reads a fixed set of paths out of many `data` texts; the column of each path comes back under its text."""

    def __init__(self, paths: Sequence[str]) -> None:
        """Raises: PathError."""
        self.paths = tuple(dict.fromkeys(paths))
        self._steps = [parse_path(path) for path in self.paths]
        names = list(dict.fromkeys(name for name, *_ in self._steps if isinstance(name, str) and not _ODD.search(name)))
        fields: list[tuple[str, Any, Any]] = [
            (f"f{i}", msgspec.Raw | msgspec.UnsetType, msgspec.field(default=msgspec.UNSET, name=name))
            for i, name in enumerate(names)
        ]
        self._tops = [names.index(name) if name in names else -1 for name, *_ in self._steps]
        self._decode = msgspec.json.Decoder(msgspec.defstruct("Data", fields)).decode
        self._names = [f"f{i}" for i in range(len(names))]

    def extract(self, data: Sequence[bytes | memoryview]) -> dict[str, pa.Array]:
        """A column for each path, as long as `data` (JSON objects that have been found valid)."""
        rows = [self._decode(text) for text in data]
        columns: dict[str, pa.Array] = {}
        for path, steps, top in zip(self.paths, self._steps, self._tops, strict=True):
            if top < 0:
                columns[path] = scalar_column([_descend(bytes(text).strip(), steps) for text in data])
                continue
            name = self._names[top]
            raws = [getattr(row, name) for row in rows]
            texts = [None if raw is msgspec.UNSET else bytes(raw) for raw in raws]
            if len(steps) > 1:
                texts = [None if text is None else _descend(text, steps[1:]) for text in texts]
            columns[path] = scalar_column(texts)
        return columns

    def extract_values(
        self, values: Sequence[dict[str, Any]], data: Sequence[bytes | memoryview]
    ) -> dict[str, pa.Array]:
        """The same as `extract(data)`, sooner, where the texts have been read already.

        `values` holds what each text says; in it, numbers with a fraction or an exponent are `msgspec.Raw`.
        """
        columns: dict[str, pa.Array] = {}
        for path, steps in zip(self.paths, self._steps, strict=True):
            found = [value.get(steps[0]) for value in values] if isinstance(steps[0], str) else [None] * len(values)
            for step in steps[1:]:
                found = [_step(value, step) for value in found]
            column = _value_column(found)
            if column is None:
                return self.extract(data)
            columns[path] = column
        return columns


def _step(value: Any, step: str | int) -> Any:
    if isinstance(value, dict):
        return value.get(step)
    return value[step] if isinstance(value, list) and isinstance(step, int) and step < len(value) else None


def _value_column(values: list[Any]) -> pa.Array | None:
    """The column of values of one kind, in the type that `scalar_column` would choose; None where it must."""
    kinds = set(map(type, values))
    kinds.discard(type(None))
    if kinds == {str}:
        return pa.array(values, TEXTS)
    if not kinds:
        return pa.nulls(len(values), TEXTS)
    if kinds == {int}:
        try:
            return pa.array(values, pa.int64()).cast(DECIMAL)
        except (OverflowError, pa.ArrowInvalid):
            return None
    if kinds <= {int, msgspec.Raw}:
        return scalar_column(
            [None if v is None else b"%d" % v if isinstance(v, int) else bytes(v) for v in values],
        )
    return None


def scalar_column(texts: Sequence[bytes | None]) -> pa.Array:
    """The column for JSON texts of one path, in the narrowest of the three types that holds them exactly."""
    texts = [None if text is None or text == b"null" else text for text in texts]
    leads = {text[0] for text in texts if text is not None}
    if not leads:
        return pa.nulls(len(texts), TEXTS)
    column = pa.array(texts, pa.binary()).cast(pa.string())
    if leads <= _NUMBER_LEADS:
        try:
            return pc.cast(column, DECIMAL)
        except pa.ArrowInvalid:
            return column
    if leads == {_QUOTE} and not any(b"\\" in text for text in texts if text is not None):
        return pc.utf8_slice_codeunits(column, 1, -1).dictionary_encode()
    return column


def number_of(text: str) -> int:
    """The scaled number of one JSON text: a number, or a string that holds one. Raises: NumberError."""
    if text.startswith('"'):
        text = msgspec.json.decode(text, type=str)
    elif not text or ord(text[0]) not in _NUMBER_LEADS:
        raise NumberError(f"found {text[:60]}, expected a number")
    return parse_scaled(text)


def text_of(text: str) -> str:
    """The text by which a JSON value is compared and grouped: strings decoded, numbers in their shortest form."""
    if text.startswith('"'):
        return msgspec.json.decode(text, type=str)
    if text and ord(text[0]) in _NUMBER_LEADS:
        try:
            return format_scaled(parse_scaled(text))
        except NumberError:
            return text
    return text


_ODD = re.compile(r'["\\\x00-\x1f]')
"""What a name of a struct's field must not hold; a path that begins with such a name is read step by step."""
_NUMBER_LEADS: Final = frozenset(b"-0123456789")
_QUOTE: Final = ord('"')
_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ARRAY = msgspec.json.Decoder(list[msgspec.Raw])


def _descend(text: bytes, steps: tuple[str | int, ...]) -> bytes | None:
    for step in steps:
        lead = text[:1]
        if isinstance(step, str):
            found = _OBJECT.decode(text).get(step) if lead == b"{" else None
        else:
            items = _ARRAY.decode(text) if lead == b"[" else []
            found = items[step] if step < len(items) else None
        if found is None:
            return None
        text = bytes(found).strip()
    return text
