"""Paths into an event's `data`, and the columns that hold what they find.

A path is a JSONPath of names and positions: `$.tokens`, `$.usage.output`, `$['odd name'][0]`.
`extract` reads many events at once. The type of the column says what it holds:

- `decimal128(38, 12)`: every value is a JSON number (or absent) and fits exactly;
- `dictionary<int32, string>`: every value is a JSON string (or absent), decoded;
- `string`: anything else, each value as its JSON text.

JSON `null` is the same as absent: Arrow null in all three.
"""

import ctypes
import os
import re
from collections.abc import Sequence
from typing import Any, Final

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from native.library import function
from schemas.numbers import DIGITS, SCALE, NumberError, format_scaled, parse_scaled

DECIMAL: Final = pa.decimal128(DIGITS, SCALE)
TEXTS: Final = pa.dictionary(pa.int32(), pa.string())

_NOTHING, _NUMBERS, _STRINGS, _ANYTHING = 0, 1, 2, 3
"""What a path's values are, all of them, as `tx_paths` says."""
_COLUMN_WORDS: Final = 11
"""What it says of one path."""
_SEED: Final = int.from_bytes(os.urandom(8), "little")

_find = function(
    "tx_paths", ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64,
    ctypes.c_void_p, ctypes.c_void_p,
)  # fmt: skip
_write = function(
    "tx_path_columns", None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64, ctypes.c_uint64,
    ctypes.c_void_p,
)  # fmt: skip

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


def _compile(paths: Sequence[tuple[str | int, ...]]) -> tuple[list[NDArray[Any]], NDArray[np.int64]]:
    """The paths as `native/src/paths.c` has them, and what they stand in: for each path where its steps are, and how
    many; for each step where its name is, and its length; nought and the position where it is no name."""
    held: list[NDArray[Any]] = []
    ways = np.empty((len(paths), 2), np.int64)
    for way, steps in zip(ways, paths, strict=True):
        rows = np.empty((len(steps), 2), np.int64)
        for row, step in zip(rows, steps, strict=True):
            if isinstance(step, int):
                row[:] = 0, step
            else:
                name = np.frombuffer(step.encode() + b"\0", np.uint8)
                row[:] = name.ctypes.data, len(name) - 1
                held.append(name)
        way[:] = rows.ctypes.data, len(rows)
        held.append(rows)
    return held, ways


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
        self._held, self._ways = _compile(self._steps)

    def extract(self, data: Sequence[bytes | memoryview]) -> dict[str, pa.Array]:
        """A column for each path, as long as `data` (JSON objects that have been found valid)."""
        found = self._extract_compiled(data) if data and _find is not None else None
        return self._extract(data) if found is None else found

    def _extract_compiled(self, data: Sequence[bytes | memoryview]) -> dict[str, pa.Array] | None:
        """As `extract`, by the compiled half; None where it leaves something to `_extract`."""
        joined = np.frombuffer(b"".join(data), np.uint8)
        texts = np.empty((len(data), 2), np.int64)
        texts[:, 1] = sizes = np.fromiter(map(len, data), np.int64, len(data))
        texts[:, 0] = joined.ctypes.data + np.cumsum(sizes) - sizes
        return self.extract_at(texts.ctypes.data, len(data), 2)

    def _extract(self, data: Sequence[bytes | memoryview]) -> dict[str, pa.Array]:
        """As `extract`, in Python."""
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

    def extract_at(self, address: int, count: int, stride: int) -> dict[str, pa.Array] | None:
        """The same by the compiled half, for `count` texts: at `address`, and each `stride` words further, stand where
        a text is and how long. None where it is not used, or meets what it leaves to `extract`."""
        if _find is None or _write is None:
            return None
        paths = len(self.paths)
        found, columns = np.empty((paths, count, 2), np.int64), np.empty((paths, _COLUMN_WORDS), np.int64)
        places, said = found.ctypes.data, columns.ctypes.data
        size = _find(address, count, stride, self._ways.ctypes.data, paths, places, said)
        if size < 0:
            return None
        arena = pa.allocate_buffer(size)
        _write(places, count, said, paths, _SEED, arena.address)
        made: dict[str, pa.Array] = {}
        for path, spans, (kind, nulls, _, *layout) in zip(self.paths, found, columns.tolist(), strict=True):
            column = _column_at(arena, count, kind, nulls, layout)
            if column is None:
                column = scalar_column([ctypes.string_at(*span) if span[0] else None for span in spans.tolist()])
            made[path] = column
        return made


def _column_at(arena: pa.Buffer, count: int, kind: int, nulls: int, layout: Sequence[int]) -> pa.Array | None:
    """The column of one path's values, in the type that `scalar_column` would choose; None where that must."""
    if kind == _NOTHING:
        return pa.nulls(count, TEXTS)
    if kind == _ANYTHING:
        return None
    present = arena.slice(layout[0], layout[1]) if nulls else None
    values = arena.slice(layout[2], layout[3])
    if kind == _NUMBERS:
        return pa.Array.from_buffers(DECIMAL, count, [present, values], nulls)
    ends, joined = arena.slice(layout[4], layout[5]), arena.slice(layout[6], layout[7])
    different = pa.StringArray.from_buffers(ends.size // 4 - 1, ends, joined, None, 0)
    return pa.DictionaryArray.from_buffers(TEXTS, count, [present, values], different, nulls)


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
    if leads == {_QUOTE}:
        return pa.array([None if text is None else _decode_text(text) for text in texts], TEXTS)
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
_decode_text = msgspec.json.Decoder(str).decode
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
