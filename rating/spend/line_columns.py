"""Line items (JSON) as columns, by the library: `native/src/lines.c`. Its twin is in `rating.spend.decode`."""

import ctypes
import os
from collections.abc import Sequence
from itertools import groupby
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from native.library import function
from schemas.paths import DECIMAL
from streams.log import Part, RecordBlock, TopicRecord

_WORDS: Final = 25
_WORD: Final = 8
_BODY: Final = "body"
_TEXTS: Final = (_BODY, "id", "tenant", "customer", "subscription", "charge", "dimensions", "currency")
"""Two words each, from the first on: where it stands, and how long it is."""
_WHOLE: Final = ("revision", "period_start", "period_end", "events", "last_event")
_DECIMALS: Final = ("quantity", "amount")
_ABSENT: Final = -1
_BYTES_MAX: Final = 2**31 - 1
"""Of all texts of a column."""
_VIEW: Final = np.dtype([("length", "<i4"), ("begin", "V4"), ("buffer", "<i4"), ("offset", "<i4")])
"""How Arrow says where a text of more than twelve bytes stands, and with which four it begins."""
_SEED: Final = int.from_bytes(os.urandom(8), "little")
"""Of the process: nobody outside can choose texts whose hashes meet."""

_size = function("tx_read_lines_size", ctypes.c_int64, ctypes.c_int64)
_read = function(
    "tx_read_lines", ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64, ctypes.c_uint64, ctypes.c_void_p, ctypes.c_void_p
)  # fmt: skip
_texts = function(
    "tx_texts", ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p
)

Rows = NDArray[np.int64]


def line_columns(parts: Sequence[Part]) -> dict[str, pa.Array] | None:
    """By name, what a store needs of each of these line items: of each identity the highest revision, the first of
    several.

    The bodies are views of where they came from: most of what a line item takes is copied nowhere. None where the
    library is left out, or one of them is not as the engine writes them (a text with an escape, say).
    """
    if _size is None or _read is None or not parts:
        return None
    held, values = _values(parts)
    if max(int(values[:, 1].sum()), *map(len, held)) > _BYTES_MAX:
        return None
    scratch = np.empty(-(-_size(len(values)) // _WORD), np.int64)
    rows = np.empty((len(values), _WORDS), np.int64)
    count = _read(values.ctypes.data, len(values), _SEED, scratch.ctypes.data, rows.ctypes.data)
    if count < 0:
        return None
    rows = rows[:count]
    whole = 2 * len(_TEXTS)
    columns: dict[str, Any] = {name: _text_column(rows, 2 * at) for at, name in enumerate(_TEXTS) if name != _BODY}
    columns[_BODY] = _view_column(rows, 2 * _TEXTS.index(_BODY), held)
    columns |= {name: pa.array(rows[:, whole + at]) for at, name in enumerate(_WHOLE)}
    last = rows[:, whole + _WHOLE.index("last_event")]
    columns["last_event"] = pa.array(last, mask=last == _ABSENT)
    scaled = whole + len(_WHOLE)
    return columns | {name: _decimal_column(rows, scaled + 2 * at) for at, name in enumerate(_DECIMALS)}


def _values(parts: Sequence[Part]) -> tuple[list[bytes], Rows]:
    """Where the value of each record stands in memory, and how long it is; before them what they stand in."""
    held: list[bytes] = []
    spans: list[Rows] = []
    for single, group in groupby(parts, key=lambda part: isinstance(part, TopicRecord)):
        if single:
            texts = [part.value for part in group if isinstance(part, TopicRecord)]
            ends = np.cumsum([0, *map(len, texts)], dtype=np.int64)
            found = [(b"".join(texts), ends[:-1], ends[1:])]
        else:
            found = [(part.body, *part.spans.T[2:]) for part in group if isinstance(part, RecordBlock)]
        for body, begins, ends in found:
            held.append(body)
            spans.append(np.stack((begins + _address(body), ends - begins), axis=1))
    return held, np.concatenate(spans)


def _address(body: bytes) -> int:
    return ctypes.cast(ctypes.c_char_p(body), ctypes.c_void_p).value or 0


def _text_column(rows: Rows, word: int) -> pa.Array:
    assert _texts is not None
    count, first = len(rows), rows.ctypes.data + _WORD * word
    ends = np.zeros(count + 1, np.int32)
    sizes = np.ascontiguousarray(rows[:, word + 1])
    np.cumsum(sizes, out=ends[1:])
    data = np.empty(int(ends[-1]), np.uint8)
    _texts(first, count, _WORDS, sizes.ctypes.data, data.ctypes.data)
    return pa.StringArray.from_buffers(count, pa.py_buffer(ends), pa.py_buffer(data))


def _view_column(rows: Rows, word: int, held: Sequence[bytes]) -> pa.Array:
    """Texts where they stand. None of them is so short that a view would have to hold it."""
    assert _texts is not None
    count, begins = len(rows), np.array(list(map(_address, held)), np.int64)
    order = np.argsort(begins)
    buffer = order[np.searchsorted(begins[order], rows[:, word], side="right") - 1]
    views, heads = np.empty(count, _VIEW), np.empty(count, "V4")
    firsts = np.stack((rows[:, word], np.full(count, heads.itemsize)), axis=1)
    sizes = np.empty(count, np.int64)
    _texts(firsts.ctypes.data, count, firsts.shape[1], sizes.ctypes.data, heads.ctypes.data)
    views["length"], views["begin"] = rows[:, word + 1], heads
    views["buffer"], views["offset"] = buffer, rows[:, word] - begins[buffer]
    return pa.Array.from_buffers(pa.string_view(), count, [None, pa.py_buffer(views), *map(pa.py_buffer, held)])


def _decimal_column(rows: Rows, word: int) -> pa.Array:
    return pa.Array.from_buffers(
        DECIMAL, len(rows), [None, pa.py_buffer(np.ascontiguousarray(rows[:, word : word + 2]))]
    )
