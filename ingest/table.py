"""Events as rows of one array, as `native/src/event.h` has them: what the compiled half of the door reads and writes.

A row says where its texts stand in memory, and the table keeps what they stand in. So a table is selected from and
joined without touching a text, and no Python object is made of an event unless somebody looks at it.
"""

import ctypes
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from native.library import function

if TYPE_CHECKING:
    from ingest.route import Places

WORDS: Final = 24
"""A row's words of 64 bits."""
POSITION: Final = 0
ID: Final = 1
SOURCE: Final = 3
TYPE: Final = 5
SUBJECT: Final = 7
TIME: Final = 9
DATA: Final = 11
EXTENSIONS: Final = 13
MICROS: Final = 15
CUSTOMER: Final = 16
IDENTITY: Final = 18
CONTENT: Final = 20
MOMENT: Final = 21
ARRIVED: Final = 22
PARTITION: Final = 23

SEED: Final = int.from_bytes(os.urandom(8), "little")
"""Of the process: nobody outside can choose texts whose hashes meet."""

_TEXTS: Final = {
    "id": ID, "source": SOURCE, "type": TYPE, "subject": SUBJECT, "time": TIME, "extensions": EXTENSIONS,
    "customer": CUSTOMER,
}  # fmt: skip
_WHOLE: Final = {"at": POSITION, "micros": MICROS, "content": CONTENT, "moment": MOMENT, "arrived": ARRIVED}
_WORD: Final = 8

_codes_size = function("tx_codes_size", ctypes.c_int64, ctypes.c_int64)
_codes = function(
    "tx_codes", ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint64, ctypes.c_void_p,
    ctypes.c_void_p,
)  # fmt: skip
_texts = function(
    "tx_texts", ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p
)

Words = NDArray[np.int64]


class Table:
    """Rows, and the buffers in which their texts stand. What has been handed on is not written to any more."""

    __slots__ = ("_distinct", "held", "places", "rows")

    def __init__(self, rows: Words, held: tuple[Any, ...]) -> None:
        """`rows`: an array of `WORDS` columns, contiguous. `held`: what must live as long as the table."""
        self.rows = rows
        self.held = held
        self.places: Places | None = None
        """What a router has found for these rows."""
        self._distinct: dict[int, tuple[list[bytes], NDArray[np.int32]]] = {}

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def address(self) -> int:
        """Where the first row stands."""
        return int(self.rows.ctypes.data)

    def take(self, positions: Any) -> "Table":
        """The rows at these positions (or where a mask says so), in that order."""
        return Table(self.rows[positions], self.held)

    def cut(self, start: int, end: int) -> "Table":
        """The rows `[start, end)`."""
        return Table(self.rows[start:end], self.held)

    @classmethod
    def joined(cls, parts: "Sequence[Table]") -> "Table":
        """All rows of the parts, in order."""
        held = {id(one): one for part in parts for one in part.held}
        return cls(np.concatenate([part.rows for part in parts]), tuple(held.values()))

    @classmethod
    def empty(cls, count: int) -> "Table":
        """So many rows of noughts."""
        return cls(np.zeros((count, WORDS), np.int64), ())

    def put(self, positions: Words | slice, column: int, texts: Sequence[bytes | None]) -> None:
        """Writes texts of our own into rows; None is absent."""
        buffer, places, sizes = laid_out([text or b"" for text in texts])
        self.rows[positions, column] = np.where([text is None for text in texts], 0, places)
        self.rows[positions, column + 1] = sizes
        self.held = (*self.held, buffer)

    def column(self, name: str) -> list[Any]:
        """A column as `ingest.columns` has it: a list of texts (None where there is none) or of numbers."""
        if name == "data":
            return self._bytes(DATA)
        if name == "identity":
            raw = np.ascontiguousarray(self.rows[:, IDENTITY:CONTENT]).tobytes()
            return [raw[at : at + 16] for at in range(0, len(raw), 16)]
        if name in _WHOLE:
            return self.rows[:, _WHOLE[name]].tolist()
        word = _TEXTS[name]
        texts = [text.decode() for text in self._bytes(word)]
        if name not in ("time", "extensions"):
            return texts
        return [text or None for text in texts]  # neither is ever empty

    def sizes(self, column: int) -> Words:
        """How many bytes each row's text has."""
        return self.rows[:, column + 1]

    def distinct(self, column: int) -> tuple[list[bytes], NDArray[np.int32]]:
        """The different texts of a column in the order in which they come, and the number of each row's."""
        if (known := self._distinct.get(column)) is not None:
            return known
        assert _codes is not None and _codes_size is not None
        count = len(self.rows)
        scratch, codes = pa.allocate_buffer(_codes_size(count)), np.empty(count, np.int32)
        found = _codes(self.address, count, column, SEED, scratch.address, codes.ctypes.data)
        self._distinct[column] = _read(scratch.address, found, 2), codes
        return self._distinct[column]

    def _bytes(self, column: int) -> list[bytes]:
        return _read(self.address + column * _WORD, len(self.rows), WORDS)


def laid_out(texts: Sequence[bytes]) -> tuple[NDArray[np.uint8], Words, Words]:
    """Texts one behind the other: what they stand in, where each stands in memory, and its bytes."""
    buffer = np.frombuffer(b"".join(texts) + b"\0", np.uint8)
    sizes = np.array(list(map(len, texts)), np.int64)
    return buffer, buffer.ctypes.data + np.cumsum(sizes) - sizes, sizes


def _read(address: int, count: int, stride: int) -> list[bytes]:
    """The bytes of spans that stand `stride` words apart."""
    assert _texts is not None
    sizes = np.empty(count, np.int64)
    whole = _texts(address, count, stride, sizes.ctypes.data, None)
    buffer = np.empty(whole, np.uint8)
    _texts(address, count, stride, sizes.ctypes.data, buffer.ctypes.data)
    joined, ends = buffer.tobytes(), np.cumsum(sizes).tolist()
    return [joined[start:end] for start, end in zip([0, *ends], ends, strict=False)]
